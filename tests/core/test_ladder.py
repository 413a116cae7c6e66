"""Ladders: published ones give the published marginal J/TH, and a hull is a hull."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.fleet import DeviceKind
from control_plane.core.ladder import (
    Economics,
    LadderSource,
    LadderStep,
    ModeLadder,
    best_step,
    btc_per_ph_day,
    ladder_of,
)
from tests.core.builders import TYPE, device

S19J_PRO = [
    (65, 1_740), (70, 1_800), (76, 1_850), (80, 2_000), (83, 2_150), (87, 2_300), (92, 2_500),
    (96, 2_700), (100, 2_970),
]  # fmt: skip
"""TH/s and watts, VNish 1.2.6 (energy §2)."""
S19_XP = [(80, 1_700), (100, 2_200), (120, 2_700), (142, 3_350), (154, 3_850), (169, 4_400)]
"""ePIC presets."""


def ladder(points: Sequence[tuple[float, float]], standby_w: float = 25.0) -> ModeLadder:
    steps = (LadderStep(mode=f"{w:g}W", power_w=w, hashrate_ths=ths) for ths, w in points)
    return ModeLadder(standby_w=standby_w, steps=tuple(steps), source=LadderSource.LEARNED)


def marginals(points: list[tuple[float, float]]) -> list[float]:
    return [round(step.marginal_j_per_th, 1) for step in ladder(points).hull()]


@pytest.mark.parametrize(
    ("points", "corners"),
    [
        # From 25 W of standby: energy §2 counts from 0 W and so has 24.3 first.
        (S19J_PRO, [24.0, 37.5, 41.7, 50.0, 67.5]),
        (S19_XP, [20.9, 25.0, 29.5, 38.9]),
        ([(100, 2_000), (90, 2_500)], [19.8]),  # More watts for less hash.
        ([(100, 2_000), (120, 2_000)], [16.5]),  # The same watts.
        ([(0, 400)], []),
        ([(5, 20)], []),  # Below standby: some number is wrong.
        ([], []),
    ],
)
def test_marginal_joules_of_published_ladders(
    points: list[tuple[float, float]], corners: list[float]
) -> None:
    assert marginals(points) == corners


def test_the_lowest_mode_is_not_the_best_one() -> None:
    assert ladder(S19J_PRO).hull()[0].mode == "1850W"


def test_a_step_that_is_not_tuned_is_no_step_until_asked_for() -> None:
    one = ModeLadder(
        standby_w=25.0,
        source=LadderSource.LEARNED,
        steps=(
            LadderStep(mode="a", power_w=2_000.0, hashrate_ths=100.0),
            LadderStep(mode="b", power_w=2_500.0, hashrate_ths=120.0, tuned=False),
        ),
    )
    assert [step.mode for step in one.hull()] == ["a"]
    assert [step.mode for step in one.hull(untuned=True)] == ["a", "b"]


@given(
    points=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 4_000)), max_size=9),
    hashprice=st.floats(10.0, 90.0),
    energy=st.floats(-20.0, 200.0),
)
def test_a_hull_is_above_every_point_and_its_best_step_beats_all_others(
    points: list[tuple[float, float]], hashprice: float, energy: float
) -> None:
    one = ladder(points)
    hull = one.hull()
    assert all(step.added_w > 0 and step.added_ths > 0 for step in hull)
    assert all(a.marginal_j_per_th < b.marginal_j_per_th for a, b in pairwise(hull))
    for ths, watts in points:
        reach = 0.0
        for step in hull:
            share = (watts - (step.power_w - step.added_w)) / step.added_w
            reach += step.added_ths * min(1.0, max(0.0, share))
        assert watts < one.standby_w or ths <= reach + 1e-9 or watts == one.standby_w
    economics = Economics(hashprice_usd_per_ph_day=hashprice, energy_usd_per_mwh=energy)
    best = best_step(one, economics)
    at = (one.standby_w, 0.0) if best is None else (best.power_w, best.hashrate_ths)
    value = economics.usd_per_hour(power_w=at[0], hashrate_ths=at[1])
    if energy >= 0:  # Paid for burning, a machine would run even its dominated modes.
        for ths, watts in [(0.0, one.standby_w), *points]:
            if watts > one.standby_w:
                assert value >= economics.usd_per_hour(power_w=watts, hashrate_ths=ths) - 1e-9


def test_a_unit_has_its_own_bin_and_boards() -> None:
    plain, low_bin, broken = (
        ladder_of(device(**what)) for what in ({}, {"bin_ths": 195.0}, {"missing_boards": 1})
    )
    assert [(s.power_w, s.hashrate_ths) for s in plain.steps][1] == (3_500.0, 200.0)
    assert low_bin.steps[1].hashrate_ths == pytest.approx(195.0)
    assert broken.steps[1].hashrate_ths == pytest.approx(200 * 2 / 3)
    assert broken.steps[1].power_w == pytest.approx(30 + 3_470 * 2 / 3)
    assert plain.source is LadderSource.NAMEPLATE
    assert ladder_of(device(), ladder(S19_XP)) == ladder(S19_XP), "what was learned wins"


def test_a_gpu_node_has_no_hash_to_sell() -> None:
    gpu = msgspec.structs.replace(TYPE, kind=DeviceKind.GPU_NODE)
    assert ladder_of(device(type=gpu)).hull() == ()


@pytest.mark.parametrize(
    ("hashprice", "energy", "j_per_th"), [(39.5, 55, 29.9), (45, 55, 34.1), (45, 90, 20.8)]
)
def test_break_even(hashprice: float, energy: float, j_per_th: float) -> None:
    economics = Economics(hashprice_usd_per_ph_day=hashprice, energy_usd_per_mwh=energy)
    assert economics.break_even_j_per_th == pytest.approx(j_per_th, abs=0.05)


def test_break_even_without_a_price_has_no_end() -> None:
    free = Economics(hashprice_usd_per_ph_day=45.0, energy_usd_per_mwh=0.0)
    assert free.break_even_j_per_th == float("inf")


def test_at_45_and_55_an_s19j_pro_sits_at_its_knee() -> None:
    best = best_step(
        ladder(S19J_PRO), Economics(hashprice_usd_per_ph_day=45, energy_usd_per_mwh=55)
    )
    assert best is not None
    assert best.mode == "1850W"


def test_what_a_petahash_mines_in_a_day() -> None:
    mined = btc_per_ph_day(difficulty=148.26e12, fee_share=0.0055)
    assert mined == pytest.approx(4.264e-4, rel=1e-3)
