"""The guard's process: meters are read, nodes judged, machines lowered; for ever, and with nobody's help.

What it decides is on its disk before an order leaves: whoever is the guard next knows what was told to whom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from control_plane.core import limits
from control_plane.core.errors import ControlPlaneError, StoreError
from control_plane.core.guard import Guard
from control_plane.core.guard_bundle import BundleError
from control_plane.core.guard_state import Decision, Page, Reading, State, moved
from control_plane.core.meter import Meter, Quality, Watch, judge
from control_plane.core.ports import Clock, Driver, Meters, Secrets
from control_plane.engine.bugs import in_words
from control_plane.engine.log import Say
from control_plane.guard.given import GIVEN, Given, Lowered, Shown, given_in, keep, kept_in, show
from control_plane.guard.hands import Hands, Reach


class GuardLoop:
    """One site's guard."""

    def __init__(
        self,
        folder: Path,
        drivers: Mapping[str, Driver],
        meters: Meters,
        secrets: Secrets,
        *,
        clock: Clock,
        scale: float = 1.0,
        say: Say,
    ) -> None:
        """Nothing is read before `serve`.

        Args:
            folder: with what it was given, and for what it remembers; nobody else's.
            drivers: by firmware family.
            meters: the port to the meters.
            secrets: where passwords are, on this host.
            clock: the clock.
            scale: policy seconds in one of the wire; 1 outside simulations.
            say: told of pages, and of what a person should know.
        """
        self._folder, self._meters, self._clock, self._say = folder, meters, clock, say
        self._scale = scale
        self._epoch_s = clock.wall_s() - clock.wire_s() * scale
        """Of the guard's own time, which runs like wall time and is never set back."""
        self._given: Given | None = None
        self._locked_s: dict[str, float] = {}
        self._stamp: tuple[int, int] | None = None
        self._guard: Guard | None = None
        self._told: frozenset[tuple[str, str]] = frozenset()
        self._shown: Decision | None = None
        self._is_full = False
        """Whether its disk takes nothing."""
        self._silent: dict[str, str] = {}
        """Meter → why it could not be read, as it was said last."""
        self._readers: dict[Meter, asyncio.Task[None]] = {}
        self._hands = Hands(drivers, secrets, clock=clock, now_s=self._now_s, tells=self, say=say)

    async def serve(self) -> None:
        """Look, for ever.

        Raises:
            BundleError: it was given nothing that it can follow, at the start. Later the last good one stays.
            StoreError: what it remembers was written by a newer release.
        """
        self._stamp = self._stamp_now()
        self._take(given_in(self._folder))
        try:
            while True:
                try:
                    self._take_if_new()
                    self.look()
                except Exception as bug:  # noqa: BLE001 - a guard that ends guards nothing
                    self._say(f"a bug: {in_words(bug)}", kind="page", level="error")
                await self._clock.wire_sleep(limits.GUARD_LOOK_S)
        finally:
            await self._stop_readers()
            await self._hands.close()
            await self._meters.close()

    def look(self) -> None:
        """One look: what follows from what the meters have shown so far."""
        guard, given = self._guard, self._given
        if guard is None or given is None:
            return
        decision = guard.look(self._now_s())
        if decision.orders or decision != self._shown:
            self._keep(given, guard, decision)
            self._shown = decision
        for order in decision.orders:
            self._hands.give(order)
        self._page(decision.pages)

    def _keep(self, given: Given, guard: Guard, decision: Decision) -> None:
        """On disk before orders leave; but a full disk is no reason to let a feed trip."""
        try:
            keep(self._folder, guard.state)
            show(self._folder, self._as_shown(given, guard, decision))
        except StoreError as error:
            if not self._is_full:
                self._say(f"{error}; machines are lowered all the same", kind="page", level="error")
            self._is_full = True
        else:
            self._is_full = False

    # --- what it was given -----------------------------------------------------------------------

    def _take(self, given: Given) -> None:
        before = self._guard
        self._guard = Guard(
            given.bundle,
            before.state if before is not None else self._kept(),
            scale=self._scale,
            begun_s=before.begun_s if before is not None else None,
        )
        self._given, self._shown = given, None
        self._locked_s = {d.asset: d.locked_until_s for d in given.bundle.devices}
        wanted = {meter for meter in given.meters if meter.node is not None}
        for meter in self._readers.keys() - wanted:
            self._readers.pop(meter).cancel()
        for meter in wanted - self._readers.keys():
            self._readers[meter] = asyncio.ensure_future(self._read(meter))
        self._say(
            f"guards {given.bundle.site}: {len(given.bundle.devices):,} machines, "
            f"{len(self._readers):,} meters, revision {given.bundle.revision[:12]}",
            kind="guard",
        )

    def _kept(self) -> State:
        """Of the guard before this one; where the clock was set back meanwhile, its times too."""
        state = kept_in(self._folder)
        ahead_s = state.at_s - self._now_s()
        return moved(state, -ahead_s) if ahead_s > 0 else state

    def _now_s(self) -> float:
        return self._epoch_s + self._clock.wire_s() * self._scale

    def _take_if_new(self) -> None:
        stamp = self._stamp_now()
        if stamp is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            given = given_in(self._folder)
        except BundleError as error:
            self._say(f"{error}; the one before stays in force", kind="guard", level="error")
            return
        self._take(given)

    def _stamp_now(self) -> tuple[int, int] | None:
        try:
            found = (self._folder / GIVEN).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    # --- meters ------------------------------------------------------------------------------------

    async def _read(self, meter: Meter) -> None:
        """Read one meter in its own interval, for as long as it is declared."""
        watch: Watch | None = None
        while True:
            try:
                reading = await self._meters.read(meter)
                watch, reading = judge(meter, watch, reading)
                self._heard(meter, reading.trusted_w, self._now_s(), reading.quality)
            except ControlPlaneError as error:
                self._note(meter.name, str(error))
            except Exception as bug:  # noqa: BLE001 - a bug of one model is not the other meters' trouble
                self._note(meter.name, f"meter {meter.name}: a bug: {in_words(bug)}")
            await self._clock.wire_sleep(meter.interval_s)

    def _heard(self, meter: Meter, power_w: float | None, at_s: float, quality: Quality) -> None:
        if power_w is None or self._guard is None or meter.node is None:
            self._note(meter.name, f"meter {meter.name}: what it shows cannot be so: {quality}")
            return
        self._note(meter.name, "")
        self._guard.read(meter.node, Reading(power_w=power_w, at_s=at_s))

    def _note(self, name: str, trouble: str) -> None:
        if trouble and not self._silent.get(name):
            self._say(trouble, kind="meter", level="warning", meter=name)
        elif not trouble and self._silent.get(name):
            self._say(f"meter {name} is read again", kind="meter", meter=name)
        self._silent[name] = trouble

    async def _stop_readers(self) -> None:
        tasks = list(self._readers.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the rest ------------------------------------------------------------------------------------

    def reach(self, asset: str) -> Reach | None:
        """How a machine is reached now."""
        way = self._given.ways.get(asset) if self._given is not None else None
        kind = self._given.types.get(way.type) if self._given is not None and way else None
        if way is None or kind is None:
            return None
        return Reach(way, kind, self._locked_s.get(asset, 0.0))

    def done(self, asset: str, power_w: float, *, was_so: bool) -> None:
        """A machine may draw so much and no more."""
        if self._guard is not None:
            self._guard.done(asset, power_w, was_so=was_so)

    def failed(self, asset: str) -> None:
        """An order did not leave, or came to nothing."""
        if self._guard is not None:
            self._guard.failed(asset)

    def _page(self, pages: tuple[Page, ...]) -> None:
        now = frozenset((page.node, page.cause.value) for page in pages)
        for page in pages:
            if (page.node, page.cause.value) not in self._told:
                self._say(
                    f"{page.node}: {page.cause}: {page.detail}",
                    kind="page", level="error", node=page.node, cause=page.cause.value,
                )  # fmt: skip
        for node, cause in sorted(self._told - now):
            self._say(f"{node}: {cause}: over", kind="page", node=node, cause=cause)
        self._told = now

    def _as_shown(self, given: Given, guard: Guard, decision: Decision) -> Shown:
        return Shown(
            at_s=self._clock.wall_s(),
            site=given.bundle.site,
            revision=given.bundle.revision,
            decision=decision,
            lowered={a: Lowered(rung=r, at_s=at_s) for a, (r, at_s) in guard.lowered.items()},
        )
