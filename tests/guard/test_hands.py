"""What the guard writes: a way down, and nothing else, whatever it was told and whoever was there since."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.change import Change, SetPowerMode, StopMining, settings_after
from control_plane.core.diff import permitted_w
from control_plane.core.guard_bundle import Rung
from control_plane.core.observation import Settings
from control_plane.guard.hands import change_to
from tests.simulator.floors import S21

LOW, STOP = Rung(mode="low", power_w=2600.0), Rung(power_w=25.0)


@pytest.mark.parametrize(
    ("rung", "settings", "change"),
    [
        (LOW, Settings(mining=True, power_mode="normal"), SetPowerMode("low")),
        (STOP, Settings(mining=True, power_mode="normal"), StopMining()),
        (STOP, Settings(mining=True, power_mode="low"), StopMining()),
        # It is there already, or below: a mode would wake it, or lift it.
        (LOW, Settings(mining=True, power_mode="low"), None),
        (LOW, Settings(mining=False, power_mode="normal"), None),
        (LOW, Settings(mining=False), None),
        (LOW, Settings(mining=True, power_mode="normal", power_limit_w=2_500), None),
        (STOP, Settings(mining=False, power_mode="low"), None),
        # Nobody knows what it may draw: it is stopped, which raises nothing.
        (LOW, Settings(mining=True), StopMining()),
        (LOW, Settings(power_mode="normal"), StopMining()),
        (LOW, Settings(), StopMining()),
    ],
)
def test_the_way_down(rung: Rung, settings: Settings, change: Change | None) -> None:
    assert change_to(rung, S21, settings) == change


@given(
    st.sampled_from([LOW, STOP]),
    st.builds(
        Settings,
        mining=st.sampled_from([True, False, None]),
        power_mode=st.sampled_from(["low", "normal", "unheard", None]),
        power_limit_w=st.sampled_from([None, 1_000, 2_600, 3_400, 9_000]),
    ),
)
def test_no_write_lifts_what_a_machine_may_draw(rung: Rung, settings: Settings) -> None:
    change = change_to(rung, S21, settings)
    if change is not None:
        assert permitted_w(S21, settings_after(settings, change)) <= permitted_w(S21, settings)
