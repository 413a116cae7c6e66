"""The profiles that LuxOS makes of one unit's EEPROM: 16 steps under its nameplate, 8 over it.

Every step is 25 MHz and about 0.15 V (Luxor documentation, "Preset Profiles"; a `profiles` reply of
an S19j Pro with LUXminer 2026.4.3: 545 MHz, 13.8 V, 3,126 W and 105.8 TH/s at step 0, 320 MHz,
12.45 V and 27.6 J/TH at step -9, and the lowest voltage, 11.88 V, at four steps). The nameplate is
the unit's own, so the same step is other watts, and the same name another step, on its neighbour.

A declared type names steps of its ladder `normal`, `under-4`, `over-2`: the profile that many steps
from the unit's own nameplate.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

import msgspec

from control_plane.simulator.machine import Model, Step, mix

LOWEST, HIGHEST = -16, 8
STEP_MHZ = 25
DEFAULT = "default"
NORMAL = "normal"
_STEP_V = 0.15
_FLOOR_V = 11.88
_WATTS_PER_STEP = 0.050
_HASH_PER_STEP = 0.046
"""Shares of nameplate that one step changes, where the type's ladder does not say: 157 W of 3,126 and
25 MHz of 545, from the reply named above."""
_LEAST = 0.2
"""Of nameplate; the lowest steps of the line would come near nothing."""
_SPREAD = 0.03
"""How far units' watts differ at the same step. No source gives a figure; ours."""
_BASES_MHZ = (490, 500, 510, 520, 530, 545)
"""Nameplate frequencies that are dealt out to units. 545 is recorded, the others are ours."""
_WORD = re.compile(r"(under|over)-(\d{1,2})")


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One profile of one unit, at nameplate hash: the machine's own bin comes on top."""

    name: str
    step: int
    mhz: int
    volts: float
    hashrate_ths: float
    watts: float

    def as_step(self) -> Step:
        """Where the machine runs under it."""
        return Step(
            name=mode_of(self.step), hashrate_ths=self.hashrate_ths, power_w=float(self.watts)
        )


Profiles = Mapping[int, Profile]
"""By step, ascending."""


def step_of(mode: str) -> int | None:
    """The step that a declared mode names; `None` for another word."""
    if mode == NORMAL:
        return 0
    found = _WORD.fullmatch(mode)
    if found is None:
        return None
    return int(found[2]) * (-1 if found[1] == "under" else 1)


def mode_of(step: int) -> str:
    """The word of a declaration for a step."""
    if step == 0:
        return NORMAL
    return f"under-{-step}" if step < 0 else f"over-{step}"


def profiles_of(model: Model, seed: int) -> Profiles:
    """The 25 profiles of the unit that `seed` stands for."""
    base_mhz = _BASES_MHZ[int(mix(seed, 51) * len(_BASES_MHZ))]
    base_v = 13.2 + 0.1 * round(6 * mix(seed, 52))
    own = 1.0 + _SPREAD * (2.0 * mix(seed, 53) - 1.0)
    made = {}
    for step in range(LOWEST, HIGHEST + 1):
        rate, watts = _at(model, step)
        mhz = base_mhz + STEP_MHZ * step
        made[step] = Profile(
            name=DEFAULT if step == 0 else f"{mhz}MHz",
            step=step,
            mhz=mhz,
            volts=round(max(_FLOOR_V, base_v + _STEP_V * step), 2),
            hashrate_ths=rate,
            watts=round(watts * own),
        )
    return made


def _at(model: Model, step: int) -> tuple[float, float]:
    """Nameplate TH/s and watts at a step: on the line through the ladder, and on from its ends."""
    points = sorted(
        (known, at.hashrate_ths, at.power_w)
        for at in model.ladder
        if (known := step_of(at.name)) is not None
    )
    nominal = model.step(model.nominal) or model.ladder[-1]
    if not points:
        points = [(0, nominal.hashrate_ths, nominal.power_w)]
    for (low, low_ths, low_w), (high, high_ths, high_w) in itertools.pairwise(points):
        if low <= step <= high:
            share = (step - low) / (high - low)
            return low_ths + (high_ths - low_ths) * share, low_w + (high_w - low_w) * share
    near, ths, watts = points[0] if step <= points[0][0] else points[-1]
    by = step - near
    return (
        max(_LEAST * nominal.hashrate_ths, ths + by * _HASH_PER_STEP * nominal.hashrate_ths),
        max(_LEAST * nominal.power_w, watts + by * _WATTS_PER_STEP * nominal.power_w),
    )
