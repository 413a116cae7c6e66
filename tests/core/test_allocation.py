"""The allocator beside its oracles: HiGHS, exhaustive search, and a site of 14,000 machines."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.oracle import optimum
from bench.power_site import site
from control_plane.core.allocation import CapExceeded, allocate, worth_usd_per_hour
from control_plane.core.allocation_input import (
    NONE,
    Devices,
    Joint,
    Load,
    Participation,
    Terms,
    Tree,
    devices_of,
    load_at,
    tree_of,
    weighed,
)
from control_plane.core.allocation_round import Filling
from control_plane.core.ladder import Economics, HullStep, LadderSource, LadderStep, ModeLadder

PRICES = Economics(hashprice_usd_per_ph_day=45.0, energy_usd_per_mwh=55.0)


def hull(*steps: tuple[float, float], standby_w: float = 25.0) -> tuple[HullStep, ...]:
    """Of steps of watts and TH/s."""
    points = (LadderStep(mode=f"{w:g}", power_w=w, hashrate_ths=ths) for w, ths in steps)
    source = LadderSource.LEARNED
    return ModeLadder(standby_w=standby_w, steps=tuple(points), source=source).hull()


S21 = hull((2_400.0, 150.0), (3_500.0, 200.0), (4_100.0, 220.0))
OLD = hull((1_850.0, 76.0), (2_700.0, 96.0))


def load(asset: str, feed: int, steps: tuple[HullStep, ...] = S21, **what: float) -> Load:
    return Load(asset=asset, feed=feed, hull=steps, **{"standing_w": 25.0, **what})  # type: ignore[arg-type]


PDUS = tree_of(["grid", "a", "b"], [NONE, 0, 0], [20_000.0, 8_000.0, 8_000.0])


@st.composite
def trees(draw: st.DrawFn, *, most: int = 7, with_lower: bool = True) -> Tree:
    nodes = draw(st.integers(1, most))
    parent = [NONE, *(draw(st.integers(0, n - 1)) for n in range(1, nodes))]
    caps = draw(st.lists(st.integers(0, 30_000) | st.just(np.inf), min_size=nodes, max_size=nodes))
    lower = [0] * nodes
    if with_lower and draw(st.booleans()):
        lower = draw(
            st.lists(st.sampled_from([0, 0, 3_000, 7_000]), min_size=nodes, max_size=nodes)
        )
    # Parents in any order: turned round, they follow their children.
    if draw(st.booleans()):
        parent = [NONE if up == NONE else nodes - 1 - up for up in reversed(parent)]
    return tree_of([f"n{n}" for n in range(nodes)], parent, caps, lower)


@st.composite
def machines(draw: st.DrawFn, *, nodes: int, most: int = 12) -> Devices:
    loads = []
    for number in range(draw(st.integers(1, most))):
        points = st.tuples(st.integers(30, 5_000), st.integers(1, 250))
        steps = hull(*draw(st.lists(points, max_size=4)))
        feed = draw(st.integers(0, nodes - 1))
        current = draw(st.integers(0, len(steps)))
        loads.append(load(f"m{number}", feed, steps, current=current))
    return devices_of(loads)


@st.composite
def sites(draw: st.DrawFn, *, most: int = 7, devices: int = 12) -> tuple[Tree, Devices]:
    tree = draw(trees(most=most))
    return tree, draw(machines(nodes=len(tree.ids), most=devices))


prices = st.builds(
    Economics,
    hashprice_usd_per_ph_day=st.floats(20.0, 80.0),
    energy_usd_per_mwh=st.floats(-10.0, 150.0),
)


@given(case=sites(), economics=prices)
def test_the_optimum_with_mixed_modes_is_that_of_highs(
    case: tuple[Tree, Devices], economics: Economics
) -> None:
    tree, devices = case
    ours = allocate(tree, devices, economics)
    theirs = optimum(tree, devices, economics)
    kept_w = weighed(devices.of, ours.kept.width_w, len(devices.feed))
    load_w = load_at(tree, devices.feed, devices.standing_w + kept_w)
    is_met = (load_w <= tree.cap_w + 1e-3).all() and (load_w >= tree.lower_w - 1e-3).all()
    assert is_met == (theirs is not None), "either both find something, or neither"
    if theirs is not None:
        assert ours.bound_usd_per_hour == pytest.approx(theirs[0], rel=1e-6, abs=1e-6)


@given(case=sites(), economics=prices)
def test_no_node_is_ever_above_its_cap_and_nothing_beats_the_bound(
    case: tuple[Tree, Devices], economics: Economics
) -> None:
    tree, devices = case
    ours = allocate(tree, devices, economics)
    standing = load_at(tree, devices.feed, devices.standing_w)
    assert (ours.load_w <= np.maximum(tree.cap_w, standing) + 1e-3).all()
    assert set(ours.overloaded_w) == set(np.flatnonzero(standing > tree.cap_w + 1e-3))
    assert set(ours.unmet_w) == set(np.flatnonzero(ours.load_w < tree.lower_w - 1e-3))
    if not tree.lower_w.any():
        assert ours.usd_per_hour <= ours.bound_usd_per_hour + 1e-9
    again = allocate(tree, devices, economics)
    assert (again.steps == ours.steps).all(), "deterministic"


@given(case=sites(most=4, devices=5), economics=prices)
def test_whole_modes_are_within_a_step_of_each_binding_node_of_the_best(
    case: tuple[Tree, Devices], economics: Economics
) -> None:
    tree, devices = case
    tree = tree_of(tree.ids, tree.parent, tree.cap_w)
    ours = allocate(tree, devices, economics)
    value = devices.value(economics)
    best = -np.inf
    for steps in product(*(range(n + 1) for n in np.diff(devices.first))):
        chosen = np.array(steps, dtype=np.int64)
        load_w = load_at(tree, devices.feed, devices.watts(chosen))
        standing = load_at(tree, devices.feed, devices.standing_w)
        if (load_w <= np.maximum(tree.cap_w, standing) + 1e-6).all():
            best = max(best, float(devices.up_to(value, chosen).sum()))
    best += devices.standing_value(economics)
    binding = int(((ours.kept.width_w > 0) & (ours.kept.width_w < devices.width_w - 1e-6)).sum())
    step = float(value.max(initial=0.0))
    assert ours.usd_per_hour <= best + 1e-9
    assert best <= ours.bound_usd_per_hour + 1e-9
    assert ours.usd_per_hour >= best - binding * step - 1e-9


@given(case=sites(), economics=prices)
def test_the_price_of_a_node_is_what_one_more_watt_there_earns(
    case: tuple[Tree, Devices], economics: Economics
) -> None:
    tree, devices = case
    tree = tree_of(tree.ids, tree.parent, np.minimum(tree.cap_w + 0.37, 40_000.0))
    standing = load_at(tree, devices.feed, devices.standing_w)
    ours = allocate(tree, devices, economics)
    for node in np.flatnonzero(standing + 1 < tree.cap_w):
        worth = worth_usd_per_hour(tree, devices, economics, int(node), extra_w=0.1)
        above = [n for n in tree.path(int(node)) if n != node]
        if (standing[above] > tree.cap_w[above]).any():
            continue
        assert worth <= ours.prices[node] * 0.1 + 1e-9, "concave: further watts earn less"


def test_prices_and_reasons_of_a_site_with_one_full_pdu() -> None:
    devices = devices_of([load("a1", 1), load("a2", 1), load("a3", 1), load("b1", 2, OLD)])
    ours = allocate(PDUS, devices, PRICES)
    assert ours.steps.tolist() == [1, 1, 1, 1]
    assert ours.prices.tolist() == [0.0, pytest.approx(ours.slope[1]), 0.0]
    theirs = optimum(PDUS, devices, PRICES)
    assert theirs is not None
    assert ours.prices == pytest.approx(theirs[1], abs=1e-9)
    megawatt = worth_usd_per_hour(PDUS, devices, PRICES, 1)
    assert 0 < megawatt < ours.usd_per_mwh[1], "three machines cannot take a megawatt"


def test_a_fixed_load_counts_and_stays_where_it_is() -> None:
    fixed = Load(asset="locked", feed=1, standing_w=5_000.0, standing_ths=200.0)
    ours = allocate(PDUS, devices_of([fixed, load("a1", 1), load("b1", 2)]), PRICES)
    assert ours.watts.tolist() == [5_000.0, 2_400.0, 4_100.0]
    assert ours.hashrate_ths == 200 + 150 + 220


def test_what_is_fixed_above_a_cap_is_said_and_nothing_runs_below_it() -> None:
    fixed = Load(asset="locked", feed=1, standing_w=9_000.0)
    ours = allocate(PDUS, devices_of([fixed, load("a1", 1), load("b1", 2)]), PRICES)
    assert ours.overloaded_w == {1: pytest.approx(1_025.0)}
    assert ours.steps.tolist() == [0, 0, 3]


def test_a_lower_bound_runs_what_does_not_pay() -> None:
    dear = Economics(hashprice_usd_per_ph_day=30.0, energy_usd_per_mwh=150.0)
    loads = [load("a1", 1), load("a2", 1, OLD), load("b1", 2)]
    assert allocate(PDUS, devices_of(loads), dear).steps.tolist() == [0, 0, 0]
    floor = tree_of(PDUS.ids, PDUS.parent, PDUS.cap_w, [0.0, 3_000.0, 0.0])
    ours = allocate(floor, devices_of(loads), dear)
    assert ours.load_w[1] >= 3_000
    assert ours.unmet_w == {}
    assert ours.steps[2] == 0
    at_the_grid = [*loads, load("g1", 0)]
    assert allocate(floor, devices_of(at_the_grid), dear).steps[3] == 0, (
        "it does not count for PDU a"
    )
    high = tree_of(PDUS.ids, PDUS.parent, PDUS.cap_w, [0.0, 7_900.0, 0.0])
    assert list(allocate(high, devices_of(loads), dear).unmet_w) == [1]


@given(case=sites(), economics=prices, shares=st.lists(st.floats(0.2, 1.0), min_size=1, max_size=3))
def test_the_result_fits_every_contingency(
    case: tuple[Tree, Devices], economics: Economics, shares: list[float]
) -> None:
    tree, devices = case
    caps = [np.roll(tree.cap_w, n) * share for n, share in enumerate(shares)]
    ours = allocate(tree, devices, economics, contingencies=caps)
    standing = load_at(tree, devices.feed, devices.standing_w)
    for cap_w in (tree.cap_w, *caps):
        assert (ours.load_w <= np.maximum(cap_w, standing) + 1e-3).all()


SIDES = tree_of(
    ["grid", "t1", "t2", "a", "b"],
    [NONE, 0, 0, 1, 2],
    [60_000.0, 40_000.0, 40_000.0, 30_000.0, 30_000.0],
)
"""Side A under one transformer, side B under the other: no node has both and nothing else."""
PAIR = [
    Joint(lost=(3,), onto=4, limit_w=32_000.0),
    Joint(lost=(4,), onto=3, limit_w=32_000.0),
    Joint(lost=(3,), onto=2, limit_w=38_000.0),
    Joint(lost=(4,), onto=1, limit_w=38_000.0),
]


@given(devices=machines(nodes=5, most=30), economics=prices)
def test_a_side_bears_both_once_the_other_is_lost(devices: Devices, economics: Economics) -> None:
    ours = allocate(SIDES, devices, economics, joints=PAIR)
    theirs = optimum(SIDES, devices, economics, joints=PAIR)
    assert theirs is not None
    for joint in PAIR:
        assert ours.load_w[joint.nodes].sum() <= joint.limit_w + 1e-3
    assert ours.usd_per_hour <= theirs[0] + 1e-6
    # With mixed modes it loses nothing by going pair by pair, but for pairs that share a node.
    kept = float((ours.kept.width_w * ours.slope).sum()) + devices.standing_value(economics)
    assert kept >= theirs[0] - 0.1 * abs(theirs[0]) - 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_what_is_filled_after_rounding_keeps_what_a_pair_bears(seed: int) -> None:
    """Sites so dense that every pair binds, or nearly: there a fill on one side is the other's room."""
    rng = np.random.default_rng(seed)
    loads = []
    for number in range(30):
        watts = np.sort(rng.integers(500, 5_000, rng.integers(1, 5))).tolist()
        steps = hull(*((w, w / rng.uniform(14.0, 35.0)) for w in watts))
        loads.append(load(f"m{number}", int(rng.integers(0, 5)), steps))
    devices = devices_of(loads)
    ours = allocate(SIDES, devices, PRICES, joints=PAIR)
    theirs = optimum(SIDES, devices, PRICES, joints=PAIR)
    assert theirs is not None
    for joint in PAIR:
        assert ours.load_w[joint.nodes].sum() <= joint.limit_w + 1e-3
    assert theirs[0] * 0.9 <= ours.usd_per_hour <= theirs[0] + 1e-6


