"""The small site that seeds play on, and its revisions: both families, two owners, caps that bind."""

from __future__ import annotations

import random

import msgspec

from control_plane.core.digest import digest_of
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
from control_plane.simulator.build import ANTMINER, WHATSMINER
from tests.simulator import floors

WHERE = SourceRef("tests/scenarios")
SITE = "seed"
S21 = floors.S21
M60S = msgspec.structs.replace(
    floors.M60S,
    ladder=(*floors.M60S.ladder, Mode(name="high", hashrate_ths=195.0, power_w=3900.0)),
)
ACME = Owner(
    id="acme",
    name="Acme",
    pools=(
        OwnedPool(name="a", url="stratum+tcp://a.pool:3333", worker="acme.{asset}"),
        OwnedPool(name="b", url="stratum+tcp://b.pool:3333", worker="acme.{rack}-{slot}"),
    ),
)
BETA = Owner(
    id="beta",
    name="Beta",
    pools=(
        # The same pool as Acme's first: only the account says whose hash it is.
        OwnedPool(name="a", url="stratum+tcp://a.pool:3333", worker="beta.{asset}"),
        OwnedPool(name="c", url="stratum+tcp://c.pool:3333", worker="beta.{asset}"),
    ),
)
SECRETS = {"env:ANT": "root", "env:WHATS": "admin"}


class RackPlan(msgspec.Struct, frozen=True):
    """One rack of the site."""

    id: str
    feed: str
    kind: DeviceType
    family: str
    owner: Owner
    slots: int
    dhcp: bool = False
    odd: tuple[tuple[int, SlotState], ...] = ()


RACKS = (
    RackPlan("r1", "pdu-1", S21, ANTMINER, ACME, 6, odd=((6, SlotState.OUT_OF_SERVICE),)),
    RackPlan("r2", "pdu-2", M60S, WHATSMINER, ACME, 5, dhcp=True, odd=((5, SlotState.DEGRADED),)),
    RackPlan("r3", "pdu-3", S21, ANTMINER, BETA, 3, odd=((3, SlotState.VACANT),)),
    RackPlan("r4", "pdu-4", M60S, WHATSMINER, BETA, 4, odd=((4, SlotState.IN_REPAIR),)),
)
_PARENTS = {
    "pad-a": "grid",
    "pad-b": "grid",
    "pdu-1": "pad-a",
    "pdu-2": "pad-a",
    "pdu-3": "pad-b",
    "pdu-4": "pad-b",
}
_KINDS = {"grid": FeedKind.UTILITY, "pad": FeedKind.PAD, "pdu": FeedKind.PDU}


class Revision(msgspec.Struct, frozen=True):
    """One declaration of the site."""

    digest: str
    site: Site


def first_revision(rng: random.Random) -> Revision:
    """The declaration that is adopted."""
    devices: list[Device] = []
    for number, rack in enumerate(RACKS, 1):
        mode = rng.choice(["normal", "normal", "low"])
        limit_w = 3_100 if rack.id == "r4" and rng.random() < 0.5 else None
        devices += _rack(number, rack, mode, limit_w)
    return revision_of(_site(tuple(devices), _feeds(rng)))


def calm_revisions(assets: tuple[str, ...]) -> tuple[Revision, Revision]:
    """Some of the machines as they are found, and as declared: another mode, limit and order of pools."""
    rng = random.Random(SITE)
    found: list[Device] = []
    declared: list[Device] = []
    for number, rack in enumerate(RACKS, 1):
        found += _rack(number, rack, "normal", None)
        limited = rack.id == "r4"
        for device in _rack(
            number, rack, "normal" if limited else "low", 3_100 if limited else None
        ):
            pools = device.intent.pools[::-1]
            intent = msgspec.structs.replace(device.intent, pools=pools)
            declared.append(msgspec.structs.replace(device, intent=intent))
    before, after = (
        revision_of(_site(tuple(d for d in devices if d.asset in assets), _feeds(rng)))
        for devices in (found, declared)
    )
    return before, after


def turned(before: Revision) -> Revision:
    """The same, with each machine's pools the other way round."""
    devices = [
        msgspec.structs.replace(
            d, intent=msgspec.structs.replace(d.intent, pools=d.intent.pools[::-1])
        )
        for d in before.site.devices
    ]
    return revision_of(msgspec.structs.replace(before.site, devices=tuple(devices)))


def next_revision(before: Revision, rng: random.Random) -> Revision:
    """Another declaration of the same site: modes, pools, sleep, and one device less."""
    site = before.site
    changed = []
    modes = {rack.id: rng.choice([None, "low", "normal"]) for rack in RACKS}
    swap = rng.random() < 0.5
    asleep = rng.choice([d.asset for d in site.devices if d.is_managed])
    gone = rng.choice([d.asset for d in site.devices if d.rack == "r3" and d.is_managed])
    drop = rng.random() < 0.3
    for device in site.devices:
        intent = device.intent
        mode = modes[device.rack]
        if mode is not None:
            intent = msgspec.structs.replace(intent, power_mode=mode)
        pools = site.owners[intent.owner].pools
        if swap and intent.owner == "acme":
            pools = pools[::-1]
        intent = msgspec.structs.replace(intent, pools=pools)
        if device.asset == asleep:
            intent = msgspec.structs.replace(intent, mining=False)
        if not (drop and device.asset == gone):
            changed.append(msgspec.structs.replace(device, intent=intent))
    return revision_of(msgspec.structs.replace(site, devices=tuple(changed)))


