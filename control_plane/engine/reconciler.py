"""From a sighting to a verified write, for one device at a time.

Level-triggered: whatever woke a device up, it is judged by what it is now. A write is decided from
a fresh FULL look, passes the gate, is sent at most once and then followed by looking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from control_plane.core import limits
from control_plane.core.change import (
    ChangeKind,
    Disturbance,
    Failed,
    InProgress,
    Outcome,
    RefusedByDevice,
    StopMining,
    kind_of,
)
from control_plane.core.decide import Context, Decision, Held, Reason, Step, Why, decide
from control_plane.core.diff import equal, unreadable
from control_plane.core.errors import (
    ControlPlaneError,
    DeclarationError,
    FenceLost,
    StoreBusy,
    StoreError,
)
from control_plane.core.fleet import Site
from control_plane.core.memory import (
    is_other,
    note_converged,
    note_drift,
    note_equal,
    note_permitted,
    note_unwritten,
    note_write,
)
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
from control_plane.core.overlay import Overlay, covering
from control_plane.core.plan import later_raise, raise_wish
from control_plane.core.ports import Clock, Secrets
from control_plane.core.power import TOLERANCE_W, Loads, admit, counted_w
from control_plane.core.verify import OPEN_STAGES, Operation, Stage, progress
from control_plane.engine.bugs import Bugs, in_words
from control_plane.engine.gate import Gate, Intent, WritePermit, describe
from control_plane.engine.journal import Journal
from control_plane.engine.poller import Poller, look, target_of
from control_plane.engine.queue import KeyedQueue, Priority
from control_plane.engine.secrets import missing_secret
from control_plane.engine.slots import Budgets, Slot

_REBOOT_SLACK_S = 120.0
"""Uptime may lag behind wall time by that much before a reboot is suspected."""
_FOLLOW_UP_S = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Device seconds between looks after a write; the last one repeats."""
_MIN_FOLLOW_UP_WIRE_S = 0.25
_RETRY_S = 30.0
"""Device seconds before a failed write is decided again; doubles per attempt."""