def test_a_node_above_two_survivors_bears_all_that_moves_below_it() -> None:
    """Halls 1 and 2 have a side under either transformer; transformer t1 is lost."""
    tree = tree_of(
        ["grid", "t1", "t2", "1a", "2a", "1b", "2b"],
        [NONE, 0, 0, 1, 1, 2, 2],
        [90_000.0, *(45_000.0,) * 2, *(20_000.0,) * 4],
    )
    loads = [load(f"m{feed}{n}", feed) for feed in (3, 4, 5, 6) for n in range(4)]
    lost = Joint(lost=(3, 4), onto=2, limit_w=50_000.0)
    ours = allocate(tree, devices_of(loads), PRICES, joints=[lost])
    assert 45_000 < ours.load_w[[2, 3, 4]].sum() <= 50_000
    theirs = optimum(tree, devices_of(loads), PRICES, joints=[lost])
    assert theirs is not None
    assert ours.usd_per_hour == pytest.approx(theirs[0], rel=0.02)
    alone = allocate(tree, devices_of(loads), PRICES)
    assert alone.load_w[[2, 3, 4]].sum() > 60_000


def test_sides_that_are_fixed_above_what_one_bears_are_said_and_all_else_sleeps() -> None:
    fixed = [
        Load(asset=side, feed=feed, standing_w=20_000.0) for side, feed in (("a", 3), ("b", 4))
    ]
    others = [load("a1", 3), load("b1", 4), load("t1", 1)]
    ours = allocate(SIDES, devices_of([*fixed, *others]), PRICES, joints=PAIR)
    assert ours.overloaded_w == {
        3: pytest.approx(8_050.0), 4: pytest.approx(8_050.0), 1: pytest.approx(2_075.0),
        2: pytest.approx(2_050.0),
    }  # fmt: skip
    assert ours.steps.tolist() == [0, 0, 0, 0, 0]


