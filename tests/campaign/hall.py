"""The GPU part of a campaign: halls in which everything goes wrong, and safeguards switched off."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.scenarios.hall_ablations import ABLATIONS, HallAblation, HallNoticed, try_hall
from tests.scenarios.hall_play import HallReport, play_hall

HALLS = 1_000
Spread = Callable[[str, Callable[[Any], Any], list[Any]], list[Any]]
"""(what, work, items) → what came of each, in several processes."""


class Halls(NamedTuple):
    """What was found."""

    reports: list[HallReport]
    cpu_s: float
    ablations: list[HallNoticed]


def timed(seed: int) -> tuple[HallReport, float]:
    """A hall, and the CPU seconds that it took."""
    began = time.process_time()
    return play_hall(seed), time.process_time() - began


def campaign(spread: Spread, *, halls: int, ablations: int) -> Halls:
    """So many seeds, so many ablations."""
    played = spread("halls", timed, list(range(halls)))
    tried = list(range(min(ablations, len(ABLATIONS))))
    return Halls(
        reports=[report for report, _ in played],
        cpu_s=sum(cpu_s for _, cpu_s in played),
        ablations=spread("ablations of halls", try_hall, tried),
    )


def wrong(result: Halls) -> list[str]:
    """What must not have been found."""
    found = [
        f"hall {r.seed}: {r.violations[0]} (python -m tests.campaign --hall {r.seed})"
        for r in result.reports
        if r.violations
    ]
    return found + [
        f"ablation '{noticed.name}': {noticed.violation or 'nobody noticed'}"
        for cut, noticed in zip(ABLATIONS, result.ablations, strict=False)
        if (noticed.seed is None) == bool(cut.rules)
    ]


def lines(result: Halls) -> list[str]:
    """For the page."""
    reports = result.reports
    actions: Counter[str] = Counter()
    for report in reports:
        actions.update(report.actions)
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(actions.items()))
    rows = {
        "halls": f"{len(reports):,}, of {max((r.nodes for r in reports), default=0)} nodes each",
        "halls with a violation": sum(1 for r in reports if r.violations),
        "actions, each held against the rules": told,
        "incidents of many nodes": f"{sum(r.incidents for r in reports):,}",
        "repair tickets": f"{sum(r.tickets for r in reports):,}",
        "controller processes started": f"{sum(r.starts for r in reports):,}",
        "simulated hours": f"{sum(r.hours for r in reports):,.0f}",
        "CPU seconds per hall": f"{result.cpu_s / max(1, len(reports)):.2f}",
    }
    table = [f"| {name} | {value} |" for name, value in rows.items()]
    found = [f"- hall {r.seed}: {r.violations[0][:60]} …" for r in reports if r.violations]
    cuts = [
        f"| {noticed.name} | {'–' if noticed.seed is None else noticed.seed} | {_told(cut, noticed)} |"
        for cut, noticed in zip(ABLATIONS, result.ablations, strict=False)
    ]
    return [
        "| | |", "|---|---|", *table, "", *found, *([""] if found else []),
        "| safeguard | hall | noticed as |", "|---|---|---|", *cuts,
    ]  # fmt: skip


def _told(cut: HallAblation, noticed: HallNoticed) -> str:
    if noticed.seed is not None:
        return noticed.violation.partition(" ")[2].partition(":")[0]
    return "**nobody noticed**" if cut.rules else "nobody can while the other layers stand"
