"""Each safeguard of remediation switched off by itself: halls have to notice, or they prove nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from unittest import mock

from control_plane.core import domain_budget, limits, remedy_case, remedy_ladder, remedy_urgent
from control_plane.core import remedy as deciding
from control_plane.core import remedy_round as rounds
from control_plane.core.breaker import Breaker
from control_plane.core.remedy_case import NodeCase
from tests.scenarios import hall
from tests.scenarios.ablations import DEPTH_SEEDS, Cut, nothing
from tests.scenarios.hall_controller import Faults
from tests.scenarios.hall_play import play_hall

SEEDS = 100


class HallAblation(NamedTuple):
    """One safeguard, or several that guard the same, switched off."""

    name: str
    cuts: Callable[[], Iterable[Cut]]
    rules: frozenset[str]
    """The rules of the oracle of which one has to break; empty: nobody can notice while others stand."""
    faults: Faults = Faults()
    first: int = 0
    """The seed that it begins with: what is rare is looked for where it is known to be."""


class HallNoticed(NamedTuple):
    """How an ablation was noticed."""

    name: str
    seed: int | None
    """`None`: it was not."""
    violation: str


def without(*guards: str) -> list[Cut]:
    """The decision without some of its guards."""
    kept = tuple(ask for ask in deciding._IN_ORDER if ask.__name__ not in guards)
    return [(deciding, "_IN_ORDER", kept)]


def _always(*_: Any, **__: Any) -> bool:
    return True


def _drained_at_any_time(case: NodeCase, *, sources: int = 1) -> bool:
    """Without the question whether it was seen before the cordon."""
    said = [one for one in case.fresh if one.drained is not None]
    yes = {one.source for one in said if one.drained}
    return bool(case.cordons) and len(yes) >= sources and all(one.drained for one in said)


def _one_source_is_enough(case: NodeCase, want: Any) -> Any:
    said = [one.well for one in case.fresh if one.well is not None]
    return None if False in said else deciding._stay(case, remedy_case.Stay.ONE_SOURCE)


def _of_the_day(case: NodeCase) -> float:
    """From when attempts count where nobody knows of repairs."""
    return case.now_s - limits.REMEDY_WINDOW_S


def cut(
    name: str,
    cuts: Callable[[], Iterable[Cut]],
    *rules: str,
    faults: Faults | None = None,
    first: int = 0,
) -> HallAblation:
    """An entry of the table."""
    return HallAblation(name, cuts, frozenset(rules), faults or Faults(), first)


ABLATIONS: tuple[HallAblation, ...] = (
    cut("holds and freezes", lambda: without("_barred"), "hold"),
    cut("a person's cordon", lambda: without("_human"), "human"),
    cut("locks of firmware", lambda: without("_locked"), "lock"),
    cut("operations of others", lambda: without("_foreign"), "foreign"),
    cut("curtailment is no fault", lambda: without("_curtailed"), "curtailed"),
    cut("drained: evidence", lambda: [(deciding, "is_drained", _always)], "undrained"),
    cut(
        "drained: seen since the cordon",
        lambda: [(deciding, "is_drained", _drained_at_any_time)],
        "undrained",
    ),
    cut(
        "evidence is fresh",
        lambda: [(deciding, "is_fresh", _always), (remedy_case, "is_fresh", _always)],
        "stale",
        "undrained",
        "return",
    ),
    cut("power: two sources", lambda: [(deciding, "_power_evidence", _one_source_is_enough)], "power"),
    cut("power: evidence", lambda: [(deciding, "_power_evidence", nothing)], "power", "mass"),
    cut("grace", lambda: without("_after_a_try"), "grace"),
    cut("one at a time", lambda: without("_acting", "_after_a_try"), "overlap"),
    cut("tries of a rung", lambda: [(limits, "REMEDY_ATTEMPTS", 99)], "caps"),
    cut("tries of a day", lambda: [(limits, "REMEDY_PER_DAY", 99)], "caps"),
    cut("a person is asked", lambda: [(remedy_ladder, "_is_approved", _always)], "asks"),
    cut("budget: remediation", lambda: [(deciding, "refusal", nothing)], "budget"),
    cut("budget: planned work", lambda: [(domain_budget, "refusal", nothing)], "budget", "reserve"),
    cut(
        "budget: one is kept for remediation",
        lambda: [(domain_budget, "PLANNED", frozenset())],
        "reserve",
    ),
    cut("budget: counted within a round", list, "budget",
        faults=Faults(counts_within_a_round=False)),
    cut("budget: counted unless somebody vouches",
        lambda: [(rounds, "is_fresh", _always), (hall, "is_fresh", _always)],
        "budget", "reserve", first=750),
    cut("what was tried before a repair does not count",
        lambda: [(remedy_ladder, "counts_since", _of_the_day), (deciding, "counts_since", _of_the_day)],
        "liveness"),
    cut("breakers", lambda: [(Breaker, "is_open", lambda *_: False)], "breaker"),
    cut("incidents", lambda: [(rounds, "incidents_after", lambda *_, **__: ())], "mass"),
    cut("return gate", lambda: [(deciding, "_shut", nothing)], "return"),
    cut("emergencies name domains", lambda: [(remedy_urgent, "_covers", _always)], "emergency"),
    cut("attempts are kept before they leave", list, "caps", "grace", "overlap", "liveness",
        faults=Faults(keeps_journal=False)),
)  # fmt: skip


def try_hall(number: int, seeds: Iterable[int] | None = None) -> HallNoticed:
    """Play seeds without a safeguard until one of its rules breaks."""
    one = ABLATIONS[number]
    if seeds is None:
        seeds = range(one.first, one.first + (SEEDS if one.rules else DEPTH_SEEDS))
    with contextlib.ExitStack() as stack:
        for target, name, instead in one.cuts():
            stack.enter_context(mock.patch.object(target, name, instead))
        for seed in seeds:
            for violation in play_hall(seed, faults=one.faults).violations:
                if violation.partition(" ")[2].partition(":")[0] in one.rules:
                    return HallNoticed(one.name, seed, violation)
    return HallNoticed(one.name, None, "")