def test_a_dead_band_keeps_what_runs_until_the_gain_is_worth_it() -> None:
    tree = tree_of(["grid"], [NONE], [2_500.0])
    good = hull((2_400.0, 110.0))
    better = hull((2_400.0, 111.0))

    def who(*, keep_usd_per_mwh: float) -> object:
        loads = [load("good", 0, good, current=1), load("better", 0, better)]
        ours = allocate(tree, devices_of(loads), PRICES, keep_usd_per_mwh=keep_usd_per_mwh)
        return ours.steps.tolist()

    assert who(keep_usd_per_mwh=0.0) == [0, 1]
    assert who(keep_usd_per_mwh=2.0) == [1, 0]


@given(case=sites(), economics=prices, keep=st.floats(0.0, 30.0))
def test_a_dead_band_costs_no_more_than_itself(
    case: tuple[Tree, Devices], economics: Economics, keep: float
) -> None:
    tree, devices = case
    tree = tree_of(tree.ids, tree.parent, tree.cap_w)
    plain = allocate(tree, devices, economics)
    ours = allocate(tree, devices, economics, keep_usd_per_mwh=keep)
    assert ours.bound_usd_per_hour == pytest.approx(plain.bound_usd_per_hour, abs=1e-9)
    mixed = devices.standing_value(economics)
    mixed += float((ours.kept.width_w * devices.value(economics) / devices.width_w).sum())
    runs_w = devices.watts(devices.current).sum() - devices.standing_w.sum()
    assert mixed >= plain.bound_usd_per_hour - keep / 1e6 * runs_w - 1e-6


