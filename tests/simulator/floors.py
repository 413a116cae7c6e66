"""Declared sites to simulate: small, but with every kind of slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from control_plane.core.findings import SourceRef
from control_plane.core.fleet import (
    Budgets,
    Credentials,
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
    SlotState,
    Strategy,
    Tenure,
)

WHERE = SourceRef("tests")
S21 = DeviceType(
    id="s21",
    kind=DeviceKind.MINER,
    make="Bitmain",
    model="S21",
    reported_models=("antminer s21",),
    families=frozenset({"antminer_stock"}),
    boards=3,
    chips_per_board=108,
    phases=3,
    cooling="air",
    standby_w=25.0,
    ladder=(
        Mode(name="low", hashrate_ths=150.0, power_w=2600.0),
        Mode(name="normal", hashrate_ths=200.0, power_w=3500.0),
    ),
    nominal_mode="normal",
)
M60S = DeviceType(
    id="m60s",
    kind=DeviceKind.MINER,
    make="MicroBT",
    model="M60S",
    reported_models=("m60s_vk30",),
    families=frozenset({"whatsminer_v2"}),
    boards=3,
    chips_per_board=105,
    phases=3,
    cooling="air",
    standby_w=20.0,
    ladder=(
        Mode(name="low", hashrate_ths=130.0, power_w=2600.0),
        Mode(name="normal", hashrate_ths=180.0, power_w=3400.0),
    ),
    nominal_mode="normal",
)
S19_VNISH = DeviceType(
    id="s19_vnish",
    kind=DeviceKind.MINER,
    make="Bitmain",
    model="Antminer S19",
    reported_models=("antminer s19",),
    families=frozenset({"vnish"}),
    boards=3,
    chips_per_board=76,
    phases=3,
    cooling="air",
    standby_w=25.0,
    ladder=(
        Mode(name="1900", hashrate_ths=73.0, power_w=1900.0),
        Mode(name="2350", hashrate_ths=85.0, power_w=2350.0),
        Mode(name="2950", hashrate_ths=99.0, power_w=2950.0),
        Mode(name="3200", hashrate_ths=102.0, power_w=3200.0),
    ),
    nominal_mode="2950",
)
S21_LUXOS = replace(
    S21,
    id="s21-luxos",
    families=frozenset({"luxos"}),
    ladder=(
        Mode(name="under-4", hashrate_ths=163.0, power_w=2800.0),
        Mode(name="normal", hashrate_ths=200.0, power_w=3500.0),
    ),
)
DGX = DeviceType(
    id="dgx",
    kind=DeviceKind.GPU_NODE,
    make="NVIDIA",
    model="DGX H200",
    reported_models=(),
    families=frozenset({"nvidia"}),
    boards=0,
    chips_per_board=0,
    phases=3,
    cooling="air",
    standby_w=1500.0,
    ladder=(Mode(name="full", hashrate_ths=0.0, power_w=10_200.0),),
    nominal_mode="full",
    gpus=8,
)
TYPES = {"antminer_stock": S21, "whatsminer_v2": M60S, "luxos": S21_LUXOS, "vnish": S19_VNISH}
ON_DHCP = frozenset({"whatsminer_v2"})
POOLS = (
    OwnedPool(name="a", url="stratum+tcp://a.pool:3333", worker="acme.{asset}"),
    OwnedPool(name="b", url="stratum+tcp://b.pool:3333", worker="acme.{asset}"),
)
OWNER = Owner(id="acme", name="Acme", pools=POOLS)


def an_intent(family: str, *, addressing: str = "static", **more: Any) -> Intent:
    return Intent(
        **{
            "owner": "acme",
            "profile": "p",
            "family": family,
            "firmware": None,
            "pools": POOLS,
            "mining": True,
            "power_mode": "normal",
            "power_limit_w": None,
            "addressing": addressing,
            "credentials": Credentials(user="root", secret_ref="env:NONE"),
            "curtailment_class": "c",
            "origins": {},
            **more,
        }
    )


def a_site(
    *,
    racks: int = 4,
    slots: int = 10,
    feed_share: float = 1.0,
    odd_slots: bool = True,
    families: Sequence[str] = ("antminer_stock", "whatsminer_v2"),
) -> Site:
    """Racks of the families in turn: WhatsMiners on DHCP, others at fixed addresses. One GPU node.

    `feed_share` of the nameplate is what the site's feed carries; with `odd_slots` the first slots
    of each rack are vacant, out of service, in repair and degraded.
    """
    feeds = {
        "grid": FeedNode(
            id="grid",
            kind=FeedKind.UTILITY,
            parent=None,
            rating_w=feed_share * (racks * slots * 3500.0 + 10_200.0),
            derate=1.0,
            where=WHERE,
        )
    }
    devices: list[Device] = []
    states = (
        [SlotState.VACANT, SlotState.OUT_OF_SERVICE, SlotState.IN_REPAIR, SlotState.DEGRADED]
        if odd_slots
        else []
    )
    for rack in range(racks):
        pdu = f"pdu-{rack:03}"
        feeds[pdu] = FeedNode(
            id=pdu,
            kind=FeedKind.PDU,
            parent="grid",
            rating_w=slots * 4000.0,
            derate=1.0,
            where=WHERE,
        )
        family = families[rack % len(families)]
        fixed = family not in ON_DHCP
        intent = an_intent(
            family,
            addressing="static" if fixed else "dhcp",
            power_mode=TYPES[family].nominal_mode,
        )
        devices += [
            Device(
                asset=f"M-{rack:03}-{slot:03}",
                site="toy",
                rack=f"r-{rack:03}",
                slot=slot + 1,
                feed=pdu,
                type=TYPES[family],
                intent=intent,
                address=f"10.40.{rack}.{slot + 10}" if fixed else None,
                subnet=None if fixed else f"10.41.{rack}.0/24",
                mac=f"02:00:00:00:{rack:02x}:{slot:02x}",
                serial=f"SN{rack:03}{slot:03}",
                state=states[slot] if slot < len(states) else SlotState.IN_SERVICE,
                where=WHERE,
            )
            for slot in range(slots)
        ]
    devices.append(
        Device(
            asset="gpu-1",
            site="toy",
            rack="r-000",
            slot=99,
            feed="pdu-000",
            type=DGX,
            intent=an_intent("nvidia"),
            where=WHERE,
        )
    )
    feeds["pdu-000"] = FeedNode(
        id="pdu-000",
        kind=FeedKind.PDU,
        parent="grid",
        rating_w=slots * 4000.0 + 10_200.0,
        derate=1.0,
        where=WHERE,
    )
    return Site(
        id="toy",
        name="Toy",
        tenure=Tenure(kind="owned"),
        time_zone="UTC",
        feeds=feeds,
        racks={
            f"r-{rack:03}": Rack(
                id=f"r-{rack:03}",
                site="toy",
                feed=f"pdu-{rack:03}",
                slots=slots,
                switch=None,
                kind=DeviceKind.MINER,
                where=WHERE,
            )
            for rack in range(racks)
        },
        devices=tuple(sorted(devices, key=lambda d: d.asset)),
        hosts=(),
        owners={"acme": OWNER},
        types={t.id: t for t in (*(TYPES[family] for family in families), DGX)},
        budgets=Budgets(in_flight_per_rack=4, in_flight_per_feed=50, in_flight_per_site=100),
        strategy=Strategy(cohorts=(1, 0.25), max_new_failure_share=0.02),
    )


def a_rack_of(kind: DeviceType, *, slots: int = 4, **intent: Any) -> Site:
    """One rack of one type, at fixed addresses, at its nominal step."""
    site = a_site(racks=1, slots=slots, odd_slots=False)
    (family,) = kind.families
    wanted = an_intent(family, **{"power_mode": kind.nominal_mode, **intent})
    devices = tuple(
        replace(device, type=kind, intent=wanted)
        for device in site.devices
        if device.type.kind is DeviceKind.MINER
    )
    return replace(site, devices=devices, types={kind.id: kind})