class Reconciler:
    """Decides, writes and verifies; owns the loads, budgets and open operations of a site."""

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
    ) -> None:
        self.site = site
        self._clock = clock
        self._secrets = secrets
        self._gate = gate
        self._journal = journal
        self._bugs = Bugs(journal)
        self.loads = loads
        self.budgets = Budgets(site)
        self.queue: KeyedQueue[Slot] = KeyedQueue()
        self.poller: Poller | None = None
        self.overlays: tuple[Overlay, ...] = ()
        self.approved: frozenset[tuple[str, Field]] = frozenset()
        self._incident_of = incident_of
        self.open: dict[str, Slot] = {}
        """Devices with an open operation."""
        self.wishes: dict[str, Slot] = {}
        self.retrying: dict[str, Slot] = {}
        """Devices whose next write waits for its back-off."""
        self.news: dict[str, Slot] = {}
        """Devices whose settings, or whose silence, other processes have not been told yet."""
        self.admits = False
        """Raises wait until every device was looked at: the best J/TH goes first, not the first seen."""
        self.draining = False
        """No new writes: the process is about to stop, or lost its fence."""
        self.failure: Exception | None = None
        """Why it drains, if not by a person's wish."""
        self.written: set[str] = set()
        """Devices that this process has written to."""
        self.opened: Callable[[Operation], None] | None = None
        """Told of every operation that begins: the rollout judges its wave by them."""
        self.acts: asyncio.TaskGroup | None = None
        """Where writes run; set before the first judgement."""
        self._pending: list[tuple[Intent, asyncio.Future[Operation | str]]] = []

    # --- what was seen -----------------------------------------------------------------------------

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
        self._bugs.page(slot.asset, words)
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
                self._bugs.page(slot.asset, sighting.detail)
            if news:
                slot.full_wanted = True
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
            self._hurry(slot, 0.0)
        if before is None or back or slot.op is not None or now.settings is not before.settings:
            self.recount(slot)
        if slot.decision is None or back or slot.op is not None or _differs(before, now):
            first = slot.decision is None
            self.news[slot.asset] = slot
            self.queue.push(slot.asset, slot, Priority.FIRST_SYNC if first else Priority.DRIFT)

    def _hurry(self, slot: Slot, after_s: float, *, full: bool = True) -> None:
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

    # --- what is to be done --------------------------------------------------------------------------

    def judge(self, slot: Slot) -> None:
        """Decide about one device and begin what is to be done."""
        if slot.op is not None:
            self.follow(slot)
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
        )

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
            memory = note_drift(memory, decision.drifting, now_s)
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
        counted = {slot.asset: self.loads.counted(slot.asset) for slot, _ in waiting}
        admission = admit(self.loads, (raise_wish(slot.device, step) for slot, step in waiting))
        for slot, step in waiting:
            if not slot.assigned:
                self.loads.count(slot.asset, slot.device.feed, counted[slot.asset])
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
            self.recount(slot)
            self.queue.park(slot.asset, slot, _priority(step))
            return
        slot.busy = True
        assert self.acts is not None  # noqa: S101 - set before the first judgement
        self.acts.create_task(self._write(slot, step))

    def _has_budget(self, slot: Slot, step: Step) -> bool:
        """Take a unit of budget; what saves a feed or stops a thief does not wait for one."""
        if isinstance(step.change, StopMining) or step.why is Why.CAP:
            self.budgets.take(slot)
            return True
        return self.budgets.acquire(slot)

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
            self._opened(slot, answer)
            self._ended(slot, answer, await self._send(slot, answer, permit))
        except StoreBusy:
            # No fault of the device's, and no verdict on the write: it is decided anew.
            slot.retry_wire_s = self._clock.wire_s() + self._clock.wire_of(_RETRY_S)
        except (FenceLost, StoreError) as error:
            self.draining, self.failure = True, error
        except Exception as bug:  # noqa: BLE001 - other writes are under way
            self.broke(slot, bug)
        finally:
            slot.busy, slot.sending, slot.reserved_w = False, False, 0.0
            if not sent:
                self.budgets.release(slot)
            self.spared(slot, self.recount)
            self.queue.push(slot.asset, slot, Priority.CHANGE)

    async def _looked_again(self, slot: Slot, step: Step) -> Step | None:
        """A fresh FULL look, and the step as it follows from that; `None` if another one does.

        The same write may mean something else by now: what lowered a machine a moment ago may raise it.
        """
        sighting = await look(slot, Depth.FULL, secrets=self._secrets, clock=self._clock)
        self.sighted(slot, sighting, Depth.FULL)
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
            self.loads.headroom_w(node) < -TOLERANCE_W
            for node in slot.path
            if node in self.site.feeds
        )

    def _refused(self, slot: Slot, step: Step, reason: str) -> None:
        """The gate said no: once it is a hold that just came, again and again it is latched."""
        self._journal.event("refused", f"{step.kind}: {reason}", asset=slot.asset)
        slot.refusals += 1
        slot.retry_wire_s = self._clock.wire_s() + self._clock.wire_of(_RETRY_S)
        if slot.refusals >= limits.MAX_ATTEMPTS and step.kind is not ChangeKind.STOP_MINING:
            self._latch(slot, step.kind, f"the gate refuses {step.kind}: {reason}")

    def _latch(self, slot: Slot, kind: ChangeKind, text: str) -> None:
        """No more writes of a kind until a person releases them."""
        slot.memory = msgspec.structs.replace(slot.memory, stuck=slot.memory.stuck | {kind})
        self._journal.memory(slot.memory)
        self._journal.page(f"{slot.asset}: {text}", asset=slot.asset)

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
            self._bugs.page(slot.asset, words)
            if permit.was_given:
                return InProgress(_FOLLOW_UP_S[0], words)
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
            for _, future in pending:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(pending, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _opened(self, slot: Slot, op: Operation) -> None:
        slot.op, slot.sending, slot.refusals = op, True, 0
        self.open[slot.asset] = slot
        self.written.add(slot.asset)
        if self.opened is not None:
            self.opened(op)
        self._spend(slot, op)
        self.recount(slot)

    def _spend(self, slot: Slot, op: Operation) -> None:
        memory = note_write(
            slot.memory, kind_of(op.change), op.sent_at_s, persistent=op.cost.persistent
        )
        if memory is not slot.memory:
            slot.memory = memory
            self._journal.memory(memory)

    def _ended(self, slot: Slot, op: Operation, outcome: Outcome) -> None:
        """The call came back. Only a clear refusal closes the operation now; the rest is looked at."""
        slot.sending = False
        answered = msgspec.structs.replace(op, answered_at_s=self._clock.wall_s())
        if slot.asset not in self.open:
            self._journal.outcome(unmanaged(answered), outcome)
            return
        slot.op = answered
        self._journal.outcome(answered, outcome)
        match outcome:
            case RefusedByDevice(reason=reason):
                self._close(slot, _failed(answered, reason), latch=True)
            case Failed(reason=reason, retryable=retryable):
                slot.memory = note_unwritten(slot.memory, kind_of(op.change), op.sent_at_s)
                self._close(slot, _failed(answered, reason), latch=not retryable)
                # Another machine may answer there by now, or the credentials may have changed.
                self._hurry(slot, 0.0)
            case InProgress(check_after_s=after_s):
                self._hurry(slot, self._soon(after_s))
            case _:
                self._hurry(slot, self._soon(_FOLLOW_UP_S[0]))

    def let_go(self, slot: Slot) -> None:
        """Stop following a device that is not managed any more; its operation ends with that."""
        slot.is_gone = True
        self.wishes.pop(slot.asset, None)
        self.budgets.release(slot)
        op = slot.op
        if self.open.pop(slot.asset, None) is not None and op is not None:
            slot.op = None
            self._journal.operation(unmanaged(op))

    def _soon(self, device_s: float) -> float:
        return max(_MIN_FOLLOW_UP_WIRE_S, self._clock.wire_of(device_s))

    # --- verifying -------------------------------------------------------------------------------------

    def adopt(self, slot: Slot, op: Operation) -> None:
        """Take over an operation that an earlier process left open: it is looked at, never sent again."""
        # Its graces run anew: nobody looked while no process ran.
        slot.op = op = msgspec.structs.replace(op, answered_at_s=self._clock.wall_s())
        self.open[slot.asset] = slot
        self._spend(slot, op)
        self.budgets.take(slot)
        self.recount(slot)
        self._hurry(slot, 0.0)

    def follow(self, slot: Slot) -> None:
        """Move the open operation of a device along by what is known now, the time included."""
        op = slot.op
        if op is None or slot.sending:
            return
        now_s = self._clock.wall_s()
        seen = slot.seen if slot.unseen is None else None
        if seen is not None and op.stage is Stage.SENT:
            # A telemetry look since then has not asked for the settings.
            seen = msgspec.structs.replace(seen, at_s=slot.full_at_s)
        floor_s = limits.VERIFY_FLOOR_S / self._clock.wire_of(1.0)
        after = progress(op, slot.device, seen, now_s, floor_s=floor_s)
        if after.stage not in OPEN_STAGES:
            self._close(slot, after, latch=False)
            return
        if after is not op:
            slot.op = after
            self._journal.operation(after)
            if after.stage is Stage.READ_BACK and op.cost.disturbance is Disturbance.HOT:
                self.budgets.release(slot)
        age_s = now_s - op.sent_at_s
        gap_s = next((gap for gap in _FOLLOW_UP_S if age_s < gap * 4), _FOLLOW_UP_S[-1])
        self._hurry(slot, self._soon(gap_s), full=after.stage is Stage.SENT)

    def _close(self, slot: Slot, op: Operation, *, latch: bool) -> None:
        self.budgets.release(slot)
        slot.op = None
        self.open.pop(slot.asset, None)
        memory = slot.memory
        if op.stage is Stage.NOT_APPLIED:
            kind = kind_of(op.change)
            slot.misses += 1
            backoff_s = _RETRY_S * 2 ** min(slot.misses, 6)
            slot.retry_wire_s = self._clock.wire_s() + self._clock.wire_of(backoff_s)
            if latch or memory.attempts.get(kind, 0) >= limits.MAX_ATTEMPTS:
                self._give_up(slot, op)
        else:
            slot.misses = 0
            expected = slot.seen.settings if slot.seen else memory.expected
            attempts = {k: n for k, n in memory.attempts.items() if k is not kind_of(op.change)}
            slot.memory = msgspec.structs.replace(memory, attempts=attempts, expected=expected)
        memory = slot.memory
        self._journal.memory(memory)
        self._journal.operation(op)
        what = "verified" if op.stage is Stage.CONFIRMED else op.stage
        self._journal.event(
            what, f"{describe(op)}{': ' + op.detail if op.detail else ''}", asset=slot.asset
        )
        self.recount(slot)
        self.queue.push(slot.asset, slot, Priority.CHANGE)

    def _give_up(self, slot: Slot, op: Operation) -> None:
        """A write does not stick: a person is called. A stop is tried on, with growing gaps."""
        text = f"{describe(op)} does not stick: {op.detail or 'it does not read as written'}"
        if kind_of(op.change) is not ChangeKind.STOP_MINING:
            self._latch(slot, kind_of(op.change), text)
        elif slot.misses == limits.MAX_ATTEMPTS:
            self._journal.page(f"{slot.asset}: {text}; it is tried on", asset=slot.asset)

    def tick(self) -> None:
        """What time alone moves: operations whose grace ends, writes whose turn has come."""
        for slot in list(self.open.values()):
            if not slot.sending:
                self.spared(slot, self.follow)
        now = self._clock.wire_s()
        for slot in list(self.retrying.values()):
            if now >= slot.retry_wire_s:
                self.queue.push(slot.asset, slot, Priority.CHANGE)
        self.admit_raises()
        self.queue.unpark(2 * max(0, self.site.budgets.in_flight_per_site - self.budgets.total))


_DOUBTS = frozenset({Reason.UNTRUSTED, Reason.WRONG_IDENTITY, Reason.WRONG_MODEL})


def unmanaged(op: Operation) -> Operation:
    """The end of an operation whose device left the declaration: nobody looks at it any more."""
    return _failed(op, "the device is not managed any more")


def _failed(op: Operation, reason: str) -> Operation:
    return msgspec.structs.replace(op, stage=Stage.NOT_APPLIED, detail=reason)


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