def foreign_revision(before: Revision) -> Revision:
    """A declaration that no validation would let pass: Beta's machines work for Acme's pools."""
    devices = [
        msgspec.structs.replace(d, intent=msgspec.structs.replace(d.intent, pools=ACME.pools))
        if d.intent.owner == "beta"
        else d
        for d in before.site.devices
    ]
    return revision_of(msgspec.structs.replace(before.site, devices=tuple(devices)))


def is_foreign(revision: Revision) -> bool:
    """Whether a machine is declared to work for pools that are not its owner's."""
    owners = revision.site.owners
    return any(
        not set(d.intent.pools) <= set(owners[d.intent.owner].pools) for d in revision.site.devices
    )


def revision_of(site: Site) -> Revision:
    return Revision(digest_of([(d.asset, d.desired()) for d in site.devices]), site)


def _rack(number: int, rack: RackPlan, mode: str, limit_w: int | None) -> list[Device]:
    odd = dict(rack.odd)
    intent = Intent(
        owner=rack.owner.id,
        profile="p",
        family=rack.family,
        firmware=None,
        pools=rack.owner.pools,
        mining=True,
        power_mode=mode,
        power_limit_w=limit_w,
        addressing="dhcp" if rack.dhcp else "static",
        credentials=Credentials(
            user="root", secret_ref="env:ANT" if rack.family == ANTMINER else "env:WHATS"
        ),
        curtailment_class="c",
        origins={},
    )
    return [
        Device(
            asset=f"{rack.id}-s{slot}",
            site=SITE,
            rack=rack.id,
            slot=slot,
            feed=rack.feed,
            type=rack.kind,
            intent=intent,
            address=None if rack.dhcp else f"10.40.{number}.{slot + 10}",
            subnet=f"10.41.{number}.0/28" if rack.dhcp else None,
            mac=f"02:00:00:00:{number:02x}:{slot:02x}",
            serial=f"SN{number:03}{slot:03}",
            state=odd.get(slot, SlotState.IN_SERVICE),
            missing_boards=1 if odd.get(slot) is SlotState.DEGRADED else 0,
            where=WHERE,
        )
        for slot in range(1, rack.slots + 1)
    ]


def _feeds(rng: random.Random) -> dict[str, FeedNode]:
    """Pad A carries all but one or two of its machines, or all; pad B likewise."""
    nameplate = {
        rack.feed: rack.kind.nominal.power_w
        * sum(1 for slot in range(1, rack.slots + 1) if dict(rack.odd).get(slot) not in _EMPTY)
        for rack in RACKS
    }
    usable = {feed: watts + 2_000.0 for feed, watts in nameplate.items()}
    for pad, pdus in (("pad-a", ("pdu-1", "pdu-2")), ("pad-b", ("pdu-3", "pdu-4"))):
        short_w = rng.choice([0.0, 2_500.0, 6_500.0])
        usable[pad] = sum(nameplate[pdu] for pdu in pdus) - short_w + 100.0
    usable["grid"] = usable["pad-a"] + usable["pad-b"] - rng.choice([0.0, 3_000.0])
    return {
        node: FeedNode(
            id=node,
            kind=_KINDS[node.partition("-")[0]],
            parent=_PARENTS.get(node),
            rating_w=watts,
            derate=1.0,
            where=WHERE,
        )
        for node, watts in sorted(usable.items())
    }


_EMPTY = {SlotState.VACANT, SlotState.IN_REPAIR}


def _site(devices: tuple[Device, ...], feeds: dict[str, FeedNode]) -> Site:
    return Site(
        id=SITE,
        name="Seed",
        tenure=Tenure(kind="owned"),
        time_zone="UTC",
        feeds=feeds,
        racks={
            rack.id: Rack(
                id=rack.id,
                site=SITE,
                feed=rack.feed,
                slots=rack.slots,
                switch=f"sw-{rack.feed}",
                kind=DeviceKind.MINER,
                where=WHERE,
            )
            for rack in RACKS
        },
        devices=tuple(sorted(devices, key=lambda d: d.asset)),
        hosts=(),
        owners={"acme": ACME, "beta": BETA},
        types={t.id: t for t in (S21, M60S)},
        budgets=Budgets(in_flight_per_rack=2, in_flight_per_feed=3, in_flight_per_site=4),
        strategy=Strategy(cohorts=(1, 0.3), max_new_failure_share=0.3),
    )
