"""Loads on the feed tree, and which raises fit: `admit`.

Until an allocator decides by value, raises are admitted best J/TH first while the sum of permitted
draws stays under every ancestor's derated rating. Counted are watts that *settings permit*, not
watts that are drawn: a device that is idle, booting or silent may ramp at any moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from control_plane.core.diff import permitted_w
from control_plane.core.fleet import Device, DeviceKind, Site, SlotState
from control_plane.core.observation import Settings


def gpu_node_w(device: Device, limit_w: float | None) -> float:
    """Watts that a GPU node may draw with each of its GPUs limited; without a limit its full draw.

    What is not GPUs (processors, fans, network) counts at full.
    """
    gpu = device.type.gpu
    full_w = device.type.nominal.power_w
    if gpu is None or limit_w is None:
        return full_w
    return full_w - device.type.gpus * max(0.0, gpu.max_limit_w - limit_w)


def counted_w(device: Device, settings: Settings | None) -> float:
    """What a device counts at for headroom.

    Vacant and in-repair slots hold nothing. Unknown, out-of-service and GPU devices count at
    nameplate until somebody can show otherwise (design §9).
    """
    if device.state in {SlotState.VACANT, SlotState.IN_REPAIR}:
        return 0.0
    if settings is None or device.type.kind is DeviceKind.GPU_NODE:
        return device.type.nominal.power_w
    if device.state is SlotState.OUT_OF_SERVICE:
        return device.type.nominal.power_w
    if settings.mining is None:
        return (
            device.type.nominal.power_w
            if settings.power_mode is None
            else permitted_w(device.type, settings)
        )
    return permitted_w(device.type, settings)


class Loads:
    """The sum of counted watts at every node of a feed tree; cheap to update.

    The one mutable value of core: it belongs to whoever made it and is never shared.
    """

    __slots__ = ("_counted", "_paths", "_root", "_sums", "_usable")

    def __init__(self, site: Site) -> None:
        self._usable = {node.id: node.usable_w for node in site.feeds.values()}
        self._paths = {feed: tuple(node.id for node in site.path(feed)) for feed in site.feeds}
        self._root = next(node.id for node in site.feeds.values() if node.parent is None)
        self._sums = dict.fromkeys(site.feeds, 0.0)
        for node in site.feeds.values():
            # Its own node has less to give for it (`usable_w`); for all nodes above it is load.
            for above in self._paths[node.id][1:]:
                self._sums[above] += node.unmanaged_w
        self._counted: dict[str, float] = {}
        for host in site.hosts:
            self.count(f"host:{host.name}", host.feed, host.power_w)

    def count(self, asset: str, feed: str, watts: float) -> None:
        """Count an asset at `watts` from now on."""
        delta = watts - self._counted.get(asset, 0.0)
        if delta:
            self._counted[asset] = watts
            sums = self._sums
            for node in self._paths[feed]:
                sums[node] += delta

    def count_released(self, asset: str, feed: str, watts: float) -> None:
        """Go on counting a device that left the declaration; at the root where its feed left too."""
        self.count(f"released:{asset}", feed if feed in self._paths else self._root, watts)

    def counted(self, asset: str) -> float:
        """Watts that the asset counts at; 0 where it was never counted."""
        return self._counted.get(asset, 0.0)

    def at(self, node: str) -> float:
        """Sum of counted watts below a node."""
        return self._sums[node]

    def usable_w(self, node: str) -> float:
        """What a node can bear."""
        return self._usable[node]

    def headroom_w(self, node: str) -> float:
        """Usable minus counted watts of a node; negative where it is over."""
        return self._usable[node] - self._sums[node]

    def binding(self, feed: str, *, extra_w: float) -> str | None:
        """The first node, from the leaf up, that `extra_w` more would push over; `None` if all fit."""
        for node in self._paths[feed]:
            if self._sums[node] + extra_w > self._usable[node] + TOLERANCE_W:
                return node
        return None


TOLERANCE_W = 0.5
"""Below the resolution of any nameplate: absorbs the rounding of long float sums."""


class Raise(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for more power."""

    asset: str
    feed: str
    target_w: float
    """What the device will count at when the raise is done."""
    j_per_th: float
    """At its target; the order of admission."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Who may raise now, and which node stops each of the others."""

    admitted: frozenset[str]
    refused: Mapping[str, str]
    """Asset → id of the binding node."""


def admit(loads: Loads, wishes: Iterable[Raise]) -> Admission:
    """Admit raises in order of J/TH, then asset id, and count each admitted one in `loads`."""
    admitted: set[str] = set()
    refused: dict[str, str] = {}
    for wish in sorted(wishes, key=lambda w: (w.j_per_th, w.asset)):
        extra = wish.target_w - loads.counted(wish.asset)
        node = loads.binding(wish.feed, extra_w=extra) if extra > 0 else None
        if node is None:
            loads.count(wish.asset, wish.feed, wish.target_w)
            admitted.add(wish.asset)
        else:
            refused[wish.asset] = node
    return Admission(admitted=frozenset(admitted), refused=refused)


def efficiency(device: Device, settings: Settings) -> float:
    """J/TH of this unit at the settings: permitted watts over its own nameplate hash there."""
    hashrate = device.hashrate_at(settings.power_mode)
    return permitted_w(device.type, settings) / hashrate if hashrate > 0 else float("inf")
