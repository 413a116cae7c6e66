"""Rotations of a site: which machines are given another password, or another address, and when.

What it begins it keeps first: the round, then each step of each device. So whoever takes over knows at each
moment which devices may be between the two. Those are locked: nobody writes to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import islice

from control_plane.core import limits
from control_plane.core.errors import ControlPlaneError, FenceLost, StoreBusy
from control_plane.core.rotation import SENT, RotationEntry, RotationStep
from control_plane.core.rotation_rollout import (
    Aim,
    Rotation,
    RotationState,
    aims_of,
    begun,
    is_lost,
    judged,
    locks_of,
    members_of,
    opened,
    released,
    round_size,
    stands,
    superseded,
    without,
)
from control_plane.engine.bugs import in_words
from control_plane.engine.edges import Edges
from control_plane.engine.errands import Errand
from control_plane.engine.fitness import Fitness, whom_of
from control_plane.engine.gate import Gate
from control_plane.engine.incidents import Incidents
from control_plane.engine.journal import Journal
from control_plane.engine.locking import set_locks
from control_plane.engine.poller import Poller
from control_plane.engine.reconciler import Keep, Reconciler
from control_plane.engine.roster import Roster
from control_plane.engine.rotation_log import RotationLog
from control_plane.engine.rotator import Rotator
from control_plane.engine.slots import Slot
from control_plane.engine.store import Store

_TURN_S = 2.0
"""Wire seconds between two looks at the rotations."""
_AGAIN_S = 30.0
"""Wire seconds until a device is taken up again whose step could not be kept, or whose driver broke."""
Waves = Sequence[Sequence[str]]


async def _at_once() -> None:
    """What the Store has committed is durable."""


class Rotating:
    """The rotations of one site and one errand, while the engine runs."""

    def __init__(
        self,
        errand: Errand,
        *,
        store: Store,
        epoch: int,
        edges: Edges,
        gate: Gate,
        roster: Roster,
        reconciler: Reconciler,
        incidents: Incidents,
        journal: Journal,
        poller: Poller,
        acts: bool,
        keep: Keep | None,
    ) -> None:
        """Without `acts` nothing is begun; who is between the two is locked all the same.

        `keep` makes durable what has to be before a change leaves, where the Store alone is not.
        """
        self._errand, self._store, self._epoch, self._clock = errand, store, epoch, edges.clock
        self._gate, self._roster, self._reconciler = gate, roster, reconciler
        self._journal, self._poller, self._acts = journal, poller, acts
        self._durable = keep or _at_once
        self._fitness = Fitness(
            clock=edges.clock, roster=roster, reconciler=reconciler, incidents=incidents
        )
        self.rotations: dict[str, Rotation] = {
            r.id: r for r in store.rotations() if r.subject is errand.subject
        }
        self._log = RotationLog(
            errand,
            store=store,
            epoch=epoch,
            clock=edges.clock,
            gate=gate,
            roster=roster,
            journal=journal,
            is_in_round=self._is_in_round,
        )
        self._working: set[str] = set()
        self._resting: dict[str, float] = {}
        """Devices that are taken up again, and at which wire second."""
        self._swept_s: dict[str, float] = {}
        """When rotations that are done were gone through last, policy time."""
        self._locked: frozenset[str] = frozenset()
        self._waves: Mapping[Aim, Waves] = {}
        self._declared_by: object = None
        self._is_stopped = asyncio.Event()

    def stop(self) -> None:
        """Begin nothing more, and wait for no device; a change that leaves is sent to its end."""
        self._is_stopped.set()

    # --- locks -------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Lock the devices that are under way, and let go of those that are not any more."""
        locks = locks_of(self.rotations.values(), self._log.entries)
        set_locks(
            self._locked,
            locks,
            roster=self._roster,
            reconciler=self._reconciler,
            poller=self._poller,
        )
        self._locked = frozenset(locks)

    # --- what people say ---------------------------------------------------------------------------

    def release(self, rotation_id: str, *, through: int | None, by: str) -> None:
        """A person lets waves go, or has a halted rotation go on; inside the order's transaction."""
        rotation = self.rotations.get(rotation_id)
        if rotation is None:
            return
        after = released(rotation, through=through, by=by, now_s=self._clock.wall_s())
        if isinstance(after, str):
            self._journal.event(self._errand.topic, f"nothing to release: {after}")
        else:
            self._keep(after)

    # --- turns -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Move the rotations on, for ever.

        Raises:
            FenceLost: another process took over.
            StoreError: nothing can be made durable any more.
        """
        while True:
            await self._clock.wire_sleep(_TURN_S)
            if not self._acts or self._reconciler.draining or not self._reconciler.admits:
                continue
            if not self._gate.passes:
                continue
            try:
                self._declare()
                for rotation in list(self.rotations.values()):
                    self._turn(rotation)
                self._follow_sent()
            except StoreBusy:
                continue  # Another process has the Store; what was not kept was not begun.
            finally:
                self.lock()

    def _declare(self) -> None:
        """Begin rotations of what the revision in force asks for; end those of what it does not."""
        site = self._roster.site
        if self._declared_by is site:
            return
        found, now_s, live = aims_of(site, self._errand.aim_of), self._clock.wall_s(), set()
        for rotation in list(self.rotations.values()):
            waves = found.get(rotation.aim)
            if not rotation.is_declared:
                continue
            if waves is None or members_of(waves) != rotation.members:
                self._keep(superseded(rotation, now_s))
            else:
                live.add(rotation.aim)
        for aim, waves in found.items():
            if aim not in live:
                number = self._store.next_number(self._errand.series)
                self._keep(begun(f"{self._errand.prefix}{number:04d}", aim, waves, now_s))
        self._waves, self._declared_by = found, site

    def _turn(self, rotation: Rotation) -> None:
        match rotation.state:
            case RotationState.WAITING:
                self._begin(rotation)
            case RotationState.DONE:
                # Machines that came back, or were swapped; the waves were let go.
                if (
                    self._clock.wall_s() - self._swept_s.get(rotation.id, 0.0)
                    >= limits.CREDENTIAL_WAIT_S
                ):
                    self._swept_s[rotation.id] = self._clock.wall_s()
                    self._begin(rotation)
            case RotationState.ROTATING:
                self._follow(rotation)
            case RotationState.HALTED | RotationState.SUPERSEDED:
                pass

    def _begin(self, rotation: Rotation) -> None:
        """Open the next round, or say what is waited for."""
        order = [asset for wave in self._waves[rotation.aim] for asset in wave]
        needing = [
            (at, asset)
            for at, asset in enumerate(order)
            if asset not in rotation.failed and self._needs(rotation, asset)
        ]
        say = partial(self._stand, rotation)
        if not needing:
            self._none_needing(rotation, order)
            return
        first = needing[0][0]
        wave = next(number for number, end in enumerate(rotation.waves) if first < end)
        why = self._errand.cannot(rotation.aim)
        if why is not None:
            say(RotationState.WAITING, wave, why)
            return
        let_go = [asset for at, asset in needing if at < rotation.let_go]
        if not let_go:
            say(
                RotationState.WAITING,
                wave,
                f"wave {wave + 1} of {len(rotation.waves)}, {len(needing)} machines to do: "
                f"`gridplane release {rotation.id}` lets it go",
                awaits_person=True,
            )
            return
        size = round_size(rotation, self._roster.site.strategy)
        waits = self._errand.in_the_way(self._roster.slots.values())
        unfit = partial(self._unfit, waits)
        fit = list(islice((asset for asset in let_go if unfit(asset) is None), size))
        if not fit:
            why = f"{len(let_go)} machines are not fit: {let_go[0]}: {unfit(let_go[0])}"
            say(RotationState.WAITING, wave, why)
            return
        self._open(rotation, fit, wave)

    def _none_needing(self, rotation: Rotation, order: Sequence[str]) -> None:
        slots = [s for a in order if (s := self._roster.slots.get(a)) is not None]
        later = sum(self._errand.aim_of(slot.device) != rotation.aim for slot in slots)
        if later:
            why = f"no wave of its settings has reached {later} machines"
            self._stand(rotation, RotationState.WAITING, rotation.wave, why)
            return
        left = f"{len(rotation.failed)} machines failed" if rotation.failed else ""
        self._stand(rotation, RotationState.DONE, len(rotation.waves) - 1, left)

    def _open(self, rotation: Rotation, chosen: Sequence[str], wave: int) -> None:
        slots = [self._roster.slots[asset] for asset in chosen]
        entries = [self._errand.entry(rotation, slot) for slot in slots]
        after = opened(rotation, chosen, wave=wave, now_s=self._clock.wall_s())
        with self._store.transaction():
            self._keep(after)
            self._log.begin(entries)
        self.lock()
        self._journal.event(
            self._errand.topic,
            f"{rotation.id}: {len(chosen)} machines are begun, "
            f"wave {wave + 1} of {len(rotation.waves)}",
        )

    def _follow(self, rotation: Rotation) -> None:
        """Begin machines of a round, a bounded number at a time; judge it once all have ended."""
        if gone := {asset for asset in rotation.round if asset not in self._roster.slots}:
            # Not managed for now. Whom the change may have left for is gone on with when it is back.
            rotation = without(rotation, gone)
            self._keep(rotation)
        entries = [self._entry(rotation, asset) for asset in rotation.round]
        if unknown := [e for e in entries if self._log.entries.get(e.asset) is not e]:
            with self._store.transaction():
                self._store.check_fence(self._epoch)
                self._log.begin(unknown)
        share = self._roster.site.strategy.max_new_failure_share
        lost = is_lost(entries, share)
        late = self._clock.wall_s() - rotation.since_s >= limits.CREDENTIAL_SILENT_S
        pending = [e.asset for e in entries if e.step is RotationStep.PENDING]
        idle = [asset for asset in pending if asset not in self._working]
        back = {asset for asset in idle if lost or late or self._fitness.is_barred(asset)}
        if back:
            rotation = self._withdraw(rotation, back, entries, lost=lost, late=late)
            entries = [entry for entry in entries if entry.asset not in back]
        for asset in idle:
            if asset not in back:
                self._work_on(asset)
        if all(entry.is_final for entry in entries):
            self._judge(rotation, entries, share)

    def _withdraw(
        self,
        rotation: Rotation,
        back: Collection[str],
        entries: Sequence[RotationEntry],
        *,
        lost: bool,
        late: bool,
    ) -> Rotation:
        """Let machines go that nothing has left for; those whose time was over come after all others."""
        told = next((e.detail for e in entries if e.asset in back and e.detail), "nothing was sent")
        why = "the round failed" if lost else told if late else "held, or below an incident"
        text = f"{rotation.id}: {len(back)} machines withdrawn: {why}"
        self._journal.event(self._errand.topic, text)
        if late:
            until_s = self._clock.wire_s() + self._clock.wire_of(limits.CREDENTIAL_WAIT_S)
            self._resting.update(dict.fromkeys(back, until_s))
        after = without(rotation, back)
        self._keep(after)
        return after

    def _judge(self, rotation: Rotation, entries: Sequence[RotationEntry], share: float) -> None:
        after = judged(rotation, entries, max_new_failure_share=share, now_s=self._clock.wall_s())
        self._keep(after)
        if after.state is RotationState.HALTED:
            self._journal.page(f"{self._errand.topic} {rotation.id}: {after.detail}")
        elif entries:
            self._journal.event("gate", f"{rotation.id}: {len(entries)} machines have it")

    def _follow_sent(self) -> None:
        """Go on with every device that a change may have left for, whatever became of its rotation."""
        for asset, entry in self._log.entries.items():
            if entry.step in SENT:
                self._work_on(asset)

    # --- machines ------------------------------------------------------------------------------------

    def _needs(self, rotation: Rotation, asset: str) -> bool:
        """Whether a machine does not have it yet."""
        slot = self._roster.slots.get(asset)
        if slot is None or self._errand.aim_of(slot.device) != rotation.aim:
            # Not managed, or no wave of its settings has reached it yet.
            return False
        return self._errand.needs(slot)

    def _unfit(self, waits: Mapping[str, str], asset: str) -> str | None:
        slot = self._roster.slots[asset]
        if asset in waits:
            return waits[asset]
        if slot.seen is not None and slot.seen.write_enabled is False:
            return "its write interface is switched off"
        if self._resting.get(asset, 0.0) > self._clock.wire_s():
            return "it was tried just now"
        return self._fitness.untouchable(slot)

    def _is_in_round(self, entry: RotationEntry) -> bool:
        rotation = self.rotations.get(entry.rotation)
        return rotation is not None and entry.asset in rotation.round

    def _entry(self, rotation: Rotation, asset: str) -> RotationEntry:
        entry = self._log.entries.get(asset)
        if entry is None or entry.rotation != rotation.id:
            # A backup may have the round without them.
            entry = self._errand.entry(rotation, self._roster.slots[asset])
        return entry

    def _work_on(self, asset: str) -> None:
        """Have a task take a device on, unless one has it, it rests, or enough are under way."""
        slot, now_wire_s = self._roster.slots.get(asset), self._clock.wire_s()
        if slot is None or asset in self._working or whom_of(slot) is None:
            return
        entry = self._log.entries.get(asset)
        is_sent = entry is not None and entry.step in SENT
        if not is_sent and len(self._working) >= limits.CREDENTIAL_AT_ONCE:
            return
        if self._resting.get(asset, now_wire_s) > now_wire_s or self._reconciler.acts is None:
            return
        self._working.add(asset)
        self._reconciler.acts.create_task(self._work(slot))

    async def _work(self, slot: Slot) -> None:
        asset, failure = slot.asset, ""
        try:
            await self._rotate(slot)
        except FenceLost:
            self._gate.close()
        except ControlPlaneError as error:
            failure = str(error)
        except Exception as bug:  # noqa: BLE001 - a driver's bug is one device's trouble, not the site's
            failure = in_words(bug)
        finally:
            self._working.discard(asset)
            if not self._log.entries[asset].is_final:
                self._resting[asset] = self._clock.wire_s() + _AGAIN_S
            self._poller.hurry(slot)
        if failure:
            self._journal.event(self._errand.topic, failure, asset=asset)

    async def _rotate(self, slot: Slot) -> None:
        way = self._errand.way(slot, partial(self._log.refusal, slot.asset))
        entry = self._log.entries.get(slot.asset)
        if way is None or entry is None:
            return
        rotator = Rotator(
            way, self._log, self._clock, durable=self._durable, is_stopped=self._is_stopped
        )
        ended = await rotator.rotate(entry)
        if ended.is_final:
            text = f"{ended.wanted}: {ended.fault or ended.step}"
            detail = f"{text}: {ended.detail}" if ended.detail else text
            self._journal.event(self._errand.topic, detail, asset=slot.asset)

    # --- state --------------------------------------------------------------------------------------

    def _stand(
        self,
        rotation: Rotation,
        state: RotationState,
        wave: int,
        detail: str,
        *,
        awaits_person: bool = False,
    ) -> None:
        after = stands(
            rotation,
            state=state,
            wave=wave,
            detail=detail,
            now_s=self._clock.wall_s(),
            awaits_person=awaits_person,
        )
        if after is not rotation:
            self._keep(after)

    def _keep(self, rotation: Rotation) -> None:
        """Make the state of a rotation durable.

        Raises:
            FenceLost: another process took over.
            StoreError: it is not durable.
        """
        with self._store.transaction():
            self._store.check_fence(self._epoch)
            self._store.put_rotation(rotation)
        self.rotations[rotation.id] = rotation
