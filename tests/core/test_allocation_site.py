"""A declared site as the allocator reads it, and what it says of one device."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.allocation import allocate
from control_plane.core.allocation_input import Participation, Terms, devices_of, load_at
from control_plane.core.allocation_reason import Limit, explain
from control_plane.core.allocation_site import site_loads, site_tree
from control_plane.core.contingency import flows_w, overloads, single_losses
from control_plane.core.fleet import Contingency, DeviceKind, FeedNode, Site, SlotState
from control_plane.core.ladder import Economics
from tests.core.builders import TYPE, device, settings, site

PRICES = Economics(hashprice_usd_per_ph_day=45.0, energy_usd_per_mwh=55.0)
RUNS = settings()


def with_nodes(one: Site, **nodes: Any) -> Site:
    changed = {
        name: msgspec.structs.replace(one.feeds[name], **what) for name, what in nodes.items()
    }
    return msgspec.structs.replace(one, feeds={**one.feeds, **changed})


def cap(one: Site, node: str, **what: dict[str, float]) -> float:
    tree, _ = site_tree(one, **what)
    return float(tree.cap_w[tree.ids.index(node)])


def test_caps_are_net_of_unmanaged_load_guard_and_bias() -> None:
    plain = with_nodes(
        site((device(),), utility_kw=100.0, pdu_kw=50.0), pdu={"unmanaged_w": 2_000.0}
    )
    assert cap(plain, "pdu") == 48_000
    assert cap(plain, "grid") == 98_000, "fans of a node are load of all nodes above it"
    assert cap(plain, "pdu", guard={"pdu": 0.02}) == 47_000
    assert cap(plain, "pdu", bias={"pdu": 0.04}) == pytest.approx(48_000 / 1.04)
    assert cap(plain, "pdu", bias={"pdu": 0.5}) == pytest.approx(48_000 / 1.15), "clamped"


def test_a_lower_bound_is_net_of_what_the_node_draws_anyway() -> None:
    plain = with_nodes(site((device(),)), pdu={"unmanaged_w": 2_000.0})
    tree, _ = site_tree(plain, lower_w={"pdu": 9_000.0})
    assert tree.lower_w[tree.ids.index("pdu")] == 7_000
    assert tree.lower_w[tree.ids.index("grid")] == 0


def test_a_pair_makes_a_joint_for_either_side() -> None:
    sides = {"pdu": {"pair": "pdu2"}, "pdu2": {"pair": "pdu", "unmanaged_w": 1_000.0}}
    paired = with_nodes(site((device(),), pdu_kw=50.0), **sides)
    tree, joints = site_tree(paired)
    names = [([tree.ids[n] for n in j.lost], tree.ids[j.onto], j.limit_w) for j in joints]
    assert names == [(["pdu"], "pdu2", 49_000.0), (["pdu2"], "pdu", 49_000.0)]
    paired = with_nodes(paired, pdu={"pair": "pdu2", "emergency_w": 60_000.0})
    assert site_tree(paired)[1][1].limit_w == 59_000


def test_what_a_transformer_loses_comes_together_at_the_other_one() -> None:
    plain = site((device(),))
    node = plain.feeds["pdu"]

    def under(name: str, parent: str, pair: str | None, kw: float) -> FeedNode:
        changes = {"id": name, "parent": parent, "pair": pair, "rating_w": kw * 1e3}
        return msgspec.structs.replace(node, **changes)

    below = [
        under("t1", "grid", None, 100.0),
        under("t2", "grid", None, 110.0),
        under("1a", "t1", "1b", 50.0),
        under("1b", "t2", "1a", 50.0),
        under("2a", "t1", "2b", 50.0),
        under("2b", "t2", "2a", 50.0),
    ]
    feeds = {"grid": plain.feeds["grid"], **{one.id: one for one in below}}
    two = msgspec.structs.replace(plain, feeds=feeds)
    tree, joints = site_tree(two)
    found = {tuple(tree.ids[n] for n in (j.onto, *j.lost)): j.limit_w for j in joints}
    assert found["t2", "1a", "2a"] == 110_000
    assert found["t2", "1a"] == 110_000
    assert found["1b", "1a"] == 50_000
    assert not [key for key in found if key[0] == "grid"], "it has both before and after"
    named = Contingency(name="fire", lost=("1a", "2b"))
    _, more = site_tree(msgspec.structs.replace(two, contingencies=(named,)))
    # Each transformer loses a side and gets one: what it loses is not counted on.
    assert len(more) == len(joints)


@given(watts=st.lists(st.integers(0, 60_000), min_size=4, max_size=4))
def test_joints_refuse_whatever_would_overload_after_a_loss(watts: list[int]) -> None:
    """Beside `core.contingency`, which works out what each node carries after it."""
    plain = site((device(),))
    node = plain.feeds["pdu"]
    pairs = {"1a": ("t1", "1b"), "2a": ("t1", "2b"), "1b": ("t2", "1a"), "2b": ("t2", "2a")}
    feeds = {"grid": plain.feeds["grid"]}
    for name, (parent, pair) in {"t1": ("grid", None), "t2": ("grid", None), **pairs}.items():
        rating_w = 70_000.0 if pair else 120_000.0
        changes = {"id": name, "parent": parent, "pair": pair, "rating_w": rating_w}
        feeds[name] = msgspec.structs.replace(node, unmanaged_w=500.0, **changes)
    two = msgspec.structs.replace(plain, feeds=feeds)
    tree, joints = site_tree(two)
    declared = dict(zip(pairs, map(float, watts), strict=True))
    load_w = load_at(tree, np.array([tree.ids.index(n) for n in pairs]), np.array(watts, float))
    is_over = any(load_w[joint.nodes].sum() > joint.limit_w + 0.5 for joint in joints)
    flows = flows_w(feeds, declared)
    found = overloads(feeds, flows, single_losses(feeds), slack_w=0.5)
    assert is_over == bool(found)


@pytest.mark.parametrize(
    ("what", "known", "watts"),
    [
        ({}, RUNS, None),
        ({}, None, 3_500.0),
        ({"state": SlotState.OUT_OF_SERVICE}, RUNS, 3_500.0),
        ({"state": SlotState.VACANT}, None, 0.0),
        ({"type": msgspec.structs.replace(TYPE, kind=DeviceKind.GPU_NODE)}, RUNS, 3_500.0),
    ],
)
def test_what_is_not_ours_to_choose_is_fixed_at_what_it_counts_at(
    what: dict[str, Any], known: object, watts: float | None
) -> None:
    one = site((device(**what),))
    tree, _ = site_tree(one)
    loads = site_loads(one, tree, {"d1": known} if known else {})  # type: ignore[dict-item]
    assert loads[-1].standing_w == (30.0 if watts is None else watts)
    assert bool(loads[-1].hull) == (watts is None)


@pytest.mark.parametrize("participation", [Participation.PROTECTED, Participation.LOCKED])
def test_an_owner_who_gives_nothing_keeps_the_draw_and_the_hash(
    participation: Participation,
) -> None:
    one = site((device(),))
    tree, _ = site_tree(one)
    terms = {"own": Terms(participation=participation)}
    (load,) = [x for x in site_loads(one, tree, {"d1": RUNS}, terms=terms) if x.asset == "d1"]
    assert (load.standing_w, load.standing_ths, load.hull) == (3_500.0, 200.0, ())
    assert site_loads(one, tree, {"d1": RUNS}, fixed={"d1"})[-1] == load


@pytest.mark.parametrize(
    ("runs", "current"),
    [
        (settings(mining=False), 0),
        (settings(power_mode="low"), 1),
        (settings(), 2),
        (settings(power_mode="high"), 3),
        (settings(power_limit_w=3_000), 1),
    ],
)
def test_what_runs_now_is_known_by_its_settings(runs: object, current: int) -> None:
    one = site((device(),))
    tree, _ = site_tree(one)
    assert site_loads(one, tree, {"d1": runs})[-1].current == current  # type: ignore[dict-item]


def test_each_device_is_told_why() -> None:
    two = (device("a"), device("b"), device("c", feed="pdu2"), device("d", state=SlotState.VACANT))
    one = site(two, utility_kw=100.0, pdu_kw=6.0)
    tree, joints = site_tree(one)
    devices = devices_of(site_loads(one, tree, {"a": RUNS, "b": RUNS, "c": RUNS}))
    ours = allocate(tree, devices, PRICES, joints=joints)
    full = explain(tree, devices, ours, "b")
    assert (full.limit, full.node, full.watts, full.is_contingency) == (
        Limit.NODE,
        "pdu",
        2_400.0,
        False,
    )
    # The next step: 50 TH/s more for 1,100 W, hash less energy, by the megawatt-hour.
    assert full.node_usd_per_mwh == pytest.approx((50 * 45 / 24_000 - 1_100 * 55 / 1e6) / 1.1e-3)
    assert full.running_j_per_th == pytest.approx(2_370 / 150)
    assert full.next_j_per_th == pytest.approx(22.0)
    assert explain(tree, devices, ours, "c").limit is Limit.TOP
    assert explain(tree, devices, ours, "d").limit is Limit.FIXED
    dear = Economics(hashprice_usd_per_ph_day=45.0, energy_usd_per_mwh=90.0)
    asleep = explain(tree, devices, allocate(tree, devices, dear), "c")
    assert (asleep.limit, asleep.watts, asleep.hashrate_ths) == (Limit.PRICE, 2_400.0, 150.0)
    capped = allocate(tree, devices, PRICES, contingencies=[np.full(len(tree.ids), 5_000.0)])
    assert explain(tree, devices, capped, "c").is_contingency
    with pytest.raises(ValueError, match="nobody"):
        explain(tree, devices, ours, "nobody")
