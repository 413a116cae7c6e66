"""Which revision each device stands on, and whom a new one changes.

A rollout that is superseded half-way leaves devices behind that it never reached. They are subjects of
the next rollout even where the two revisions agree about them: no change reaches a device but in a wave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from control_plane.core.digest import digest_of, short
from control_plane.core.fleet import Device, Site
from control_plane.core.rollout import (
    Rollout,
    RolloutState,
    cohort_order,
    is_assigned,
    wave_sizes,
)
from control_plane.engine.records import RevisionRecord

SiteOf = Callable[[str], Site]
"""The site as an accepted revision declares it, by digest."""


def standing(rollout: Rollout, site_of: SiteOf) -> dict[str, Device]:
    """Each device as the revision declares it that it stood on before the rollout.

    Devices that no revision has reached yet are absent.
    """
    revisions = {digest: _devices(digest, site_of) for digest in {*rollout.behind.values()}}
    devices = _devices(rollout.origin, site_of)
    for asset, digest in rollout.behind.items():
        older = revisions[digest].get(asset)
        if older is None:
            devices.pop(asset, None)
        else:
            devices[asset] = older
    return devices


def until_its_wave(device: Device, older: Device | None) -> Device:
    """What a device is compared with before its wave: what it stands on.

    Facts (where it stands and is reached, whose it is) are those of the new revision at once; only the
    intent waits.
    """
    if older is None or not older.is_managed or older.intent.family != device.intent.family:
        return device
    intent = msgspec.structs.replace(older.intent, owner=device.intent.owner)
    return msgspec.structs.replace(device, intent=intent)


def cohorts(rollout: Rollout, before: Mapping[str, Device], after: Site) -> dict[str, int]:
    """Subject → place in the cohort order."""
    return {
        asset: place
        for place, asset in enumerate(cohort_order(rollout.to, _subjects(before, after)))
    }


def make_rollout(
    previous: Rollout | None, after: Site, record: RevisionRecord, site_of: SiteOf
) -> Rollout:
    """The rollout that brings devices from where they stand to a newly accepted revision.

    Args:
        previous: the rollout of the revision that was in force, however far it came.
        after: the site as the new revision declares it.
        record: of the new revision.
        site_of: accepted revisions, `previous`'s among them.
    """
    origin = previous.to if previous else None
    behind = _left_behind(previous, site_of) if previous else {}
    draft = Rollout(
        id=f"{record.seq:06d}-{short(record.digest)}",
        to=record.digest,
        origin=origin,
        waves=(),
        since_s=record.accepted_at_s,
        behind=behind,
    )
    subjects = _subjects(standing(draft, site_of), after)
    waves = wave_sizes(len(subjects), after.strategy.cohorts)
    return Rollout(
        id=draft.id,
        to=draft.to,
        origin=origin,
        waves=waves,
        since_s=draft.since_s,
        state=RolloutState.RUNNING if waves else RolloutState.DONE,
        # Of all, not of the subjects alone: who stands on what is wanted would count as changed else.
        behind=behind,
    )


def _left_behind(rollout: Rollout, site_of: SiteOf) -> dict[str, str | None]:
    """Subjects that no wave has reached → the revision that each stands on."""
    if rollout.state is RolloutState.DONE:
        return {}
    order = cohorts(rollout, standing(rollout, site_of), site_of(rollout.to))
    return {
        asset: rollout.behind.get(asset, rollout.origin)
        for asset in order
        if not is_assigned(order, rollout, asset)
    }


def _devices(digest: str | None, site_of: SiteOf) -> dict[str, Device]:
    return {device.asset: device for device in site_of(digest).devices} if digest else {}


def _subjects(before: Mapping[str, Device], after: Site) -> tuple[str, ...]:
    """The managed devices that do not stand on what `after` wants of them."""
    return tuple(
        device.asset
        for device in after.devices
        if device.is_managed and not _stands_on(before.get(device.asset), device)
    )


def _stands_on(before: Device | None, device: Device) -> bool:
    """Whether a device is managed already and has what is wanted of it."""
    return before is not None and before.is_managed and _wanted(before) == _wanted(device)


def _wanted(device: Device) -> str:
    return digest_of(device.desired(), device.intent.family)
