"""What the allocator is given, as arrays: `Tree`, `Devices`, `Joint`.

One row for each node, device and hull step. Nodes and devices are numbers here; their names stand in
`ids` and `assets`. Whoever makes these takes caps net of everything that is no device of theirs:
`cap = (derate * rating * (1 - guard) - unmanaged) / (1 + bias)` (energy §3).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate

import msgspec
import numpy as np
from numpy.typing import NDArray

from control_plane.core.ladder import Economics, HullStep

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NONE = -1
"""No node: above the root, and at levels below a node's own."""


class Tree(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A feed tree. Made by `tree_of`."""

    ids: tuple[str, ...]
    parent: Ints
    """`NONE` of the root."""
    cap_w: Floats
    """What all devices below may draw together; infinite where nothing bounds them."""
    lower_w: Floats
    """What they have to draw together at least (ramp-down limits, floors); 0: nothing."""
    above: Ints
    """levels × nodes: the node's ancestor at each level, itself at its own, `NONE` below. The root is 0."""

    @property
    def levels(self) -> range:
        """From the leaves up to the root."""
        return range(self.above.shape[0] - 1, -1, -1)

    def path(self, node: int) -> list[int]:
        """The node and its ancestors, leaf first."""
        return [int(n) for n in self.above[::-1, node] if n != NONE]

    def is_below(self, node: int) -> Flags:
        """Which nodes are the node or below it."""
        level = len(self.path(node)) - 1
        below: Flags = self.above[level] == node
        return below


def tree_of(
    ids: Sequence[str],
    parent: Sequence[int] | Ints,
    cap_w: Sequence[float] | Floats,
    lower_w: Sequence[float] | Floats | None = None,
) -> Tree:
    """A tree of parents in any order. `ValueError` where it is none, or a watt is no number."""
    up = np.asarray(parent, dtype=np.int64)
    cap = np.asarray(cap_w, dtype=np.float64)
    lower = np.zeros(len(ids)) if lower_w is None else np.asarray(lower_w, dtype=np.float64)
    if not len(ids) == len(up) == len(cap) == len(lower):
        raise ValueError("ids, parents, caps and lower bounds are not of one length")
    if np.isnan(cap).any() or not np.isfinite(lower).all():
        raise ValueError("a cap or a lower bound is not a number")
    if np.count_nonzero(up == NONE) != 1 or up.min() < NONE or up.max() >= len(ids):
        raise ValueError("not exactly one node has no parent")
    chain = [np.arange(len(ids))]
    """Each node's ancestors, itself first."""
    while (chain[-1] != NONE).any():
        if len(chain) > len(ids):
            raise ValueError("a node is above itself")
        chain.append(np.where(chain[-1] == NONE, NONE, up[chain[-1]]))
    depth = np.sum([step != NONE for step in chain], axis=0) - 1
    above = np.full((len(chain) - 1, len(ids)), NONE, dtype=np.int64)
    for steps, node in enumerate(chain[:-1]):
        there = node != NONE
        above[depth[there] - steps, np.flatnonzero(there)] = node[there]
    return Tree(ids=tuple(ids), parent=up, cap_w=cap, lower_w=lower, above=above)


class Joint(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has to bear once others are dark: its own load, and that of all sides that move to it.

    No two of these nodes are above one another. The loss of a side makes one joint for its other side,
    and one for each node above that which is not above the lost side as well.
    """

    lost: tuple[int, ...]
    onto: int
    limit_w: float
    """What `onto` bears in an emergency, net of what is no device of ours on any of them."""

    @property
    def nodes(self) -> list[int]:
        """All whose loads come together."""
        return [self.onto, *self.lost]


class Participation(StrEnum):
    """What an owner's contract lets us do with a machine's power."""

    SHEDDABLE = "sheddable"
    PROTECTED = "protected"
    LOCKED = "locked"
    """Also while something is flashed, held or out for repair."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """A contract, as it stands now."""

    participation: Participation
    hours_left: float | None = None
    """Of curtailment that the owner granted in this period; `None`: no end."""
    notice_s: float = 0.0
    """How long the owner is told before."""

    def is_free(self, *, told_s: float) -> bool:
        """Whether the allocator may choose the mode, `told_s` after the owner was told."""
        is_left = self.hours_left is None or self.hours_left > 0
        return self.participation is Participation.SHEDDABLE and is_left and told_s >= self.notice_s


class Load(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One device. Without a hull it is fixed at what it stands at, and counts for every cap."""

    asset: str
    feed: int
    standing_w: float
    """Standby of a free device; what a fixed one may draw: with settings unknown, its nameplate."""
    hull: tuple[HullStep, ...] = ()
    earns_usd_per_hour: tuple[float, ...] = ()
    """What each step of the hull adds besides hash (work of a GPU); empty: nothing."""
    standing_ths: float = 0.0
    current: int = 0
    """How many steps of the hull it runs now."""


class Devices(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All devices, and all steps of their hulls in one row after the other."""

    assets: Sequence[str]
    feed: Ints
    standing_w: Floats
    standing_ths: Floats
    current: Ints
    first: Ints
    """Where each device's steps begin, and behind the last one their number."""
    width_w: Floats
    """Of each step: what it adds."""
    gain_ths: Floats
    gain_usd_per_hour: Floats

    @property
    def of(self) -> Ints:
        """The device of each step."""
        return np.repeat(np.arange(len(self.feed)), np.diff(self.first))

    @property
    def rank(self) -> Ints:
        """The place of each step in its device's hull, from 0."""
        return np.arange(len(self.width_w)) - np.repeat(self.first[:-1], np.diff(self.first))

    def value(self, economics: Economics) -> Floats:
        """USD/h that each step adds."""
        value: Floats = self.gain_ths * economics.usd_per_ths_hour + self.gain_usd_per_hour
        return value - self.width_w * economics.usd_per_w_hour

    def standing_value(self, economics: Economics) -> float:
        """USD/h of all devices as they stand."""
        return economics.usd_per_hour(
            power_w=float(self.standing_w.sum()), hashrate_ths=float(self.standing_ths.sum())
        )

    def up_to(self, gains: Floats, steps: Ints) -> Floats:
        """Sum of a device's gains over its first `steps` steps."""
        total = np.concatenate(([0.0], np.cumsum(gains)))
        up_to: Floats = total[self.first[:-1] + steps] - total[self.first[:-1]]
        return up_to

    def watts(self, steps: Ints) -> Floats:
        """What each device draws with that many steps."""
        return self.standing_w + self.up_to(self.width_w, steps)

    def hashrate(self, steps: Ints) -> Floats:
        """TH/s of each device with that many steps."""
        return self.standing_ths + self.up_to(self.gain_ths, steps)


def devices_of(loads: Sequence[Load]) -> Devices:
    """The arrays of the loads, in their order. `ValueError` where a watt is no number or negative."""
    first = list(accumulate((len(load.hull) for load in loads), initial=0))
    steps = [step for load in loads for step in load.hull]
    earns = [usd for load in loads for usd in (load.earns_usd_per_hour or (0.0,) * len(load.hull))]
    if len(earns) != len(steps):
        raise ValueError("a load earns for more or fewer steps than its hull has")
    devices = Devices(
        assets=tuple(load.asset for load in loads),
        feed=np.array([load.feed for load in loads], dtype=np.int64),
        standing_w=np.array([load.standing_w for load in loads], dtype=np.float64),
        standing_ths=np.array([load.standing_ths for load in loads], dtype=np.float64),
        current=np.array([min(load.current, len(load.hull)) for load in loads], dtype=np.int64),
        first=np.array(first, dtype=np.int64),
        width_w=np.array([step.added_w for step in steps], dtype=np.float64),
        gain_ths=np.array([step.added_ths for step in steps], dtype=np.float64),
        gain_usd_per_hour=np.array(earns, dtype=np.float64),
    )
    watts = np.concatenate((devices.standing_w, devices.width_w))
    if not (np.isfinite(watts).all() and (watts >= 0).all()):
        raise ValueError("a device draws a number of watts that is none")
    return devices


def weighed(index: Ints, weights: Floats, length: int) -> Floats:
    """The sum of the weights at each index below `length`."""
    sums: Floats = np.bincount(index, weights=weights, minlength=length)  # type: ignore[assignment]
    return sums


def load_at(tree: Tree, feed: Ints, watts: Floats) -> Floats:
    """Sum of watts below each node, and on it."""
    on = weighed(feed, watts, len(tree.ids))
    total = np.zeros(len(tree.ids))
    for level in tree.levels:
        node = tree.above[level]
        there = node != NONE
        total += weighed(node[there], on[there], len(tree.ids))
    return total
