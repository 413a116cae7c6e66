"""Takes in what looks tell: what changed, who is judged anew, and what each device counts at."""

from __future__ import annotations

from collections.abc import Callable

from control_plane.core.decision import Decision, Held, Reason
from control_plane.core.diff import unreadable
from control_plane.core.errors import ControlPlaneError
from control_plane.core.memory import is_other
from control_plane.core.observation import (
    Depth,
    Field,
    Observation,
    Settings,
    Sighting,
    Unseen,
    UnseenReason,
    merged,
)
from control_plane.core.ports import Clock
from control_plane.core.power import Loads, counted_w
from control_plane.engine.bugs import Bugs, in_words
from control_plane.engine.journal import Journal
from control_plane.engine.poller import Poller
from control_plane.engine.queue import KeyedQueue, Priority
from control_plane.engine.slots import Slot

_REBOOT_SLACK_S = 120.0
"""Uptime may lag behind wall time by that much before a reboot is suspected."""


class Sights:
    """What was seen of a site's devices, and what follows from it for queue and loads."""

    def __init__(self, *, clock: Clock, journal: Journal, loads: Loads) -> None:
        self._clock = clock
        self.bugs = Bugs(journal)
        self._journal = journal
        self.loads = loads
        self.queue: KeyedQueue[Slot] = KeyedQueue()
        self.poller: Poller | None = None
        self.news: dict[str, Slot] = {}
        """Devices whose settings, or whose silence, other processes have not been told yet."""

    def spared(self, slot: Slot, act: Callable[[Slot], None]) -> None:
        """Do something about one device; a bug of ours that it meets is that device's trouble alone."""
        try:
            act(slot)
        except ControlPlaneError:
            raise
        except Exception as bug:  # noqa: BLE001 - the others go on
            self.broke(slot, bug)

    def broke(self, slot: Slot, bug: Exception) -> None:
        """Our code failed on a device: it is left as it is until it is looked at again."""
        words = in_words(bug)
        self.bugs.page(slot.asset, words)
        slot.unseen = Unseen(
            asset=slot.asset,
            at_s=self._clock.wall_s(),
            reason=UnseenReason.INTERNAL_ERROR,
            detail=words,
        )
        held = Held(asset=slot.asset, reason=Reason.INTERNAL_ERROR, detail=words)
        slot.decision = Decision(asset=slot.asset, desired=Settings(), held=(held,))
        self.news[slot.asset] = slot

    def sighted(self, slot: Slot, sighting: Sighting, depth: Depth) -> None:
        """Take in a look; wake the device up only if something that matters changed."""
        self.spared(slot, lambda slot: self._take_in(slot, sighting, depth))

    def _take_in(self, slot: Slot, sighting: Sighting, depth: Depth) -> None:
        if not isinstance(sighting, Observation):
            news = slot.unseen is None or slot.unseen.reason is not sighting.reason
            slot.unseen = sighting
            self.recount(slot)
            if sighting.reason is UnseenReason.INTERNAL_ERROR:
                self.bugs.page(slot.asset, sighting.detail)
            if news:
                slot.full_wanted = True
                if sighting.reason is UnseenReason.OTHER_FAMILY:
                    self._journal.event(
                        "work_order", f"{sighting.detail}: a person's work", asset=slot.asset
                    )
                self.news[slot.asset] = slot
                self.queue.push(slot.asset, slot, Priority.DRIFT)
            return
        before, back = slot.seen, slot.unseen is not None
        now = merged(before, sighting)
        slot.seen, slot.unseen = now, None
        slot.seen_wire_s = self._clock.wire_s()
        if depth is Depth.FULL:
            slot.full_wanted, slot.full_at_s = False, now.at_s
            slot.note_full(is_whole=not unreadable(slot.device.desired(), now))
        elif before is not None and (_discontinuous(before, sighting) or _denies(before, sighting)):
            self.hurry(slot, 0.0)
        if before is None or back or slot.op is not None or now.settings is not before.settings:
            self.recount(slot)
        if slot.decision is None or back or slot.op is not None or _differs(before, now):
            first = slot.decision is None
            self.news[slot.asset] = slot
            self.queue.push(slot.asset, slot, Priority.FIRST_SYNC if first else Priority.DRIFT)

    def hurry(self, slot: Slot, after_s: float, *, full: bool = True) -> None:
        """Look sooner: at the latest after so many wire seconds."""
        if self.poller is not None:
            self.poller.hurry(slot, after_s, full=full)

    def recount(self, slot: Slot) -> None:
        """Count the device by its settings; while a write is open, at the higher of before and after.

        One that fell silent may have booted into more than it last told: sleep does not outlive a power
        cut on every family. It counts at nameplate, or at its last settings where those permit more. So
        does one at whose address another machine answers: it may run anywhere.
        """
        if slot.is_gone:
            return  # It is counted as released.
        seen = slot.seen
        watts = max(slot.reserved_w, counted_w(slot.device, seen.settings if seen else None))
        if slot.unseen is not None or (seen and is_other(slot.memory.pin, seen.identity)):
            watts = max(watts, counted_w(slot.device, None), slot.memory.above_w or 0.0)
        if slot.op is not None:
            watts = max(
                watts, counted_w(slot.device, slot.op.after), counted_w(slot.device, slot.op.before)
            )
        self.loads.count(slot.asset, slot.device.feed, watts)


def _differs(before: Observation | None, now: Observation) -> bool:
    """Whether two looks differ in something that a decision depends on."""
    if before is None or before.settings != now.settings or before.identity != now.identity:
        return True
    was, is_now = before.telemetry, now.telemetry
    hashed, hashes = bool(was.hashrate_ths), bool(is_now.hashrate_ths)
    return (
        hashed is not hashes
        or was.activity is not is_now.activity
        or was.errors != is_now.errors
        or before.write_enabled is not now.write_enabled
    )


def _denies(before: Observation, now: Observation) -> bool:
    """Whether hash began or ended against the settings, and this look has not asked for those."""
    hashed, hashes = before.telemetry.hashrate_ths, now.telemetry.hashrate_ths
    if Field.MINING in now.asked or hashed is None or hashes is None:
        return False
    return (hashed > 0.0) is not (hashes > 0.0) and before.settings.mining is not (hashes > 0.0)


def _discontinuous(before: Observation, now: Observation) -> bool:
    """Whether another machine, or the same one after a reboot or a restart, answers at the address.

    A changed mode restarts the mining process, and not every hot look tells the mode. One that tells
    no uptime any more is restarting: the next look would have nothing to compare with.
    """
    mined, mines = before.telemetry.mining_uptime_s, now.telemetry.mining_uptime_s
    if mined is not None and (mines is None or mines < mined):
        return True
    was, told = before.telemetry.uptime_s, now.telemetry.uptime_s
    if was is None or told is None:
        return False
    return abs(told - was - (now.at_s - before.at_s)) > _REBOOT_SLACK_S
