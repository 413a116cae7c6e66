"""From mixed modes to one mode each: round down, then fill what that left, caps always kept."""

from __future__ import annotations

import numpy as np

from control_plane.core.allocation_input import NONE, Devices, Flags, Floats, Ints, Tree, load_at
from control_plane.core.allocation_pass import EPSILON_W, Kept, Order

_ROUNDS = 64
"""Of filling, at most: each takes what fits for all devices at once; a handful is what it needs."""
_FEW = 64
"""Devices on a feed: with more of them a single step is a small share of its cap."""
_GAIN_USD = 1e-9
"""Of a swap, an hour: below it is rounding."""


def rounded(devices: Devices, kept: Kept) -> Ints:
    """Steps of each device that were kept whole. A step is kept after all those below it."""
    whole = kept.width_w >= devices.width_w - EPSILON_W
    return np.bincount(devices.of[whole], minlength=len(devices.feed))


class Filling:
    """Takes further steps while they fit at every node above. Changes the `steps` it was given."""

    def __init__(self, tree: Tree, devices: Devices, order: Order, cap_w: Floats, steps: Ints):
        self._tree, self._devices, self._order = tree, devices, order
        self._of, self._rank = devices.of, devices.rank
        self._watts = np.cumsum(devices.width_w)
        """Up to each step, over all devices: only differences within one device are used."""
        self._value = np.cumsum(order.value)
        self._cap_w = cap_w
        self.steps = steps
        self.load_w = load_at(tree, devices.feed, devices.watts(steps))
        """Of each node."""

    def fill(self) -> None:
        """By slope where there is room for many, by gain where there is room for one, then by swaps."""
        self._take(by_slope=True)
        self._take(by_slope=False)
        self._swap()

    def _take(self, *, by_slope: bool) -> None:
        devices = self._devices
        for _ in range(_ROUNDS):
            # Room only shrinks: what does not fit now never will.
            fits_w = self._path_room()
            steps = np.flatnonzero(self._rank >= self.steps[self._of])
            steps = steps[devices.width_w[steps] <= fits_w[devices.feed[self._of[steps]]]]
            of = self._of[steps]
            now = devices.first[of] + self.steps[of] - 1
            """The last step that runs; where none does, the one before the device's first."""
            extra = self._watts[steps] - np.where(now >= 0, self._watts[now], 0.0)
            gain = self._value[steps] - np.where(now >= 0, self._value[now], 0.0)
            good = (gain > 0) & (extra <= fits_w[devices.feed[of]])
            if by_slope:
                good &= self._rank[steps] == self.steps[of]
            steps, extra, gain = steps[good], extra[good], gain[good]
            if not len(steps):
                return
            best = np.argsort(-self._order.slope[steps] if by_slope else -gain, kind="stable")
            _, once = np.unique(self._of[steps[best]], return_index=True)
            best = best[np.sort(once)]
            taken = self._that_fit(self._of[steps[best]], extra[best])
            self._add(steps[best][taken], extra[best][taken])

    def _swap(self) -> None:
        """On each feed, one device a step down for another a step up, where that earns more and fits."""
        devices, slope = self._devices, self._order.slope
        few = np.bincount(devices.feed, minlength=len(self.load_w)) <= _FEW
        of = np.flatnonzero(few[devices.feed])
        of = of[np.argsort(devices.feed[of], kind="stable")]
        up = of[self.steps[of] < np.diff(devices.first)[of]]
        down = of[self.steps[of] > 0]
        feed = devices.feed[up]
        begin = np.searchsorted(devices.feed[down], feed)
        many = np.searchsorted(devices.feed[down], feed, side="right") - begin
        nth = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        """Every device that could step up beside every one of its feed that could step down."""
        ups, downs = np.repeat(up, many), down[np.repeat(begin, many) + nth]
        gets = devices.first[ups] + self.steps[ups]
        gives = devices.first[downs] + self.steps[downs] - 1
        extra = devices.width_w[gets] - devices.width_w[gives]
        fits = (extra >= 0) & (extra <= self._path_room()[devices.feed[ups]]) & (ups != downs)
        pairs = np.flatnonzero(fits)
        gain = devices.width_w[gets[pairs]] * slope[gets[pairs]]
        gain -= devices.width_w[gives[pairs]] * slope[gives[pairs]]
        pairs, gain = pairs[gain > _GAIN_USD], gain[gain > _GAIN_USD]
        best = pairs[np.argsort(-gain, kind="stable")]
        _, once = np.unique(devices.feed[ups[best]], return_index=True)
        best = best[np.sort(once)]
        best = best[self._that_fit(ups[best], extra[best])]
        self.steps[downs[best]] -= 1
        self._add(gets[best], extra[best])

    def _add(self, steps: Ints, extra: Floats) -> None:
        of = self._of[steps]
        self.steps[of] = self._rank[steps] + 1
        self.load_w += load_at(self._tree, self._devices.feed[of], extra)

    def _path_room(self) -> Floats:
        """Of each node, the least room on the way up from it."""
        room = np.concatenate((self._cap_w - self.load_w, [np.inf]))
        least: Floats = room[self._tree.above].min(axis=0)
        return least

    def _that_fit(self, of: Ints, extra: Floats) -> Flags:
        """Which of the devices fit, each after all before it; the first one always does."""
        room = self._cap_w - self.load_w
        fits = np.ones(len(of), dtype=np.bool_)
        for level in self._tree.levels:
            node = self._tree.above[level][self._devices.feed[of]]
            asks = np.flatnonzero(fits & (node != NONE))
            asks = asks[np.argsort(node[asks], kind="stable")]
            if not len(asks):
                continue
            where, mine = node[asks], extra[asks]
            total = np.cumsum(mine)
            begins = np.flatnonzero(np.diff(where, prepend=NONE))
            before = (total - mine)[begins]
            total -= np.repeat(before, np.diff(begins, append=len(where)))
            fits[asks] = total <= room[where]
        return fits

    def reach(self, lower_w: Floats) -> None:
        """Take steps under nodes that rounding left below their lower bound, what they cost least first."""
        devices = self._devices
        for node in np.flatnonzero(self.load_w < lower_w - EPSILON_W):
            below = self._tree.is_below(int(node))
            while self.load_w[node] < lower_w[node] - EPSILON_W:
                of = np.flatnonzero(below[devices.feed] & (self.steps < np.diff(devices.first)))
                nexts = devices.first[of] + self.steps[of]
                fits = devices.width_w[nexts] <= self._path_room()[devices.feed[of]]
                if not fits.any():
                    break
                nexts = nexts[fits]
                best = nexts[np.argsort(-self._order.slope[nexts], kind="stable")[:1]]
                self._add(best, devices.width_w[best])