def test_work_of_gpus_that_earns_more_goes_before_hash() -> None:
    """An H100 hour of 2 USD and 1.3 kW: some 1,500 USD/MWh beside 60 of a miner."""
    node = (HullStep(mode="on", power_w=8_000.0, hashrate_ths=0.0, added_w=7_000.0, added_ths=0.0),)
    gpu = Load(asset="gpu", feed=1, standing_w=1_000.0, hull=node, earns_usd_per_hour=(12.0,))
    ours = allocate(PDUS, devices_of([load("a1", 1), gpu, load("b1", 2)]), PRICES)
    assert ours.steps.tolist() == [3, 0, 3], "what does not fit as a whole leaves its room"
    wider = tree_of(PDUS.ids, PDUS.parent, [20_000.0, 10_000.0, 8_000.0])
    ours = allocate(wider, devices_of([load("a1", 1), gpu, load("b1", 2)]), PRICES)
    assert ours.steps.tolist() == [0, 1, 3], "the miner on its PDU makes room"


@pytest.mark.parametrize(
    ("terms", "told_s", "free"),
    [
        (Terms(participation=Participation.SHEDDABLE), 0.0, True),
        (Terms(participation=Participation.SHEDDABLE, hours_left=0.0), 0.0, False),
        (Terms(participation=Participation.SHEDDABLE, notice_s=600.0), 60.0, False),
        (Terms(participation=Participation.SHEDDABLE, notice_s=600.0), 600.0, True),
        (Terms(participation=Participation.PROTECTED), 1e9, False),
        (Terms(participation=Participation.LOCKED), 1e9, False),
    ],
)
def test_whose_power_may_be_chosen(terms: Terms, told_s: float, *, free: bool) -> None:
    assert terms.is_free(told_s=told_s) is free


