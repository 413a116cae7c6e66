"""The firmware part of a campaign: every moment of a flash at which a pod or a machine can die."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.kube.waves import lose_leader
from tests.scenarios.crashes import Point
from tests.scenarios.flashes import COURSES, Course, Ended, judge, points_of, run

Spread = Callable[[str, Callable[[Any], Any], list[Any]], list[Any]]
"""(what, work, items) → what came of each, in several processes."""


class Flashes(NamedTuple):
    """What was found."""

    leaders: dict[tuple[int, bool], str]
    """(write of a leader, whether it arrives) → what is wrong where it is cut off there; empty: nothing."""
    leader_writes: int
    references: dict[Course, Ended]
    ends: dict[tuple[Course, Point], Ended]
    wall_s: float


def lost_leader(job: tuple[int, bool]) -> str:
    """What is wrong where a leader is cut off at one of its writes; empty where nothing is."""
    at, arrives = job
    with tempfile.TemporaryDirectory(prefix="waves-") as folder:
        try:
            lose_leader(Path(folder), at=at, arrives=arrives)
        except AssertionError as error:
            return str(error).partition("\n")[0] or "another end"
    return ""


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
    with tempfile.TemporaryDirectory(prefix="waves-") as folder:
        writes = lose_leader(Path(folder), at=0, arrives=False)
    jobs = [(at, arrives) for at in range(1, writes + 1) for arrives in (False, True)][::every]
    leaders = spread("leaders of firmware waves", lost_leader, jobs)
    began = time.monotonic()
    ends = spread("points of a flash", flash, where)
    return Flashes(
        leaders=dict(zip(jobs, leaders, strict=True)),
        leader_writes=writes,
        references=references,
        ends=dict(zip(where, ends, strict=True)),
        wall_s=time.monotonic() - began,
    )


def wrong(result: Flashes) -> list[str]:
    """What must not have been found."""
    return [
        f"{course.family}, a {course.dies} dies at {point.number}, after={point.after}: {why}"
        for (course, point), ended in result.ends.items()
        if (why := judge(ended)) is not None
    ] + [
        f"a leader of firmware waves is cut off at write {at}, arrives={arrives}: {why}"
        for (at, arrives), why in result.leaders.items()
        if why
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
    bad = sum(bool(why) for why in result.leaders.values())
    leaders = (
        f"Leaders of two firmware waves that are cut off for good before or after one of their "
        f"{result.leader_writes:,} writes to the API server, another one takes over: {len(result.leaders):,} "
        f"points, {bad} with a second image, a machine left behind or an incident."
    )
    return [*table, "", leaders, "", f"Wall seconds of the flashes: {result.wall_s:,.0f}."]
