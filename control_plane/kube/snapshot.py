"""Where a site stands at one moment, counted: what every projection is read off. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec

from control_plane.api.objects import Counts, Exceptions
from control_plane.core.decision import PENDING, Held
from control_plane.core.diff import nameplate_ths
from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.flashing import Grant
from control_plane.core.fleet import Device, Site
from control_plane.core.observation import Observation
from control_plane.core.plan import Plan
from control_plane.core.rollout import Rollout
from control_plane.core.world import World


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Where a site stands at one moment."""

    site: Site
    plan: Plan
    """What would still be done, and what is left as it is."""
    world: World
    """What it was judged from: sightings, memories, holds, writes under way."""
    rollout: Rollout | None
    rollouts: tuple[Rollout, ...] | None = None
    """All that are kept; `None` where they say nothing, because nothing is written."""
    firmware: tuple[FirmwareRollout, ...] | None = None
    """Likewise."""
    fence: int | None = None
    """Under which GPU nodes are granted their power; `None` where nothing is written."""
    grants: tuple[Grant, ...] = ()
    """Of firmware, with how far each machine has come."""

    @cached_property
    def held(self) -> Mapping[str, tuple[Held, ...]]:
        """By asset."""
        found: defaultdict[str, list[Held]] = defaultdict(list)
        for held in self.plan.held:
            found[held.asset].append(held)
        return {asset: tuple(those) for asset, those in found.items()}

    @cached_property
    def to_do(self) -> frozenset[str]:
        """Assets with a write to come."""
        return frozenset(step.asset for step in self.plan.steps)

    @cached_property
    def by_rack(self) -> Mapping[str, tuple[Device, ...]]:
        """The devices of each rack, in the order of their slots."""
        found: defaultdict[str, list[Device]] = defaultdict(list)
        for device in self.site.devices:
            found[device.rack].append(device)
        return {rack: tuple(sorted(those, key=lambda d: d.slot)) for rack, those in found.items()}

    def exceptions_of(self, asset: str) -> tuple[Held, ...]:
        """What is left as it is and does not pass by itself."""
        return tuple(h for h in self.held.get(asset, ()) if h.reason not in PENDING)

    def is_managed(self, device: Device) -> bool:
        """Whether it is in service and has a driver: without one nobody can say how it stands."""
        return device.is_managed and device.intent.family in self.world.capabilities

    def is_converged(self, device: Device) -> bool:
        """Whether it was read as declared, with nothing to do and nothing left as it is."""
        return (
            device.is_managed
            and isinstance(self.world.sightings.get(device.asset), Observation)
            and device.asset not in self.held
            and device.asset not in self.to_do
            and device.asset not in self.world.operations
        )


def counts(snapshot: Snapshot, devices: Sequence[Device]) -> Counts:
    """How many of these devices stand where."""
    managed = [d for d in devices if snapshot.is_managed(d)]
    seen = sum(isinstance(snapshot.world.sightings.get(d.asset), Observation) for d in managed)
    return Counts(
        declared=len(devices),
        managed=len(managed),
        seen=seen,
        converged=sum(snapshot.is_converged(d) for d in managed),
        actionable=sum(d.asset in snapshot.to_do for d in managed),
    )


def exceptions(snapshot: Snapshot, devices: Sequence[Device]) -> tuple[Exceptions, ...]:
    """Devices that nothing will be done about by itself, by reason, with what they cost."""
    number: Counter[str] = Counter()
    hash_ths: defaultdict[str, float] = defaultdict(float)
    for device in devices:
        found = snapshot.exceptions_of(device.asset)
        for reason in sorted({held.reason for held in found}):
            number[reason] += 1
        if found and device.is_managed:
            # A device counts once, whatever is wrong with it; and by nameplate: what it reports at this
            # moment is telemetry.
            hash_ths[found[0].reason] += nameplate_ths(device, device.desired())
    return tuple(
        Exceptions(reason=reason, devices=number[reason], lost_ths=round(hash_ths[reason], 1))
        for reason in sorted(number)
    )
