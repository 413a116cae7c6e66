"""What is known of a site beside its declaration, and what each of its devices is judged from.

`plan` and the engine's views ask `decide_all`; the engine itself judges one device at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from control_plane.core.change import Capabilities
from control_plane.core.correlate import Incident, incident_above
from control_plane.core.decide import decide
from control_plane.core.decision import Context, Decision, Held, Reason, Step
from control_plane.core.fleet import Device, Site
from control_plane.core.memory import Memory, Pin, is_other, note_family
from control_plane.core.observation import Field, Observation, Settings, Unseen
from control_plane.core.overlay import Overlay, covering, nodes_above, path_above
from control_plane.core.power import Loads, Raise, admit, counted_w, efficiency
from control_plane.core.verify import Operation


class World(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan depends on, beside the declaration."""

    now_s: float
    sightings: Mapping[str, Observation | Unseen]
    memories: Mapping[str, Memory]
    capabilities: Mapping[str, Capabilities]
    """By firmware family."""
    overlays: tuple[Overlay, ...] = ()
    stale: frozenset[str] = frozenset()
    """Assets whose sighting is older than `TELEMETRY_TTL_S`."""
    operations: Mapping[str, Operation] = {}
    """Writes whose end is not known, by asset."""
    incidents: tuple[Incident, ...] = ()
    """Open ones."""
    locked: Mapping[str, str] = {}
    """Devices that firmware is being installed on → the grant."""
    later: Mapping[str, Device] = {}
    """Devices that the open wave of the rollout in force has not reached, as they stand until then."""
    approved: frozenset[tuple[str, Field]] = frozenset()
    """(owner, field) that the owner's approvers approved."""
    removed: tuple[str, ...] = ()
    """Assets that the accepted revision has and this one has not: released, left running."""
    retired: tuple[str, ...] = ()
    """Managed assets of the accepted revision that this one has, and manages no more."""
    released: Mapping[str, tuple[str, float]] = {}
    """Whatever left the declaration, now or earlier: asset → feed, and the watts it counts at."""
    accepted: str | None = None
    """Digest of the revision in force."""


def pinned(device: Device, memory: Memory | None) -> Memory:
    """The device's memory, with the pin of the placement record where none was set by hand.

    Such a pin follows the record: with another machine in it, where the old one was found says nothing.
    """
    pin, family = _pin_of(device, memory), device.intent.family
    if memory is None:
        return Memory(asset=device.asset, pin=pin, family=family)
    memory = note_family(memory, family)
    if pin == memory.pin:
        return memory
    located = memory.located if memory.pin is None else None
    return msgspec.structs.replace(memory, pin=pin, located=located)


def _pin_of(device: Device, memory: Memory | None) -> Pin | None:
    if memory is not None and memory.pin is not None and memory.pin.source != _RECORD:
        return memory.pin
    if device.mac or device.serial:
        return Pin(mac=device.mac, serial=device.serial, source=_RECORD)
    return None


_RECORD = "placement"


def known_settings(sighting: Observation | Unseen | None) -> Settings | None:
    """The settings to count a device by; `None` is unknown."""
    return sighting.settings if isinstance(sighting, Observation) else None


def decide_all(site: Site, world: World) -> dict[str, Decision]:
    """A decision for every device of a site, by asset id: what `get` and `explain` show.

    It is what the engine decides now: a device that no wave has reached is compared with what it
    stands on, and a raise that does not fit is held.
    """
    return decide_within(site, world, loads_of(site, world))


def decide_within(site: Site, world: World, loads: Loads) -> dict[str, Decision]:
    """A decision for every device; afterwards `loads` counts what was admitted."""
    decisions: dict[str, Decision] = {}
    later: dict[str, Step] = {}
    for context in _contexts(site, world, _over(site, loads)):
        asset = context.device.asset
        decisions[asset] = decide(context)
        wish = later_raise(context, decisions[asset])
        if wish is not None:
            later[asset] = wish
    _admit(_devices(site, world), decisions, later, loads)
    return decisions


def later_raise(context: Context, decision: Decision) -> Step | None:
    """The raise that a later wave will bring: admission leaves room for those that are better."""
    if context.assigned or not any(
        h.reason is Reason.ROLLOUT_WAVE and h.field in _POWER for h in decision.held
    ):
        return None
    then = decide(msgspec.structs.replace(context, assigned=True))
    return next((step for step in then.steps if step.raises), None)


_POWER = frozenset({Field.MINING, Field.POWER_MODE, Field.POWER_LIMIT_W})


