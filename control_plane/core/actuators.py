"""How soon a firmware's watts are gone: data, and no arithmetic, so that a guard loads nothing for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

HORIZONS_S: Final = (10.0, 60.0, 600.0)
"""Contingency, guard and operating reserve: what promises and plans are made in."""


class ActuatorTiming(msgspec.Struct, frozen=True, kw_only=True):
    """How long a firmware takes from the command until the watts are gone."""

    sleep_s: float
    """Down to standby."""
    mode_s: float
    """Down to a lower mode's draw; infinite where none can be asked for."""
    source: str


INFINITE_S: Final = float("inf")
UNKNOWN: Final = ActuatorTiming(
    sleep_s=600.0, mode_s=INFINITE_S, source="ours: until a site has seen its machines do it"
)
TIMINGS: Final[Mapping[str, ActuatorTiming]] = {
    "antminer_stock": ActuatorTiming(
        sleep_s=600.0,
        mode_s=600.0,
        source="control S8: hash had not dropped 60 s after sleep; the write answers after some 21 s",
    ),
    "luxos": ActuatorTiming(
        sleep_s=10.0,
        mode_s=300.0,
        source="energy §2: the vendor says below 5 s; twice that is ours",
    ),
    "vnish": ActuatorTiming(
        sleep_s=60.0, mode_s=600.0, source="energy §6: an ASIC is down in 5 to 60 s; steps re-tune"
    ),
    "whatsminer_v2": ActuatorTiming(
        sleep_s=60.0,
        mode_s=600.0,
        source="energy §6: an ASIC is down in 5 to 60 s; limits restart it",
    ),
}
"""By firmware family, until learned: each replaced by what a site sees."""
