"""Firmware rollouts: what people let go, how large a round may be, and what its gate makes of it."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.firmware_rollout import (
    FirmwareRollout,
    FirmwareState,
    continued,
    is_lost,
    judged,
    opened,
    passed_by,
    released,
    round_size,
    together,
)
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.core.fleet import Strategy
from control_plane.core.rollout import GateResult

STRATEGY = Strategy(cohorts=(1, 10, 0.05), max_new_failure_share=0.05)
NEW = FirmwareRollout(
    id="f0001", bundle="b", members="m", model="S21", version="2", waves=(1, 11, 61, 1000)
)
CONTROL = [f"c{n}" for n in range(50)]


def gate(*, passed: bool) -> GateResult:
    return GateResult(
        wave=0, at_s=0.0, passed=passed, treated=1, treated_failed=0, control=0, control_failed=0
    )


def entries(good: int, bad: int, waiting: int = 0) -> list[FlashEntry]:
    steps = (
        [(FlashStep.DONE, 1)] * good
        + [(FlashStep.QUARANTINED, 1)] * bad
        + [(FlashStep.PENDING, 0)] * waiting
    )
    return [
        FlashEntry(asset=f"a{n}", step=step, attempt=attempt, detail="" if attempt else "no image")
        for n, (step, attempt) in enumerate(steps)
    ]


def after(round_: list[FlashEntry], rollout: FirmwareRollout = NEW) -> FirmwareRollout:
    return judged(
        opened(rollout, 1.0), round_, now_s=2.0, ill=[], control=CONTROL, control_failed=[],
        max_new_failure_share=0.05,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gates", "size"),
    [
        pytest.param([], 1, id="nothing is known of it: one machine"),
        pytest.param([True], 10, id="a gate has passed"),
        pytest.param([True, True], 50, id="two have"),
        pytest.param([True, True, True, True], 939, id="as many as there are cohorts"),
        pytest.param([True, True, False], 1, id="it failed: small again"),
        pytest.param([False, True], 10, id="and grows again"),
    ],
)
def test_a_round_is_as_large_as_the_gates_have_earned(gates: list[bool], size: int) -> None:
    rollout = msgspec.structs.replace(NEW, gates=tuple(gate(passed=p) for p in gates))
    assert round_size(rollout, STRATEGY) == size


def test_a_round_of_a_wave_that_was_let_go_passes_and_the_wave_goes_on() -> None:
    passed = after(entries(good=1, bad=0))
    assert (passed.state, passed.wave, passed.round) == (FirmwareState.WAITING, 0, 1)
    assert passed.earned == 1
    last = msgspec.structs.replace(passed, wave=3)
    over = passed_by(last, "all of it runs it", 3.0)
    assert (over.state, over.is_over) == (FirmwareState.DONE, True)
    assert after(entries(good=1, bad=0), over).state is FirmwareState.DONE


def test_a_round_that_fails_halts_and_its_machines_are_left_alone_from_then_on() -> None:
    halted = after(entries(good=9, bad=1))
    assert (halted.state, halted.failed) == (FirmwareState.HALTED, ("a9",))
    assert halted.detail == "1 of 10 failed: a9: it does not hash"
    going = continued(halted, by="ann", now_s=5.0)
    assert isinstance(going, FirmwareRollout)
    assert (going.state, going.round, going.failed) == (FirmwareState.WAITING, 1, ("a9",))
    assert round_size(going, STRATEGY) == 1


def test_what_a_machine_does_after_it_ended_well_counts() -> None:
    halted = judged(
        opened(NEW, 1.0), entries(good=1, bad=0), now_s=2.0, ill=["a0"], control=CONTROL,
        control_failed=[], max_new_failure_share=0.05,
    )  # fmt: skip
    assert (halted.state, halted.failed) == (FirmwareState.HALTED, ("a0",))


def test_a_site_that_fails_everywhere_blames_no_firmware() -> None:
    passed = judged(
        opened(NEW, 1.0), entries(good=8, bad=2), now_s=2.0, ill=[], control=CONTROL,
        control_failed=CONTROL[:10], max_new_failure_share=0.05,
    )  # fmt: skip
    assert passed.state is FirmwareState.WAITING


def test_a_round_in_which_nothing_was_installed_says_nothing_for_the_next() -> None:
    halted = after(entries(good=0, bad=0, waiting=3))
    assert (halted.state, halted.gates) == (FirmwareState.HALTED, ())
    assert halted.detail == "nothing was installed: no image"


@pytest.mark.parametrize(("bad", "lost"), [(1, False), (2, False), (3, True)])
def test_a_round_is_stopped_once_it_cannot_pass_any_more(bad: int, lost: bool) -> None:
    assert is_lost(NEW, entries(good=2, bad=bad, waiting=45), 0.05) is lost


def test_a_share_of_thousands_is_stopped_by_its_number_until_a_person_has_seen_it() -> None:
    six = entries(good=0, bad=6, waiting=900)
    assert not is_lost(NEW, six[1:], 0.05)
    assert is_lost(NEW, six, 0.05)
    # A gate that their share would pass stops for the same reason, and a person's word lets it go on.
    halted = after(entries(good=900, bad=6))
    assert (halted.state, halted.gates[-1].passed) == (FirmwareState.HALTED, True)
    assert halted.detail == "6 machines failed since a person spoke last"
    going = continued(halted, by="ann", now_s=5.0)
    assert isinstance(going, FirmwareRollout)
    assert not is_lost(going, six[1:], 0.05)
    others = [msgspec.structs.replace(e, asset=f"b{n}") for n, e in enumerate(six)]
    assert is_lost(going, others, 0.05)


@pytest.mark.parametrize(("gates", "devices"), [(0, 1), (1, 5), (2, 10), (3, 20), (9, 200)])
def test_more_are_down_at_the_same_time_the_more_gates_have_passed(
    gates: int, devices: int
) -> None:
    rollout = msgspec.structs.replace(NEW, gates=(gate(passed=True),) * gates)
    assert together(rollout) == devices


@pytest.mark.parametrize(
    ("state", "wave", "through", "expected"),
    [
        pytest.param(FirmwareState.WAITING, 0, None, 1, id="the open wave alone"),
        pytest.param(FirmwareState.WAITING, 1, 3, 3, id="as far as is said"),
        pytest.param(FirmwareState.WAITING, 0, 99, 4, id="no further than there are"),
        pytest.param(FirmwareState.INSTALLING, 1, None, 2, id="while it is under way"),
        pytest.param(FirmwareState.WAITING, 2, 1, "f0001 is at wave 3", id="back"),
        pytest.param(FirmwareState.DONE, 3, None, "f0001 is done", id="done"),
        pytest.param(FirmwareState.SUPERSEDED, 0, None, "f0001 is superseded", id="superseded"),
    ],
)
def test_what_a_person_lets_go(
    state: FirmwareState, wave: int, through: int | None, expected: int | str
) -> None:
    rollout = msgspec.structs.replace(NEW, state=state, wave=wave)
    found = released(rollout, through=through, by="ann")
    assert (found if isinstance(found, str) else found.released) == expected


def test_who_may_be_begun_or_is_under_way_is_locked() -> None:
    steps = {
        "waits": FlashStep.PENDING, "leaves": FlashStep.COMMITTING, "boots": FlashStep.REBOOTING,
        "ramps": FlashStep.VERIFYING, "done": FlashStep.DONE, "lost": FlashStep.QUARANTINED,
    }  # fmt: skip
    grant = Grant(
        operation="o", rollout="f0001", digest="b", fence=1, at_once=1, deadline_s=100.0,
        entries={name: FlashEntry(asset=name, step=step) for name, step in steps.items()},
    )  # fmt: skip
    assert grant.locked(99.0) == {"waits", "leaves", "boots", "ramps"}
    assert grant.locked(100.0) == {"leaves", "boots", "ramps"}
