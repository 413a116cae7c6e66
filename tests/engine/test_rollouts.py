"""A gate judges what its wave wrote, against devices that nobody touched, before and after a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.change import SetPools
from control_plane.core.decision import Decision, Held, Reason, Why
from control_plane.core.memory import Memory
from control_plane.core.observation import Settings, Telemetry, Unseen, UnseenReason
from control_plane.core.rollout import Rollout, RolloutState, wave_of
from control_plane.core.verify import Operation, Stage
from control_plane.engine.journal import Journal
from control_plane.engine.rollouts import RolloutRunner
from control_plane.engine.slots import Slot, make_slot
from control_plane.engine.store import Store
from tests.core.builders import (
    CAPABILITIES,
    DECLARED_POOLS,
    NOW_S,
    PIN,
    WRITES,
    device,
    intent,
    seen,
    settings,
    site,
)

SITE = site(tuple(device(f"d{n:02}", address=f"10.0.0.{n + 1}") for n in range(20)))
SETTLE_S = CAPABILITIES.settle_s
HEALTHY_THS = 200.0


class StillClock:
    """A clock that a test moves; wire time and policy time are one."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def wall_s(self) -> float:
        return self.now_s

    def wire_s(self) -> float:
        return self.now_s

    def wire_of(self, policy_s: float) -> float:
        return policy_s

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def wire_sleep(self, seconds: float) -> None:
        raise NotImplementedError


class EagerPoller:
    """Looks at once at whatever a gate asks for."""

    def __init__(self, clock: StillClock) -> None:
        self._clock = clock

    def hurry(self, slot: Slot, after_s: float = 0.0, *, full: bool = True) -> None:
        slot.seen_wire_s = self._clock.now_s


class Floor:
    """Twenty slots, all healthy and as declared, and the rollout that brings them a revision."""

    def __init__(self, wave: int = 1) -> None:
        self.clock = StillClock()
        self.store = Store(None)
        self.slots: dict[str, Slot] = {}
        for one in SITE.devices:
            slot = make_slot(SITE, one, Memory(asset=one.asset, pin=PIN), None, CAPABILITIES)
            slot.seen = seen(asset=one.asset, hashrate_ths=HEALTHY_THS)
            slot.decision = Decision(asset=one.asset, desired=one.desired(), converged=True)
            self.slots[one.asset] = slot
        self.rollout = Rollout(
            id="r", to="rev", origin=None, waves=(1, 11, 20), wave=wave, since_s=NOW_S
        )
        self.runner = self.started()
        self.order = list(self.runner._order)
        self.due = set(self.order)
        """Who would have something to write, had its wave come."""

    def started(self) -> RolloutRunner:
        """A runner as a new process makes it: from what is durable alone."""
        runner = RolloutRunner(
            rollout=self.rollout,
            before={},
            after=SITE,
            clock=self.clock,
            journal=Journal(store=self.store, audit=None, clock=self.clock),
        )
        for operation in self.store.operations_since(self.rollout.since_s):
            runner.note(operation)
        return runner

    def restart(self) -> None:
        self.rollout = self.runner.rollout
        self.runner = self.started()

    def members(self) -> list[str]:
        order = {asset: n for n, asset in enumerate(self.runner._order)}
        return [a for a in order if wave_of(order, self.rollout, a) == self.rollout.wave]

    def write(
        self,
        asset: str,
        *,
        before: Settings | None = None,
        ths: float = HEALTHY_THS,
        why: Why = Why.ROLLOUT,
    ) -> None:
        operation = Operation(
            id=f"000001-{len(self.store.operations()) + 1:09d}",
            asset=asset,
            change=SetPools(DECLARED_POOLS),
            before=before or settings(),
            after=settings(),
            sent_at_s=self.clock.now_s,
            why=why,
            hashrate_before_ths=ths,
            cost=next(iter(WRITES.values())),
            stage=Stage.CONFIRMED,
        )
        self.store.put_operations([operation])
        self.runner.note(operation)

    def hash_at(self, assets: Iterable[str], ths: float) -> None:
        for asset in assets:
            slot = self.slots[asset]
            assert slot.seen is not None
            telemetry = Telemetry(hashrate_ths=ths)
            slot.seen = msgspec.structs.replace(slot.seen, telemetry=telemetry)

    def silence(self, assets: Iterable[str]) -> None:
        for asset in assets:
            self.slots[asset].unseen = Unseen(
                asset=asset, at_s=NOW_S, reason=UnseenReason.UNREACHABLE, detail=""
            )

    def advance(self) -> None:
        poller = EagerPoller(self.clock)
        self.runner.advance(
            self.slots,
            poller,  # type: ignore[arg-type]
            lambda slot, _: slot.asset not in self.due,
        )

    def to_the_gate(self) -> None:
        """Through the soak, and through the looks that the gate asks for."""
        self.advance()
        assert self.runner.rollout.state is RolloutState.SOAKING
        self.clock.now_s += SETTLE_S
        self.advance()
        self.advance()

    @property
    def state(self) -> tuple[RolloutState, int]:
        return self.runner.rollout.state, self.runner.rollout.wave


