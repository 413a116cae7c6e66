"""The controllers' part of a campaign: crash points, and leaders that die one after another."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.scenarios.crashes import Point
from tests.scenarios.failovers import COURSES, Ended, judge, points_of, reference_of, run
from tests.scenarios.play import Report
from tests.scenarios.reign_ablations import ABLATIONS, Noticed, Reigning, try_reign
from tests.scenarios.reigns import play
from tests.scenarios.relay import FAILOVERS, Relay
from tests.scenarios.relay import run as relay

RELAYS = -(-1_000 // FAILOVERS)
"""Runs that make a thousand failovers."""
Spread = Callable[[str, Callable[[Any], Any], list[Any]], list[Any]]
"""(what, work, items) → what came of each, in several processes."""


class Controllers(NamedTuple):
    """What the controllers' part found."""

    references: dict[str, Ended]
    crashes: dict[tuple[str, Point], str | None]
    crashes_wall_s: float
    relays: list[Relay]
    reigns: list[Report]
    ablations: list[Noticed]


def crash(job: tuple[Ended, Point]) -> str | None:
    """What is wrong with how a course ends where a process dies at a point."""
    reference, point = job
    return judge(run(reference.course, point), reference)


def campaign(
    spread: Spread, *, every: int, relays: int, reigns: int, ablations: int
) -> Controllers:
    """Each so-manieth crash point, so many runs of failovers, so many seeds, so many ablations."""
    references = {course: reference_of(course) for course in COURSES}
    where = [
        (course, point)
        for course, reference in references.items()
        for point in points_of(reference)[::every]
    ]
    began = time.monotonic()
    found = spread(
        "crash points of controllers", crash, [(references[course], p) for course, p in where]
    )
    wall_s = time.monotonic() - began
    return Controllers(
        references=references,
        crashes=dict(zip(where, found, strict=True)),
        crashes_wall_s=wall_s,
        relays=spread("failovers", relay, list(range(relays))),
        reigns=spread("seeds of controllers", play, list(range(reigns))),
        ablations=spread(
            "ablations of controllers", try_reign, list(range(min(ablations, len(ABLATIONS))))
        ),
    )


def wrong(result: Controllers) -> list[str]:
    """What must not have been found."""
    found = [
        f"{course}: {r.violations[0]}" for course, r in result.references.items() if r.violations
    ]
    found += [
        f"{course}, crash at {p.number}, after={p.after}: {why}"
        for (course, p), why in result.crashes.items()
        if why
    ]
    found += [
        f"seed {r.seed} of controllers: {r.violations[0]}" for r in result.reigns if r.violations
    ]
    found += [
        f"ablation '{noticed.name}': {noticed.violation or 'nobody noticed'}"
        for cut, noticed in zip(ABLATIONS, result.ablations, strict=False)
        if (noticed.seed is None) == bool(cut.rules)
    ]
    return found + [f"relay {r.seed}: {r.violations[0]}" for r in result.relays if r.violations]


def rows(result: Controllers) -> dict[str, object]:
    """For the page."""
    counts: Counter[str] = Counter()
    for reference in result.references.values():
        counts.update("API" if " " in effect else effect for effect in reference.effects)
    everywhere = 2 * sum(counts.values())
    points = (
        f"{len(result.crashes):,} of {everywhere:,}: before and after {counts['API']:,} writes to the "
        f"API server, {counts['send']:,} reads and {counts['write']:,} writes of devices"
    )
    looked = sorted(s for r in result.relays for s in r.looked_s)
    wrote = sorted(s for r in result.relays for s in r.wrote_s)
    return {
        "crash points": points,
        "wall seconds of these": f"{result.crashes_wall_s:,.0f}",
        "crash points with another end": sum(1 for why in result.crashes.values() if why),
        "failovers": f"{sum(r.failovers for r in result.relays):,}",
        "runs of these with a violation": sum(1 for r in result.relays if r.violations),
        "machines robbed at that moment, and writes that mended them": (
            f"{sum(r.mended for r in result.relays):,}, {sum(r.writes for r in result.relays):,}"
        ),
        "death of a leader to the first look of the next": _spread_of(looked),
        "the same to its first write, where the old one had not made it": _spread_of(wrote),
        "seeds": f"{len(result.reigns):,}",
        "seeds with a violation": sum(1 for r in result.reigns if r.violations),
        "events checked in them": f"{sum(r.events for r in result.reigns):,}",
        "writes that arrived in them": f"{sum(r.writes for r in result.reigns):,}",
        "processes started in them": f"{sum(r.starts for r in result.reigns):,}",
    }


def lines(result: Controllers) -> list[str]:
    """What was found in seeds, and what notices a safeguard that is missing."""
    found = [f"- seed {r.seed}: {r.violations[0][:60]} …" for r in result.reigns if r.violations]
    table = [
        f"| {noticed.name} | {'–' if noticed.seed is None else noticed.seed} | {_told(cut, noticed)} |"
        for cut, noticed in zip(ABLATIONS, result.ablations, strict=False)
    ]
    return ["", *found, "", "| safeguard | seed | noticed as |", "|---|---|---|", *table]


def _told(cut: Reigning, noticed: Noticed) -> str:
    if noticed.seed is not None:
        return noticed.violation.partition(" ")[2].partition(":")[0]
    return "**nobody noticed**" if cut.rules else "nobody can while the other layers stand"


def _spread_of(values: Sequence[float]) -> str:
    if not values:
        return "–"
    p50, p99 = values[len(values) // 2], values[int(len(values) * 0.99)]
    return f"{p50:.1f} s (p50), {p99:.1f} s (p99), {values[-1]:.1f} s (max)"
