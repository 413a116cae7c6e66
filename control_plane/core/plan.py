"""Fleet + sightings + memory → the plan of a site: steps in waves, held changes, physical effect.

`make_plan` asks `decide` about every device, so it is what the engine would do, with nothing written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from control_plane.core import limits
from control_plane.core.change import Capabilities
from control_plane.core.correlate import Incident, incident_above
from control_plane.core.decide import (
    PENDING,
    Context,
    Danger,
    Decision,
    Held,
    Reason,
    Step,
    Why,
    decide,
    nameplate_ths,
)
from control_plane.core.digest import digest_of
from control_plane.core.fleet import Device, Site, SlotState
from control_plane.core.memory import Memory, Pin, is_other
from control_plane.core.observation import Field, Observation, Settings, Unseen
from control_plane.core.overlay import Overlay, covering, nodes_above, path_above
from control_plane.core.power import Loads, Raise, admit, counted_w, efficiency
from control_plane.core.rollout import cohort_order, wave_sizes
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


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Physical effect by nameplate: permitted watts and this unit's hash at its settings."""

    before_w: float
    after_w: float
    before_ths: float
    """Of the devices that told their settings."""
    after_ths: float
    seen_before_w: float
    """Permitted watts of the same devices: what stands against their hash."""
    seen_after_w: float
    unknown: int
    """Managed devices of which no settings are known: they count at nameplate."""
    measured_ths: float
    """Sum of what devices reported."""
    lost_ths_h: float
    """Hash lost to restarts and ramps: TH/s × h."""
    worst_first_w: float
    """The largest change of permitted watts before the first gate."""
    worst_first_devices: int
    exceptions: int
    """Devices with something held that does not pass by itself."""
    exceptions_ths: float
    """What those devices would hash as declared, beyond what they report."""


