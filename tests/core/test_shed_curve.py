"""Shed curves: monotone in watts and in time, and true; value curves beside the allocator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.actuators import HORIZONS_S, TIMINGS, ActuatorTiming
from control_plane.core.allocation import allocate
from control_plane.core.allocation_input import Devices, Tree, devices_of, load_at, tree_of
from control_plane.core.ladder import Economics
from control_plane.core.shed_curve import ShedCurves, timings_of, value_curve
from tests.core.test_allocation import OLD, PDUS, PRICES, S21, load, prices, sites

FAMILIES = [*TIMINGS, "unheard"]


def curves(tree: Tree, devices: Devices, economics: Economics, families: list[str]) -> ShedCurves:
    steps = np.diff(devices.first)
    sleep_s, mode_s = timings_of(families)
    return ShedCurves(tree, devices, economics, steps, sleep_s=sleep_s, mode_s=mode_s)


def site_of(*families: str) -> tuple[Devices, list[str]]:
    """An S21 at its top on PDU a of each family."""
    loads = [load(f"m{n}", 1, current=len(S21)) for n, _ in enumerate(families)]
    return devices_of(loads), list(families)


@pytest.mark.parametrize(
    ("families", "watts"),
    [
        (("luxos",), (4_075.0, 4_075.0, 4_075.0)),
        (("vnish",), (0.0, 4_075.0, 4_075.0)),
        (("whatsminer_v2",), (0.0, 4_075.0, 4_075.0)),
        (("antminer_stock",), (0.0, 0.0, 4_075.0)),
        (("unheard",), (0.0, 0.0, 4_075.0)),
        (("luxos", "vnish", "antminer_stock"), (4_075.0, 8_150.0, 12_225.0)),
    ],
)
def test_what_is_gone_in_10_s_in_60_s_and_in_10_min_depends_on_firmware(
    families: tuple[str, ...], watts: tuple[float, ...]
) -> None:
    devices, names = site_of(*families)
    these = curves(PDUS, devices, PRICES, names)
    assert tuple(these.at(0, within_s).most_w for within_s in HORIZONS_S) == watts
    assert these.at(2, 600.0).most_w == 0, "nothing hangs on the other PDU"


def test_with_time_for_steps_a_machine_steps_down_and_else_it_sleeps() -> None:
    devices, families = site_of("luxos", "luxos")
    these = curves(PDUS, devices, PRICES, families)
    soon, later = these.at(0, 10.0).shed(1_000.0), these.at(0, 600.0).shed(1_000.0)
    assert (soon.steps, soon.watts) == ({0: 0}, 4_075.0)
    assert (later.steps, later.watts) == ({0: 2, 1: 2}, 1_200.0)
    assert later.usd_per_hour < soon.usd_per_hour


def test_without_time_to_sleep_the_lowest_mode_stays() -> None:
    devices, families = site_of("odd")
    sleep_s, mode_s = timings_of(
        families, {"odd": ActuatorTiming(sleep_s=300.0, mode_s=5.0, source="learned")}
    )
    steps = np.diff(devices.first)
    these = ShedCurves(PDUS, devices, PRICES, steps, sleep_s=sleep_s, mode_s=mode_s)
    assert these.at(0, 10.0).most_w == 4_100 - 2_400


def test_whoever_does_not_obey_promises_nothing_and_others_stand_in() -> None:
    devices, families = site_of("luxos", "luxos")
    sleep_s, mode_s = timings_of(families)
    steps, obeys = np.diff(devices.first), np.array([False, True])
    these = ShedCurves(PDUS, devices, PRICES, steps, sleep_s=sleep_s, mode_s=mode_s, obeys=obeys)
    assert these.at(0, 10.0).shed(1.0).steps == {1: 0}
    assert these.at(0, 10.0).most_w == 4_075


def test_what_loses_money_goes_first_and_costs_less_than_nothing() -> None:
    dear = Economics(hashprice_usd_per_ph_day=45.0, energy_usd_per_mwh=90.0)
    devices = devices_of([load("good", 1), load("old", 2, OLD)])
    shed = curves(PDUS, devices, dear, ["luxos"] * 2).at(0, 10.0).shed(100.0)
    assert shed.steps == {1: 0}
    assert shed.usd_per_hour < 0


@pytest.mark.parametrize("target_w", [0.0, -5.0])
def test_nothing_is_shed_for_nothing(target_w: float) -> None:
    devices, families = site_of("luxos")
    assert curves(PDUS, devices, PRICES, families).at(0, 10.0).shed(target_w).steps == {}


@given(
    case=sites(),
    economics=prices,
    families=st.lists(st.sampled_from(FAMILIES), min_size=12, max_size=12),
    share=st.floats(0.01, 1.2),
)
def test_curves_are_monotone_and_keep_what_they_promise(
    case: tuple[Tree, Devices], economics: Economics, families: list[str], share: float
) -> None:
    tree, devices = case
    these = curves(tree, devices, economics, families[: len(devices.feed)])
    steps = np.diff(devices.first)
    before = load_at(tree, devices.feed, devices.watts(steps))
    root = int(np.flatnonzero(tree.parent < 0)[0])
    for node in {root, int(devices.feed[0])}:
        promised = [these.at(node, within_s) for within_s in HORIZONS_S]
        most = [curve.most_w for curve in promised]
        assert most == sorted(most), "more time sheds no less"
        for curve in promised:
            assert (np.diff(curve.watts) > 0).all()
            slope = np.diff(curve.usd_per_hour) / np.diff(curve.watts)
            assert (np.diff(slope) >= -1e-9).all(), "each further watt costs no less"
            target_w = share * curve.most_w
            shed = curve.shed(target_w)
            assert shed.watts >= min(target_w, curve.most_w) - 1e-6
            after = steps.copy()
            after[list(shed.steps)] = list(shed.steps.values())
            gone = before - load_at(tree, devices.feed, devices.watts(after))
            assert gone[node] == pytest.approx(shed.watts)
            assert gone[root] == pytest.approx(shed.watts), "nobody outside the node is touched"
            lost = devices.up_to(devices.value(economics), steps)
            lost = lost - devices.up_to(devices.value(economics), after)
            assert lost.sum() == pytest.approx(shed.usd_per_hour, abs=1e-9)


@given(case=sites(), economics=prices, share=st.floats(0.0, 1.2))
def test_one_pass_without_the_root_cap_is_every_answer_for_the_root(
    case: tuple[Tree, Devices], economics: Economics, share: float
) -> None:
    tree, devices = case
    root = int(np.flatnonzero(tree.parent < 0)[0])
    curve = value_curve(tree, devices, economics, root)
    cap_w = tree.cap_w.copy()
    stands_w = devices.standing_w.sum()
    cap_w[root] = stands_w + share * (curve.watts[-1] - stands_w)
    capped = tree_of(tree.ids, tree.parent, cap_w)
    ours = allocate(capped, devices, economics)
    assert curve.usd_at(cap_w[root]) == pytest.approx(ours.bound_usd_per_hour, rel=1e-9, abs=1e-9)
    bids = [curve.bid_usd_per_mwh(watts) for watts in curve.watts]
    assert bids == sorted(bids, reverse=True) or np.allclose(bids, sorted(bids, reverse=True))
    assert curve.bid_usd_per_mwh(1e12) == 0
