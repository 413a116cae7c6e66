"""From what was seen of a device to a write, for one device at a time.

Level-triggered: whatever woke a device up, it is judged by what it is now. A write is decided from
a fresh FULL look, passes the gate, is sent at most once and then followed by looking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from control_plane.core import limits
from control_plane.core.change import (
    ChangeKind,
    Failed,
    InProgress,
    Outcome,
    StopMining,
)
from control_plane.core.decide import decide
from control_plane.core.decision import Context, Decision, Held, Reason, Step, Why
from control_plane.core.diff import equal
from control_plane.core.errors import (
    DeclarationError,
    FenceLost,
    StoreBusy,
    StoreError,
)
from control_plane.core.fleet import Device, Site
from control_plane.core.memory import (
    note_converged,
    note_drift,
    note_equal,
    note_permitted,
    unread_of,
)
from control_plane.core.observation import (
    Depth,
    Field,
    Observation,
)
from control_plane.core.overlay import Overlay, covering
from control_plane.core.ports import Clock, Secrets
from control_plane.core.power import TOLERANCE_W, Loads, admit, counted_w
from control_plane.core.verify import Operation, Stage
from control_plane.core.world import later_raise, raise_wish
from control_plane.engine.bugs import in_words
from control_plane.engine.gate import Gate, Intent, WritePermit
from control_plane.engine.journal import Journal
from control_plane.engine.operations import FOLLOW_UP_S, RETRY_S, Operations
from control_plane.engine.poller import look, target_of
from control_plane.engine.queue import Priority
from control_plane.engine.rollouts import waits
from control_plane.engine.secrets import missing_secret
from control_plane.engine.sights import Sights
from control_plane.engine.slots import Slot

Keep = Callable[[], Awaitable[None]]
"""Makes all that the Store has committed durable beyond this process; raises what a Store would."""


class Reconciler:
    """Decides and writes; what it goes by are the sights, what it began are the operations."""

    def __init__(
        self,
        *,
        site: Site,
        clock: Clock,
        secrets: Secrets,
        gate: Gate,
        journal: Journal,
        loads: Loads,
        incident_of: Callable[[Slot], str | None],
        keep: Keep | None = None,
    ) -> None:
        self.site = site
        self._clock = clock
        self._secrets = secrets
        self._gate = gate
        self._journal = journal
        self.sights = Sights(clock=clock, journal=journal, loads=loads)
        self.operations = Operations(site=site, clock=clock, journal=journal, sights=self.sights)
        self.overlays: tuple[Overlay, ...] = ()
        self.approved: frozenset[tuple[str, Field]] = frozenset()
        self._incident_of = incident_of
        self._keep = keep
        self.wishes: dict[str, Slot] = {}
        self.retrying: dict[str, Slot] = {}
        """Devices whose next write waits for its back-off."""
        self.admits = False
        """Raises wait until every device was looked at: the best J/TH goes first, not the first seen."""
        self.draining = False
        """No new writes: the process is about to stop, or lost its fence."""
        self.failure: Exception | None = None
        """Why it drains, if not by a person's wish."""
        self.acts: asyncio.TaskGroup | None = None
        """Where writes run; set before the first judgement."""
        self._pending: list[_Pending] = []

    # --- what is to be done --------------------------------------------------------------------------

    def judge(self, slot: Slot) -> None:
        """Decide about one device and begin what is to be done."""
        if slot.op is not None:
            self.operations.follow(slot)
        now_s = self._clock.wall_s()
        context = self._context(slot, now_s)
        decision = decide(context)
        slot.decision = decision
        _share_pools(slot, decision)
        self._remember(slot, now_s)
        self.wishes.pop(slot.asset, None)
        self.retrying.pop(slot.asset, None)
        slot.wish = later_raise(context, decision)
        if slot.wish is not None:
            self.wishes[slot.asset] = slot
        if not decision.steps or slot.op is not None or self.draining:
            return
        step = decision.steps[0]
        if self._clock.wire_s() < slot.retry_wire_s:
            self.retrying[slot.asset] = slot
        elif step.raises:
            slot.wish = step
            self.wishes[slot.asset] = slot
        else:
            self._act(slot, step)

    def _context(self, slot: Slot, now_s: float) -> Context:
        fresh = self._clock.wire_s() - slot.seen_wire_s <= limits.TELEMETRY_TTL_S
        owner = slot.owner.id
        return Context(
            device=slot.device,
            owner=slot.owner,
            tenure=self.site.tenure,
            capabilities=slot.capabilities,
            memory=slot.memory,
            sighting=slot.sighting,
            fresh=fresh,
            overlays=covering(self.overlays, slot.nodes) if self.overlays else (),
            now_s=now_s,
            in_flight=slot.op is not None,
            assigned=slot.assigned,
            approved=frozenset(field for who, field in self.approved if who == owner),
            over_cap=self._is_over(slot),
            incident=self._incident_of(slot),
            locked=slot.locked,
            tries_writes=self._tries_writes(slot),
        )

    def is_idle(self, slot: Slot, device: Device) -> bool:
        """Whether a device of a later wave would have nothing to write, had its wave come.

        A raise that has no room now is nothing to write: it waits for room, whatever its wave.
        """
        if slot.sighting is None or slot.op is not None or slot.sending:
            return False
        context = self._context(slot, self._clock.wall_s())
        decision = decide(msgspec.structs.replace(context, device=device, assigned=True))
        if not decision.steps:
            return not waits(decision)
        step = decision.steps[0]
        more_w = step.after_w - self.sights.loads.counted(slot.asset)
        return step.raises and self.sights.loads.binding(device.feed, extra_w=more_w) is not None

    def _tries_writes(self, slot: Slot) -> bool:
        """Whether it is time to try a device anew that let no write through: by one, as by any other."""
        if slot.seen is None or slot.seen.write_enabled is not False:
            return False
        waited_s = self._clock.wire_s() - slot.wrote_wire_s
        return waited_s >= self._clock.wire_of(limits.WRITE_ACCESS_RETRY_S)

    def _remember(self, slot: Slot, now_s: float) -> None:
        decision, memory = slot.decision, slot.memory
        if decision is None or slot.seen is None or slot.unseen is not None:
            return
        if any(held.reason in _DOUBTS for held in decision.held):
            return  # Another machine may have answered: nothing is learned of the asset from it.
        permitted_w = counted_w(slot.device, slot.seen.settings)
        memory = note_permitted(memory, permitted_w, slot.device.type.nominal.power_w)
        if decision.converged:
            memory = note_converged(memory, decision.desired, slot.seen.settings)
        else:
            unread = unread_of(memory, decision.desired, slot.seen.settings)
            memory = note_drift(memory, decision.drifting | unread, now_s)
            memory = note_equal(memory, equal(decision.desired, slot.seen.settings))
            if decision.overridden and memory.overridden_since_s is None:
                memory = msgspec.structs.replace(memory, overridden_since_s=now_s)
                self._journal.event("override", _held_text(decision.held), asset=slot.asset)
        if memory is slot.memory:
            return
        for field in sorted(memory.drifting - slot.memory.drifting):
            self._journal.event("drift", f"{field} left its declaration", asset=slot.asset)
        for field in sorted(memory.contested - slot.memory.contested):
            self._journal.page(
                f"{slot.asset}: {field} is contested: re-drifted twice within 24 h",
                asset=slot.asset,
            )
        slot.memory = memory
        self._journal.memory(memory)

    def admit_raises(self) -> None:
        """Admit waiting raises, best J/TH first, inside the headroom that is left now."""
        waiting = [(slot, slot.wish) for slot in self.wishes.values() if slot.wish is not None]
        if not self.admits or self.draining or not any(slot.assigned for slot, _ in waiting):
            return
        counted = {slot.asset: self.sights.loads.counted(slot.asset) for slot, _ in waiting}
        admission = admit(
            self.sights.loads, (raise_wish(slot.device, step) for slot, step in waiting)
        )
        for slot, step in waiting:
            if not slot.assigned:
                self.sights.loads.count(slot.asset, slot.device.feed, counted[slot.asset])
            elif slot.asset in admission.admitted:
                del self.wishes[slot.asset]
                slot.wish, slot.reserved_w = None, step.after_w
                self._act(slot, step)
            else:
                self._hold(slot, step, admission.refused[slot.asset])

    def _hold(self, slot: Slot, step: Step, node: str) -> None:
        decision = slot.decision
        if decision is not None and not any(h.reason is Reason.NO_HEADROOM for h in decision.held):
            held = Held(
                asset=slot.asset,
                reason=Reason.NO_HEADROOM,
                detail=f"{node} is full",
                field=step.field,
            )
            slot.decision = msgspec.structs.replace(decision, held=(*decision.held, held))

    # --- writing -------------------------------------------------------------------------------------

    def _act(self, slot: Slot, step: Step) -> None:
        if slot.busy or not self._has_budget(slot, step):
            slot.reserved_w = 0.0
            self.sights.recount(slot)
            self.sights.queue.park(slot.asset, slot, _priority(step))
            return
        slot.busy = True
        assert self.acts is not None  # noqa: S101 - set before the first judgement
        self.acts.create_task(self._write(slot, step))

    def _has_budget(self, slot: Slot, step: Step) -> bool:
        """Take a unit of budget; what saves a feed or stops a thief does not wait for one."""
        if isinstance(step.change, StopMining) or step.why is Why.CAP:
            self.operations.budgets.take(slot)
            return True
        return self.operations.budgets.acquire(slot)

    async def _write(self, slot: Slot, step: Step) -> None:
        """Look freshly, pass the gate, send once, note what came of it."""
        sent = False
        try:
            fresh = await self._looked_again(slot, step)
            seen = slot.seen
            if fresh is None or seen is None:
                return
            intent = Intent(slot=slot, step=fresh, seen=seen)
            permit = WritePermit(self._gate, intent, self._clock)
            answer = await self._pass_gate(intent)
            if isinstance(answer, str):
                self._refused(slot, fresh, answer)
                return
            sent = True
            self.operations.begun(slot, answer)
            self.operations.ended(slot, answer, await self._send(slot, answer, permit))
        except StoreBusy:
            # No fault of the device's, and no verdict on the write: it is decided anew.
            slot.retry_wire_s = self._clock.wire_s() + self._clock.wire_of(RETRY_S)
        except (FenceLost, StoreError) as error:
            self.draining, self.failure = True, error
        except Exception as bug:  # noqa: BLE001 - other writes are under way
            self.sights.broke(slot, bug)
        finally:
            slot.busy, slot.sending, slot.reserved_w = False, False, 0.0
            if not sent:
                self.operations.budgets.release(slot)
            self.sights.spared(slot, self.sights.recount)
            self.sights.queue.push(slot.asset, slot, Priority.CHANGE)

    async def _looked_again(self, slot: Slot, step: Step) -> Step | None:
        """A fresh FULL look, and the step as it follows from that; `None` if another one does.

        The same write may mean something else by now: what lowered a machine a moment ago may raise it.
        """
        sighting = await look(slot, Depth.FULL, secrets=self._secrets, clock=self._clock)
        self.sights.sighted(slot, sighting, Depth.FULL)
        if not isinstance(sighting, Observation) or self.draining:
            return None
        decision = decide(self._context(slot, self._clock.wall_s()))
        slot.decision = decision
        fresh = decision.steps[0] if decision.steps else None
        if fresh is None or (fresh.change, fresh.why) != (step.change, step.why):
            return None
        # Admitted a moment ago; since then a neighbour may have woken up by itself.
        fits = fresh.after_w <= slot.reserved_w and not self._is_over(slot)
        return fresh if fits or not fresh.raises else None

    def _is_over(self, slot: Slot) -> bool:
        """Whether a node above the device counts more than it may; an admitted raise counts already."""
        return any(
            self.sights.loads.headroom_w(node) < -TOLERANCE_W
            for node in slot.path
            if node in self.site.feeds
        )

    def _refused(self, slot: Slot, step: Step, reason: str) -> None:
        """The gate said no: once it is a hold that just came, again and again it is latched."""
        self._journal.event("refused", f"{step.kind}: {reason}", asset=slot.asset)
        slot.refusals += 1
        slot.retry_wire_s = self._clock.wire_s() + self._clock.wire_of(RETRY_S)
        if slot.refusals >= limits.MAX_ATTEMPTS and step.kind is not ChangeKind.STOP_MINING:
            self.operations.latch(slot, step.kind, f"the gate refuses {step.kind}: {reason}")

    async def _send(self, slot: Slot, op: Operation, permit: WritePermit) -> Outcome:
        """What came of the driver's call, whatever it raised: what may have left is looked at."""
        assert slot.driver is not None and slot.address is not None  # noqa: S101, PT018 - it was just looked at
        try:
            target = target_of(slot, slot.address, self._secrets)
            return await slot.driver.apply(target, op.change, permit)
        except DeclarationError as error:
            return Failed(missing_secret(slot.device, error), retryable=True)
        except Exception as bug:  # noqa: BLE001 - other writes are under way
            words = in_words(bug)
            self.sights.bugs.page(slot.asset, words)
            if permit.was_given:
                return InProgress(FOLLOW_UP_S[0], words)
            return Failed(words, retryable=True)

    async def _pass_gate(self, intent: Intent) -> Operation | str:
        """Intents of one moment share one durable transaction."""
        future: asyncio.Future[Operation | str] = asyncio.get_running_loop().create_future()
        self._pending.append((intent, future))
        if len(self._pending) == 1:
            asyncio.get_running_loop().call_soon(self._commit_pending)
        return await future

    def _commit_pending(self) -> None:
        pending, self._pending = self._pending, []
        try:
            answers = self._gate.intend([intent for intent, _ in pending], self._clock.wall_s())
        except Exception as error:  # noqa: BLE001 - each waiting write has to learn of it
            _tell([future for _, future in pending], error)
            return
        if self._keep is None:
            _answer(pending, answers)
        else:
            assert self.acts is not None  # noqa: S101 - set before the first judgement
            self.acts.create_task(self._keep_pending(pending, answers, self._keep))

    async def _keep_pending(
        self, pending: Sequence[_Pending], answers: Sequence[Operation | str], keep: Keep
    ) -> None:
        """Have the intents in the second place too before any of them is sent."""
        try:
            await keep()
        except Exception as error:  # noqa: BLE001 - each waiting write has to learn of it
            for answer in answers:
                if isinstance(answer, Operation):
                    never = "its intent could not be kept: it was never sent"
                    self._journal.operation(
                        msgspec.structs.replace(answer, stage=Stage.NOT_APPLIED, detail=never)
                    )
            _tell([future for _, future in pending], error)
            return
        _answer(pending, answers)

    def let_go(self, slot: Slot) -> None:
        """Stop managing a device: it is counted as released from now on."""
        slot.is_gone = True
        self.wishes.pop(slot.asset, None)
        self.operations.let_go(slot)

    def tick(self) -> None:
        """What time alone moves: operations whose grace ends, writes whose turn has come."""
        for slot in list(self.operations.open.values()):
            if not slot.sending:
                self.sights.spared(slot, self.operations.follow)
        now = self._clock.wire_s()
        for slot in list(self.retrying.values()):
            if now >= slot.retry_wire_s:
                self.sights.queue.push(slot.asset, slot, Priority.CHANGE)
        self.admit_raises()
        self.sights.queue.unpark(
            2 * max(0, self.site.budgets.in_flight_per_site - self.operations.budgets.total)
        )


