"""How long a breaker bears too much."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.trip_curve import COOLS_S, DEFAULT, TripCurve, TripPoint

STEP = TripCurve(points=(TripPoint(load=1.25, seconds=100.0), TripPoint(load=2.0, seconds=10.0)))


@pytest.mark.parametrize(
    ("load", "seconds"),
    [
        (0.5, math.inf),
        (1.0, math.inf),
        (1.01, 100.0),
        (1.25, 100.0),
        (math.sqrt(1.25 * 2.0), math.sqrt(1000.0)),  # half way on both logarithms
        (2.0, 10.0),
        (4.0, 2.5),  # beyond the curve: by the square of the current
    ],
)
def test_time_to_the_earliest_trip(load: float, seconds: float) -> None:
    assert STEP.seconds(load) == pytest.approx(seconds)


def test_two_short_overloads_with_a_short_pause_are_nearly_one_long_one() -> None:
    used = STEP.add(0.0, 2.0, 6.0)
    used = STEP.add(used, 0.9, 30.0)
    assert used == pytest.approx(0.6 - 30.0 / COOLS_S)
    assert STEP.left_s(used, 2.0) == pytest.approx(10.0 * (0.4 + 30.0 / COOLS_S))
    assert STEP.left_s(STEP.add(used, 2.0, 6.0), 2.0) == 0.0


def test_a_breaker_is_cold_again_after_a_while_and_not_colder() -> None:
    assert STEP.add(0.9, 0.5, COOLS_S) == 0.0
    assert STEP.left_s(0.9, 0.9) == math.inf


@given(st.floats(1.0001, 20.0), st.floats(1.0001, 20.0))
def test_more_load_is_never_borne_for_longer(one: float, other: float) -> None:
    low, high = sorted((one, other))
    for curve in (STEP, DEFAULT):
        assert curve.seconds(high) <= curve.seconds(low)


@given(st.floats(0.0, 3.0), st.floats(0.0, 100.0), st.floats(0.0, 100.0))
def test_how_time_is_cut_makes_no_difference(load: float, one: float, other: float) -> None:
    once = STEP.add(0.0, load, one + other)
    assert STEP.add(STEP.add(0.0, load, one), load, other) == pytest.approx(once)
