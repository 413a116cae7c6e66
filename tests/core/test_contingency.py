"""What the other side carries after a loss, by hand and by a second way to reckon it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.contingency import carried_w, flows_w, overloads, path, single_losses
from control_plane.core.fleet import Contingency, FeedKind, FeedNode
from tests.core.builders import HERE


def feed(
    name: str,
    parent: str | None = None,
    *,
    rating_w: float = 1000.0,
    pair: str | None = None,
    emergency_w: float | None = None,
    derate: float = 1.0,
    unmanaged_w: float = 0.0,
) -> FeedNode:
    return FeedNode(
        id=name, kind=FeedKind.PDU, parent=parent, rating_w=rating_w, derate=derate,
        unmanaged_w=unmanaged_w, pair=pair, emergency_w=emergency_w, where=HERE,
    )  # fmt: skip


def tree(*nodes: FeedNode) -> dict[str, FeedNode]:
    return {node.id: node for node in nodes}


TWO_LANES = tree(
    feed("grid", rating_w=4000),
    feed("t1", "grid"),
    feed("t2", "grid"),
    feed("a", "t1", pair="b", rating_w=600),
    feed("b", "t2", pair="a", rating_w=600),
    feed("m", "t1"),
)
DRAWN_W = {"a": 300.0, "b": 300.0, "m": 500.0}


@pytest.mark.parametrize(
    ("lost", "carried"),
    [
        # What hung on the side that is lost hangs on the other, and on all above it.
        ("a", {"grid": 1100, "t1": 500, "t2": 600, "b": 600, "m": 500}),
        ("b", {"grid": 1100, "t1": 1100, "t2": 0, "a": 600, "m": 500}),
        # Above a side: what has no other side is dark, and carried by nobody.
        ("t1", {"grid": 600, "t2": 600, "b": 600}),
        ("m", {"grid": 600, "t1": 300, "t2": 300, "a": 300, "b": 300}),
        ("grid", {}),
    ],
)
def test_after_a_loss(lost: str, carried: Mapping[str, float]) -> None:
    flows = flows_w(TWO_LANES, DRAWN_W)
    assert carried_w(TWO_LANES, flows, Contingency(name="x", lost=(lost,))) == carried


def test_the_losses_that_pairs_make_are_the_sides_and_what_is_above_one_of_them_alone() -> None:
    assert [one.lost for one in single_losses(TWO_LANES)] == [("a",), ("b",), ("t1",), ("t2",)]


def test_two_lanes_that_are_lost_together_move_nothing() -> None:
    flows = flows_w(TWO_LANES, DRAWN_W)
    both = Contingency(name="bus", lost=("a", "b"))
    assert carried_w(TWO_LANES, flows, both) == {"grid": 500, "t1": 500, "t2": 0, "m": 500}


def test_what_is_within_the_emergency_rating_is_no_overload() -> None:
    feeds = tree(
        feed("grid"),
        feed("a", "grid", pair="b", rating_w=400),
        feed("b", "grid", pair="a", rating_w=400, emergency_w=600),
    )
    flows = flows_w(feeds, {"a": 300.0, "b": 300.0})
    found = overloads(feeds, flows, single_losses(feeds), slack_w=0.5)
    assert [(o.node, o.carried_w, o.bears_w, o.contingency.lost) for o in found] == [
        ("a", 600.0, 400.0, ("b",))
    ]


def test_a_node_above_the_other_side_is_held_too() -> None:
    feeds = tree(
        feed("grid", rating_w=5000),
        feed("t1", "grid"),
        feed("t2", "grid", rating_w=700),
        feed("a", "t1", pair="b"),
        feed("b", "t2", pair="a"),
    )
    flows = flows_w(feeds, {"a": 500.0, "b": 400.0})
    found = overloads(feeds, flows, single_losses(feeds), slack_w=0.5)
    assert [(o.node, o.carried_w) for o in found] == [("t2", 900.0)]


def test_a_pair_within_a_pair_moves_once() -> None:
    feeds = tree(
        feed("grid", rating_w=5000),
        feed("a", "grid", pair="b"),
        feed("b", "grid", pair="a"),
        feed("a1", "a", pair="b1"),
        feed("b1", "b", pair="a1"),
    )
    flows = flows_w(feeds, {"a1": 100.0, "b1": 50.0})
    after = carried_w(feeds, flows, Contingency(name="x", lost=("a",)))
    assert after == {"grid": 150.0, "b": 150.0, "b1": 50.0}


def test_no_cap_trims_fans() -> None:
    feeds = tree(
        feed("grid", rating_w=9000),
        feed("pad", "grid", rating_w=500, derate=0.8),
        feed("box", "pad", rating_w=900, unmanaged_w=450),
    )
    assert flows_w(feeds, {"box": 100.0}) == {"box": 550.0, "pad": 450.0, "grid": 450.0}


def test_what_is_over_subscribed_flows_as_far_as_its_cap() -> None:
    feeds = tree(
        feed("grid", rating_w=1000, derate=0.9, unmanaged_w=20),
        feed("pad", "grid", rating_w=500, derate=0.8, unmanaged_w=10),
    )
    assert flows_w(feeds, {"pad": 900.0, "grid": 700.0}) == {"pad": 400.0, "grid": 900.0}


@st.composite
def lanes(draw: st.DrawFn) -> tuple[dict[str, FeedNode], dict[str, float]]:
    """Two mirror trees under one root, whose leaves are paired, and watts on every leaf."""
    parents = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    nodes, watts = [feed("grid", rating_w=1e9)], {}
    for lane, other in (("a", "b"), ("b", "a")):
        names = [f"{lane}0"]
        nodes.append(feed(names[0], "grid", rating_w=1e9))
        inner = {min(p, i) for i, p in enumerate(parents)}
        for i, p in enumerate(parents):
            name = f"{lane}{i + 1}"
            pair = f"{other}{i + 1}" if i + 1 not in inner else None
            nodes.append(feed(name, names[min(p, i)], rating_w=1e9, pair=pair))
            names.append(name)
            if pair:
                watts[name] = draw(st.integers(0, 900)) * 1.0
    return tree(*nodes), watts


@given(lanes(), st.data())
def test_nothing_is_lost_that_has_another_side(
    made: tuple[dict[str, FeedNode], dict[str, float]], data: st.DataObject
) -> None:
    feeds, watts = made
    lost = data.draw(st.sampled_from([name for name in feeds if name != "grid"]))
    after = carried_w(feeds, flows_w(feeds, watts), Contingency(name="x", lost=(lost,)))
    # The other way: move each leaf's watts first, then sum.
    dark = {n for n in feeds if any(above.id == lost for above in path(feeds, n))}
    moved: dict[str, float] = {}
    for leaf, w in watts.items():
        to = str(feeds[leaf].pair) if leaf in dark else leaf
        moved[to] = moved.get(to, 0.0) + w
    again = flows_w(feeds, moved)
    assert after == pytest.approx({n: again[n] for n in feeds if n not in dark})
    assert after["grid"] == pytest.approx(sum(watts.values()))
