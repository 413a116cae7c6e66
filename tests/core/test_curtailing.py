"""Who comes down so that a node draws no more than it is told to."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.curtailing import curtailed, of_programme, overlays_of, programmes_in
from control_plane.core.guard_bundle import Bundle
from control_plane.core.observation import Settings
from tests.core.plant import bundle, device, node

NODES = [node("grid", None, 1e6), node("a", "grid", 1e6), node("b", "grid", 1e6)]
SITE = bundle(
    [*NODES[:2], msgspec.structs.replace(NODES[2], unmanaged_w=1_000.0)],
    [device("a0", "a"), device("a1", "a", shows_in_s=5.0), device("b0", "b", shows_in_s=300.0)],
)
ALL = dict.fromkeys(("a0", "a1", "b0"), True)


def lowered(made: Bundle, where: str, to_w: float, **how: bool) -> dict[str, float]:
    what = curtailed(made, where, to_w, may_shed={**ALL, **how})
    return {asset: rung.power_w for asset, rung in what.lowered.items()}


@pytest.mark.parametrize(
    ("where", "to_w", "expected"),
    [
        ("grid", 12_000.0, {}),  # 10,500 W of machines and 1,000 of fans: that is less already
        ("grid", 11_000.0, {"a0": 2400.0}),
        ("grid", 9_300.0, {"a0": 2400.0, "a1": 2400.0}),
        ("grid", 6_000.0, {"a0": 40.0, "a1": 2400.0, "b0": 2400.0}),
        ("b", 4_000.0, {"b0": 2400.0}),
        ("grid", 0.0, {"a0": 40.0, "a1": 40.0, "b0": 40.0}),
    ],
)
def test_the_cheapest_way_down(where: str, to_w: float, expected: dict[str, float]) -> None:
    assert lowered(SITE, where, to_w) == expected


def test_who_may_not_be_shed_is_left_alone() -> None:
    assert lowered(SITE, "grid", 9_300.0, a0=False) == {"a1": 2400.0, "b0": 2400.0}


def test_where_it_is_not_enough_it_says_so() -> None:
    what = curtailed(SITE, "grid", 900.0, may_shed=ALL)
    assert what.after_w == 1_000.0 + 3 * 40.0
    assert not what.is_enough


def test_what_is_gone_by_when() -> None:
    what = curtailed(SITE, "grid", 8_200.0, may_shed=ALL)
    # a1 shows within 10 s, a0 within a minute, b0 within ten.
    assert what.gone_w == ((10.0, 1_100.0), (60.0, 2_200.0), (600.0, 3_300.0))


def test_a_programme_is_one_overlay_for_each_step_and_is_found_again() -> None:
    what = curtailed(SITE, "grid", 6_000.0, may_shed=ALL)
    made = overlays_of("peak", what, owner="ann", reason="4CP", now_s=7.0, expires_s=99.0)
    assert [(o.id, o.fields, o.assets) for o in made] == [
        ("curtail-peak-stop", Settings(mining=False), frozenset({"a0"})),
        ("curtail-peak-low", Settings(power_mode="low"), frozenset({"a1", "b0"})),
    ]
    other = overlays_of("peak-2", what, owner="ann", reason="x", now_s=7.0)
    assert of_programme((*made, *other), "peak") == made
    assert programmes_in((*made, *other)) == ("peak", "peak-2")


@given(st.floats(0, 15_000), st.sets(st.sampled_from(["a0", "a1", "b0"])))
def test_no_more_is_given_up_than_has_to_be(to_w: float, shed: set[str]) -> None:
    what = curtailed(SITE, "grid", to_w, may_shed=dict.fromkeys(shed, True))
    assert set(what.lowered) <= shed
    assert what.after_w <= what.before_w
    # The last step was needed: without it, more would be left than was asked for.
    biggest_w = 2_360.0
    if what.lowered:
        assert what.after_w + biggest_w > to_w
