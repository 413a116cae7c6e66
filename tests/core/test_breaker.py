"""Many nodes that want the same cure: a breaker trips, and only a person and time close it."""

from __future__ import annotations

import pytest

from control_plane.core import limits
from control_plane.core.breaker import Breaker, began, reset, threshold

HOUR = limits.BREAKER_WINDOW_S
COOL = limits.BREAKER_COOLDOWN_S


def after(*nodes: str, every_s: float = 60.0, members: int = 8) -> Breaker:
    breaker = Breaker(domain="r1")
    for number, node in enumerate(nodes):
        breaker = began(breaker, node=node, members=members, now_s=1_000.0 + number * every_s)
    return breaker


@pytest.mark.parametrize(
    ("members", "nodes"), [(1, 3), (8, 3), (30, 3), (39, 3), (40, 4), (512, 51)]
)
def test_a_tenth_of_a_domain_and_three_at_least(members: int, nodes: int) -> None:
    assert threshold(members=members) == nodes


def test_the_third_node_within_an_hour_trips_it() -> None:
    assert not after("a", "b").is_open(1_200.0)
    assert after("a", "b", "c").is_open(1_200.0)
    assert after("a", "b", "c").tripped_at_s == 1_120.0


def test_one_node_that_is_tried_often_is_one_node() -> None:
    assert not after("a", "a", "b", "a").is_open(2_000.0)


def test_nodes_of_different_hours_are_chance() -> None:
    assert not after("a", "b", "c", every_s=HOUR * 0.6).is_open(1e9)


def test_no_time_closes_it_without_a_person() -> None:
    assert after("a", "b", "c").is_open(1e12)


def test_a_person_closes_it_and_not_before_it_has_cooled_down() -> None:
    breaker = reset(after("a", "b", "c"), by="kim", now_s=1_200.0)
    assert breaker.is_open(1_120.0 + COOL - 1.0)
    assert not breaker.is_open(1_120.0 + COOL)


def test_a_word_from_before_it_tripped_is_none() -> None:
    breaker = reset(after("a", "b"), by="kim", now_s=1_100.0)
    for node in ("d", "e", "f"):
        breaker = began(breaker, node=node, members=8, now_s=1_200.0)
    assert breaker.is_open(1e9)


def test_what_began_before_the_reset_does_not_count_again() -> None:
    breaker = reset(after("a", "b", "c"), by="kim", now_s=1_200.0)
    now_s = 1_120.0 + COOL
    breaker = began(breaker, node="d", members=8, now_s=now_s)
    assert not breaker.is_open(now_s)
    for node in ("e", "f"):
        breaker = began(breaker, node=node, members=8, now_s=now_s + 1.0)
    assert breaker.is_open(1e9)
