"""The firmware part of a campaign: every moment of a flash at which a pod or a machine can die."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.scenarios.crashes import Point
from tests.scenarios.flashes import COURSES, Course, Ended, judge, points_of, run

Spread = Callable[[str, Callable[[Any], Any], list[Any]], list[Any]]
"""(what, work, items) → what came of each, in several processes."""


class Flashes(NamedTuple):
    """What was found."""

    references: dict[Course, Ended]
    ends: dict[tuple[Course, Point], Ended]
    wall_s: float


def flash(job: tuple[Course, Point]) -> Ended:
    """How a flash ends where something dies at a point."""
    return run(*job)


def campaign(spread: Spread, *, every: int) -> Flashes:
    """Each so-manieth point of each course."""
    references = {course: run(course, Point(0)) for course in COURSES}
    where = [
        (course, point)
        for course, reference in references.items()
        for point in points_of(reference)[::every]
    ]
    began = time.monotonic()
    ends = spread("points of a flash", flash, where)
    return Flashes(references, dict(zip(where, ends, strict=True)), time.monotonic() - began)


def wrong(result: Flashes) -> list[str]:
    """What must not have been found."""
    return [
        f"{course.family}, a {course.dies} dies at {point.number}, after={point.after}: {why}"
        for (course, point), ended in result.ends.items()
        if (why := judge(ended)) is not None
    ]


def lines(result: Flashes) -> list[str]:
    """For the page."""
    table = [
        "| family | dies | points | done | quarantined, named | not begun, named | second images | wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for course in result.references:
        ends = [ended for (of, _), ended in result.ends.items() if of == course]
        steps = Counter(ended.step for ended in ends)
        second = sum(ended.flashed > 1 for ended in ends)
        bad = sum(judge(ended) is not None for ended in ends)
        table.append(
            f"| {course.family} | {course.dies} | {len(ends):,} | {steps['done']:,} | "
            f"{steps['quarantined']:,} | {steps['pending']:,} | {second} | {bad} |"
        )
    return [*table, "", f"Wall seconds of these: {result.wall_s:,.0f}."]
