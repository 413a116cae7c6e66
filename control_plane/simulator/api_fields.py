"""Who owns which field of an object: the part of server-side apply that controllers lean on.

Objects are held as trees: a list whose items are told apart by keys becomes a map of them, so that everything
below is about nested maps and their leaves. Any other list is one leaf, as a custom resource's is by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from control_plane.core.cluster import Conflict

KEYED: Mapping[str, tuple[str, ...]] = {
    "approvals": ("owner", "field", "by"),
    "conditions": ("type",),
    "entries": ("asset",),
    "exceptions": ("reason",),
    "ownerReferences": ("uid",),
}
"""Lists of our kinds, and of metadata, that merge item by item; a test holds them to `manifests/crds`."""
SETS = frozenset({"finalizers"})
"""Lists of which each item has an owner of its own."""

Path = tuple[str, ...]
Tree = dict[str, Any]
Owners = dict["Owner", frozenset[Path]]


class Owner(msgspec.Struct, frozen=True):
    """One entry of `managedFields`."""

    manager: str
    operation: Literal["Apply", "Update"]
    subresource: str = ""


class Items(dict[str, Any]):
    """A list, by the keys of its items."""


def tree(value: Any, name: str = "") -> Any:
    """A plain value as a tree; a copy through and through."""
    if isinstance(value, Mapping):
        return {key: tree(below, key) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        if name in KEYED:
            return Items(
                ("/".join(str(item.get(key)) for key in KEYED[name]), tree(item)) for item in value
            )
        if name in SETS:
            return Items((item, item) for item in value)
        return [tree(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """A tree as it is sent."""
    if isinstance(value, Items):
        return [plain(below) for below in value.values()]
    if isinstance(value, dict):
        return {key: plain(below) for key, below in value.items()}
    return value


def leaves(value: Tree, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path."""
    for key, below in value.items():
        if isinstance(below, dict):
            yield from leaves(below, (*at, key))
        else:
            yield (*at, key), below


def apply(
    live: Tree, owners: Owners, wanted: Tree, who: Owner, *, force: bool
) -> tuple[Tree, Owners]:
    """What server-side apply makes of an object.

    Raises:
        Conflict: without `force`, somebody else owns a leaf and holds another value in it.
    """
    held, asked = dict(leaves(live)), dict(leaves(wanted))
    differs = {path for path, value in asked.items() if path not in held or held[path] != value}
    after: Owners = {}
    for other, paths in owners.items():
        taken = paths & differs if other != who else frozenset()
        if taken and not force:
            fields = ", ".join(".".join(path) for path in sorted(taken))
            raise Conflict(f"conflict with {other.manager!r} over {fields}")
        after[other] = paths - taken
    after[who] = frozenset(asked)
    owned = frozenset().union(*after.values())
    merged = _merge(live, wanted)
    for path in owners.get(who, frozenset()) - owned:
        _drop(merged, path)
    return merged, {other: paths for other, paths in after.items() if paths}


def update(live: Tree, owners: Owners, wanted: Tree, who: Owner) -> Owners:
    """Who owns what after `wanted` was written in place of `live`."""
    held, asked = dict(leaves(live)), dict(leaves(wanted))
    mine = {path for path, value in asked.items() if path not in held or held[path] != value}
    lost = mine | (held.keys() - asked.keys())
    after = {other: paths - lost for other, paths in owners.items()}
    after[who] = after.get(who, frozenset()) | mine
    return {other: paths for other, paths in after.items() if paths}


def _merge(live: Any, wanted: Any) -> Any:
    if not (isinstance(live, dict) and isinstance(wanted, dict)):
        return wanted
    return type(live)(live | {key: _merge(live.get(key), below) for key, below in wanted.items()})


def _drop(value: Tree, path: Path) -> None:
    """Take a leaf out of a tree whose maps nobody else holds, and the maps that it leaves empty."""
    key, *rest = path
    below = value.get(key)
    if rest and isinstance(below, dict):
        value[key] = below = type(below)(below)
        _drop(below, tuple(rest))
        if not below:
            del value[key]
    elif not rest:
        value.pop(key, None)
