"""A pod that dies in the middle of a flash, and a machine that loses its power there."""

from __future__ import annotations

import pytest

from tests.scenarios.crashes import Point
from tests.scenarios.flashes import COURSES, Course, Ended, judge, points_of, run

EVERY = 9


@pytest.mark.parametrize("course", COURSES, ids=lambda c: f"{c.family}-{c.dies}")
def test_no_machine_gets_a_second_image_and_each_ends_with_a_word(course: Course) -> None:
    reference = run(course, Point(0))
    assert (reference.step, reference.flashed, reference.pods) == ("done", 1, 1)
    assert {"api", "send", "piece"} == set(reference.effects)
    around = [n for n, what in enumerate(reference.effects, 1) if what != "send"]
    chosen = {Point(n, after) for n in around for after in (False, True)}
    chosen |= set(points_of(reference)[::EVERY])
    wrong = {point: judge(run(course, point)) for point in chosen}
    assert {point: why for point, why in wrong.items() if why is not None} == {}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"flashed": 2}, "2 images"),
        ({"step": "verifying"}, "left verifying"),
        ({"runs": "old"}, "done, and it runs old"),
        ({"step": "quarantined", "detail": ""}, "without a word"),
        ({"step": "quarantined", "detail": "x", "was_cut": True}, "took the power away"),
        ({"step": "pending", "detail": "x", "flashed": 0}, "nobody began it"),
    ],
)
def test_what_must_not_happen_is_noticed(changes: dict[str, object], why: str) -> None:
    course = COURSES[0]
    good = {"step": "done", "flashed": 1, "pods": 1, "runs": "20991231.10.REL"}
    assert judge(Ended(course=course, **good)) is None  # type: ignore[arg-type]
    assert why in str(judge(Ended(course=course, **{**good, **changes})))  # type: ignore[arg-type]
