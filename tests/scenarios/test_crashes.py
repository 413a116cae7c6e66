"""A process that dies at a side effect of an apply: the next one ends in the same state."""

from __future__ import annotations

import random

import pytest

from tests.scenarios.crashes import Outcome, Point, judge, points, run

SAMPLE = 30


@pytest.fixture(scope="module")
def reference() -> Outcome:
    return run(Point(0))


def test_the_apply_that_is_cut_short_writes_everything_once(reference: Outcome) -> None:
    assert reference.violations == []
    assert reference.writes == 10
    assert {"commit", "send", "write"} == set(reference.effects)


@pytest.mark.slow
def test_wherever_a_process_dies_the_next_one_ends_in_the_same_state(reference: Outcome) -> None:
    chance = random.Random(7)
    around = [n for n, what in enumerate(reference.effects, 1) if what == "write"]
    chosen = [Point(n, after) for n in chance.sample(around, 12) for after in (False, True)]
    chosen += chance.sample(points(reference), SAMPLE - len(chosen))
    wrong = {point: judge(run(point), reference) for point in chosen}
    assert {point: why for point, why in wrong.items() if why is not None} == {}