PASSED = (RolloutState.RUNNING, 2)
HALTED = (RolloutState.HALTED, 1)


def test_a_wave_without_a_write_needs_no_soak() -> None:
    floor = Floor()
    floor.advance()
    assert floor.state == PASSED
    assert floor.runner.rollout.gates[-1].detail == "nothing was written"


def test_the_first_wave_that_writes_is_a_canary_however_many_had_nothing_to_write() -> None:
    floor = Floor(wave=0)
    floor.due = set(floor.order[15:])
    floor.advance()
    assert floor.runner.rollout.waves == (15, 16, 20), "one device, then as many as are left of ten"
    assert floor.state == (RolloutState.RUNNING, 1)
    floor.write(floor.order[15])
    floor.to_the_gate()
    assert floor.runner.rollout.waves == (15, 16, 20)
    assert floor.state == (RolloutState.RUNNING, 2)


def test_the_repair_of_drift_is_no_test_of_a_revision() -> None:
    floor = Floor(wave=0)
    floor.write(floor.order[0], why=Why.DRIFT)
    floor.to_the_gate()
    assert floor.state == (RolloutState.RUNNING, 1)
    assert floor.runner.rollout.waves == (1, 2, 12, 20)


def test_where_nobody_has_anything_to_write_a_rollout_is_done_at_once() -> None:
    floor = Floor(wave=0)
    floor.due = set()
    floor.advance()
    assert floor.state[0] is RolloutState.DONE


def test_a_device_that_is_written_to_during_the_soak_is_soaked_as_well() -> None:
    floor = Floor()
    first, *others = floor.members()
    for asset in others:
        floor.write(asset)
    floor.advance()
    assert floor.state == (RolloutState.SOAKING, 1)
    floor.clock.now_s += SETTLE_S - 1
    # It was away until now: its wave did not wait for it.
    floor.write(first)
    floor.clock.now_s += 1
    floor.advance()
    floor.advance()
    assert floor.state == (RolloutState.SOAKING, 1)
    floor.clock.now_s += SETTLE_S - 1
    floor.silence([first])
    floor.advance()
    floor.advance()
    assert floor.state == HALTED


def test_a_healthy_wave_passes_after_its_soak_and_not_before() -> None:
    floor = Floor()
    for asset in floor.members():
        floor.write(asset)
    floor.advance()
    floor.clock.now_s += SETTLE_S - 1
    floor.advance()
    assert floor.state == (RolloutState.SOAKING, 1)
    floor.clock.now_s += 1
    floor.advance()
    floor.advance()
    assert floor.state == PASSED
    assert floor.runner.rollout.gates[-1].treated == 10


def brick_half(floor: Floor, written: list[str]) -> None:
    floor.silence(written[::2])


def slow_half(floor: Floor, written: list[str]) -> None:
    floor.hash_at(written[::2], HEALTHY_THS * limits.FAILURE_HASH_SHARE * 0.9)


@pytest.mark.parametrize("harm", [brick_half, slow_half])
@pytest.mark.parametrize("restarts", [False, True], ids=["one process", "killed while it soaks"])
def test_a_wave_that_harms_its_devices_stops_the_rollout(
    harm: Callable[[Floor, list[str]], None], restarts: bool
) -> None:
    floor = Floor()
    written = floor.members()
    for asset in written:
        floor.write(asset)
    floor.advance()
    harm(floor, written)
    if restarts:
        floor.restart()
    floor.to_the_gate() if floor.state[0] is RolloutState.RUNNING else _pass_soak(floor)
    assert floor.state == HALTED
    assert floor.runner.rollout.gates[-1].treated_failed == 5


def _pass_soak(floor: Floor) -> None:
    floor.clock.now_s += SETTLE_S
    floor.advance()
    floor.advance()


def test_a_process_that_is_killed_while_the_wave_writes_does_not_pass_it_unjudged() -> None:
    floor = Floor()
    written = floor.members()
    for asset in written:
        floor.write(asset)
    floor.silence(written)
    floor.restart()
    floor.to_the_gate()
    assert floor.state == HALTED


