"""The allocator: which device runs in which mode, inside every cap of the feed tree.

Greedy by marginal value down the tree equals the optimum of the linear programme (`allocation_pass`);
rounding to whole modes and filling the rest stays within one mode step for each node that binds
(`allocation_round`). It is deterministic, has no clock and asks nobody: same arrays, same answer.

Caps outrank everything. What cannot be had within them (a lower bound, devices that are fixed above a
cap) is said in the result; that a node is above its cap by something that was decided here is a fault
of this module, and raises `CapExceeded`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from control_plane.core.allocation_input import (
    Devices,
    Floats,
    Ints,
    Joint,
    Tree,
    load_at,
    weighed,
)
from control_plane.core.allocation_pass import Kept, Order, own_prices
from control_plane.core.allocation_round import Filling, rounded
from control_plane.core.ladder import Economics

TOLERANCE_W = 1e-3
"""Of the last check: float sums of a gigawatt are off by less."""


class CapExceeded(AssertionError):
    """An allocation that is above a cap: a fault of the allocator. Nothing of it may be used."""


class Allocation(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One mode for each device, and why."""

    steps: Ints
    """How many steps of its hull each device runs; 0: standby, or fixed."""
    watts: Floats
    """Of each device."""
    load_w: Floats
    """Of each node."""
    cap_w: Floats
    """Of each node, the least of all contingencies; where a pair binds, the side's share of it."""
    usd_per_hour: float
    bound_usd_per_hour: float
    """No allocation earns more: the optimum with mixed modes, pairs and dead-band left out."""
    hashrate_ths: float
    kept: Kept
    slope: Floats
    """USD/Wh of each step; a dead-band is in it."""
    prices: Floats
    """USD/Wh: what one more watt at each node alone is worth."""
    unmet_w: Mapping[int, float]
    """Node → by how much its lower bound is missed."""
    overloaded_w: Mapping[int, float]
    """Node → by how much what is fixed or asleep there is above its cap, or what it has to bear for a
    lost side above its emergency rating; nothing else runs below it."""

    @property
    def gap(self) -> float:
        """How far below the bound, as a share of it."""
        return (self.bound_usd_per_hour - self.usd_per_hour) / abs(self.bound_usd_per_hour or 1.0)

    @property
    def usd_per_mwh(self) -> Floats:
        """What one more megawatt for an hour is worth at each node, at the margin."""
        per_mwh: Floats = self.prices * 1e6
        return per_mwh


def allocate(
    tree: Tree,
    devices: Devices,
    economics: Economics,
    *,
    contingencies: Sequence[Floats] = (),
    joints: Sequence[Joint] = (),
    keep_usd_per_mwh: float = 0.0,
) -> Allocation:
    """Allocate.

    `contingencies` are further caps by node, each of which the result fits. `joints` are what a node
    has to bear once others are dark. With `keep_usd_per_mwh` a device leaves the step it
    runs only for a gain above that. `ValueError` where a limit is no number.
    """
    limits_w = np.concatenate([*contingencies, [joint.limit_w for joint in joints]])
    if np.isnan(limits_w).any():
        raise ValueError("a contingency's cap or a pair's limit is not a number")
    cap_w = np.minimum.reduce([tree.cap_w, *contingencies])
    order = Order(tree, devices, economics, keep_usd_per_mwh=keep_usd_per_mwh)
    standing = devices.standing_value(economics)
    kept = order.run(cap_w, tree.lower_w)
    # What runs is worth more in `order` than it earns: the bound is taken without that.
    plain = Order(tree, devices, economics) if keep_usd_per_mwh else order
    best = plain.run(cap_w, tree.lower_w) if keep_usd_per_mwh else kept
    bound = standing + float((best.width_w * plain.slope).sum())
    # Ends: caps only fall, and a pair whose caps fit its limit is never over again.
    while _shared(tree, devices, order, kept, joints=joints, cap_w=cap_w):
        kept = order.run(cap_w, tree.lower_w)
    room_w = _apart(tree, devices, order, kept, joints=joints, cap_w=cap_w)
    filling = Filling(tree, devices, order, room_w, rounded(devices, kept))
    filling.reach(tree.lower_w)
    filling.fill()
    steps = filling.steps
    watts = devices.watts(steps)
    load_w = load_at(tree, devices.feed, watts)
    over = order.standing_w - np.minimum.reduce([tree.cap_w, *contingencies])
    for joint in joints:
        stands_w = float(order.standing_w[joint.nodes].sum())
        over[joint.onto] = max(over[joint.onto], stands_w - joint.limit_w)
    short = tree.lower_w - load_w
    allocation = Allocation(
        steps=steps,
        watts=watts,
        load_w=load_w,
        cap_w=cap_w,
        usd_per_hour=standing + float(devices.up_to(devices.value(economics), steps).sum()),
        bound_usd_per_hour=bound,
        hashrate_ths=float(devices.hashrate(steps).sum()),
        kept=kept,
        slope=order.slope,
        prices=own_prices(tree, kept.marginal),
        unmet_w={int(n): float(short[n]) for n in np.flatnonzero(short > TOLERANCE_W)},
        overloaded_w={int(n): float(over[n]) for n in np.flatnonzero(over > TOLERANCE_W)},
    )
    _check(tree, order, allocation, (tree.cap_w, *contingencies), joints)
    return allocation


