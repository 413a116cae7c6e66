"""The greedy pass over a feed tree: what each hull step keeps under caps and lower bounds.

With concave values on a tree of caps, taking steps by slope, node by node from the leaves up, is the
optimum of the linear programme (energy §3; the tests hold it against HiGHS).
"""

from __future__ import annotations

import msgspec
import numpy as np

from control_plane.core.allocation_input import (
    NONE,
    Devices,
    Floats,
    Ints,
    Tree,
    load_at,
    weighed,
)
from control_plane.core.ladder import Economics

EPSILON_W = 1e-6
"""Rounding of float sums over a gigawatt of devices."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The optimum with modes that may be mixed."""

    width_w: Floats
    """Kept of each step."""
    cut_at: Ints
    """The first node from the leaf up that cut a step; `NONE`: none did."""
    marginal: Floats
    """USD/Wh of the best step that each node cut; 0 where it cut none that pays."""


class Order:
    """The steps by slope, and the node of each at every level. Prices change it, caps do not."""

    __slots__ = ("_by_slope", "_nodes", "_standing_w", "_tree", "_width_w", "slope", "value")

    def __init__(
        self, tree: Tree, devices: Devices, economics: Economics, *, keep_usd_per_mwh: float = 0.0
    ) -> None:
        """`keep_usd_per_mwh` is the dead-band: what steps that run now are worth on top."""
        self._tree = tree
        self._width_w = devices.width_w
        self._standing_w = load_at(tree, devices.feed, devices.standing_w)
        of, rank = devices.of, devices.rank
        self.value = devices.value(economics)
        """USD/h of each step, the dead-band with it."""
        if keep_usd_per_mwh:
            runs = rank < devices.current[of]
            self.value = self.value + runs * devices.width_w * (keep_usd_per_mwh / 1e6)
        self.slope = self.value / devices.width_w
        """USD/Wh of each step; never above that of the step below it."""
        for k in range(1, int(rank.max(initial=0)) + 1):
            later = np.flatnonzero(rank == k)
            self.slope[later] = np.minimum(self.slope[later], self.slope[later - 1])
        self._by_slope = np.argsort(-self.slope, kind="stable")
        feed = devices.feed[of[self._by_slope]]
        self._nodes = {level: tree.above[level][feed] for level in tree.levels}

    @property
    def standing_w(self) -> Floats:
        """Of each node: what no allocation takes away."""
        return self._standing_w

    def run(self, cap_w: Floats, lower_w: Floats) -> Kept:
        """One pass. Caps outrank lower bounds: what does not fit is not kept."""
        slope = self.slope[self._by_slope]
        has_lower = bool((lower_w > self._standing_w).any())
        free = self._width_w[self._by_slope]
        if not has_lower:  # Nothing can ask for steps that do not pay.
            free = np.where(slope > 0, free, 0.0)
        forced = np.zeros(len(free))
        """Of each step, what a lower bound below asks for; it goes before all others."""
        cut_at = np.full(len(free), NONE)
        marginal = np.zeros(len(cap_w))
        for level in self._tree.levels:
            node = self._nodes[level]
            room = cap_w - self._standing_w
            if has_lower:
                forced = _that_fit(forced, node, room)
                room = room - _sums(forced, node, len(cap_w))
            before = free
            free = _that_fit(free, node, room)
            if free is not before:
                cut = np.flatnonzero(before - free > EPSILON_W)
                cut_at[cut] = np.where(cut_at[cut] == NONE, node[cut], cut_at[cut])
                # Steepest first: of each node's cuts the first one is the best.
                nodes, where = np.unique(node[cut], return_index=True)
                marginal[nodes] = np.maximum(0.0, slope[cut[where]])
            if has_lower:
                lack = lower_w - self._standing_w - _sums(forced, node, len(cap_w))
                asked = np.where(node == NONE, 0.0, _that_fit(free, node, lack))
                forced, free = forced + asked, free - asked
        kept = np.empty(len(free))
        kept[self._by_slope] = forced + np.where(slope > 0, free, 0.0)
        cuts = np.empty(len(free), dtype=np.int64)
        cuts[self._by_slope] = cut_at
        return Kept(width_w=kept, cut_at=cuts, marginal=marginal)


def _sums(width: Floats, node: Ints, nodes: int) -> Floats:
    """Sum at each node; steps at no node of this level count nowhere."""
    return weighed(node + 1, width, nodes + 1)[1:]


def _that_fit(width: Floats, node: Ints, room: Floats) -> Floats:
    """Of each node's steps in their order those that fit its room; the one astride is cut.

    The same array where all fit. Only steps of nodes that are over are sorted.
    """
    over = _sums(width, node, len(room)) > room + EPSILON_W
    if not over.any():
        return width
    here = np.flatnonzero(np.concatenate((over, [False]))[node])
    if np.count_nonzero(over) > 1:
        key = node[here]
        # Sixteen bits are sorted by counting.
        key = key.astype(np.uint16) if len(room) < 2**16 else key
        here = here[np.argsort(key, kind="stable")]
    where, mine = node[here], width[here]
    before = np.cumsum(mine) - mine
    begins = np.flatnonzero(np.diff(where, prepend=NONE))
    before -= np.repeat(before[begins], np.diff(begins, append=len(where)))
    fits = width.copy()
    fits[here] = np.minimum(np.maximum(room[where] - before, 0.0), mine)
    return fits


def own_prices(tree: Tree, marginal: Floats) -> Floats:
    """What one more watt at a node alone is worth, USD/Wh: what it cut, less what an ancestor would cut."""
    price = np.zeros(len(marginal))
    highest = np.zeros(len(marginal))
    """Of the ancestors' marginals; from the root down."""
    for level in reversed(tree.levels):
        node = np.flatnonzero(tree.above[level] == np.arange(len(marginal)))
        parent = tree.parent[node]
        if level:
            highest[node] = np.maximum(highest[parent], marginal[parent])
        price[node] = np.maximum(0.0, marginal[node] - highest[node])
    return price
