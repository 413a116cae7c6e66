"""Who comes down so that a node draws no more than it is told to; the opposite of nobody asking."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from control_plane.core.actuators import HORIZONS_S
from control_plane.core.guard_bundle import Bundle, GuardDevice, GuardNode, Rung, paths_of
from control_plane.core.observation import Settings
from control_plane.core.overlay import Overlay, OverlayKind

_PREFIX: Final = "curtail"
GUARD: Final = "guard"
"""The programme of what a guard lowered; no other may have its name."""


class Curtailment(msgspec.Struct, frozen=True, kw_only=True):
    """What is given up below a node, and when it is gone."""

    node: str
    to_w: float
    before_w: float
    """What it counts at: what machines may draw, and what nobody manages."""
    after_w: float
    lowered: Mapping[str, Rung]
    """By asset."""
    gone_w: tuple[tuple[float, float], ...]
    """Seconds from the order, device time, and the watts that are gone by then; the last may not be all."""

    @property
    def is_enough(self) -> bool:
        """Whether the node comes down as far as it was told to."""
        return self.after_w <= self.to_w


def curtailed(
    bundle: Bundle, node: str, to_w: float, *, may_shed: Mapping[str, bool]
) -> Curtailment:
    """The cheapest way down: in the order of the bundle, until what is left counts at `to_w` or less.

    Args:
        bundle: the site; see `core.guard_making`.
        node: of the feed tree.
        to_w: what may be left.
        may_shed: by asset, whether its owner's contract lets a programme lower it; `False` where missing.
    """
    below = {n for n, path in paths_of(bundle.nodes).items() if node in path}
    devices = [d for d in bundle.devices if d.feed in below]
    before_w = sum(d.permitted_w for d in devices) + _standing_w(bundle.nodes, below)
    left_w, lowered = before_w, dict[str, Rung]()
    at: dict[str, float] = {d.asset: d.permitted_w for d in devices}
    for index, rung in bundle.order:
        if left_w <= to_w:
            break
        device = bundle.devices[index]
        if device.asset not in at or not may_shed.get(device.asset) or device.locked_until_s:
            continue
        step = device.rungs[rung]
        if step.power_w >= at[device.asset]:
            continue
        left_w -= at[device.asset] - step.power_w
        at[device.asset], lowered[device.asset] = step.power_w, step
    return Curtailment(
        node=node,
        to_w=to_w,
        before_w=before_w,
        after_w=left_w,
        lowered=lowered,
        gone_w=_gone(devices, lowered),
    )


def _standing_w(nodes: Iterable[GuardNode], below: set[str]) -> float:
    return sum(node.unmanaged_w for node in nodes if node.id in below)


def _gone(
    devices: Iterable[GuardDevice], lowered: Mapping[str, Rung]
) -> tuple[tuple[float, float], ...]:
    drops = [
        (lowered[d.asset].shows_in_s, d.permitted_w - lowered[d.asset].power_w)
        for d in devices
        if d.asset in lowered
    ]
    return tuple(
        (horizon, sum(w for shows_s, w in drops if shows_s <= horizon)) for horizon in HORIZONS_S
    )


def overlays_of(
    programme: str,
    what: Curtailment,
    *,
    owner: str,
    reason: str,
    now_s: float,
    expires_s: float | None = None,
) -> tuple[Overlay, ...]:
    """What puts a curtailment in force: one overlay for each step that machines come down to."""
    by_mode: dict[str | None, set[str]] = {}
    for asset, rung in what.lowered.items():
        by_mode.setdefault(rung.mode, set()).add(asset)
    return overlays_by_mode(
        programme,
        by_mode,
        owner=owner,
        reason=reason,
        now_s=now_s,
        expires_s=expires_s,
    )


def overlays_by_mode(
    programme: str,
    by_mode: Mapping[str | None, Collection[str]],
    *,
    kind: OverlayKind = OverlayKind.CURTAILMENT,
    owner: str,
    reason: str,
    now_s: float,
    expires_s: float | None = None,
) -> tuple[Overlay, ...]:
    """The overlays of a programme, from who comes down to which mode; `None`: who stops."""
    return tuple(
        Overlay(
            id=f"{_id(programme)}{mode or 'stop'}",
            kind=kind,
            # Its own name, which covers nothing: who is lowered stands beside it.
            node=f"{_PREFIX}/{programme}",
            owner=owner,
            reason=reason,
            since_s=now_s,
            expires_s=expires_s,
            assets=frozenset(assets),
            fields=Settings(mining=False) if mode is None else Settings(power_mode=mode),
        )
        for mode, assets in sorted(by_mode.items(), key=lambda item: item[0] or "")
    )


def _id(programme: str) -> str:
    return f"{_PREFIX}-{programme}-"


def of_programme(overlays: Iterable[Overlay], programme: str) -> tuple[Overlay, ...]:
    """The overlays of a programme."""
    return tuple(o for o in overlays if o.node == f"{_PREFIX}/{programme}")


def programmes_in(overlays: Iterable[Overlay]) -> tuple[str, ...]:
    """The programmes that are in force, by name."""
    names = {o.node.partition("/")[2] for o in overlays if o.node.startswith(f"{_PREFIX}/")}
    return tuple(sorted(names))
