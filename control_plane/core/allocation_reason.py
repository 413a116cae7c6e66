"""Why a device runs in the mode that it does: `explain`."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import numpy as np

from control_plane.core.allocation import TOLERANCE_W, Allocation
from control_plane.core.allocation_input import Devices, Tree
from control_plane.core.units import W_PER_MW


class Limit(StrEnum):
    """What keeps a device from the next step."""

    NODE = "node"
    """A feed is full: its watts earn more elsewhere below it."""
    PRICE = "price"
    """The next step costs more than it earns."""
    TOP = "top"
    """There is no next step."""
    FIXED = "fixed"
    """Its power is not ours to choose: its owner's terms, a hold, a lock, a state."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One device's place in an allocation."""

    asset: str
    watts: float
    hashrate_ths: float
    limit: Limit
    node: str | None = None
    """Of `NODE`: the feed on the way up where a watt is worth most."""
    node_usd_per_mwh: float = 0.0
    """What one more megawatt for an hour is worth there."""
    is_contingency: bool = False
    """That feed's own cap is not what binds: a contingency, or its share of a pair."""
    running_j_per_th: float | None = None
    """Marginal, of the step it runs; `None` where it runs none, or none that hashes."""
    next_j_per_th: float | None = None
    """Marginal, of the step it would run next."""


def explain(tree: Tree, devices: Devices, allocation: Allocation, asset: str) -> Explanation:
    """Why the asset runs as it does. `ValueError` where it is none of the devices."""
    device = list(devices.assets).index(asset)
    begin, end = (int(n) for n in devices.first[device : device + 2])
    following = begin + int(allocation.steps[device])
    told = Explanation(
        asset=asset,
        watts=float(allocation.watts[device]),
        hashrate_ths=float(devices.hashrate(allocation.steps)[device]),
        limit=Limit.FIXED if begin == end else Limit.TOP,
        running_j_per_th=_marginal(devices, following - 1) if following > begin else None,
    )
    if following == end:
        return told
    path = tree.path(int(devices.feed[device]))
    node = path[int(np.argmax(allocation.kept.marginal[path]))]
    if allocation.slope[following] <= 0:
        return msgspec.structs.replace(
            told, limit=Limit.PRICE, next_j_per_th=_marginal(devices, following)
        )
    return msgspec.structs.replace(
        told,
        limit=Limit.NODE,
        node=tree.ids[node],
        node_usd_per_mwh=float(allocation.prices[node]) * W_PER_MW,
        is_contingency=bool(allocation.cap_w[node] < tree.cap_w[node] - TOLERANCE_W),
        next_j_per_th=_marginal(devices, following),
    )


def _marginal(devices: Devices, step: int) -> float | None:
    ths = float(devices.gain_ths[step])
    return float(devices.width_w[step]) / ths if ths > 0 else None
