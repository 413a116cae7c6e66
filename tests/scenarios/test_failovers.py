"""Controllers that die: the next one ends in the same state, soon, and nothing is written twice."""

from __future__ import annotations

import random

import pytest

from tests.scenarios.crashes import Point
from tests.scenarios.failovers import COURSES, Ended, judge, points_of, reference_of, run
from tests.scenarios.relay import FAILOVERS
from tests.scenarios.relay import run as relay

SAMPLE = 12
"""Crash points per course."""
FIRST_WRITE_S = 15.0


@pytest.fixture(scope="module", params=list(COURSES))
def reference(request: pytest.FixtureRequest) -> Ended:
    return reference_of(request.param)


def test_a_course_without_a_crash_is_as_declared_in_the_end(reference: Ended) -> None:
    assert reference.violations == []
    assert {"send", "write", "replace Lease", "replace StateShard"} <= set(reference.effects)


@pytest.mark.slow
def test_wherever_a_controller_dies_the_next_one_ends_in_the_same_state(reference: Ended) -> None:
    chance = random.Random(reference.course)
    writes = [n for n, what in enumerate(reference.effects, 1) if what == "write"]
    chosen = [Point(n, after) for n in chance.sample(writes, 2) for after in (False, True)]
    chosen += chance.sample(points_of(reference), SAMPLE - len(chosen))
    wrong = {point: judge(run(reference.course, point), reference) for point in chosen}
    assert {point: why for point, why in wrong.items() if why is not None} == {}


@pytest.mark.slow
def test_the_next_leader_acts_within_fifteen_seconds_and_nothing_is_written_twice() -> None:
    done = relay(0)
    assert done.violations == []
    assert done.failovers == FAILOVERS
    assert done.writes == done.mended == FAILOVERS
    assert max(done.wrote_s) <= FIRST_WRITE_S
