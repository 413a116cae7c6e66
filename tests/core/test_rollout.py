"""Cohorts by hash, waves that grow to all, gates that count only new failures."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.rollout import (
    Rollout,
    RolloutState,
    after_gate,
    cohort_order,
    is_assigned,
    judge_gate,
    uncounted,
    wave_members,
    wave_of,
    wave_sizes,
)

ROLLOUT = Rollout(id="000001-x", to="rev", origin=None, waves=(1, 5, 20))


@given(
    subjects=st.integers(0, 20_000),
    cohorts=st.lists(
        st.one_of(st.integers(1, 500).map(float), st.floats(0.001, 0.99)), min_size=1, max_size=6
    ),
)
def test_waves_grow_strictly_and_end_in_all(subjects: int, cohorts: list[float]) -> None:
    waves = wave_sizes(subjects, cohorts)
    assert list(waves) == sorted(set(waves))
    assert (waves[-1] if waves else 0) == subjects


def test_the_designed_waves() -> None:
    assert wave_sizes(14_000, (1, 10, 0.01, 0.05, 0.25)) == (1, 11, 151, 851, 4351, 14000)


def test_order_depends_on_revision_and_asset_alone() -> None:
    assets = [f"d{n}" for n in range(50)]
    assert cohort_order("rev", assets) == cohort_order("rev", reversed(assets))
    assert cohort_order("rev", assets) != cohort_order("other", assets)
    # Adding devices does not reorder the others.
    kept = [a for a in cohort_order("rev", [*assets, "new"]) if a != "new"]
    assert tuple(kept) == cohort_order("rev", assets)


def test_waves_as_members_are_those_that_a_rollout_opens() -> None:
    assets = [f"d{n}" for n in range(200)]
    cohorts = (1, 10, 0.25)
    members = wave_members("rev", assets, cohorts)
    assert [len(wave) for wave in members] == [1, 10, 50, 139]
    order = {asset: place for place, asset in enumerate(cohort_order("rev", assets))}
    opened = msgspec.structs.replace(ROLLOUT, waves=wave_sizes(len(assets), cohorts))
    for number, wave in enumerate(members):
        assert {wave_of(order, opened, asset) for asset in wave} == {number}
    assert wave_members("rev", reversed(assets), cohorts) == members
    assert wave_members("rev", [], cohorts) == ()


def test_who_is_assigned() -> None:
    order = {f"d{n}": n for n in range(20)}
    assert [wave_of(order, ROLLOUT, a) for a in ("d0", "d1", "d4", "d5", "d19", "x")] == [
        0, 1, 1, 2, 2, None,
    ]  # fmt: skip
    assert is_assigned(order, ROLLOUT, "d0")
    assert not is_assigned(order, ROLLOUT, "d1")
    assert is_assigned(order, ROLLOUT, "not-a-subject")
    done = msgspec.structs.replace(ROLLOUT, state=RolloutState.DONE)
    assert is_assigned(order, done, "d19")


@pytest.mark.parametrize(
    ("failed_treated", "failed_control", "passed"),
    [(0, 0, True), (1, 0, False), (2, 20, True), (5, 20, False), (0, 50, True)],
)
def test_only_new_failures_count(failed_treated: int, failed_control: int, passed: bool) -> None:
    treated = [f"t{n}" for n in range(10)]
    control = [f"c{n}" for n in range(100)]
    gate = judge_gate(
        ROLLOUT.wave,
        at_s=1.0,
        treated=treated,
        control=control,
        failed=[*treated[:failed_treated], *control[:failed_control]],
        max_new_failure_share=0.05,
    )
    assert gate.passed is passed
    after = after_gate(ROLLOUT, gate)
    assert (after.state, after.wave) == (
        (RolloutState.RUNNING, 1) if passed else (RolloutState.HALTED, 0)
    )


@pytest.mark.parametrize(
    ("wave", "idle", "waves"),
    [
        pytest.param(0, 0, (1, 2, 6, 20), id="the canary wave once more"),
        pytest.param(0, 7, (8, 9, 13, 20), id="at who has something to write"),
        pytest.param(1, 0, (1, 5, 9, 20), id="the second"),
        pytest.param(1, 13, (1, 18, 20), id="near the end"),
        pytest.param(0, 19, (20,), id="nobody has"),
        pytest.param(2, 0, (1, 5, 20), id="the last"),
    ],
)
def test_a_wave_that_wrote_nothing_does_not_make_the_next_larger(
    wave: int, idle: int, waves: tuple[int, ...]
) -> None:
    assert uncounted(msgspec.structs.replace(ROLLOUT, wave=wave), idle).waves == waves


def test_the_last_gate_ends_the_rollout() -> None:
    last = msgspec.structs.replace(ROLLOUT, wave=2)
    gate = judge_gate(
        last.wave, at_s=1.0, treated=["a"], control=[], failed=[], max_new_failure_share=0.0
    )
    assert after_gate(last, gate).state is RolloutState.DONE
