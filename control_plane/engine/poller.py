"""Looks at every device, over and over: two-speed, bounded, dead devices backed off.

Constant work: the number of looks per second does not depend on what they find.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from control_plane.core import limits, metrics
from control_plane.core.errors import (
    AuthRejected,
    ControlPlaneError,
    DeclarationError,
    HardwareFault,
    OversizedReply,
    UnexpectedReply,
    Unreachable,
    WrongIdentity,
)
from control_plane.core.observation import Depth, Observation, Sighting, Unseen, UnseenReason
from control_plane.core.ports import Clock, Driver, Rng, Secrets, Target
from control_plane.core.secret import Secret
from control_plane.engine.bugs import in_words
from control_plane.engine.edges import Recognise
from control_plane.engine.secrets import missing_secret
from control_plane.engine.slots import Slot

_REASONS: tuple[tuple[type[ControlPlaneError], UnseenReason], ...] = (
    (OversizedReply, UnseenReason.OVERSIZED_REPLY),
    (UnexpectedReply, UnseenReason.UNEXPECTED_REPLY),
    (AuthRejected, UnseenReason.AUTH_REJECTED),
    (WrongIdentity, UnseenReason.WRONG_IDENTITY),
    (HardwareFault, UnseenReason.HARDWARE_FAULT),
    (Unreachable, UnseenReason.UNREACHABLE),
)
NOT_THERE = frozenset(
    {UnseenReason.UNREACHABLE, UnseenReason.WRONG_IDENTITY, UnseenReason.UNEXPECTED_REPLY}
)
"""What looks like a machine that is elsewhere."""
_TICK_S = 0.05
_DETAIL_CHARS = 200
_NO_SECRET = Secret("")
_LOOK_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def target_of(slot: Slot, address: str, secrets: Secrets) -> Target:
    """Where and as whom the driver finds a device.

    Raises:
        DeclarationError: the secret is not where it is declared.
    """
    return target_by(slot, address, slot.secret_ref, secrets)


def target_by(slot: Slot, address: str, ref: str | None, secrets: Secrets) -> Target:
    """The same with the password behind a reference of the caller's choice.

    Raises:
        DeclarationError: it leads nowhere.
    """
    return target_with(slot, address, secrets.resolve(ref) if ref is not None else _NO_SECRET)


def target_with(slot: Slot, address: str, password: Secret) -> Target:
    """The same with a password of the caller's choice."""
    credentials = slot.device.intent.credentials
    return Target(
        asset=slot.asset,
        address=address,
        user=credentials.user if credentials else "",
        password=password,
        pin=slot.memory.pin,
        write_enabled=slot.seen.write_enabled if slot.seen else None,
    )


async def look(
    slot: Slot,
    depth: Depth,
    *,
    secrets: Secrets,
    clock: Clock,
    recognise: Recognise | None = None,
) -> Sighting:
    """One look at one device; a failure of the device is a sighting too.

    One that answers and is not understood is asked which family it speaks. As long as it speaks another
    one than is declared, the declared one's password is not sent to it.

    A device that was found at another address meanwhile is looked at there: another machine may have
    answered at the old one.
    """
    while True:
        address = slot.address
        if recognise is None or address is None or not _speaks_other(slot.unseen):
            sighting = await _look_at(slot, address, depth, secrets=secrets, clock=clock)
        else:
            sighting = await _of_other(slot, address, recognise, clock) or await _look_at(
                slot, address, depth, secrets=secrets, clock=clock
            )
        if recognise is not None and address is not None and _may_be_other(sighting):
            sighting = await _of_other(slot, address, recognise, clock) or sighting
        if slot.address == address:
            return sighting


_NOT_UNDERSTOOD = frozenset({UnseenReason.UNEXPECTED_REPLY, UnseenReason.AUTH_REJECTED})
"""Some families take another's reply for a refused password."""


def _speaks_other(sighting: Unseen | None) -> bool:
    return sighting is not None and sighting.reason is UnseenReason.OTHER_FAMILY


def _may_be_other(sighting: Sighting) -> bool:
    return isinstance(sighting, Unseen) and sighting.reason in _NOT_UNDERSTOOD


async def _of_other(slot: Slot, address: str, recognise: Recognise, clock: Clock) -> Unseen | None:
    """The sighting of a machine that speaks another family; `None` where it does not, or tells none."""
    told = await recognise(address)
    if told is None or told.family == slot.device.intent.family:
        return None
    family, firmware = told.family, told.version and told.version[:_DETAIL_CHARS]
    detail = f"it speaks {family}, not {slot.device.intent.family}"
    seen = unseen(slot.asset, clock, UnseenReason.OTHER_FAMILY, detail)
    return msgspec.structs.replace(seen, family=family, firmware=firmware)


async def _look_at(
    slot: Slot, address: str | None, depth: Depth, *, secrets: Secrets, clock: Clock
) -> Sighting:
    if slot.driver is None:
        return unseen(slot.asset, clock, UnseenReason.NO_DRIVER, "")
    try:
        target = target_of(slot, address or "", secrets)
    except DeclarationError as error:
        why = missing_secret(slot.device, error)
        return unseen(slot.asset, clock, UnseenReason.SECRET_MISSING, why)
    if address is None:
        return unseen(
            slot.asset, clock, UnseenReason.UNLOCATED, f"not found in {slot.device.searched} yet"
        )
    return await ask(slot.driver, target, depth, clock=clock)


