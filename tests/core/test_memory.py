"""What is remembered between looks: drift episodes, the contest latch, the write budget, pins."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.change import ChangeKind, SetPowerMode, StopMining
from control_plane.core.memory import (
    Memory,
    Pin,
    note_converged,
    note_drift,
    note_equal,
    note_unwritten,
    note_verified,
    note_write,
    unread_of,
)
from control_plane.core.observation import Field, Identity, Settings
from tests.core.builders import NOW_S, PIN, settings

POOLS = frozenset({Field.POOLS})
POOL_WRITE = ChangeKind.SET_POOLS
NONE: frozenset[Field] = frozenset()


def drift_times(memory: Memory, *times_s: float) -> Memory:
    for at_s in times_s:
        memory = note_drift(memory, POOLS, NOW_S + at_s)
        memory = note_converged(memory, settings(), settings())
    return memory


def test_two_re_drifts_in_a_day_are_a_contest() -> None:
    assert drift_times(Memory(asset="d1"), 0, 600).contested == NONE
    assert drift_times(Memory(asset="d1"), 0, 600, 1_200).contested == POOLS


def test_three_drifts_over_more_than_a_day_are_not() -> None:
    day = limits.REDRIFT_WINDOW_S
    assert drift_times(Memory(asset="d1"), 0, day + 1, day + 600).contested == NONE


def test_one_long_drift_is_one_episode() -> None:
    memory = Memory(asset="d1")
    for at_s in range(0, 600, 10):
        memory = note_drift(memory, POOLS, NOW_S + at_s)
    assert len(memory.drifts) == 1


def test_what_cannot_be_read_goes_on_drifting() -> None:
    drifting = note_drift(Memory(asset="d1"), POOLS, NOW_S)
    unread = msgspec.structs.replace(settings(), pools=None)
    assert unread_of(drifting, settings(), unread) == POOLS
    assert unread_of(drifting, settings(), settings()) == NONE
    assert unread_of(drifting, unread, unread) == NONE, "nobody declares it any more"
    assert unread_of(Memory(asset="d1"), settings(), unread) == NONE


def test_convergence_forgets_attempts_but_not_the_contest() -> None:
    memory = Memory(asset="d1", attempts={POOL_WRITE: 2}, contested=POOLS, overridden_since_s=5.0)
    after = note_converged(memory, settings(), settings())
    assert (after.attempts, after.contested, after.overridden_since_s) == ({}, POOLS, None)
    assert note_converged(after, settings(), settings()) is after


def test_the_day_s_budget_of_persistent_writes() -> None:
    spent = Memory(asset="d1", persistent_writes_s=(NOW_S,) * limits.PERSISTENT_WRITES_PER_DAY)
    assert spent.writes_left(NOW_S + 1) == 0
    assert spent.writes_left(NOW_S + limits.REDRIFT_WINDOW_S) == limits.PERSISTENT_WRITES_PER_DAY


def test_a_write_that_a_killed_process_intended_is_spent_once() -> None:
    once = note_write(Memory(asset="d1"), POOL_WRITE, NOW_S, persistent=True)
    assert (once.attempts, once.persistent_writes_s) == ({POOL_WRITE: 1}, (NOW_S,))
    assert note_write(once, POOL_WRITE, NOW_S, persistent=True) is once
    later = note_write(once, POOL_WRITE, NOW_S + limits.REDRIFT_WINDOW_S, persistent=False)
    assert (later.attempts, later.persistent_writes_s) == ({POOL_WRITE: 2}, ())


def test_attempts_are_counted_by_kind() -> None:
    memory = note_write(Memory(asset="d1"), POOL_WRITE, NOW_S, persistent=True)
    memory = note_write(memory, ChangeKind.STOP_MINING, NOW_S + 1, persistent=False)
    assert memory.attempts == {POOL_WRITE: 1, ChangeKind.STOP_MINING: 1}


def test_a_write_that_never_left_costs_nothing() -> None:
    memory = note_write(Memory(asset="d1"), POOL_WRITE, NOW_S, persistent=True)
    after = note_unwritten(memory, POOL_WRITE, NOW_S)
    assert (after.attempts[POOL_WRITE], after.persistent_writes_s) == (0, ())


def test_what_we_wrote_ourselves_was_wanted_whatever_is_wanted_by_now() -> None:
    was = settings(mining=True, power_mode="normal", power_limit_w=3_300)
    now = settings(mining=True, power_mode="low", power_limit_w=2_480)
    memory = note_converged(Memory(asset="d1", attempts={ChangeKind.SET_POWER_MODE: 2}), was, was)
    after = note_verified(memory, SetPowerMode("low"), was, now, now)
    assert after.equalled.power_mode == "low"
    assert after.equalled.mining is True
    # The limit came with the mode: no hand set it, and the declared one comes back as a change of ours.
    assert after.equalled.power_limit_w is None
    assert after.expected == msgspec.structs.replace(now, power_limit_w=None)
    assert after.attempts == {}


def test_a_stop_of_ours_leaves_the_rest_as_it_was() -> None:
    was = settings(mining=True, power_mode="normal", power_limit_w=3_300)
    memory = note_converged(Memory(asset="d1"), was, was)
    after = note_verified(
        memory, StopMining(), was, msgspec.structs.replace(was, mining=False), None
    )
    assert after.equalled == msgspec.structs.replace(was, mining=False)
    assert after.expected == msgspec.structs.replace(was, mining=False)


def test_fields_are_remembered_one_by_one() -> None:
    memory = note_equal(Memory(asset="d1"), Settings(mining=True))
    memory = note_equal(memory, Settings(power_mode="low"))
    assert memory.equalled == Settings(mining=True, power_mode="low")
    assert note_equal(memory, Settings(mining=True)) is memory


@pytest.mark.parametrize(
    ("identity", "match"),
    [
        (Identity(mac=PIN.mac, serial=PIN.serial), True),
        (Identity(mac=PIN.mac), True),
        (Identity(serial="other"), False),
        (Identity(mac=PIN.mac, serial="other"), False),
        (Identity(model="S21"), None),
    ],
)
def test_a_pin_matches_what_was_told(identity: Identity, match: bool | None) -> None:
    assert PIN.matches(identity) is match


def test_a_pin_of_serial_alone_ignores_the_mac() -> None:
    pin = msgspec.structs.replace(PIN, mac=None)
    assert pin.matches(Identity(mac="02:ff:ff:ff:ff:ff", serial=PIN.serial)) is True
    assert Pin(mac=None, serial=None, source="x").matches(Identity(mac=PIN.mac)) is None
