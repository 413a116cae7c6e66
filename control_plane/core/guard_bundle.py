"""What a guard is given beforehand, so that it needs nobody while it sheds: the bundle.

Whoever acts on the site makes one whenever declaration or settings change, and the guard keeps the last one
on disk. All that takes thought is in it already: which step of which machine is given up first, and how long
it takes to show at a meter. The guard looks at meters and follows the list.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from math import isfinite
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.trip_curve import DEFAULT, TripCurve, is_curve

FORM: Final = 1
"""Of the bundle as it is written; a guard reads this one and older ones."""


class BundleError(ValueError):
    """A bundle that cannot be followed; the guard keeps the one before, and pages."""


class GuardNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node of the feed tree, as its meter sees it: unmanaged load included."""

    id: str
    parent: str | None = None
    cap_w: float
    """Rating times derate, or what a programme or a person allows, where that is less."""
    rating_w: float
    curve: TripCurve = DEFAULT
    unmanaged_w: float = 0.0
    meter: str | None = None
    stale_s: float = limits.GUARD_METER_STALE_S
    """After which its reading says nothing any more, wire time."""
    bias: float = 0.0
    """By which part devices below it draw more than they are counted at, as learned from meters."""


class Rung(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step down."""

    mode: str | None = None
    """`None`: it stops mining."""
    power_w: float
    shows_in_s: float = 60.0
    """From an order to its watts at the meter, device time: the shed curve of its actuator and firmware."""


class GuardDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One machine: what its settings permit, and where it can be lowered to."""

    asset: str
    feed: str
    permitted_w: float
    """What it counts at: as last seen, or at nameplate where nobody knows."""
    rungs: tuple[Rung, ...] = ()
    """Descending, of the whole ladder: who sleeps now may be awake by then. None: nobody sheds it (a GPU
    node, a machine that nobody reaches, an owner's who locks it)."""
    locked_until_s: float = 0.0
    """Nobody touches it before: it is being flashed. Engine and guard have agreed on it beforehand."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of a site."""

    form: int = FORM
    site: str
    revision: str
    made_at_s: float
    nodes: tuple[GuardNode, ...]
    devices: tuple[GuardDevice, ...]
    order: tuple[tuple[int, int], ...]
    """Index of a device, and of a rung of it: what is given up first stands first. A rung stands behind those
    above it. What an owner protects stands behind all that nobody does."""


def checked(bundle: Bundle) -> Bundle:
    """The bundle, if it can be followed.

    Raises:
        BundleError: a newer form, no tree, or an order that would lift anything.
    """
    if bundle.form > FORM:
        raise BundleError(f"the bundle has form {bundle.form}; this guard reads up to {FORM}")
    names = {node.id: node for node in bundle.nodes}
    if len(names) != len(bundle.nodes):
        raise BundleError("a node of the feed tree stands twice")
    if sum(1 for node in bundle.nodes if node.parent is None) != 1:
        raise BundleError("the feed tree has not exactly one root")
    for node in bundle.nodes:
        _checked_path(node, names)
        if not (isfinite(node.cap_w + node.rating_w) and node.cap_w > 0 and node.rating_w > 0):
            raise BundleError(f"{node.id} has a cap of {node.cap_w:g} W of {node.rating_w:g} W")
        if not is_curve(node.curve):
            raise BundleError(f"{node.id} has a trip curve that cannot be")
    assets: set[str] = set()
    for device in bundle.devices:
        if device.feed not in names:
            raise BundleError(f"{device.asset} hangs on {device.feed}, which is no node")
        if device.asset in assets:
            raise BundleError(f"{device.asset} stands twice")
        assets.add(device.asset)
        watts = [device.permitted_w, *(rung.power_w for rung in device.rungs)]
        if not all(isfinite(one) and one >= 0 for one in watts):
            raise BundleError(f"{device.asset} counts at {watts}")
        if any(low >= high for high, low in pairwise(watts[1:])):
            raise BundleError(f"{device.asset}: a rung does not lower it")
    done: dict[int, int] = {}
    for index, rung in bundle.order:
        if not 0 <= index < len(bundle.devices) or rung != done.get(index, 0):
            raise BundleError(f"step {rung} of device {index} is not in turn")
        if rung >= len(bundle.devices[index].rungs):
            raise BundleError(f"{bundle.devices[index].asset} has no rung {rung}")
        done[index] = rung + 1
    return bundle


def _checked_path(node: GuardNode, names: dict[str, GuardNode]) -> None:
    seen, current = {node.id}, node
    while current.parent is not None:
        if current.parent not in names or current.parent in seen:
            raise BundleError(f"{node.id} does not lead to the root: {current.parent}")
        seen.add(current.parent)
        current = names[current.parent]


def paths_of(nodes: Iterable[GuardNode]) -> dict[str, tuple[str, ...]]:
    """Each node with those above it, leaf first; of a tree that `checked` has let through."""
    parents = {node.id: node.parent for node in nodes}
    paths: dict[str, tuple[str, ...]] = {}
    for name in parents:
        path: list[str] = []
        current: str | None = name
        while current is not None:
            path.append(current)
            current = parents[current]
        paths[name] = tuple(path)
    return paths
