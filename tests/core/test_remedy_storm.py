"""A PDU that trips is one incident; it lasts until most of its nodes are well again."""

from __future__ import annotations

from control_plane.core.correlate import Incident
from control_plane.core.remedy_storm import incidents_after

# Four racks of eight on two PDUs.
PATHS = {
    f"{rack}-{n}": (rack, pdu, "hall")
    for rack, pdu in (("r1", "p1"), ("r2", "p1"), ("r3", "p2"), ("r4", "p2"))
    for n in range(8)
}
POPULATION = {"r1": 8, "r2": 8, "r3": 8, "r4": 8, "p1": 16, "p2": 16, "hall": 32}
NOW_S = 1_000.0


def lost(*racks: str, count: int = 8, at_s: float = NOW_S - 10.0) -> dict[str, float]:
    return {f"{rack}-{n}": at_s for rack in racks for n in range(count)}


def places(troubled: dict[str, float], now_s: float = NOW_S) -> list[str]:
    found = incidents_after((), unwell=troubled, paths=PATHS, population=POPULATION, now_s=now_s)
    return [one.node for one in found]


def test_it_is_folded_to_the_lowest_place_that_explains_it() -> None:
    assert places(lost("r1")) == ["r1"]
    assert places(lost("r1", "r2")) == ["p1"]
    assert places(lost("r1", "r2", "r3", "r4")) == ["hall"]


def test_half_a_rack_is_enough_and_two_nodes_are_chance() -> None:
    assert places(lost("r1", count=4)) == ["r1"]
    assert places(lost("r1", count=3)) == []
    assert places(lost("r1", count=2)) == []


def test_single_faults_beside_it_stay_single() -> None:
    assert places(lost("r1") | {"r3-0": NOW_S}) == ["r1"]


def test_half_of_a_hall_is_the_hall_and_less_are_two() -> None:
    assert places(lost("r1") | lost("r4")) == ["hall"]
    assert places(lost("r1", count=7) | lost("r4", count=7)) == ["r1", "r4"]


def test_who_was_away_while_it_happened_finds_the_same() -> None:
    assert places(lost("r1", at_s=NOW_S - 5_000.0) | {"r3-0": NOW_S}) == ["r1"]


def test_what_was_lost_one_by_one_is_no_incident() -> None:
    assert places({f"r1-{n}": NOW_S - 100.0 * n for n in range(8)}) == []


def test_it_lasts_while_half_of_them_are_unwell_and_no_longer() -> None:
    first = incidents_after((), unwell=lost("r1"), paths=PATHS, population=POPULATION, now_s=NOW_S)

    def later(count: int) -> list[str]:
        troubled = lost("r1", count=count)
        return [
            one.id
            for one in incidents_after(
                first, unwell=troubled, paths=PATHS, population=POPULATION, now_s=NOW_S + 3_600.0
            )
        ]

    assert later(8) == later(4) == ["r1-1000"]
    assert later(3) == later(0) == []


def test_who_is_in_somebodys_hands_begins_none_and_ends_none() -> None:
    def after(first: tuple[Incident, ...], *hands: str) -> list[str]:
        got = incidents_after(
            first,
            unwell=lost("r1"),
            on_purpose=hands,
            paths=PATHS,
            population=POPULATION,
            now_s=NOW_S,
        )
        return [one.node for one in got]

    nodes = sorted(lost("r1"))
    first = incidents_after((), unwell=lost("r1"), paths=PATHS, population=POPULATION, now_s=NOW_S)
    assert after((), *nodes[:5]) == []
    assert after(first, *nodes) == ["r1"]
