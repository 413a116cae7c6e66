"""A meter against the sum of the devices below it: the bias between the two, and what a large one means.

Devices estimate what they draw (+3.5 % and +8 % were seen, energy §2), so the sum is corrected by a slow
filter of meter over sum. A correction has limits; beyond them it is no correction, and a person looks.
"""

from __future__ import annotations

from enum import StrEnum
from math import exp
from typing import Final

import msgspec

from control_plane.core import limits


class Suspicion(StrEnum):
    """What a meter and the devices below it say together, where they cannot both be right."""

    TIMES_TEN = "times_ten"
    """A ratio of transformers ten, a hundred or a thousand times off, either way."""
    REVERSED = "reversed"
    """As much as the devices draw, with the other sign."""
    CT_DEAD = "ct_dead"
    """Two thirds: one of three current transformers measures nothing."""
    CT_REVERSED = "ct_reversed"
    """One third: one of three current transformers is the other way round."""
    ABOVE = "above"
    BELOW = "below"


WORDS: Final = {
    Suspicion.TIMES_TEN: "the ratio of its transformers is set wrong by a power of ten: correct it in the "
    "meter, or `scale` in power.yaml",
    Suspicion.REVERSED: "its current transformers are the other way round: turn them, or write "
    "`reversed: true`",
    Suspicion.CT_DEAD: "one of three current transformers measures nothing: look at its wires",
    Suspicion.CT_REVERSED: "one of three current transformers is the other way round: turn it",
    Suspicion.ABOVE: "more flows than its devices draw: load that nobody declared, theft, devices that the "
    "feed tree has elsewhere, or a wrong register map",
    Suspicion.BELOW: "less flows than its devices draw: a bad current transformer, devices that hang on "
    "another feed, or a wrong register map",
}
"""What is likely, and who does what about it."""

_NEAR: Final = 0.10
"""How far from such a ratio still is that ratio: devices' own bias is within this."""
_LIKELY: Final = (
    *((Suspicion.TIMES_TEN, 10.0**power) for power in (1, 2, 3, -1, -2, -3)),
    (Suspicion.REVERSED, -1.0),
    (Suspicion.CT_DEAD, 2 / 3),
    (Suspicion.CT_REVERSED, 1 / 3),
)


class Compared(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One moment of a node."""

    at_s: float
    meter_w: float
    devices_w: float
    """Sum of what the devices below it report."""
    unmanaged_w: float
    """Load below it that is declared, and reports nothing."""
    known_share: float = 1.0
    """Of the devices below it, by watts: those that were heard of lately."""

    @property
    def is_comparable(self) -> bool:
        """Whether the sum is worth being held against the meter."""
        return (
            self.known_share >= 1.0 - limits.METER_DARK_SHARE
            and self.devices_w >= limits.METER_COMPARED_FROM_W
            and self.devices_w >= self.unmanaged_w
        )

    @property
    def ratio(self) -> float:
        """What flows to devices over what they say."""
        return (self.meter_w - self.unmanaged_w) / self.devices_w

    @property
    def gross(self) -> float:
        """What the meter shows over all that should flow: a wrong ratio holds for what is unmanaged too."""
        return self.meter_w / (self.devices_w + self.unmanaged_w)


class Bias(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The slow filter of one node; as it is made, it knows nothing and corrects nothing."""

    ratio: float = 1.0
    """1+β before it is clamped."""
    gross: float = 1.0
    at_s: float | None = None
    seconds: float = 0.0
    """How much time it has seen."""

    @property
    def factor(self) -> float:
        """1+β: by which the devices' sum is multiplied."""
        return min(max(self.ratio, limits.METER_BIAS_MIN), limits.METER_BIAS_MAX)

    @property
    def suspicion(self) -> Suspicion | None:
        """What is wrong, once it has seen enough; `None`: a correction is all that is needed."""
        settled = self.seconds >= limits.METER_BIAS_SETTLED_S
        return suspicion_of(self.ratio, self.gross) if settled else None


def follow(bias: Bias, now: Compared) -> Bias:
    """The filter one moment later; what cannot be compared leaves it as it is."""
    if not now.is_comparable:
        return bias
    if bias.at_s is None:
        return Bias(ratio=now.ratio, gross=now.gross, at_s=now.at_s)
    step_s = now.at_s - bias.at_s
    if step_s <= 0:
        return bias
    # A gap weighs no more than the reading behind it.
    seen_s = min(step_s, limits.METER_BIAS_STEP_S)
    seconds = bias.seconds + seen_s
    # In the beginning the mean of all so far: the first reading is as good as any other.
    share = max(1.0 - exp(-seen_s / limits.METER_BIAS_TAU_S), seen_s / (seconds + seen_s))
    return Bias(
        ratio=bias.ratio + share * (now.ratio - bias.ratio),
        gross=bias.gross + share * (now.gross - bias.gross),
        at_s=now.at_s,
        seconds=seconds,
    )


def suspicion_of(ratio: float, gross: float) -> Suspicion | None:
    """What a meter and its devices mean together (`Compared`); `None` within what is corrected."""
    if limits.METER_BIAS_MIN <= ratio <= limits.METER_BIAS_MAX:
        return None
    for suspicion, typical in _LIKELY:
        if abs(gross / typical - 1.0) <= _NEAR:
            return suspicion
    return Suspicion.ABOVE if ratio > 1.0 else Suspicion.BELOW


def counted_w(meter_w: float | None, devices_w: float, unmanaged_w: float, bias: Bias) -> float:
    """What a node counts as for its cap: the larger of its meter and its devices.

    `meter_w` is `None` where the meter is stale or not to be believed.
    """
    by_devices_w = bias.factor * devices_w + unmanaged_w
    return by_devices_w if meter_w is None else max(meter_w, by_devices_w)
