"""A meter against its devices: a slow correction with limits, and what lies beyond them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.meter_bias import (
    WORDS,
    Bias,
    Compared,
    Suspicion,
    counted_w,
    follow,
    suspicion_of,
)

DEVICES_W, FANS_W = 1_000_000.0, 60_000.0


def after(
    ratio: float, *, seconds: float = 3600.0, noise: float = 0.0, unmanaged_w: float = FANS_W
) -> Bias:
    rng, bias = random.Random(1), Bias()
    for at in range(0, int(seconds), 5):
        meter_w = DEVICES_W * ratio * (1 + rng.uniform(-noise, noise)) + unmanaged_w
        bias = follow(
            bias,
            Compared(at_s=float(at), meter_w=meter_w, devices_w=DEVICES_W, unmanaged_w=unmanaged_w),
        )
    return bias


@pytest.mark.parametrize("ratio", [0.95, 1.0, 1.035, 1.08])
def test_what_devices_are_off_by_is_found_and_is_no_alarm(ratio: float) -> None:
    bias = after(ratio, noise=0.03)
    assert bias.factor == pytest.approx(ratio, abs=0.006)
    assert bias.suspicion is None


def test_a_correction_has_limits() -> None:
    assert after(1.3).factor == limits.METER_BIAS_MAX
    assert after(0.5).factor == limits.METER_BIAS_MIN
    assert Bias().factor == 1.0


@pytest.mark.parametrize(
    ("ratio", "suspicion"),
    [
        (10.0, Suspicion.TIMES_TEN),
        (10.35, Suspicion.TIMES_TEN),
        (0.1, Suspicion.TIMES_TEN),
        (1000.0, Suspicion.TIMES_TEN),
        (-1.0, Suspicion.REVERSED),
        (-1.05, Suspicion.REVERSED),
        (0.667, Suspicion.CT_DEAD),
        (0.34, Suspicion.CT_REVERSED),
        (1.3, Suspicion.ABOVE),
        (0.8, Suspicion.BELOW),
        (0.0, Suspicion.BELOW),
        (-0.3, Suspicion.BELOW),
        (3.0, Suspicion.ABOVE),
        (1.0, None),
        (0.9, None),
        (1.15, None),
    ],
)
def test_what_a_ratio_means(ratio: float, suspicion: Suspicion | None) -> None:
    assert suspicion_of(ratio, ratio) is suspicion
    assert after(ratio, unmanaged_w=0.0).suspicion is suspicion
    assert after(ratio, seconds=limits.METER_BIAS_SETTLED_S / 2).suspicion is None, "not so soon"


@pytest.mark.parametrize(
    ("times", "suspicion"),
    [
        (10.0, Suspicion.TIMES_TEN),
        (-1.0, Suspicion.REVERSED),
        (2 / 3, Suspicion.CT_DEAD),
        (1 / 3, Suspicion.CT_REVERSED),
    ],
)
@pytest.mark.parametrize("said", [0.93, 1.0, 1.05])
@pytest.mark.parametrize("unmanaged_w", [0.0, 300_000.0])
def test_a_wrong_ratio_is_known_whatever_devices_say_and_fans_draw(
    times: float, suspicion: Suspicion, said: float, unmanaged_w: float
) -> None:
    bias = Bias()
    for at in range(0, 600, 5):
        now = Compared(
            at_s=float(at), meter_w=times * (DEVICES_W + unmanaged_w), devices_w=said * DEVICES_W,
            unmanaged_w=unmanaged_w,
        )  # fmt: skip
        bias = follow(bias, now)
    assert bias.suspicion is suspicion


def test_every_suspicion_says_what_to_do() -> None:
    assert set(WORDS) == set(Suspicion)
    assert all(":" in words for words in WORDS.values())


def test_it_is_slow() -> None:
    bias = after(1.0)
    for second in range(60):
        late = Compared(
            at_s=3600.0 + second, meter_w=2 * DEVICES_W, devices_w=DEVICES_W, unmanaged_w=0.0
        )
        bias = follow(bias, late)
    assert bias.factor < 1.11, "a minute of nonsense moves a tau of ten minutes by a tenth"


@pytest.mark.parametrize(
    "now",
    [
        Compared(at_s=9e3, meter_w=5e6, devices_w=1e6, unmanaged_w=0.0, known_share=0.79),
        Compared(at_s=9e3, meter_w=5e6, devices_w=4_999.0, unmanaged_w=0.0),
        Compared(at_s=9e3, meter_w=5e6, devices_w=1e5, unmanaged_w=2e5),
        Compared(at_s=0.0, meter_w=5e6, devices_w=1e6, unmanaged_w=0.0),
    ],
    ids=["dark devices", "nothing runs", "mostly fans", "from the past"],
)
def test_what_cannot_be_compared_teaches_nothing(now: Compared) -> None:
    bias = after(1.03)
    assert follow(bias, now) == bias


def test_a_gap_weighs_no_more_than_a_minute() -> None:
    bias = follow(
        after(1.0),
        Compared(at_s=1e6, meter_w=2 * DEVICES_W, devices_w=DEVICES_W, unmanaged_w=0.0),
    )
    assert bias.factor < 1.11


@given(
    meter_w=st.none() | st.floats(-1e8, 1e8),
    devices_w=st.floats(0, 1e8),
    ratio=st.floats(-10, 10),
)
def test_caps_count_the_larger_of_the_two(
    meter_w: float | None, devices_w: float, ratio: float
) -> None:
    counted = counted_w(meter_w, devices_w, FANS_W, Bias(ratio=ratio))
    assert counted >= limits.METER_BIAS_MIN * devices_w
    assert counted >= (meter_w or 0.0)
    assert counted <= max(meter_w or 0.0, limits.METER_BIAS_MAX * devices_w + FANS_W)
