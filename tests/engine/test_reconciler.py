"""One device at a time: what it counts at, what a fresh look changes, what is latched and what never is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.change import (
    Applied,
    Capabilities,
    Change,
    ChangeKind,
    Failed,
    Outcome,
    SetPools,
    SetPowerMode,
    StopMining,
)
from control_plane.core.decision import Reason
from control_plane.core.memory import Memory
from control_plane.core.observation import (
    Depth,
    Field,
    Identity,
    Observation,
    Settings,
    Unseen,
    UnseenReason,
)
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.ports import Target
from control_plane.core.power import Loads
from control_plane.core.secret import Secret
from control_plane.core.verify import Operation, Stage
from control_plane.engine.gate import Gate
from control_plane.engine.journal import Journal
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.slots import Slot, make_slot
from control_plane.engine.store import Store
from tests.core.builders import (
    CAPABILITIES,
    FOREIGN_POOLS,
    NOW_S,
    PIN,
    converged_memory,
    device,
    fresh_memory,
    seen,
    settings,
    site,
)
from tests.engine.test_rollouts import StillClock


class Machine:
    """A driver of one machine that does as it is told, or as a test says."""

    def __init__(self, have: Settings) -> None:
        self.have = have
        self.written: list[Change] = []
        self.outcome: Outcome = Applied()
        self.write_enabled: bool | None = None
        self.before_look: Callable[[], None] = lambda: None
        self.before_write: Callable[[], None] = lambda: None

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def identify(self, target: Target) -> Identity:
        raise NotImplementedError

    async def observe(self, target: Target, depth: Depth) -> Observation:
        self.before_look()
        return seen(self.have, at_s=NOW_S, write_enabled=self.write_enabled)

    async def apply(self, target: Target, change: Change, *_permit: Any) -> Outcome:
        self.before_write()
        self.written.append(change)
        return self.outcome


class Looks:
    """Stands in for the poller: who is to be looked at wholly."""

    def __init__(self) -> None:
        self.hurried: list[str] = []

    def hurry(self, slot: Slot, after_s: float = 0.0, *, full: bool = True) -> None:
        if full:
            self.hurried.append(slot.asset)


class NoSecrets:
    def resolve(self, ref: str) -> Secret:
        return Secret("")


class Bench:
    """One reconciler with one device on it."""

    def __init__(self, have: Settings, memory: Memory, **changes: Any) -> None:
        self.machine = Machine(have)
        declared = device(**changes)
        site_ = site((declared,))
        self.store, self.clock = Store(None), StillClock()
        self.loads = Loads(site_)
        self.journal = Journal(store=self.store, audit=None, clock=self.clock)
        gate = Gate(
            store=self.store, audit=None, epoch=self.store.take_over(), journal=self.journal
        )
        gate.learn(site_)
        self.reconciler = Reconciler(
            site=site_,
            clock=self.clock,
            secrets=NoSecrets(),
            gate=gate,
            journal=self.journal,
            loads=self.loads,
            incident_of=lambda _slot: None,
        )
        self.reconciler.admits = True
        self.slot: Slot = make_slot(site_, declared, memory, self.machine, CAPABILITIES)
        self.sight(have)

    def sight(self, have: Settings, **told: Any) -> None:
        sighting = seen(have, at_s=self.clock.now_s, **told)
        self.reconciler.sights.sighted(self.slot, sighting, Depth.FULL)

    def fall_silent(self) -> None:
        lost = Unseen(asset="d1", at_s=NOW_S, reason=UnseenReason.UNREACHABLE, detail="")
        self.reconciler.sights.sighted(self.slot, lost, Depth.FULL)

    def turn(self, *, raises: bool = False) -> None:
        """Judge once, and let what it begins come to its end."""

        async def go() -> None:
            async with asyncio.TaskGroup() as acts:
                self.reconciler.acts = acts
                self.reconciler.judge(self.slot)
                if raises:
                    self.reconciler.admit_raises()

        asyncio.run(go())

    def retry(self) -> None:
        """The next turn after whatever back-off."""
        self.clock.now_s += 100_000.0
        self.slot.seen_wire_s = self.clock.now_s
        self.turn()

    def operation(self) -> Operation | None:
        return self.slot.op

    @property
    def counted_w(self) -> float:
        return self.loads.counted("d1")


@pytest.mark.parametrize(
    ("last", "watts"),
    [
        pytest.param(settings(mining=False), 3_500.0, id="asleep: a boot may have woken it"),
        pytest.param(settings(power_mode="low"), 3_500.0, id="low: the same"),
        pytest.param(
            settings(power_mode="high"), 4_100.0, id="high: its settings still permit that"
        ),
    ],
)
def test_a_device_that_falls_silent_counts_at_what_it_may_draw(
    last: Settings, watts: float
) -> None:
    bench = Bench(last, converged_memory())
    bench.fall_silent()
    assert bench.counted_w == watts
    bench.sight(settings(mining=False))
    assert bench.counted_w < 100.0, "seen again, it counts at what it tells"


def test_a_silent_device_counts_at_what_an_earlier_process_saw_it_permitted() -> None:
    bench = Bench(settings(power_mode="high"), converged_memory())
    bench.turn()
    restarted = Bench(settings(), bench.slot.memory)
    restarted.slot.seen = None
    restarted.fall_silent()
    assert restarted.counted_w == 4_100.0
    restarted.sight(settings())
    restarted.turn()
    restarted.fall_silent()
    assert restarted.counted_w == 3_500.0, "it was seen to be lower since"


def test_a_lowering_that_has_become_a_raise_is_not_sent() -> None:
    bench = Bench(settings(power_mode="high"), fresh_memory())

    def somebody_lowers_it() -> None:
        bench.machine.have = settings(power_mode="low")

    bench.machine.before_look = somebody_lowers_it
    bench.turn()
    assert bench.machine.written == []
    bench.turn(raises=True)
    assert bench.machine.written == [SetPowerMode("normal")], "admitted as the raise that it is"


def test_a_raise_whose_headroom_a_neighbour_took_since_it_was_admitted_is_not_sent() -> None:
    bench = Bench(settings(power_mode="low"), fresh_memory())
    feed = bench.slot.device.feed

    def a_neighbour_wakes_up() -> None:
        bench.loads.count("neighbour", feed, bench.loads.headroom_w(feed) + 1_000.0)

    bench.machine.before_look = a_neighbour_wakes_up
    bench.turn(raises=True)
    assert bench.machine.written == []
    bench.machine.before_look = lambda: None
    bench.loads.count("neighbour", feed, 0.0)
    bench.turn(raises=True)
    assert bench.machine.written == [SetPowerMode("normal")]


def test_writes_that_did_not_leave_cost_neither_tries_nor_flash() -> None:
    bench = Bench(settings(pools=FOREIGN_POOLS), converged_memory())
    bench.machine.outcome = Failed("unreachable", retryable=True)
    for _ in range(2 * limits.MAX_ATTEMPTS):
        bench.retry()
    assert len(bench.machine.written) >= limits.MAX_ATTEMPTS
    assert bench.slot.memory.stuck == frozenset()
    assert bench.slot.memory.persistent_writes_s == ()


def test_a_write_interface_that_was_off_is_tried_again_through_the_gate_once_an_hour() -> None:
    bench = Bench(settings(pools=FOREIGN_POOLS), converged_memory())
    bench.machine.write_enabled = False
    bench.machine.outcome = Failed("the write interface is switched off", retryable=True)

    def look_for(seconds: float) -> int:
        for _ in range(60):
            bench.clock.now_s += seconds / 60
            bench.sight(settings(pools=FOREIGN_POOLS), write_enabled=False)
            bench.turn()
        return len(bench.machine.written)

    bench.sight(settings(pools=FOREIGN_POOLS), write_enabled=False)
    bench.turn()
    assert len(bench.machine.written) == 1, "a process that begins knows of the last one's try only"
    assert look_for(limits.WRITE_ACCESS_RETRY_S * 0.9) == 1
    assert bench.slot.decision is not None
    assert {held.reason for held in bench.slot.decision.held} == {Reason.WRITE_API_DISABLED}
    assert look_for(limits.WRITE_ACCESS_RETRY_S * 0.2) == 2
    assert [op.change for op in bench.store.operations_since(0.0)] == bench.machine.written


def test_a_stop_is_never_latched() -> None:
    memory = converged_memory(contested=frozenset({Field.POOLS}))
    bench = Bench(settings(pools=FOREIGN_POOLS), memory)
    bench.machine.outcome = Failed("no", retryable=False)
    for _ in range(2 * limits.MAX_ATTEMPTS):
        bench.retry()
    assert set(bench.machine.written) == {StopMining()}
    assert len(bench.machine.written) > limits.MAX_ATTEMPTS
    assert bench.slot.memory.stuck == frozenset()
    assert len(bench.journal.pages) == 1


def test_what_the_gate_refuses_again_and_again_is_latched_and_paged() -> None:
    bench = Bench(settings(pools=FOREIGN_POOLS), converged_memory())
    bench.reconciler._gate._pools = {}
    for _ in range(2 * limits.MAX_ATTEMPTS):
        bench.retry()
    assert bench.machine.written == []
    assert bench.slot.memory.stuck == {ChangeKind.SET_POOLS}
    assert bench.slot.decision is not None
    assert {held.reason for held in bench.slot.decision.held} == {Reason.STUCK}
    assert len(bench.journal.pages) == 1


def test_the_budget_is_held_until_the_machine_works_again() -> None:
    bench = Bench(settings(pools=FOREIGN_POOLS), converged_memory())
    bench.turn()
    assert bench.reconciler.operations.budgets.total == 1
    bench.machine.have = settings()
    bench.clock.now_s += 30.0
    booting = seen(settings(), at_s=bench.clock.now_s, hashrate_ths=0.0)
    bench.reconciler.sights.sighted(bench.slot, booting, Depth.FULL)
    bench.reconciler.operations.follow(bench.slot)
    operation = bench.operation()
    assert operation is not None
    assert operation.stage is Stage.READ_BACK
    assert bench.reconciler.operations.budgets.total == 1, (
        "its restart is part of what is in flight"
    )
    bench.clock.now_s += 600.0
    bench.sight(settings())
    bench.reconciler.operations.follow(bench.slot)
    assert bench.operation() is None
    assert bench.reconciler.operations.budgets.total == 0


def test_what_is_being_repaired_still_drifts_until_it_reads_as_declared() -> None:
    bench = Bench(settings(pools=FOREIGN_POOLS), converged_memory())
    bench.turn()
    assert bench.operation() is not None
    bench.sight(settings(pools=FOREIGN_POOLS))
    bench.reconciler.judge(bench.slot)
    assert bench.slot.memory.drifting == {Field.POOLS}, "a storm counts it"
    assert len(bench.slot.memory.drifts) == 1, "nobody changed it a second time"
    bench.sight(settings())
    bench.reconciler.judge(bench.slot)
    assert bench.slot.memory.drifting == frozenset()


def test_an_operation_found_after_a_long_downtime_is_looked_at_before_it_is_judged() -> None:
    bench = Bench(settings(), converged_memory())
    bench.clock.now_s += 100_000.0
    found = Operation(
        id="000001-1",
        asset="d1",
        change=SetPools(device().desired().pools or ()),
        before=settings(pools=FOREIGN_POOLS),
        after=settings(),
        sent_at_s=NOW_S,
        cost=CAPABILITIES.writes[ChangeKind.SET_POOLS],
    )
    bench.reconciler.operations.adopt(bench.slot, found)
    bench.reconciler.tick()
    assert bench.operation() is not None
    bench.sight(settings())
    bench.reconciler.operations.follow(bench.slot)
    assert bench.operation() is None
    assert bench.machine.written == []
    assert bench.slot.memory.attempts == {}


def test_a_hold_lets_nothing_but_a_stop_pass() -> None:
    hold = Overlay(
        id="h1", kind=OverlayKind.SAFETY_HOLD, node="d1", owner="ann", reason="x", since_s=NOW_S
    )
    bench = Bench(settings(pools=FOREIGN_POOLS), converged_memory())
    bench.store.put_overlay(hold)
    bench.retry()
    assert bench.machine.written == [], "the gate reads holds in the transaction of the intent"
    bench.reconciler.overlays = (hold,)
    bench.slot.memory = msgspec.structs.replace(
        bench.slot.memory, contested=frozenset({Field.POOLS})
    )
    bench.retry()
    assert bench.machine.written == [StopMining()]


@pytest.mark.parametrize("then_s", [12.0, None])
def test_a_miner_that_began_anew_is_looked_at_wholly(then_s: float | None) -> None:
    bench = Bench(settings(), converged_memory())
    looks = Looks()
    bench.reconciler.sights.poller = looks  # type: ignore[assignment]
    for mined_s, wanted in ((9_000.0, []), (9_010.0, []), (then_s, ["d1"])):
        hot = seen(at_s=NOW_S, asked=frozenset(), depth=Depth.TELEMETRY)
        telemetry = msgspec.structs.replace(hot.telemetry, mining_uptime_s=mined_s)
        hot = msgspec.structs.replace(hot, settings=Settings(), telemetry=telemetry)
        bench.reconciler.sights.sighted(bench.slot, hot, Depth.TELEMETRY)
        assert looks.hurried == wanted, (
            "another mode restarts it, and a hot look may not tell the mode"
        )


@pytest.mark.parametrize(
    ("mining", "rates", "hurried"),
    [
        (False, (0.0, 0.0, 40.0, 150.0), [False, False, True, False]),
        (True, (200.0, 190.0, 0.0, 0.0), [False, False, True, False]),
        (True, (200.0, None, 190.0, 180.0), [False, False, False, False]),
        # What began as it was meant to is no contradiction.
        (True, (0.0, 0.0, 40.0, 150.0), [False, False, False, False]),
    ],
    ids=["woken by hand", "stopped by hand", "not told", "as set"],
)
def test_hash_against_the_settings_asks_for_a_whole_look(
    mining: bool, rates: tuple[float | None, ...], hurried: list[bool]
) -> None:
    """An hour is the rhythm of whole looks, and there are hot looks that do not tell whether it sleeps."""
    bench = Bench(settings(mining=mining), converged_memory())
    bench.reconciler.sights.sighted(
        bench.slot, seen(settings(mining=mining), at_s=NOW_S, hashrate_ths=rates[0]), Depth.FULL
    )
    looks = Looks()
    bench.reconciler.sights.poller = looks  # type: ignore[assignment]
    told = []
    for rate in rates:
        looks.hurried = []
        hot = seen(at_s=NOW_S, hashrate_ths=rate, asked=frozenset(), depth=Depth.TELEMETRY)
        hot = msgspec.structs.replace(hot, settings=Settings())
        bench.reconciler.sights.sighted(bench.slot, hot, Depth.TELEMETRY)
        told.append(bool(looks.hurried))
    assert told == hurried


def test_what_could_not_be_read_is_asked_for_again_ever_more_rarely() -> None:
    bench = Bench(settings(power_mode=None), converged_memory())
    bench.slot.polls, wholly = 360, []
    bench.sight(settings(power_mode=None))
    for poll in range(200):
        bench.slot.polls += 1
        if bench.slot.next_depth(pools_every=1, full_every=360) is Depth.FULL:
            wholly.append(poll)
            bench.sight(settings(power_mode=None))
    gaps = [after - before for before, after in pairwise(wholly)]
    assert gaps == [8, 16, 32, 64]
    bench.sight(settings())
    bench.slot.polls = 719
    assert bench.slot.next_depth(pools_every=1, full_every=360) is Depth.POOLS


def test_another_machine_that_sleeps_at_the_address_makes_no_room() -> None:
    bench = Bench(settings(), converged_memory())
    stranger = seen(settings(mining=False), at_s=NOW_S, identity=Identity(mac="02:ff:ff:ff:ff:ff"))
    bench.reconciler.sights.sighted(bench.slot, stranger, Depth.FULL)
    assert bench.counted_w == 3_500.0


@pytest.mark.parametrize("answered", [True, False])
def test_the_operation_of_a_device_that_is_let_go_ends(answered: bool) -> None:
    bench = Bench(settings(pools=FOREIGN_POOLS), converged_memory())
    bench.machine.before_write = lambda: None if answered else bench.reconciler.let_go(bench.slot)
    bench.turn()
    assert bench.machine.written
    if answered:
        bench.reconciler.let_go(bench.slot)
    bench.journal.flush()
    assert bench.store.open_operations() == []
    assert bench.slot.op is None
    assert bench.reconciler.operations.budgets.total == 0
    bench.loads.count("d1", "pdu", 0.0)
    bench.sight(settings())
    assert bench.counted_w == 0.0, "it counts as released, and not once more"


def test_nothing_is_learned_from_another_machine() -> None:
    bench = Bench(settings(), fresh_memory())
    stranger = seen(
        settings(), at_s=NOW_S, identity=Identity(mac="02:ff:ff:ff:ff:ff", serial="SN9")
    )
    bench.reconciler.sights.sighted(bench.slot, stranger, Depth.FULL)
    bench.turn()
    assert bench.slot.memory.equalled == Settings()
    assert PIN.mac != "02:ff:ff:ff:ff:ff"
