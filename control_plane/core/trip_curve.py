"""How long a breaker bears too much: its thermal memory, filled by overload and emptied by time.

A trip unit integrates heat. Two short overloads with a short pause are nearly one long one; a timer that
starts anew with every overload would let them trip it. `TripCurve.add` keeps the part of the time to a trip
that is used up: at 1 the breaker may open.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import msgspec


class TripPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a curve."""

    load: float
    """Of the rating, above 1."""
    seconds: float
    """To the earliest trip, from cold."""


class TripCurve(msgspec.Struct, frozen=True, kw_only=True):
    """Time to the earliest trip over the load; straight between points where both axes are logarithms."""

    points: tuple[TripPoint, ...]
    """At least one; load ascends, seconds descend."""

    def seconds(self, load: float) -> float:
        """How long a load of so much of the rating is borne; infinite up to the rating.

        Between the rating and the first point as at the first point, above the last one as by the square
        of the current from there: heat is what trips.
        """
        if not load > 1.0:
            return math.inf
        first, last = self.points[0], self.points[-1]
        if load <= first.load:
            return first.seconds
        if load >= last.load:
            return last.seconds * (last.load / load) ** 2
        for low, high in pairwise(self.points):
            if load <= high.load:
                part = math.log(load / low.load) / math.log(high.load / low.load)
                return float(low.seconds * (high.seconds / low.seconds) ** part)
        raise AssertionError("points ascend")

    def add(self, used: float, load: float, seconds: float) -> float:
        """The part of the time to a trip that is used up after `seconds` more at `load`; never below 0."""
        if load > 1.0:
            return used + seconds / self.seconds(load)
        return max(0.0, used - seconds / COOLS_S)

    def left_s(self, used: float, load: float) -> float:
        """How long this load is still borne; infinite up to the rating, 0 where the breaker may open."""
        if load <= 1.0:
            return math.inf
        return max(0.0, 1.0 - used) * self.seconds(load)


def is_curve(curve: TripCurve) -> bool:
    """Whether it has points, above the rating, that ascend in load and descend in seconds."""
    points = curve.points
    if not points or not all(p.load > 1 and p.seconds > 0 for p in points):
        return False
    return all(a.load < b.load and a.seconds > b.seconds for a, b in pairwise(points))


COOLS_S: Final = 1800.0
"""From hot to cold, at or below the rating; ours: of the order of a trip unit's thermal time constant."""

DEFAULT: Final = TripCurve(
    points=(
        TripPoint(load=1.1, seconds=1020.0),
        TripPoint(load=1.4, seconds=60.0),
        TripPoint(load=2.0, seconds=10.0),
    )
)
"""Where a node declares none. The first two: what Dynamo (ISCA 2016) is quoted with for breakers of data
centres, unverified; the third is ours, below the long-time bands of moulded-case breakers."""
