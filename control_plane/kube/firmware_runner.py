"""What a pod of a firmware Job does: its index, under its grant, to the end or to where the next goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from control_plane.core.cluster import Cluster
from control_plane.core.errors import ControlPlaneError
from control_plane.core.firmware import About, Shard
from control_plane.core.flashing import FlashEntry, FlashStep
from control_plane.core.ports import Clock, Driver, Secrets
from control_plane.engine.firmware import Line, counted, flash_shard, why_not
from control_plane.engine.flash import Flasher, Images, is_installer
from control_plane.kube.grants import Granted, OperationJournal, read_grant

Tell = Callable[[object], None]
"""Prints a line of the pod's log."""


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """One index of a Job, as its pod has it."""

    operation: str
    namespace: str
    about: About
    shard: Shard


async def run_index(
    index: Index,
    cluster: Cluster,
    *,
    clock: Clock,
    drivers: Mapping[str, Driver],
    images: Images,
    secrets: Secrets,
    tell: Tell,
    began: Callable[[Flasher], None] = lambda _flasher: None,
) -> bool:
    """Bring the machines of an index to the bundle, as far as its grant goes.

    Args:
        index: what the pod was given.
        cluster: the API server.
        clock: policy time.
        drivers: by family.
        images: where images are.
        secrets: where passwords are.
        tell: told of the grant, of each device as soon as it ended, and of the end.
        began: given what can be told to stop.

    Returns:
        Whether nothing is under way: else the index has to be begun again.

    Raises:
        ControlPlaneError: a step could not be kept. Whoever begins the index again goes on where it was.
    """

    def not_granted(why: object) -> bool:
        tell({"operation": index.operation, "granted": False, "why": f"not granted: {why}"})
        return True

    try:
        granted = await read_grant(cluster, index.operation, namespace=index.namespace)
    except ControlPlaneError as error:
        return not_granted(error)
    if granted is None:
        return not_granted(f"there is no {index.operation}")
    grant, about = granted.grant, index.about
    under_way = any(e.attempt and not e.is_final for e in grant.entries.values())
    why = why_not(grant, about, now_s=clock.wall_s())
    if why is not None and not (under_way and grant.digest == about.digest):
        return not_granted(why)
    driver = drivers.get(about.bundle.family)
    if driver is None or not is_installer(driver):
        return not_granted(f"no driver here installs firmware of {about.bundle.family}")
    tell({"operation": index.operation, "granted": True, "devices": len(index.shard.devices)})
    journal = OperationJournal(cluster, granted, namespace=index.namespace)
    flasher = Flasher(about.bundle, driver, images, journal, clock, deadline_s=grant.deadline_s)
    began(flasher)
    lines = await flash_shard(index.shard, about, grant, flasher, secrets=secrets, say=tell)
    await _keep_reasons(journal, granted, lines)
    ended: dict[str, Any] = {"ended": counted(lines), "writes": journal.writes}
    tell({"operation": index.operation, **ended})
    return all(line.has_ended for line in lines)


async def _keep_reasons(journal: OperationJournal, granted: Granted, lines: Sequence[Line]) -> None:
    """Why a device was not begun stands in the journal as well; a log goes with its pod."""
    waiting = [
        FlashEntry(asset=line.asset, detail=line.detail)
        for line in lines
        if line.step == FlashStep.PENDING and line.asset in granted.grant.entries
    ]
    # What was withdrawn meanwhile, or is away, is no loss: nothing has happened to these.
    await asyncio.gather(*map(journal.keep, waiting), return_exceptions=True)