async def ask(driver: Driver, target: Target, depth: Depth, *, clock: Clock) -> Sighting:
    """What a device says; its failure, and a driver's, is a sighting too."""
    try:
        return await driver.observe(target, depth)
    except ControlPlaneError as error:
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                return unseen(target.asset, clock, reason, str(error))
        return unseen(target.asset, clock, UnseenReason.INTERNAL_ERROR, in_words(error))
    except Exception as bug:  # noqa: BLE001 - a driver's bug is one device's trouble, not the site's
        return unseen(target.asset, clock, UnseenReason.INTERNAL_ERROR, in_words(bug))


def unseen(asset: str, clock: Clock, reason: UnseenReason, detail: str) -> Unseen:
    """A look that gave nothing, now."""
    return Unseen(asset=asset, at_s=clock.wall_s(), reason=reason, detail=detail[:_DETAIL_CHARS])


class Poller:
    """Schedules looks in wire time and hands each result to `sighted`."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Rng,
        secrets: Secrets,
        sighted: Callable[[Slot, Sighting, Depth], None],
        interval_s: float = limits.POLL_INTERVAL_S,
        concurrency: int = limits.POLL_CONCURRENCY,
        recognise: Recognise | None = None,
    ) -> None:
        self.looks: Counter[str] = Counter()
        """Looks so far: `seen`, or why not."""
        self.durations = metrics.Histogram(_LOOK_BOUNDS_S)
        self._clock = clock
        self._rng = rng
        self._secrets = secrets
        self._recognise = recognise
        self._sighted = sighted
        self._interval_s = interval_s
        self._concurrency = concurrency
        self._heap: list[tuple[float, int, Slot]] = []
        self._numbers = itertools.count()
        self._ready: asyncio.PriorityQueue[tuple[bool, int, Slot]] = asyncio.PriorityQueue()
        self._watched: set[str] = set()

    def watch(self, slots: Iterable[Slot]) -> None:
        """Begin to poll; first looks are spread over one interval, or at once for a few."""
        fresh = [slot for slot in slots if slot.asset not in self._watched]
        now = self._clock.wire_s()
        for index, slot in enumerate(fresh):
            self._watched.add(slot.asset)
            self._push(slot, now + self._interval_s * index / max(len(fresh), self._concurrency))

    def forget(self, slot: Slot) -> None:
        """Stop polling a device."""
        self._watched.discard(slot.asset)
        slot.due_s = float("inf")

    def hurry(self, slot: Slot, after_s: float = 0.0, *, full: bool = True) -> None:
        """Look sooner: at the latest after so many wire seconds."""
        slot.full_wanted = slot.full_wanted or full
        slot.hurried = True
        due = self._clock.wire_s() + after_s
        if due < slot.due_s:
            self._push(slot, due)

    def _push(self, slot: Slot, due_s: float) -> None:
        slot.due_s = due_s
        heapq.heappush(self._heap, (due_s, next(self._numbers), slot))

    async def run(self) -> None:
        """Poll until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, max(1, len(self._watched)))):
                group.create_task(self._work())
            while True:
                now = self._clock.wire_s()
                while self._heap and self._heap[0][0] <= now:
                    due, _, slot = heapq.heappop(self._heap)
                    if slot.due_s == due and slot.asset in self._watched:
                        slot.due_s = float("inf")
                        # Somebody waits for a hurried look; a routine one may be late.
                        self._ready.put_nowait((not slot.hurried, next(self._numbers), slot))
                wait = self._heap[0][0] - now if self._heap else _TICK_S
                await self._clock.wire_sleep(min(max(wait, 0.0), _TICK_S))

    async def _work(self) -> None:
        while True:
            _, _, slot = await self._ready.get()
            if slot.busy:
                self._push(slot, self._clock.wire_s() + 1.0)
                continue
            slot.busy = True
            try:
                await self._look(slot)
            finally:
                slot.busy = False

    async def _look(self, slot: Slot) -> None:
        began = self._clock.wire_s()
        slot.hurried = False
        depth = slot.next_depth(
            pools_every=limits.POOLS_EVERY_POLLS, full_every=limits.FULL_EVERY_POLLS
        )
        sighting = await look(
            slot, depth, secrets=self._secrets, clock=self._clock, recognise=self._recognise
        )
        slot.polls += 1
        self.durations.add(self._clock.wire_s() - began)
        self.looks["seen" if isinstance(sighting, Observation) else sighting.reason.value] += 1
        due = began + self._interval_s
        if isinstance(sighting, Observation):
            slot.failures = 0
        else:
            slot.failures += 1
            is_gone = sighting.reason is UnseenReason.SECRET_MISSING and slot.login
            if sighting.reason is UnseenReason.AUTH_REJECTED or is_gone:
                slot.note_refused()
            elif sighting.reason in NOT_THERE:
                slot.note_elsewhere()
            backoff = min(
                self._interval_s * 2 ** min(slot.failures - 1, 8), limits.DEAD_BACKOFF_MAX_S
            )
            due = began + backoff * self._rng.uniform(0.9, 1.1)
        if slot.asset in self._watched and due < slot.due_s:
            self._push(slot, due)
        self._sighted(slot, sighting, depth)