_Pending = tuple[Intent, asyncio.Future[Operation | str]]


def _answer(pending: Sequence[_Pending], answers: Sequence[Operation | str]) -> None:
    for (_, future), answer in zip(pending, answers, strict=True):
        if not future.done():
            future.set_result(answer)


def _tell(futures: Iterable[asyncio.Future[Operation | str]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


_DOUBTS = frozenset({Reason.UNTRUSTED, Reason.WRONG_IDENTITY, Reason.WRONG_MODEL})


def _priority(step: Step) -> Priority:
    if step.after_w < step.before_w:
        return Priority.SAFETY
    return Priority.CHANGE if step.why is Why.ROLLOUT else Priority.DRIFT


def _share_pools(slot: Slot, decision: Decision) -> None:
    """Keep the pools that were read and equal the declared ones once: ten megabytes of a large site."""
    seen, pools = slot.seen, decision.desired.pools
    if seen is not None and decision.converged and pools is not None:
        settings = msgspec.structs.replace(seen.settings, pools=pools)
        slot.seen = msgspec.structs.replace(seen, settings=settings)


def _held_text(held: Iterable[Held]) -> str:
    return "; ".join(
        f"{h.field}: {h.detail or h.reason}" for h in held if h.reason is Reason.MANUAL_OVERRIDE
    )