class NodeHeadroom(msgspec.Struct, frozen=True, kw_only=True):
    """Headroom of one feed node, before and after."""

    node: str
    usable_w: float
    before_w: float
    after_w: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done to a site, and what would not."""

    site: str
    revision: str
    accepted: str | None
    at_s: float
    devices: int
    managed: int
    fresh: int
    """Managed devices with a fresh sighting."""
    converged: int
    steps: tuple[Step, ...]
    """In the order of waves, then cohort order; drift and lowering belong to no wave and come first."""
    waves: tuple[int, ...]
    """Cumulative device counts of the rollout; empty without one."""
    held: tuple[Held, ...]
    removed: tuple[str, ...]
    retired: tuple[str, ...]
    effect: Effect
    headroom: tuple[NodeHeadroom, ...]
    danger: Danger
    digest: str
    """Over revision, steps and the settings that they start from: `apply` accepts exactly this."""

    @property
    def actionable(self) -> int:
        """Steps that the engine would take; zero is converged."""
        return len(self.steps)

    @property
    def pending(self) -> int:
        """Held things that pass by themselves."""
        return sum(1 for held in self.held if held.reason in PENDING)


def pinned(device: Device, memory: Memory | None) -> Memory:
    """The device's memory, with the pin of the placement record where none was set by hand.

    Such a pin follows the record: with another machine in it, where the old one was found says nothing.
    """
    pin = _pin_of(device, memory)
    if memory is None:
        return Memory(asset=device.asset, pin=pin)
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


def make_plan(site: Site, revision: str, world: World) -> Plan:
    """The plan that brings the site from `world` to its declaration, through all waves."""
    world = msgspec.structs.replace(world, later={})
    loads = _loads(site, world)
    before = {node: loads.at(node) for node in site.feeds}
    decisions = _decide_all(site, world, loads)
    held = tuple(h for decision in decisions.values() for h in decision.held)
    admitted = [step for decision in decisions.values() for step in decision.steps]
    steps, waves = _ordered(revision, admitted, site.strategy.cohorts)
    effect = _effect(site, world, steps, waves, held)
    headroom = tuple(
        NodeHeadroom(node=n.id, usable_w=n.usable_w, before_w=before[n.id], after_w=loads.at(n.id))
        for n in site.feeds.values()
    )
    return Plan(
        site=site.id,
        revision=revision,
        accepted=world.accepted,
        at_s=world.now_s,
        devices=len(site.devices),
        managed=sum(1 for d in site.devices if d.is_managed),
        fresh=sum(1 for d in site.devices if d.is_managed and _is_fresh(world, d.asset)),
        converged=sum(1 for d in decisions.values() if d.converged),
        steps=steps,
        waves=waves,
        held=held,
        removed=world.removed,
        retired=world.retired,
        effect=effect,
        headroom=headroom,
        danger=_danger(site, steps, effect, (*world.removed, *world.retired)),
        digest=digest_of(
            revision,
            [(s.asset, s.change, s.before) for s in steps],
            sorted(world.removed),
            sorted(world.retired),
            sorted(world.approved),
        ),
    )


def decide_all(site: Site, world: World) -> dict[str, Decision]:
    """A decision for every device of a site, by asset id: what `get` and `explain` show.

    It is what the engine decides now: a device that no wave has reached is compared with what it
    stands on, and a raise that does not fit is held.
    """
    return _decide_all(site, world, _loads(site, world))


def later_raise(context: Context, decision: Decision) -> Step | None:
    """The raise that a later wave will bring: admission leaves room for those that are better."""
    if context.assigned or not any(
        h.reason is Reason.ROLLOUT_WAVE and h.field in _POWER for h in decision.held
    ):
        return None
    then = decide(msgspec.structs.replace(context, assigned=True))
    return next((step for step in then.steps if step.raises), None)


_POWER = frozenset({Field.MINING, Field.POWER_MODE, Field.POWER_LIMIT_W})


def _devices(site: Site, world: World) -> Iterable[Device]:
    """Each device as it is compared: those of later waves as they stand."""
    if not world.later:
        return site.devices
    return [world.later.get(device.asset, device) for device in site.devices]


def _loads(site: Site, world: World) -> Loads:
    loads = Loads(site)
    for device in _devices(site, world):
        watts = _seen_w(device, world)
        operation = world.operations.get(device.asset)
        if operation is not None:
            both = (operation.before, operation.after)
            watts = max(watts, *(counted_w(device, settings) for settings in both))
        loads.count(device.asset, device.feed, watts)
    for asset, (feed, watts) in world.released.items():
        loads.count_released(asset, feed, watts)
    return loads


def _seen_w(device: Device, world: World) -> float:
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


def _is_fresh(world: World, asset: str) -> bool:
    return isinstance(world.sightings.get(asset), Observation) and asset not in world.stale


def _decide_all(site: Site, world: World, loads: Loads) -> dict[str, Decision]:
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


def raise_wish(device: Device, step: Step) -> Raise:
    """The wish behind a raising step, with its place in the order of admission."""
    return Raise(
        asset=device.asset,
        feed=device.feed,
        target_w=step.after_w,
        j_per_th=efficiency(device, step.after),
    )


def _ordered(
    revision: str, steps: Iterable[Step], cohorts: tuple[float, ...]
) -> tuple[tuple[Step, ...], tuple[int, ...]]:
    by_asset: dict[str, list[Step]] = {}
    rest: list[Step] = []
    for step in steps:
        if step.why is Why.ROLLOUT:
            by_asset.setdefault(step.asset, []).append(step)
        else:
            rest.append(step)
    order = cohort_order(revision, by_asset)
    return (
        (*rest, *(step for asset in order for step in by_asset[asset])),
        wave_sizes(len(order), cohorts),
    )


def _effect(
    site: Site,
    world: World,
    steps: tuple[Step, ...],
    waves: tuple[int, ...],
    held: tuple[Held, ...],
) -> Effect:
    exceptions = {h.asset for h in held if h.reason not in PENDING}
    before_w = before_ths = seen_w = measured = missing_ths = 0.0
    unknown = 0
    for device in site.devices:
        sighting = world.sightings.get(device.asset)
        counted = _seen_w(device, world)
        before_w += counted
        hashes = 0.0
        if isinstance(sighting, Observation):
            seen_w += counted
            before_ths += nameplate_ths(device, sighting.settings)
            hashes = sighting.telemetry.hashrate_ths or 0.0
            measured += hashes
        elif device.is_managed:
            unknown += 1
        if device.asset in exceptions and device.state is not SlotState.VACANT:
            intended = device.hashrate_at(device.intent.power_mode) if device.intent.mining else 0.0
            missing_ths += max(0.0, intended - hashes)
    rollout = [step for step in steps if step.why is Why.ROLLOUT]
    first = _first_assets(rollout, waves[0] if waves else 0)
    moved_w = sum(s.after_w - s.before_w for s in steps)
    return Effect(
        before_w=before_w,
        after_w=before_w + moved_w,
        before_ths=before_ths,
        after_ths=before_ths + sum(s.after_ths - s.before_ths for s in steps),
        unknown=unknown,
        seen_before_w=seen_w,
        seen_after_w=seen_w + moved_w,
        measured_ths=measured,
        lost_ths_h=sum(s.lost_ths_s for s in steps) / 3600,
        worst_first_w=sum(max(s.before_w, s.after_w) for s in rollout if s.asset in first),
        worst_first_devices=len(first),
        exceptions=len(exceptions),
        exceptions_ths=missing_ths,
    )


def _first_assets(steps: Iterable[Step], count: int) -> frozenset[str]:
    assets: dict[str, None] = {}
    for step in steps:
        if len(assets) == count and step.asset not in assets:
            break
        assets[step.asset] = None
    return frozenset(assets)


def _danger(
    site: Site, steps: tuple[Step, ...], effect: Effect, leaving: tuple[str, ...]
) -> Danger:
    """The class of the whole plan: of its worst step, of its megawatts, of what it takes away."""
    if len(leaving) > limits.MASS_SHARE * max(1, len(site.devices)):
        return Danger.D5
    moved_w = sum(abs(s.after_w - s.before_w) for s in steps)
    worst = max((s.danger for s in steps), default=Danger.D0)
    if effect.before_w and moved_w > limits.D3_SHARE * effect.before_w:
        return max(worst, Danger.D3)
    return worst