def _shared(
    tree: Tree,
    devices: Devices,
    order: Order,
    kept: Kept,
    *,
    joints: Sequence[Joint],
    cap_w: Floats,
) -> bool:
    """Lower the caps of nodes whose loads would be too much together, each by what it has of least value.

    Of the steps kept on all of them the best ones that fit stay, and each one's cap becomes what it has
    of those. Whether any cap was lowered.
    """
    of = devices.of
    load_w = _mixed_load(tree, devices, order, kept)
    lowered = False
    for joint in joints:
        stands_w = float(order.standing_w[joint.nodes].sum())
        limit_w = max(joint.limit_w, stands_w)
        if load_w[joint.nodes].sum() <= limit_w + TOLERANCE_W / 10:
            continue
        is_on = [tree.is_below(node)[devices.feed[of]] for node in joint.nodes]
        steps = np.flatnonzero(np.logical_or.reduce(is_on) & (kept.width_w > 0))
        steps = steps[np.argsort(-order.slope[steps], kind="stable")]
        widths = kept.width_w[steps]
        fits = np.clip(limit_w - stands_w - (np.cumsum(widths) - widths), 0.0, widths)
        for node, is_there in zip(joint.nodes, is_on, strict=True):
            share_w = order.standing_w[node] + float(fits[is_there[steps]].sum())
            cap_w[node] = min(cap_w[node], share_w)
        lowered = True
    return lowered


def _apart(
    tree: Tree,
    devices: Devices,
    order: Order,
    kept: Kept,
    *,
    joints: Sequence[Joint],
    cap_w: Floats,
) -> Floats:
    """Caps for what is filled after rounding: what a pair has left is dealt out, for nobody looks at both."""
    if not joints:
        return cap_w
    room_w = cap_w.copy()
    load_w = _mixed_load(tree, devices, order, kept)
    for joint in joints:
        left_w = max(0.0, joint.limit_w - float(load_w[joint.nodes].sum())) / len(joint.nodes)
        room_w[joint.nodes] = np.minimum(room_w[joint.nodes], load_w[joint.nodes] + left_w)
    return room_w


def _mixed_load(tree: Tree, devices: Devices, order: Order, kept: Kept) -> Floats:
    kept_w = weighed(devices.of, kept.width_w, len(devices.feed))
    return order.standing_w + load_at(tree, devices.feed, kept_w)


def _check(
    tree: Tree,
    order: Order,
    allocation: Allocation,
    caps: Sequence[Floats],
    joints: Sequence[Joint],
) -> None:
    """Nothing that was decided stands above a cap, in any contingency."""
    load_w, standing_w = allocation.load_w, order.standing_w
    for cap_w in caps:
        over = load_w - np.maximum(cap_w, standing_w)
        worst = int(np.argmax(over))
        if not over[worst] <= TOLERANCE_W:
            raise CapExceeded(
                f"{tree.ids[worst]}: {load_w[worst]:,.3f} W allocated, {cap_w[worst]:,.3f} W is its cap"
            )
    for joint in joints:
        bears_w = load_w[joint.nodes].sum()
        if not bears_w <= max(joint.limit_w, standing_w[joint.nodes].sum()) + TOLERANCE_W:
            lost = ", ".join(tree.ids[node] for node in joint.lost)
            raise CapExceeded(
                f"{tree.ids[joint.onto]}: {bears_w:,.3f} W once {lost} is dark, "
                f"{joint.limit_w:,.3f} W is what it bears"
            )


def worth_usd_per_hour(
    tree: Tree, devices: Devices, economics: Economics, node: int, *, extra_w: float = 1e6
) -> float:
    """What `extra_w` more at a node would earn, all of it: the margin falls on the way there."""
    order = Order(tree, devices, economics)
    more = tree.cap_w.copy()
    more[node] += extra_w
    before, after = (order.run(cap_w, tree.lower_w).width_w for cap_w in (tree.cap_w, more))
    return float(((after - before) * order.slope).sum())
