"""Small believable values; every test says only what matters to it."""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.core.change import (
    Capabilities,
    ChangeKind,
    Disturbance,
    FirmwareWays,
    SettingClass,
)
from control_plane.core.decide import decide
from control_plane.core.decision import Context, Decision
from control_plane.core.findings import SourceRef
from control_plane.core.fleet import (
    Budgets,
    Device,
    DeviceKind,
    DeviceType,
    FeedKind,
    FeedNode,
    Intent,
    Mode,
    OwnedPool,
    Owner,
    Rack,
    Site,
    Strategy,
    Tenure,
)
from control_plane.core.memory import Memory, Pin
from control_plane.core.observation import (
    Activity,
    Depth,
    Field,
    Identity,
    Observation,
    PoolSetting,
    Settings,
    Telemetry,
)

HERE = SourceRef("inventory/sites/t/racks/r.yaml", 3, 5)
NOW_S = 1_000_000.0

TYPE = DeviceType(
    id="s21",
    kind=DeviceKind.MINER,
    make="Bitmain",
    model="Antminer S21",
    reported_models=("antminer s21",),
    families=frozenset({"fam"}),
    boards=3,
    chips_per_board=108,
    phases=1,
    cooling="air",
    standby_w=30.0,
    ladder=(
        Mode(name="low", hashrate_ths=150.0, power_w=2_400.0),
        Mode(name="normal", hashrate_ths=200.0, power_w=3_500.0),
        Mode(name="high", hashrate_ths=220.0, power_w=4_100.0),
    ),
    nominal_mode="normal",
)

POOLS = (
    OwnedPool(name="main", url="stratum+tcp://a.example.com:3333", worker="own.{asset}"),
    OwnedPool(name="back", url="stratum+tcp://b.example.com:3333", worker="own.{asset}"),
)
OWNER = Owner(id="own", name="Own", pools=POOLS)


def pool(host: str, worker: str = "own.d1") -> PoolSetting:
    return PoolSetting(url=f"stratum+tcp://{host}:3333", worker=worker)


DECLARED_POOLS = (pool("a.example.com"), pool("b.example.com"))
FOREIGN_POOLS = (pool("thief.example.org", "thief"),)

WRITES = {
    kind: SettingClass(disturbance=Disturbance.RESTARTS_MINING, persistent=True, lost_s=60.0)
    for kind in ChangeKind
}
CAPABILITIES = Capabilities(
    family="fam",
    reads=frozenset(Field),
    writes=WRITES,
    settle_s=600.0,
    firmware=FirmwareWays(bytes_per_s=1e5, check_s=60.0, can_roll_back=False),
)
PIN = Pin(mac="02:00:00:00:00:01", serial="SN1", source="placement")
IDENTITY = Identity(mac=PIN.mac, serial=PIN.serial, model="Antminer S21", family="fam")


def intent(**changes: Any) -> Intent:
    base = Intent(
        owner="own",
        profile="p",
        family="fam",
        firmware=None,
        pools=POOLS,
        mining=True,
        power_mode="normal",
        power_limit_w=None,
        addressing=None,
        credentials=None,
        curtailment_class="default",
        origins={},
    )
    return msgspec.structs.replace(base, **changes)


def device(asset: str = "d1", **changes: Any) -> Device:
    base = Device(
        asset=asset,
        site="t",
        rack="r1",
        slot=1,
        feed="pdu",
        type=TYPE,
        intent=intent(),
        address="10.0.0.1",
        where=HERE,
    )
    return msgspec.structs.replace(base, **changes)


def settings(**changes: Any) -> Settings:
    base = Settings(pools=DECLARED_POOLS, mining=True, power_mode="normal")
    return msgspec.structs.replace(base, **changes)


def seen(
    have: Settings | None = None,
    *,
    asset: str = "d1",
    at_s: float = NOW_S,
    hashrate_ths: float | None = 200.0,
    power_w: float | None = 3_500.0,
    identity: Identity | None = IDENTITY,
    **changes: Any,
) -> Observation:
    base = Observation(
        asset=asset,
        at_s=at_s,
        depth=Depth.FULL,
        source="test",
        identity=identity,
        settings=have or settings(),
        asked=frozenset({Field.POOLS, Field.MINING, Field.POWER_MODE}),
        telemetry=Telemetry(
            hashrate_ths=hashrate_ths, power_w=power_w, activity=Activity.HASHING, uptime_s=5_000.0
        ),
    )
    return msgspec.structs.replace(base, **changes)


def converged_memory(of: Device | None = None, **changes: Any) -> Memory:
    one = of or device()
    base = Memory(asset=one.asset, pin=PIN, equalled=one.desired())
    return msgspec.structs.replace(base, **changes)


def fresh_memory(**changes: Any) -> Memory:
    return msgspec.structs.replace(Memory(asset="d1", pin=PIN), **changes)


def context(**changes: Any) -> Context:
    """A converged, healthy device; drift unless the memory says otherwise."""
    base = Context(
        device=device(),
        owner=OWNER,
        tenure=Tenure(kind="owned"),
        capabilities=CAPABILITIES,
        memory=converged_memory(),
        sighting=seen(),
        now_s=NOW_S,
    )
    return msgspec.structs.replace(base, **changes)


def decided(**changes: Any) -> Decision:
    return decide(context(**changes))


def feed(name: str, kind: FeedKind, parent: str | None, kw: float, derate: float = 1.0) -> FeedNode:
    return FeedNode(
        id=name, kind=kind, parent=parent, rating_w=kw * 1_000, derate=derate, where=HERE
    )


def site(
    devices: tuple[Device, ...],
    *,
    utility_kw: float = 1_000.0,
    pdu_kw: float = 500.0,
    **changes: Any,
) -> Site:
    feeds = (
        feed("grid", FeedKind.UTILITY, None, utility_kw),
        feed("pad", FeedKind.PAD, "grid", utility_kw),
        feed("pdu", FeedKind.PDU, "pad", pdu_kw),
        feed("pdu2", FeedKind.PDU, "pad", pdu_kw),
    )
    racks = {
        rack: Rack(
            id=rack, site="t", feed="pdu", slots=100, switch=None, kind=DeviceKind.MINER, where=HERE
        )
        for rack in sorted({d.rack for d in devices} | {"r1"})
    }
    base = Site(
        id="t",
        name="T",
        tenure=Tenure(kind="owned"),
        time_zone="UTC",
        feeds={node.id: node for node in feeds},
        racks=racks,
        devices=tuple(sorted(devices, key=lambda d: d.asset)),
        hosts=(),
        owners={"own": OWNER},
        types={TYPE.id: TYPE},
        budgets=Budgets(in_flight_per_rack=8, in_flight_per_feed=50, in_flight_per_site=200),
        strategy=Strategy(cohorts=(1, 10, 0.25), max_new_failure_share=0.05),
    )
    return msgspec.structs.replace(base, **changes)
