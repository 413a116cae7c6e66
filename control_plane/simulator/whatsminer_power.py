"""What a WhatsMiner may draw: mode, limit, percentages; and how fast it gets there.

The unit keeps four things apart that clients like to mix up (asic-devices reference, traps 11 and
13): the *mode* (a step of the ladder), the *limit* that was asked for, the *limit in force*, which
cannot be above the mode's own watts, and a temporary *percentage* of that.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
from msgspec.structs import replace

from control_plane.simulator.machine import Model, Step, Timing

UNLIMITED_W = 99_999
"""`adjust_power_limit` with this value, or 0, takes the limit away (API v2.0.5; field note on 0)."""
LIMIT_FLOOR = 0.25
"""Share of nominal watts below which a limit is refused. Inferred: an M60 ran at 29 % of its 3600 W,
and 700 W of an M30S's 3400 was refused (hass-miner fork, issue 1)."""

UPFREQ_FASTEST = 10
FAST_BOOT_S = (50.0, 70.0)
"""Fast boot: about full load in a minute (WMC)."""
_FAST_PERCENT_LOSS = 0.95
_FAST_UPFREQ_LOSS = 0.975
"""Upfreq 8 to 10 costs 2–3 % (WMC). It calls the loss of a fast percentage "significant", without a
figure: 5 % is ours."""


class PowerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides the draw of a unit that mines."""

    mode: str
    limit_w: int | None = None
    """As asked for; may be above what the mode allows."""
    freq_percent: int = 0
    """`set_target_freq`: deviation from the normal frequency."""
    percent: int = 100
    """`set_power_pct` and `_v2`: until the mining process restarts."""
    percent_is_fast: bool = False
    upfreq_speed: int = 0
    fast_boot: bool = False


def mode_step(model: Model, mode: str) -> Step:
    """The ladder's step of a mode; the nominal one where the type has no such mode."""
    return model.step(mode) or model.step(model.nominal) or model.ladder[-1]


def limit_in_force_w(model: Model, settings: PowerSettings) -> int:
    """`Power Limit` as `summary` shows it: never above the mode's own watts."""
    watts = mode_step(model, settings.mode).power_w
    return round(watts if settings.limit_w is None else min(watts, settings.limit_w))


@lru_cache(maxsize=4096)
def step_for(model: Model, settings: PowerSettings) -> Step:
    """Where a unit of this type runs under these settings, between the steps of its ladder."""
    watts = mode_step(model, settings.mode).power_w * (100 + settings.freq_percent) / 100
    if settings.limit_w is not None:
        watts = min(watts, settings.limit_w)
    watts *= settings.percent / 100
    rate = _rate_at(model, watts)
    if settings.percent_is_fast and settings.percent < 100:  # noqa: PLR2004 — per cent
        rate *= _FAST_PERCENT_LOSS
    if settings.upfreq_speed >= 8:  # noqa: PLR2004 — WMC's fastest band
        rate *= _FAST_UPFREQ_LOSS
    return Step(name=settings.mode, hashrate_ths=rate, power_w=watts)


@lru_cache(maxsize=1024)
def timed(model: Model, *, upfreq_speed: int, fast_boot: bool, step_s: float) -> Model:
    """The same type with the times that a unit's own settings give it."""
    timing = Timing(
        # Boot and gap: no source gives figures; values of the stock model that pass for a
        # WhatsMiner, and readers may not rely on them.
        boot_s=(50.0, 90.0),
        gap_s=(8.0, 12.0) if fast_boot else (20.0, 35.0),
        ramp_s=FAST_BOOT_S if fast_boot else _upfreq_s(upfreq_speed),
        step_s=step_s,
        fall_s=5.0,
    )
    return replace(model, timing=timing)


def _upfreq_s(speed: int) -> tuple[float, float]:
    """Range of seconds to full hash: speed 5–6 gives 8–10 min, 8–10 gives 6–7 min (WMC).

    Slower speeds are that line drawn on: 10.5–14.5 min at 0, the factory setting.
    """
    slower = UPFREQ_FASTEST - speed
    return 360.0 + 27.0 * slower, 390.0 + 48.0 * slower


def _rate_at(model: Model, watts: float) -> float:
    """Nameplate TH/s at a wattage, on the line through standby and the steps of the ladder."""
    below_w, below_ths = model.standby_w, 0.0
    for step in model.ladder:
        if watts <= step.power_w:
            span = step.power_w - below_w
            share = max(0.0, watts - below_w) / span if span > 0 else 1.0
            return below_ths + (step.hashrate_ths - below_ths) * share
        below_w, below_ths = step.power_w, step.hashrate_ths
    return below_ths
