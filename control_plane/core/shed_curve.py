"""What can be shed below a node, how soon, and at what loss; what its power is worth.

A promise in megawatts without a time is none: LuxOS sleeps in seconds, stock firmware of an Antminer
may take minutes. So each curve has a horizon, and counts what actuators of this site reach by then.
Curves come from the arrays of one allocation, so a guard or an event answers from them by a binary
search, without an optimiser (energy §3, §5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from control_plane.core.actuators import TIMINGS, UNKNOWN, ActuatorTiming
from control_plane.core.allocation_input import Devices, Flags, Floats, Ints, Tree, weighed
from control_plane.core.allocation_pass import Order
from control_plane.core.ladder import Economics


def timings_of(
    families: Sequence[str], learned: Mapping[str, ActuatorTiming] | None = None
) -> tuple[Floats, Floats]:
    """Seconds to sleep and to a lower mode of each device, by its family; what was learned wins."""
    known = {**TIMINGS, **(learned or {})}
    timings = [known.get(family, UNKNOWN) for family in families]
    return (
        np.array([timing.sleep_s for timing in timings], dtype=np.float64),
        np.array([timing.mode_s for timing in timings], dtype=np.float64),
    )


class Shed(msgspec.Struct, frozen=True, kw_only=True):
    """What to tell whom for a number of watts."""

    watts: float
    """At least what was asked for, by less than the last block; all there is where that is less."""
    usd_per_hour: float
    """Lost; below 0 where what goes ran at a loss."""
    steps: Mapping[int, int]
    """Device → how many steps of its hull it keeps."""


class ShedCurve(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Blocks in the order in which they go, what costs least for each watt first."""

    watts: Floats
    """Shed up to each block and with it; ascends strictly."""
    usd_per_hour: Floats
    """Lost by then; convex in watts."""
    device: Ints
    keeps: Ints
    """How many steps the device keeps after the block."""

    @property
    def most_w(self) -> float:
        """All that goes within the horizon."""
        return float(self.watts[-1]) if len(self.watts) else 0.0

    def shed(self, target_w: float) -> Shed:
        """The blocks that make up `target_w`."""
        if target_w <= 0 or not len(self.watts):
            return Shed(watts=0.0, usd_per_hour=0.0, steps={})
        last = min(int(np.searchsorted(self.watts, target_w)), len(self.watts) - 1)
        blocks = zip(self.device[: last + 1].tolist(), self.keeps[: last + 1].tolist(), strict=True)
        return Shed(
            watts=float(self.watts[last]),
            usd_per_hour=float(self.usd_per_hour[last]),
            steps=dict(blocks),  # A device's later block keeps fewer: the last one stands.
        )


class ShedCurves:
    """The curves of all nodes below one allocation."""

    __slots__ = ("_devices", "_mode_s", "_obeys", "_of", "_rank", "_sleep_s", "_steps", "_tree",
                 "_value")  # fmt: skip

    def __init__(
        self,
        tree: Tree,
        devices: Devices,
        economics: Economics,
        steps: Ints,
        *,
        sleep_s: Floats,
        mode_s: Floats,
        obeys: Flags | None = None,
    ) -> None:
        """`steps` are what runs now; devices that did not obey lately promise nothing."""
        self._tree, self._devices, self._steps = tree, devices, steps
        self._of, self._rank = devices.of, devices.rank
        self._value = devices.value(economics)
        self._sleep_s, self._mode_s = sleep_s, mode_s
        self._obeys = np.ones(len(steps), dtype=np.bool_) if obeys is None else obeys

    def at(self, node: int, within_s: float) -> ShedCurve:
        """What can be gone below a node within a time."""
        devices, of, rank = self._devices, self._of, self._rank
        mine = self._tree.is_below(node)[devices.feed] & self._obeys
        sleeps = mine & (self._sleep_s <= within_s)
        steps_down = mine & (self._mode_s <= within_s)
        runs = rank < self._steps[of]
        # Step by step where there is time for that; without time to sleep the lowest one stays.
        by_step = np.flatnonzero(runs & steps_down[of] & (sleeps[of] | (rank > 0)))
        # At once, all that it runs, where there is only time to sleep.
        whole = sleeps & ~steps_down & (self._steps > 0)
        asleep = np.flatnonzero(whole)
        part = np.flatnonzero(runs & whole[of])
        count = len(devices.feed)
        width = np.concatenate(
            (devices.width_w[by_step], weighed(of[part], devices.width_w[part], count)[asleep])
        )
        value = np.concatenate(
            (self._value[by_step], weighed(of[part], self._value[part], count)[asleep])
        )
        device = np.concatenate((of[by_step], asleep))
        keeps = np.concatenate((rank[by_step], np.zeros(len(asleep), dtype=np.int64)))
        # Of equal worth, the upper step of a device before the lower.
        order = np.lexsort((-keeps, value / width))
        return ShedCurve(
            watts=np.cumsum(width[order]),
            usd_per_hour=np.cumsum(value[order]),
            device=device[order],
            keeps=keeps[order],
        )


class ValueCurve(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a node earns at each draw, modes mixed: the curve that bids are read from."""

    watts: Floats
    """Corners: from what stands there up to all that pays below the node's own sub-caps."""
    usd_per_hour: Floats
    """At each corner; concave."""

    def usd_at(self, cap_w: float) -> float:
        """USD/h of the node with `cap_w`; what stands there where that is more."""
        return float(np.interp(cap_w, self.watts, self.usd_per_hour))

    def bid_usd_per_mwh(self, cap_w: float) -> float:
        """What the next watt above `cap_w` earns beyond its energy; 0 where none does."""
        corner = max(1, int(np.searchsorted(self.watts, cap_w, side="right")))
        if corner >= len(self.watts):
            return 0.0
        rise = self.usd_per_hour[corner] - self.usd_per_hour[corner - 1]
        return float(rise / (self.watts[corner] - self.watts[corner - 1])) * 1e6


def value_curve(tree: Tree, devices: Devices, economics: Economics, node: int) -> ValueCurve:
    """One pass in which the node and all above it are uncapped; lower bounds are left out."""
    cap_w = tree.cap_w.copy()
    cap_w[tree.path(node)] = np.inf
    order = Order(tree, devices, economics)
    kept = order.run(cap_w, np.zeros(len(cap_w)))
    here = tree.is_below(node)[devices.feed]
    steps = np.flatnonzero(here[devices.of] & (kept.width_w > 0))
    steps = steps[np.argsort(-order.slope[steps], kind="stable")]
    stands_w, stands_ths = (
        float(of_each[here].sum()) for of_each in (devices.standing_w, devices.standing_ths)
    )
    stands_usd = economics.usd_per_hour(power_w=stands_w, hashrate_ths=stands_ths)
    width = kept.width_w[steps]
    return ValueCurve(
        watts=stands_w + np.concatenate(([0.0], np.cumsum(width))),
        usd_per_hour=stands_usd + np.concatenate(([0.0], np.cumsum(width * order.slope[steps]))),
    )