@pytest.mark.parametrize(
    ("parent", "caps"),
    [
        ([1, 0], [1.0, 1.0]),
        ([NONE, 2, 1], [1.0] * 3),
        ([NONE, NONE], [1.0] * 2),
        ([NONE, 7], [1.0] * 2),
        ([NONE, 0], [1.0]),
        ([NONE], [float("nan")]),
    ],
)
def test_what_is_no_tree_is_refused(parent: list[int], caps: list[float]) -> None:
    with pytest.raises(ValueError, match=r"not|length|above"):
        tree_of([f"n{n}" for n in range(len(parent))], parent, caps)


@pytest.mark.parametrize("watts", [float("nan"), -1.0, float("inf")])
def test_watts_that_are_none_are_refused(watts: float) -> None:
    with pytest.raises(ValueError, match="watts"):
        devices_of([Load(asset="m", feed=0, standing_w=watts)])


def test_limits_that_are_no_number_are_refused() -> None:
    devices, nan = devices_of([load("a1", 3)]), float("nan")
    with pytest.raises(ValueError, match="limit"):
        allocate(SIDES, devices, PRICES, joints=[Joint(lost=(3,), onto=4, limit_w=nan)])
    with pytest.raises(ValueError, match="cap"):
        allocate(SIDES, devices, PRICES, contingencies=[np.full(5, nan)])


def test_a_result_above_a_cap_never_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Filling, "fill", lambda filling: filling.steps.fill(3))
    with pytest.raises(CapExceeded, match=r"a: .* is its cap"):
        allocate(PDUS, devices_of([load("a1", 1), load("a2", 1)]), PRICES)


def test_the_machines_of_the_synthetic_site_have_the_hulls_of_their_ladders() -> None:
    _, fleet = site(50, cap_share=1.0)
    for machine, (watts, ths) in enumerate(zip(fleet.power_w, fleet.hashrate_ths, strict=True)):
        steps = hull(*zip(watts[1:].tolist(), ths[1:].tolist(), strict=True))
        begin, end = fleet.devices.first[machine : machine + 2]
        # Corners on one line may be there or not: the curve is the same.
        corners = np.cumsum([[0.0, 0.0], *([s.added_w, s.added_ths] for s in steps)], axis=0)
        found_w = np.concatenate(([0.0], np.cumsum(fleet.devices.width_w[begin:end])))
        found_ths = np.concatenate(([0.0], np.cumsum(fleet.devices.gain_ths[begin:end])))
        assert found_w[-1] == pytest.approx(corners[-1, 0])
        assert np.interp(corners[:, 0], found_w, found_ths) == pytest.approx(corners[:, 1])


@pytest.mark.parametrize("share", [1.0, 0.75, 0.5])
def test_a_site_of_14000_machines_is_within_a_twentieth_of_a_per_cent(share: float) -> None:
    tree, fleet = site(14_000, cap_share=share)
    ours = allocate(tree, fleet.devices, PRICES)
    assert 0 <= ours.gap <= 5e-4
    assert (ours.load_w <= tree.cap_w).all()
    assert ours.unmet_w == ours.overloaded_w == {}
