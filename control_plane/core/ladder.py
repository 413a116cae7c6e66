"""What a device can do at which draw, and what that earns: `ModeLadder`, its hull, `Economics`.

Marginal, not average, J/TH decides who runs higher: the last step of an S19j Pro averages 29.7 J/TH
and costs 67.5 (energy §2). The hull drops steps that a mixture of their neighbours beats. It is taken
over watts and TH/s alone: the value of a step is linear in both, so prices move no corner of it.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise

import msgspec

from control_plane.core.fleet import Device, DeviceKind
from control_plane.core.units import THS_PER_PHS, W_PER_MW

HOURS_PER_DAY = 24
STANDBY = "standby"
"""The mode below every ladder: the device sleeps, and draws its standby watts."""


class LadderSource(StrEnum):
    """Where a ladder comes from."""

    LEARNED = "learned"
    """Read from this device, at its firmware version."""
    NAMEPLATE = "nameplate"
    """From the device type, by this unit's own bin."""


class LadderStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One mode of one unit."""

    mode: str
    power_w: float
    hashrate_ths: float
    tuned: bool = True
    """False: the firmware would tune for hours before it gives this; no allocation counts on it."""


class HullStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """From the corner below it (or standby) to one corner of the hull."""

    mode: str
    power_w: float
    hashrate_ths: float
    added_w: float
    """Above 0."""
    added_ths: float
    """Above 0, and less for each watt than in the step below."""

    @property
    def marginal_j_per_th(self) -> float:
        """What each further terahash costs in this step."""
        return self.added_w / self.added_ths


class ModeLadder(msgspec.Struct, frozen=True, kw_only=True):
    """All modes of one unit, and what it draws in none of them."""

    standby_w: float
    steps: tuple[LadderStep, ...]
    """In any order."""
    source: LadderSource
    at_s: float | None = None
    """When it was learned; `None` of a nameplate."""
    firmware: str | None = None
    """At which it was learned: another version has another ladder."""

    def hull(self, *, untuned: bool = False) -> tuple[HullStep, ...]:
        """The concave hull from standby up: watts ascend, marginal J/TH ascends strictly.

        Un-tuned steps are left out unless asked for. Steps that draw no more than standby, hash no
        more than a cheaper one or lie below a line between two others are dropped.
        """
        corners: list[tuple[float, float, str]] = [(self.standby_w, 0.0, STANDBY)]
        usable = (step for step in self.steps if step.tuned or untuned)
        for step in sorted(usable, key=lambda s: (s.power_w, -s.hashrate_ths, s.mode)):
            if step.power_w <= corners[-1][0] or step.hashrate_ths <= corners[-1][1]:
                continue
            corner = (step.power_w, step.hashrate_ths, step.mode)
            while len(corners) > 1 and _slope(corners[-2], corners[-1]) <= _slope(
                corners[-1], corner
            ):
                corners.pop()
            corners.append(corner)
        return tuple(
            HullStep(
                mode=mode,
                power_w=power_w,
                hashrate_ths=ths,
                added_w=power_w - below[0],
                added_ths=ths - below[1],
            )
            for below, (power_w, ths, mode) in pairwise(corners)
        )


def _slope(below: tuple[float, float, str], above: tuple[float, float, str]) -> float:
    return (above[1] - below[1]) / (above[0] - below[0])


def ladder_of(device: Device, learned: ModeLadder | None = None) -> ModeLadder:
    """The ladder of a unit: as learned, or its type's by its own bin and missing boards.

    Missing boards take their share of the watts too; standby draw stays. A GPU node has one step
    without hash: what its draw earns is no matter of a ladder.
    """
    if learned is not None:
        return learned
    kind = device.type
    share = 1.0
    if device.missing_boards and kind.boards:
        share = max(0, kind.boards - device.missing_boards) / kind.boards
    is_miner = kind.kind is DeviceKind.MINER
    return ModeLadder(
        standby_w=kind.standby_w,
        source=LadderSource.NAMEPLATE,
        steps=tuple(
            LadderStep(
                mode=step.name,
                power_w=kind.standby_w + (step.power_w - kind.standby_w) * share,
                hashrate_ths=step.hashrate_ths * device.scale() if is_miner else 0.0,
            )
            for step in kind.ladder
        ),
    )


def btc_per_ph_day(
    *, difficulty: float, subsidy_btc: float = 3.125, fee_share: float = 0.0
) -> float:
    """What one PH/s mines in a day at a difficulty; fees as a share of the subsidy."""
    blocks = 86_400 * 1e15 / (difficulty * 2**32)
    return blocks * subsidy_btc * (1.0 + fee_share)


class Economics(msgspec.Struct, frozen=True, kw_only=True):
    """What hash earns and energy costs."""

    hashprice_usd_per_ph_day: float
    energy_usd_per_mwh: float
    """May be negative: then the grid pays for taking it."""

    @property
    def usd_per_ths_hour(self) -> float:
        """What one TH/s earns in an hour."""
        return self.hashprice_usd_per_ph_day / THS_PER_PHS / HOURS_PER_DAY

    @property
    def usd_per_w_hour(self) -> float:
        """What one watt costs in an hour."""
        return self.energy_usd_per_mwh / W_PER_MW

    @property
    def break_even_j_per_th(self) -> float:
        """The marginal J/TH at which a step earns what it costs; infinite where energy is free."""
        if self.energy_usd_per_mwh <= 0:
            return float("inf")
        return self.usd_per_ths_hour / self.usd_per_w_hour

    def usd_per_hour(self, *, power_w: float, hashrate_ths: float) -> float:
        """Revenue less energy."""
        return hashrate_ths * self.usd_per_ths_hour - power_w * self.usd_per_w_hour


def best_step(ladder: ModeLadder, economics: Economics) -> HullStep | None:
    """Where a unit earns most with power enough for all; `None`: it earns more asleep."""
    best = None
    for step in ladder.hull():
        if economics.usd_per_hour(power_w=step.added_w, hashrate_ths=step.added_ths) <= 0:
            break
        best = step
    return best
