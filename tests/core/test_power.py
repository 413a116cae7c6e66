"""Loads and admission: no node above its derated rating, best J/TH first, order of input irrelevant."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.fleet import DeviceKind, SlotState
from control_plane.core.observation import Settings
from control_plane.core.power import Loads, Raise, admit, counted_w, efficiency
from tests.core.builders import TYPE, device, settings, site

GPU = msgspec.structs.replace(TYPE, kind=DeviceKind.GPU_NODE)


@pytest.mark.parametrize(
    ("state", "have", "watts"),
    [
        (SlotState.IN_SERVICE, settings(), 3_500.0),
        (SlotState.IN_SERVICE, settings(power_mode="low"), 2_400.0),
        (SlotState.IN_SERVICE, settings(mining=False), 30.0),
        (SlotState.IN_SERVICE, settings(power_limit_w=3_000), 3_000.0),
        (SlotState.IN_SERVICE, settings(power_mode="unheard"), 4_100.0),
        (SlotState.IN_SERVICE, None, 3_500.0),
        (SlotState.IN_SERVICE, Settings(), 3_500.0),
        (SlotState.OUT_OF_SERVICE, settings(mining=False), 3_500.0),
        (SlotState.IN_REPAIR, None, 0.0),
        (SlotState.VACANT, None, 0.0),
    ],
)
def test_what_a_device_counts_at(state: SlotState, have: Settings | None, watts: float) -> None:
    assert counted_w(device(state=state), have) == watts


def test_a_gpu_node_counts_at_nameplate_whatever_it_says() -> None:
    assert counted_w(device(type=GPU), settings(mining=False)) == GPU.nominal.power_w


def test_loads_add_up_along_the_path_and_move_with_each_count() -> None:
    loads = Loads(site((device(),)))
    loads.count("a", "pdu", 3_000.0)
    loads.count("b", "pdu2", 2_000.0)
    assert (loads.at("pdu"), loads.at("pdu2"), loads.at("grid")) == (3_000.0, 2_000.0, 5_000.0)
    loads.count("a", "pdu", 1_000.0)
    assert (loads.at("pdu"), loads.at("grid")) == (1_000.0, 3_000.0)
    assert loads.headroom_w("pdu") == 499_000.0


def test_derate_and_unmanaged_load_come_off_the_rating() -> None:
    plain = site((device(),))
    node = msgspec.structs.replace(plain.feeds["pdu"], derate=0.8, unmanaged_w=10_000.0)
    loads = Loads(msgspec.structs.replace(plain, feeds={**plain.feeds, "pdu": node}))
    assert loads.headroom_w("pdu") == 390_000.0
    assert loads.at("grid") == 10_000.0, "fans below a node are load of every node above it"


def test_refusal_names_the_binding_node() -> None:
    loads = Loads(site((device(),), utility_kw=10.0, pdu_kw=4.0))
    loads.count("a", "pdu", 3_000.0)
    wish = Raise(asset="b", feed="pdu", target_w=3_000.0, j_per_th=17.0)
    assert admit(loads, [wish]).refused == {"b": "pdu"}
    other = Raise(asset="c", feed="pdu2", target_w=8_000.0, j_per_th=17.0)
    assert admit(loads, [other]).refused == {"c": "pdu2"}


def test_efficiency_is_of_this_very_unit() -> None:
    assert efficiency(device(), settings()) == pytest.approx(17.5)
    assert efficiency(device(missing_boards=1), settings()) == pytest.approx(17.5 * 3 / 2)


wishes = st.lists(
    st.builds(
        Raise,
        asset=st.integers(0, 30).map("d{}".format),
        feed=st.sampled_from(["pdu", "pdu2"]),
        target_w=st.floats(30.0, 5_000.0),
        j_per_th=st.sampled_from([15.0, 17.5, 21.0, 29.5]),
    ),
    max_size=30,
    unique_by=lambda wish: wish.asset,
)


@given(wishes=wishes, seed=st.randoms(use_true_random=False))
def test_admission_keeps_every_node_under_its_rating_and_ignores_input_order(
    wishes: list[Raise], seed: object
) -> None:
    one = site((device(),), utility_kw=40.0, pdu_kw=25.0)
    loads = Loads(one)
    admission = admit(loads, wishes)
    assert admission.admitted | admission.refused.keys() == {w.asset for w in wishes}
    assert all(loads.headroom_w(node) >= -1.0 for node in one.feeds)
    shuffled = list(wishes)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert admit(Loads(one), shuffled) == admission
    # Whoever was refused does not fit even now, after all better ones.
    for wish in wishes:
        if wish.asset in admission.refused:
            assert loads.binding(wish.feed, extra_w=wish.target_w) is not None
