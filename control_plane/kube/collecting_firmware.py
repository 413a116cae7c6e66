"""Which grants, Jobs and files of firmware may go: those that nothing refers to any more. Pure.

The stack makes most of them and deletes none: only the controller knows what is under way.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from control_plane.core import limits
from control_plane.core.cluster import Kind, Object
from control_plane.core.firmware_job import BUNDLE_LABEL, ROLLOUT_LABEL, reads_of
from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.flashing import Grant
from control_plane.kube.firmware_jobs import is_over
from control_plane.kube.grants import job_in
from control_plane.kube.kinds import CONFIG_MAP, DEVICE_OPERATION, JOB


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a site's firmware, read at one moment."""

    operations: tuple[Object, ...]
    jobs: tuple[Object, ...]
    maps: tuple[Object, ...]


def superfluous(
    found: Found,
    *,
    grants: Mapping[str, Grant],
    rollouts: Iterable[FirmwareRollout],
    bundles: Collection[str],
    now_s: float,
) -> list[tuple[Kind, Object]]:
    """What may go; a Job before what its pods read.

    Args:
        found: all that there is.
        grants: of the operations, by name; one that is not understood stays.
        rollouts: that are kept.
        bundles: as their label has it, those that a kept revision declares: a roll-back needs them.
        now_s: seconds since the epoch.
    """
    known = {rollout.id: rollout for rollout in rollouts}
    operations = [
        each
        for each in found.operations
        if (grant := grants.get(each.metadata.name)) is not None
        and _has_ended(grant, known.get(grant.rollout), now_s)
    ]
    going = {each.metadata.name for each in operations}
    worked_on = {job_in(name) for name in grants if name not in going}
    jobs = [
        each
        for each in found.jobs
        if _is_old(each, now_s) and _may_go(each, worked_on, known, bundles)
    ]
    gone = {each.metadata.name for each in jobs}
    read = {
        name for each in found.jobs if each.metadata.name not in gone for name in _read_by(each)
    }
    maps = [
        each
        for each in found.maps
        if _is_old(each, now_s)
        and each.metadata.name not in read
        and (ROLLOUT_LABEL in each.metadata.labels or not _is_declared(each, bundles))
    ]
    return [
        *((DEVICE_OPERATION, each) for each in operations),
        *((JOB, each) for each in jobs),
        *((CONFIG_MAP, each) for each in maps),
    ]


def _has_ended(grant: Grant, rollout: FirmwareRollout | None, now_s: float) -> bool:
    """Whether nobody asks any more what became of its devices."""
    if rollout is not None and not rollout.has_ended:
        return False
    since_s = max(grant.deadline_s, rollout.since_s if rollout else 0.0)
    return not grant.locked(now_s) and now_s - since_s > limits.FIRMWARE_KEPT_S


def _may_go(
    job: Object,
    worked_on: Collection[str],
    rollouts: Mapping[str, FirmwareRollout],
    bundles: Collection[str],
) -> bool:
    made_for = job.metadata.labels.get(ROLLOUT_LABEL)
    if made_for is None:
        return not _is_declared(job, bundles) and job.metadata.name not in worked_on
    # The grants say what became of it; of its pods nobody needs anything.
    rollout = rollouts.get(made_for)
    return is_over(job) and (rollout is None or rollout.has_ended)


def _is_declared(each: Object, bundles: Collection[str]) -> bool:
    """Whether a revision that is kept asks for its bundle; unknown counts as yes."""
    bundle = each.metadata.labels.get(BUNDLE_LABEL)
    return bundle is None or bundle in bundles


def _read_by(job: Object) -> tuple[str, ...]:
    try:
        return reads_of(msgspec.json.decode(job.spec, type=dict[str, Any])["template"])
    except (msgspec.MsgspecError, LookupError, TypeError):
        return ()


def _is_old(each: Object, now_s: float) -> bool:
    """Whether it was not made just now: a stack makes the parts before what refers to them."""
    try:
        made_s = dt.datetime.fromisoformat(each.metadata.creation_timestamp).timestamp()
    except ValueError:
        return False
    return now_s - made_s > limits.REVISION_AGE_S