def raise_wish(device: Device, step: Step) -> Raise:
    """The wish behind a raising step, with its place in the order of admission."""
    return Raise(
        asset=device.asset,
        feed=device.feed,
        target_w=step.after_w,
        j_per_th=efficiency(device, step.after),
    )


def _devices(site: Site, world: World) -> Iterable[Device]:
    """Each device as it is compared: those of later waves as they stand."""
    if not world.later:
        return site.devices
    return [world.later.get(device.asset, device) for device in site.devices]


def loads_of(site: Site, world: World) -> Loads:
    """What each node of the feed tree counts before anything is written."""
    loads = Loads(site)
    for device in _devices(site, world):
        watts = seen_w(device, world)
        operation = world.operations.get(device.asset)
        if operation is not None:
            both = (operation.before, operation.after)
            watts = max(watts, *(counted_w(device, settings) for settings in both))
        loads.count(device.asset, device.feed, watts)
    for asset, (feed, watts) in world.released.items():
        loads.count_released(asset, feed, watts)
    return loads


def seen_w(device: Device, world: World) -> float:
    """What the device counts at by what was seen; another machine at its address says nothing of it."""
    sighting, memory = world.sightings.get(device.asset), world.memories.get(device.asset)
    watts = counted_w(device, known_settings(sighting))
    if isinstance(sighting, Observation):
        pin = _pin_of(device, memory)
        if is_other(pin, sighting.identity):
            watts = max(watts, counted_w(device, None))
    elif memory is not None and memory.above_w is not None:
        watts = max(watts, memory.above_w)
    return watts


def _over(site: Site, loads: Loads) -> frozenset[str]:
    return frozenset(node for node in site.feeds if loads.headroom_w(node) < 0)


def is_fresh(world: World, asset: str) -> bool:
    """Whether the asset was seen, and not too long ago."""
    return isinstance(world.sightings.get(asset), Observation) and asset not in world.stale


def _contexts(site: Site, world: World, over: frozenset[str]) -> Iterator[Context]:
    """What is decided from; devices of one feed share the look at their ancestors."""
    over_feeds = (
        {feed: any(n.id in over for n in site.path(feed)) for feed in site.feeds} if over else {}
    )
    approved: dict[str, frozenset[Field]] = {}
    for owner in site.owners:
        approved[owner] = frozenset(field for who, field in world.approved if who == owner)
    open_at = {incident.node: incident for incident in world.incidents}
    for device in _devices(site, world):
        asset = device.asset
        owner_id = device.intent.owner
        above = (*path_above(site, device), site.id) if open_at else ()
        yield Context(
            device=device,
            owner=site.owners[owner_id],
            tenure=site.tenure,
            capabilities=world.capabilities.get(device.intent.family),
            memory=pinned(device, world.memories.get(asset)),
            sighting=world.sightings.get(asset),
            fresh=asset not in world.stale,
            overlays=covering(world.overlays, nodes_above(site, device)) if world.overlays else (),
            now_s=world.now_s,
            in_flight=asset in world.operations,
            assigned=asset not in world.later,
            approved=approved[owner_id],
            over_cap=over_feeds.get(device.feed, False),
            incident=incident_above(open_at, above),
            locked=world.locked.get(device.asset, ""),
        )


def _admit(
    devices: Iterable[Device],
    decisions: dict[str, Decision],
    later: Mapping[str, Step],
    loads: Loads,
) -> None:
    """All decreases first, then raises while they fit; the others become held as `no_headroom`.

    A raise of a later wave takes its room where it is the better one; it stays held for its wave.
    """
    wishes: list[Raise] = []
    for device in devices:
        if device.asset in later:
            wishes.append(raise_wish(device, later[device.asset]))
        chain = decisions[device.asset].steps
        if not chain:
            continue
        if any(step.raises for step in chain):
            wishes.append(raise_wish(device, chain[-1]))
        else:
            loads.count(
                device.asset, device.feed, min(loads.counted(device.asset), chain[-1].after_w)
            )
    for asset, node in admit(loads, wishes).refused.items():
        if asset in later:
            continue
        decision = decisions[asset]
        refused = [
            Held(asset=asset, reason=Reason.NO_HEADROOM, detail=f"{node} is full", field=step.field)
            for step in decision.steps
            if step.raises
        ]
        decisions[asset] = msgspec.structs.replace(
            decision,
            steps=tuple(step for step in decision.steps if not step.raises),
            held=(*decision.held, *refused),
        )
