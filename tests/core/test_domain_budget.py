"""One budget for all writers: room in every domain, rounded down, one kept for remediation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.domain_budget import (
    PLANNED,
    UNASKED,
    Books,
    Cause,
    Domain,
    DomainKind,
    books_of,
    given_back,
    no_power_for,
    refusal,
    taken,
)
from control_plane.core.power import Loads
from tests.core.builders import device, site


def nodes(first: int, count: int) -> frozenset[str]:
    return frozenset(f"n{number:03}" for number in range(first, first + count))


def domain(kind: DomainKind, members: int, **more: int) -> Domain:
    return Domain(id=str(kind), kind=kind, members=nodes(0, members), **more)


@pytest.mark.parametrize(
    ("kind", "members", "allowed"),
    [
        (DomainKind.RACK, 1, 0),
        (DomainKind.RACK, 2, 1),
        (DomainKind.RACK, 8, 1),
        (DomainKind.RACK, 19, 1),
        (DomainKind.RACK, 20, 2),
        (DomainKind.FEED, 30, 3),
        (DomainKind.CLIQUE, 18, 1),
        (DomainKind.CLUSTER, 1, 0),
        (DomainKind.CLUSTER, 39, 1),
        (DomainKind.CLUSTER, 512, 25),
        (DomainKind.SITE, 512, 25),
        (DomainKind.CONTROL_PLANE, 1, 0),
        (DomainKind.CONTROL_PLANE, 2, 0),
        (DomainKind.CONTROL_PLANE, 3, 1),
        (DomainKind.CONTROL_PLANE, 7, 1),
    ],
)
def test_a_share_is_rounded_down_and_one_only_where_another_stands_in(
    kind: DomainKind, members: int, allowed: int
) -> None:
    """Asked as callers ask: so many nodes are let through, and not one more."""
    books, through = books_of([domain(kind, members)]), 0
    for node in sorted(nodes(0, members)):
        if refusal(books=books, node=node, cause=Cause.REMEDIATION) is None:
            books, through = taken(books=books, node=node, cause=Cause.REMEDIATION), through + 1
    assert through == allowed


def test_a_site_may_declare_less_than_its_share_and_never_more() -> None:
    assert domain(DomainKind.CLUSTER, 512, max_down=2).allowance == 2
    assert domain(DomainKind.CLUSTER, 512, max_down=100).allowance == 25


def hall() -> Books:
    """Two racks of eight on one feed, in a cluster of forty."""
    return books_of(
        [
            Domain(id="r1", kind=DomainKind.RACK, members=nodes(0, 8)),
            Domain(id="r2", kind=DomainKind.RACK, members=nodes(8, 8)),
            Domain(id="pdu", kind=DomainKind.FEED, members=nodes(0, 16)),
            Domain(id="cluster", kind=DomainKind.CLUSTER, members=nodes(0, 40)),
        ]
    )


def test_the_domain_with_least_room_decides_and_is_named() -> None:
    books = taken(books=hall(), node="n000", cause=Cause.PERSON)
    found = refusal(books=books, node="n008", cause=Cause.REMEDIATION)
    assert found is not None
    assert (found.domain, found.down, found.allowed) == ("pdu", 1, 1)
    assert found.detail == "1 of 16 nodes of feed pdu are down, 1 may be"
    assert refusal(books=books, node="n020", cause=Cause.REMEDIATION) is None


@pytest.mark.parametrize("cause", sorted(Cause))
def test_whatever_took_a_node_down_counts_for_everybody(cause: Cause) -> None:
    books = taken(books=hall(), node="n000", cause=cause)
    for asked in sorted(set(Cause) - UNASKED):
        assert refusal(books=books, node="n001", cause=asked) is not None
    assert refusal(books=given_back(books=books, node="n000", cause=cause), node="n001",
                   cause=Cause.REMEDIATION) is None  # fmt: skip


def test_a_node_is_counted_once_and_until_its_last_cause_is_gone() -> None:
    books = taken(books=hall(), node="n000", cause=Cause.FAULT)
    books = taken(books=books, node="n000", cause=Cause.REMEDIATION)
    assert books.down_in("r1") == 1
    books = given_back(books=books, node="n000", cause=Cause.FAULT)
    assert books.down_in("r1") == 1
    assert given_back(books=books, node="n000", cause=Cause.REMEDIATION).down == {}


def test_a_node_that_nobody_vouches_for_counts_for_others_and_is_not_free_itself() -> None:
    books = taken(books=hall(), node="n000", cause=Cause.UNKNOWN)
    assert refusal(books=books, node="n001", cause=Cause.REMEDIATION) is not None
    # By itself it fits, and not beside another one.
    assert refusal(books=books, node="n000", cause=Cause.REMEDIATION) is None
    books = taken(books=books, node="n001", cause=Cause.PERSON)
    assert refusal(books=books, node="n000", cause=Cause.REMEDIATION) is not None


def test_a_node_that_is_down_already_costs_nothing_more() -> None:
    books = taken(books=hall(), node="n000", cause=Cause.FAULT)
    assert refusal(books=books, node="n000", cause=Cause.REMEDIATION) is None


def test_planned_work_does_not_get_the_last_node_of_a_budget() -> None:
    books = books_of([domain(DomainKind.CLUSTER, 60)])
    books = taken(books=books, node="n000", cause=Cause.FIRMWARE)
    for node in ("n001", "n002"):
        assert refusal(books=books, node=node, cause=Cause.REMEDIATION) is None
        if refusal(books=books, node=node, cause=Cause.DRIVER_UPGRADE) is None:
            books = taken(books=books, node=node, cause=Cause.DRIVER_UPGRADE)
    found = refusal(books=books, node="n003", cause=Cause.CURTAILMENT)
    assert found is not None
    assert found.detail.endswith("3 may be, and one is kept for remediation")


def test_where_one_is_all_there_is_planned_work_waits_for_remediation_that_waits() -> None:
    books = hall()
    assert refusal(books=books, node="n001", cause=Cause.FIRMWARE) is None
    waits = Books(domains=books.domains, of=books.of, waiting=frozenset({"n002"}))
    assert refusal(books=waits, node="n001", cause=Cause.FIRMWARE) is not None
    assert refusal(books=waits, node="n002", cause=Cause.REMEDIATION) is None
    assert taken(books=waits, node="n002", cause=Cause.REMEDIATION).waiting == frozenset()


def test_a_node_of_no_domain_is_not_taken() -> None:
    found = refusal(books=hall(), node="stranger", cause=Cause.REMEDIATION)
    assert found is not None
    assert "no failure domain" in found.detail


def test_a_rack_of_one_says_who_may() -> None:
    books = books_of([domain(DomainKind.RACK, 1)])
    found = refusal(books=books, node="n000", cause=Cause.REMEDIATION)
    assert found is not None
    assert "a person allows it" in found.detail


def test_coming_back_needs_watts_and_nothing_else() -> None:
    one = device("n000")
    loads = Loads(site((one,), pdu_kw=10.0))
    assert no_power_for(loads=loads, node="n000", feed="pdu", target_w=9_000.0) is None
    loads.count("other", "pdu", 5_000.0)
    assert no_power_for(loads=loads, node="n000", feed="pdu", target_w=9_000.0) == "pdu"
    loads.count("n000", "pdu", 9_000.0)
    assert no_power_for(loads=loads, node="n000", feed="pdu", target_w=9_000.0) is None


WISHES = st.lists(st.tuples(st.integers(0, 39), st.sampled_from(sorted(Cause))), max_size=60)


@given(wishes=WISHES)
def test_no_order_of_askers_takes_a_domain_over_its_allowance(
    wishes: list[tuple[int, Cause]],
) -> None:
    """Only what nobody can refuse takes it further."""
    books, unasked = hall(), set()
    for number, cause in wishes:
        node = f"n{number:03}"
        if cause in UNASKED:
            unasked.add(node)
        elif refusal(books=books, node=node, cause=cause) is not None:
            continue
        else:
            before = books
            books = taken(books=books, node=node, cause=cause)
            for name in books.of[node]:
                grew = books.down_in(name) > before.down_in(name)
                most = books.domains[name].allowance - (
                    cause in PLANNED and books.domains[name].allowance > 1
                )
                assert not grew or books.down_in(name) <= most
            continue
        books = taken(books=books, node=node, cause=cause)
    for name, one in books.domains.items():
        assert books.down_in(name) <= max(one.allowance, len(unasked & one.members) + one.allowance)
