"""Firmware rollouts of a site: which machines are granted to whom, and when; it installs nothing itself.

What it begins it keeps first: the state of the rollout, then the grant, then the work. So whoever takes over
knows at each moment which devices may be in the middle of it. Those are locked: nobody writes to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from control_plane.core import limits
from control_plane.core.errors import ControlPlaneError, StoreBusy, StoreError
from control_plane.core.firmware import Bundle, Wave, waves_by_bundle
from control_plane.core.firmware_rollout import (
    FirmwareRollout,
    FirmwareState,
    begun,
    continued,
    is_lost,
    judged,
    members_of,
    not_begun,
    opened,
    passed_by,
    released,
    round_size,
    superseded,
    together,
    treated_of,
    waits,
)
from control_plane.core.flashing import (
    FlashEntry,
    FlashStep,
    Grant,
    Purpose,
)
from control_plane.core.fleet import Device
from control_plane.core.memory import note_flashing
from control_plane.core.ports import Clock
from control_plane.core.work_order import needs_person, speaks
from control_plane.engine.bundles import Bundles
from control_plane.engine.comparing import Control, failed_of
from control_plane.engine.fitness import Fitness, version_of, whom_of
from control_plane.engine.gate import Gate
from control_plane.engine.granting import Granting, NotGranted, Work
from control_plane.engine.incidents import Incidents
from control_plane.engine.journal import Journal
from control_plane.engine.locking import set_locks
from control_plane.engine.overdue import take_up
from control_plane.engine.poller import Poller
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.revisions import Revisions
from control_plane.engine.roster import Roster
from control_plane.engine.slots import Slot
from control_plane.engine.store import Store

_TURN_S = 1.0
"""Wire seconds between two looks at the rollouts."""


class Installing:
    """The firmware rollouts of one site, while the engine runs."""

    def __init__(
        self,
        *,
        store: Store,
        epoch: int,
        clock: Clock,
        revisions: Revisions,
        gate: Gate,
        roster: Roster,
        reconciler: Reconciler,
        incidents: Incidents,
        journal: Journal,
        poller: Poller,
        granting: Granting | None,
    ) -> None:
        """Without `granting` nothing is begun; what others have begun is locked all the same."""
        self._store, self._epoch, self._clock = store, epoch, clock
        self._gate, self._roster = gate, roster
        self._reconciler = reconciler
        self._fitness = Fitness(
            clock=clock, roster=roster, reconciler=reconciler, incidents=incidents
        )
        self._journal, self._poller, self._granting = journal, poller, granting
        self.rollouts: dict[str, FirmwareRollout] = {r.id: r for r in store.firmware()}
        self._locks: Mapping[str, str] = {}
        """Devices that are locked → the grant."""
        self._opening: dict[str, str] = {}
        """Devices that are being granted this moment → for which rollout."""
        self._waves: Mapping[str, tuple[Wave, ...]] = {}
        """Bundle → its waves, as the revision in force declares them."""
        self._declared_by: object = None
        self._bundles = Bundles(store, revisions)
        self._gates: dict[str, Control] = {}
        gate.knows_locks = granting is None

    # --- locks -------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Lock the devices that are under way, and let go of those that are not any more."""
        known = self._known()
        if known is None:
            return
        self._gate.knows_locks = True
        now_s = self._clock.wall_s()
        locks = dict(self._opening)
        for grant in known.values():
            locks.update(dict.fromkeys(grant.locked(now_s), grant.operation))
        set_locks(
            self._locks,
            locks,
            roster=self._roster,
            reconciler=self._reconciler,
            poller=self._poller,
        )
        self._locks = locks

    def _known(self) -> Mapping[str, Grant] | None:
        if self._granting is not None:
            return self._granting.known()
        return {grant.operation: grant for grant in self._store.grants(open_only=True)}

    # --- what people say ---------------------------------------------------------------------------

    def release(self, rollout_id: str, *, through: int | None, by: str) -> None:
        """A person lets waves go, or has a halted rollout go on; inside the order's transaction."""
        rollout = self.rollouts.get(rollout_id)
        if rollout is None:
            return
        if rollout.state is FirmwareState.HALTED:
            after = continued(rollout, by=by, now_s=self._clock.wall_s())
            if isinstance(after, FirmwareRollout) and after.released <= after.wave:
                after = released(after, through=through, by=by)
        else:
            after = released(rollout, through=through, by=by)
        if isinstance(after, str):
            self._journal.event("firmware", f"nothing to release: {after}")
        else:
            self._keep(after)

    # --- turns -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Move the rollouts on, for ever.

        Raises:
            FenceLost: another process took over.
            StoreError: nothing can be made durable any more.
        """
        while True:
            await self._clock.wire_sleep(_TURN_S)
            known = self._known()
            if self._granting is None or known is None or not self._reconciler.admits:
                continue
            if self._reconciler.draining or not self._gate.passes:
                continue
            try:
                self._declare()
                for rollout in list(self.rollouts.values()):
                    await self._turn(rollout, self._granting, known)
                await take_up(
                    self._granting,
                    known,
                    self._bundles,
                    self._roster.slots,
                    self._journal,
                    self._clock,
                )
            except StoreBusy:
                continue  # Another process has the Store; what was not kept was not begun.

    def _declare(self) -> None:
        """Begin rollouts of what the revision in force asks for; end those of what it does not."""
        site = self._roster.site
        if self._declared_by is site:
            return
        found = {bundle.digest: waves for bundle, waves in waves_by_bundle(site).items()}
        now_s = self._clock.wall_s()
        live = {}
        for rollout in self.rollouts.values():
            if not rollout.is_declared:
                continue
            waves = found.get(rollout.bundle)
            if waves is None or members_of(waves) != rollout.members:
                self._keep(superseded(rollout, now_s))
            else:
                live[rollout.bundle] = rollout
        for digest, waves in found.items():
            if digest not in live:
                number = self._store.next_number("firmware")
                self._keep(begun(f"f{number:04d}", waves, now_s))
        self._waves, self._declared_by = found, site

    async def _turn(
        self, rollout: FirmwareRollout, granting: Granting, known: Mapping[str, Grant]
    ) -> None:
        grants = [grant for grant in known.values() if grant.rollout == rollout.id]
        try:
            await self._withdraw(rollout, granting, grants)
            match rollout.state:
                case FirmwareState.WAITING | FirmwareState.DONE:
                    await self._begin(rollout, granting)
                case FirmwareState.INSTALLING:
                    await self._follow(rollout, granting, grants)
                case FirmwareState.HALTED:
                    await self._roll_back(rollout, granting, grants)
                case FirmwareState.SUPERSEDED:
                    pass
        except NotGranted as error:
            self._wait(rollout.id, str(error))
        except StoreError:
            raise
        except ControlPlaneError as error:
            self._wait(rollout.id, f"asked again: {error}")

    # --- a round -----------------------------------------------------------------------------------

    async def _begin(self, rollout: FirmwareRollout, granting: Granting) -> None:
        """Begin the next round, or leave a wave in which nothing is to be done."""
        now_s = self._clock.wall_s()
        if rollout.is_over and now_s - rollout.since_s < limits.FIRMWARE_SWEEP_S:
            return
        needing = self._needing(rollout)
        if not needing:
            if not rollout.is_over:
                self._keep(passed_by(rollout, "all of it runs it, or waits for a person", now_s))
            return
        if not rollout.is_over and not rollout.is_released:
            self._wait(
                rollout.id,
                f"wave {rollout.wave + 1} of {len(rollout.waves)}, {len(needing)} machines: "
                f"`gridplane release {rollout.id}` lets it go",
            )
            return
        fit = [slot for slot in needing if self._fitness.unfit(slot) is None]
        if not fit:
            self._none_fit(rollout, needing, now_s)
            return
        after = opened(rollout, now_s)
        self._keep(after)
        await self._open(after, granting, fit)

    def _none_fit(self, rollout: FirmwareRollout, needing: Sequence[Slot], now_s: float) -> None:
        if rollout.is_over:
            return
        why = f"{len(needing)} machines are not fit: {needing[0].asset}: {self._fitness.unfit(needing[0])}"
        soon = any(self._fitness.is_soon_fit(slot) for slot in needing)
        patience_s = 0.0 if rollout.round and not soon else limits.FIRMWARE_WAIT_S
        if now_s - rollout.since_s < patience_s:
            self._wait(rollout.id, why)
        else:
            self._keep(passed_by(rollout, why, now_s))

    async def _open(
        self, rollout: FirmwareRollout, granting: Granting, fit: Sequence[Slot]
    ) -> None:
        """Grant it to as many of the machines as the next round may take."""
        fit = fit[: round_size(rollout, self._roster.site.strategy)]
        wave = self._waves[rollout.bundle][rollout.wave]
        is_first = rollout.round == 0 and not rollout.is_over
        await self._grant(
            rollout,
            granting,
            fit,
            bundle=wave.bundle,
            purpose=Purpose.WAVE if is_first else Purpose.SWEEP_UP,
            members=wave.devices if is_first else tuple(slot.device for slot in fit),
        )
        self._gates[rollout.id] = self._control({slot.asset for slot in fit})
        number = f"wave {rollout.wave + 1} of {len(rollout.waves)}"
        self._journal.event(
            "firmware",
            f"{rollout.id}: {rollout.version} goes to {len(fit)} machines, {number}",
        )

    async def _grant(
        self,
        rollout: FirmwareRollout,
        granting: Granting,
        slots: Sequence[Slot],
        *,
        bundle: Bundle,
        purpose: Purpose,
        members: tuple[Device, ...],
    ) -> None:
        whom = {slot.asset: w for slot in slots if (w := whom_of(slot)) is not None}
        shards = -(-len(members) // limits.FIRMWARE_SHARD_DEVICES)
        rounds = -(-shards // limits.FIRMWARE_SHARDS_AT_ONCE)
        self._opening = dict.fromkeys(whom, rollout.id)
        self.lock()
        for slot in slots:
            self._expect_flash(slot)
        try:
            await granting.open(
                Work(
                    site=self._roster.site.id,
                    rollout=rollout.id,
                    purpose=purpose,
                    wave=rollout.wave,
                    round=rollout.round,
                    bundle=bundle,
                    members=members,
                    granted=whom,
                    fence=self._epoch,
                    at_once=self._at_once(rollout, purpose, shards),
                    deadline_s=self._clock.wall_s() + rounds * limits.FIRMWARE_SHARD_S,
                )
            )
        finally:
            self._opening = {}
            self.lock()

    def _at_once(self, rollout: FirmwareRollout, purpose: Purpose, shards: int) -> int:
        """Devices that one grant may have down: all of them together stay within what is permitted."""
        budget = self._roster.site.budgets.in_flight_per_site
        if purpose is not Purpose.ROLL_BACK:
            budget = min(budget, together(rollout))
        grants = min(shards, limits.FIRMWARE_SHARDS_AT_ONCE)
        return max(1, min(limits.FIRMWARE_AT_ONCE, budget // grants))

    def _expect_flash(self, slot: Slot) -> None:
        """A flash may reset what equals its declaration now: to bring that back repairs no drift."""
        if slot.seen is not None:
            slot.memory = note_flashing(slot.memory, slot.device.desired(), slot.seen.settings)
            self._journal.memory(slot.memory)

    async def _follow(
        self, rollout: FirmwareRollout, granting: Granting, grants: Sequence[Grant]
    ) -> None:
        """Wait for the machines of a round, then judge it."""
        own = [g for g in grants if _is_of_round(g, rollout) and g.purpose is not Purpose.ROLL_BACK]
        if not own:
            # The state was kept, and then nothing was granted: another process may have died there.
            fit = [s for s in self._needing(rollout) if self._fitness.unfit(s) is None]
            if fit:
                await self._open(rollout, granting, fit)
            else:
                self._keep(not_begun(rollout, self._clock.wall_s()))
            return
        now_s = self._clock.wall_s()
        if any(grant.locked(now_s) for grant in own):
            return
        entries = [entry for grant in own for entry in grant.entries.values()]
        gate = self._gates.get(rollout.id)
        if gate is None:
            gate = self._gates[rollout.id] = self._control({e.asset for e in entries})
        treated = treated_of(entries)
        if treated and not gate.is_looked_at(
            self._roster.slots, treated, clock=self._clock, poller=self._poller
        ):
            return
        self._judge(rollout, gate, entries)

    def _judge(
        self, rollout: FirmwareRollout, gate: Control, entries: Sequence[FlashEntry]
    ) -> None:
        slots = self._roster.slots
        after = judged(
            rollout,
            entries,
            now_s=self._clock.wall_s(),
            ill=failed_of(
                slots,
                {
                    entry.asset: entry.hash_before_ths or 0.0
                    for entry in entries
                    if entry.step is FlashStep.DONE
                },
            ),
            control=gate.members(slots),
            control_failed=gate.failed(slots),
            max_new_failure_share=self._roster.site.strategy.max_new_failure_share,
        )
        self._gates.pop(rollout.id, None)
        self._keep(after)
        name = f"{rollout.id}: wave {rollout.wave + 1} of {len(rollout.waves)}"
        if after.state is FirmwareState.HALTED:
            self._journal.page(f"{name} of {rollout.version} stopped: {after.detail}")
        else:
            self._journal.event("gate", f"{name}: {after.gates[-1].treated} machines run it")

    # --- what goes wrong -----------------------------------------------------------------------------

    async def _withdraw(
        self, rollout: FirmwareRollout, granting: Granting, grants: Sequence[Grant]
    ) -> None:
        """Take back what was not begun: from who is held since, or all of it once the round cannot pass."""
        now_s = self._clock.wall_s()
        for grant in grants:
            if now_s >= grant.deadline_s:
                continue
            pending = [a for a, e in grant.entries.items() if e.step is FlashStep.PENDING]
            share = self._roster.site.strategy.max_new_failure_share
            all_of_it = not rollout.is_declared or (
                grant.purpose is not Purpose.ROLL_BACK
                and is_lost(rollout, grant.entries.values(), share)
            )
            back = frozenset(a for a in pending if all_of_it or self._fitness.is_barred(a))
            if back:
                await granting.withdraw(grant.operation, back)
                why = "the round failed" if all_of_it else "it is held"
                self._journal.event(
                    "firmware", f"{grant.operation}: {len(back)} machines withdrawn, {why}"
                )

    async def _roll_back(
        self, rollout: FirmwareRollout, granting: Granting, grants: Sequence[Grant]
    ) -> None:
        """Give machines that run the new version, and failed, what they ran before; once."""
        of_round = [grant for grant in grants if _is_of_round(grant, rollout)]
        if any(grant.purpose is Purpose.ROLL_BACK for grant in of_round):
            return
        before = {
            entry.asset: entry.before
            for grant in of_round
            for entry in grant.entries.values()
            if entry.asset in rollout.failed and entry.before
        }
        going: dict[str, tuple[Bundle, list[Slot]]] = {}
        for asset, version in before.items():
            slot = self._roster.slots.get(asset)
            if (
                slot is None
                or version_of(slot) != rollout.version
                or self._fitness.untouchable(slot)
            ):
                continue
            bundle = self._bundles.that_ran(asset, version)
            if bundle is not None:
                going.setdefault(bundle.digest, (bundle, []))[1].append(slot)
        if going:
            # One model and one version before it, as a rule; another one has its turn by a person.
            bundle, slots = next(iter(going.values()))
            await self._grant(
                rollout,
                granting,
                slots,
                bundle=bundle,
                purpose=Purpose.ROLL_BACK,
                members=tuple(slot.device for slot in slots),
            )
            self._journal.event(
                "firmware",
                f"{rollout.id}: {len(slots)} machines go back to {bundle.version}",
            )

    # --- machines ------------------------------------------------------------------------------------

    def _needing(self, rollout: FirmwareRollout) -> list[Slot]:
        """Of the open wave (of all, once they are behind it): who does not run it, and did not fail at it."""
        waves = self._waves[rollout.bundle]
        chosen: Iterable[Wave] = (
            waves if rollout.is_over else waves[rollout.wave : rollout.wave + 1]
        )
        slots = self._roster.slots
        members = (slots[d.asset] for wave in chosen for d in wave.devices if d.asset in slots)
        return [
            slot
            for slot in members
            if version_of(slot) != rollout.version
            and slot.asset not in rollout.failed
            and not needs_person(slot.device, speaks(slot.sighting))
        ]

    # --- gates and state -----------------------------------------------------------------------------

    def _control(self, treated: set[str]) -> Control:
        """Who is neither of the round nor under way for another."""
        slots = self._roster.slots
        locked = {asset for asset, slot in slots.items() if slot.locked}
        return Control(slots, without=treated | locked)

    def _wait(self, rollout_id: str, why: str) -> None:
        rollout = self.rollouts[rollout_id]
        after = waits(rollout, why)
        if after is not rollout:
            self._keep(after)

    def _keep(self, rollout: FirmwareRollout) -> None:
        """Make the state of a rollout durable.

        Raises:
            FenceLost: another process took over.
            StoreError: it is not durable.
        """
        with self._store.transaction():
            self._store.check_fence(self._epoch)
            self._store.put_firmware(rollout)
        self.rollouts[rollout.id] = rollout


def _is_of_round(grant: Grant, rollout: FirmwareRollout) -> bool:
    return (grant.wave, grant.round) == (rollout.wave, rollout.round)
