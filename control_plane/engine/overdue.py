"""Devices that firmware was being installed on by somebody who is gone for good: how they ended."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.core.errors import ControlPlaneError, StoreError
from control_plane.core.firmware import Bundle
from control_plane.core.flashing import (
    COMMITTED,
    FlashEntry,
    FlashStep,
    Grant,
    after_boot,
    after_settling,
    quarantined,
)
from control_plane.core.observation import Telemetry
from control_plane.core.ports import Clock
from control_plane.engine.bundles import Bundles
from control_plane.engine.fitness import version_of
from control_plane.engine.granting import Granting
from control_plane.engine.journal import Journal
from control_plane.engine.slots import Slot


async def take_up(  # noqa: PLR0917 - all of it is asked
    granting: Granting,
    known: Mapping[str, Grant],
    bundles: Bundles,
    slots: Mapping[str, Slot],
    journal: Journal,
    clock: Clock,
) -> None:
    """Keep how devices of grants that ended long ago stand, by what they tell now.

    Long ago: whoever worked on them had its deadline, the longest flash and the time to settle.

    Raises:
        StoreError: nothing can be kept here any more.
    """
    now_s = clock.wall_s()
    for grant in known.values():
        left = [entry for entry in grant.entries.values() if entry.step in COMMITTED]
        bundle = bundles.of(grant.digest) if left else None
        if bundle is None or now_s < grant.deadline_s + bundle.flash_s + bundle.settle_s:
            continue
        ended = [_ended(entry, slots.get(entry.asset), bundle, now_s) for entry in left]
        try:
            await granting.conclude(grant.operation, ended)
        except StoreError:
            raise
        except ControlPlaneError as error:
            journal.event("firmware", f"{grant.operation}: asked again: {error}")


def _ended(entry: FlashEntry, slot: Slot | None, bundle: Bundle, now_s: float) -> FlashEntry:
    told = version_of(slot) if slot else None
    if entry.step is not FlashStep.VERIFYING:
        entry = after_boot(
            entry,
            told,
            wanted=bundle.version,
            waited_s=now_s - (entry.committed_at_s or 0.0),
            flash_s=bundle.flash_s,
        )
    if entry.is_final:
        return entry
    measured = slot.seen.telemetry if slot and slot.seen else Telemetry()
    ended = after_settling(
        entry,
        told,
        measured.hashrate_ths,
        measured.power_w,
        wanted=bundle.version,
        is_over=True,
    )
    if ended.is_final:
        return ended
    return quarantined(entry, f"it runs {bundle.version}, and does not hash as before")
