"""Fleet + sightings + memory → the plan of a site: steps in waves, held changes, physical effect.

`make_plan` asks `decide` about every device, so it is what the engine would do, with nothing written.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from control_plane.core import limits
from control_plane.core.decision import PENDING, Danger, Held, Step, Why
from control_plane.core.diff import nameplate_ths
from control_plane.core.digest import digest_of
from control_plane.core.firmware_plan import FirmwareEffect, firmware_effects
from control_plane.core.fleet import Site, SlotState
from control_plane.core.observation import Observation
from control_plane.core.rollout import cohort_order, wave_sizes
from control_plane.core.rotation_rollout import RotationEffect, rotation_effects
from control_plane.core.work_order import WorkOrder, spoken, work_orders
from control_plane.core.world import World, decide_within, is_fresh, loads_of, seen_w


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
    firmware: tuple[FirmwareEffect, ...] = ()
    """Not among the steps: a person lets each wave of it go once the revision is in force."""
    work_orders: tuple[WorkOrder, ...] = ()
    """Not among the steps: a person changes the firmware family of these machines."""
    credentials: tuple[RotationEffect, ...] = ()
    """Neither: the same of passwords."""

    @property
    def actionable(self) -> int:
        """Steps that the engine would take; zero is converged."""
        return len(self.steps)

    @property
    def pending(self) -> int:
        """Held things that pass by themselves."""
        return sum(1 for held in self.held if held.reason in PENDING)


def make_plan(site: Site, revision: str, world: World) -> Plan:
    """The plan that brings the site from `world` to its declaration, through all waves."""
    world = msgspec.structs.replace(world, later={})
    loads = loads_of(site, world)
    before = {node: loads.at(node) for node in site.feeds}
    decisions = decide_within(site, world, loads)
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
        fresh=sum(1 for d in site.devices if d.is_managed and is_fresh(world, d.asset)),
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
        firmware=firmware_effects(site, world.sightings),
        work_orders=work_orders(site, spoken(world.sightings)),
        credentials=rotation_effects(site, world.memories, world.capabilities),
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
    before_w = before_ths = told_w = measured = missing_ths = 0.0
    unknown = 0
    for device in site.devices:
        sighting = world.sightings.get(device.asset)
        counted = seen_w(device, world)
        before_w += counted
        hashes = 0.0
        if isinstance(sighting, Observation):
            told_w += counted
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
        seen_before_w=told_w,
        seen_after_w=told_w + moved_w,
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