def test_what_failed_before_the_write_is_no_new_failure() -> None:
    floor = Floor()
    written = floor.members()
    floor.hash_at(written[:5], 0.0)
    for number, asset in enumerate(written):
        floor.write(asset, ths=0.0 if number < 5 else HEALTHY_THS)
    floor.to_the_gate()
    assert floor.state == PASSED
    assert floor.runner.rollout.gates[-1].treated == 5


def test_a_woken_machine_that_does_not_hash_is_a_failure() -> None:
    floor = Floor()
    written = floor.members()
    for asset in written:
        floor.write(asset, before=settings(mining=False), ths=0.0)
    floor.hash_at(written, 0.0)
    floor.to_the_gate()
    assert floor.state == HALTED


def test_what_the_whole_site_suffers_is_not_held_against_the_wave() -> None:
    floor = Floor()
    written = floor.members()
    for asset in written:
        floor.write(asset)
    floor.advance()
    floor.hash_at(floor.slots, HEALTHY_THS * 0.5)
    _pass_soak(floor)
    assert floor.state == PASSED
    gate = floor.runner.rollout.gates[-1]
    assert (gate.control_failed, gate.control) == (9, 9)


def test_a_machine_that_boots_for_ever_does_not_stop_the_wave_from_being_judged() -> None:
    floor = Floor()
    written = floor.members()
    for asset in written:
        floor.write(asset)
    slot = floor.slots[written[0]]
    assert slot.decision is not None
    slot.decision = msgspec.structs.replace(
        slot.decision, held=(Held(asset=slot.asset, reason=Reason.STARTING),)
    )
    floor.hash_at([slot.asset], 0.0)
    floor.to_the_gate()
    assert floor.runner.rollout.gates[-1].treated_failed == 1


def test_a_person_continues_a_halted_rollout() -> None:
    floor = Floor()
    written = floor.members()
    for asset in written:
        floor.write(asset)
    floor.silence(written)
    floor.to_the_gate()
    assert floor.state == HALTED
    assert floor.runner.proceed("ann")
    assert floor.state == PASSED
    assert floor.runner.rollout.gates[-1].detail == "continued by ann"
    assert not floor.runner.proceed("ann"), "there is nothing to continue any more"


def test_a_write_before_the_wave_opened_is_not_the_waves() -> None:
    floor = Floor()
    floor.clock.now_s -= 1
    for asset in floor.members():
        floor.write(asset)
    floor.clock.now_s += 1
    floor.advance()
    assert floor.runner.rollout.gates[-1].detail == "nothing was written"


def test_until_its_wave_only_the_intent_of_a_device_is_old() -> None:
    """Where it stands and how it is reached is as the new revision says, at once."""
    floor = Floor(wave=0)
    old = {
        one.asset: msgspec.structs.replace(
            one, feed="gone", address="10.9.9.9", intent=intent(power_mode="low", owner="former")
        )
        for one in SITE.devices
    }
    runner = RolloutRunner(
        rollout=floor.rollout, before=old, after=SITE, clock=floor.clock,
        journal=Journal(store=floor.store, audit=None, clock=floor.clock),
    )  # fmt: skip
    placed = {one.asset: runner.place(one) for one in SITE.devices}
    waiting = [device for device, assigned in placed.values() if not assigned]
    assert len(waiting) == 19
    for device_ in waiting:
        declared = next(d for d in SITE.devices if d.asset == device_.asset)
        assert (device_.feed, device_.address) == (declared.feed, declared.address)
        assert (device_.intent.power_mode, device_.intent.owner) == ("low", "own")
        assert runner.place(declared)[0] is device_


@pytest.mark.parametrize("restarts", [False, True], ids=["one process", "a new process"])
def test_a_soak_that_an_incident_broke_into_begins_anew(restarts: bool) -> None:
    floor = Floor()
    written = floor.members()
    for asset in written:
        floor.write(asset)
    floor.advance()
    floor.clock.now_s += SETTLE_S
    assert floor.runner.interrupt()
    assert not floor.runner.interrupt(), "there is no soak any more"
    if restarts:
        floor.restart()
    # Power is back, everything ramps: nothing may be judged by that.
    floor.hash_at(floor.slots, 0.0)
    floor.advance()
    assert floor.state == (RolloutState.SOAKING, 1)
    floor.hash_at(floor.slots, HEALTHY_THS)
    _pass_soak(floor)
    assert floor.state == PASSED
