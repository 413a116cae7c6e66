"""What is sent and stored of an object: its place, what its writers have a say in, and its versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from control_plane.core.cluster import Body, Conflict, Invalid, Kind, NotFound, Object
from control_plane.simulator.api_fields import Items, Owners, Tree, plain, tree

PLAIN_KINDS = frozenset({"ConfigMap", "Event", "Lease", "Secret", "ServiceAccount"})
"""Kinds without a status apart and without a generation."""
UNCOUNTED = frozenset({"Node"})
"""Kinds with a status apart, and without a generation all the same."""
_SENT = ("labels", "annotations", "finalizers", "ownerReferences")
"""What a writer has a say in of an object's metadata."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an object."""

    object: Object
    system: dict[str, Any]
    """Metadata that the server alone writes."""
    tree: Tree
    """All that its writers had a say in."""
    owners: Owners


def place(kind: Kind, body: Body) -> tuple[str, Mapping[str, Any]]:
    """The key of what is sent, and its metadata.

    Raises:
        Invalid: it has no name, or says that it is of another kind.
        NotFound: it has no namespace and its kind is in one, or the other way round.
    """
    meta: Mapping[str, Any] = body["metadata"]
    if not meta.get("name"):
        raise Invalid("name is required")
    if (body.get("apiVersion"), body.get("kind")) != (kind.api_version, kind.kind):
        raise Invalid(f"the object provided is unrecognized (must be of type {kind.kind})")
    if bool(meta.get("namespace")) != kind.is_namespaced:
        raise NotFound("the server could not find the requested resource")
    return _key(meta), meta


def _key(meta: Mapping[str, Any]) -> str:
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def sent(kind: Kind, body: Body, subresource: str) -> Tree:
    """What of a body a writer has a say in."""
    if subresource:
        return {subresource: tree(body.get(subresource, {}))}
    apart = () if kind.kind in PLAIN_KINDS else ("status",)
    rest = {key: body[key] for key in body if key not in {"apiVersion", "kind", "metadata", *apart}}
    meta = {key: body["metadata"][key] for key in _SENT if body["metadata"].get(key)}
    made: Tree = tree(({"metadata": meta} if meta else {}) | rest)
    return made


def within(live: Tree, wanted: Tree, subresource: str) -> Tree:
    """The whole object after a replacement of a part of it."""
    if subresource:
        return live | wanted
    return wanted | {key: live[key] for key in ("status",) if key in live and key not in wanted}


def require(stored: Stored, meta: Mapping[str, Any]) -> None:
    """Nothing, where it is the object that is meant.

    Raises:
        Conflict: it is another one, or another version of it.
    """
    held = stored.object.metadata
    if meta.get("uid", held.uid) not in {"", held.uid}:
        raise Conflict(f"{stored.object.key!r} is another one: {held.uid}, not {meta['uid']}")
    if meta.get("resourceVersion", held.resource_version) not in {"", held.resource_version}:
        raise Conflict(f"{stored.object.key!r} has been modified: it is at {held.resource_version}")


def finalizers_of(wanted: Tree) -> frozenset[str]:
    """What keeps an object that is deleted."""
    return frozenset(wanted.get("metadata", {}).get("finalizers", Items()))


def spec_of(wanted: Tree) -> Tree:
    """All that its generation counts."""
    return {key: value for key, value in wanted.items() if key not in {"metadata", "status"}}


def object_of(kind: Kind, system: Mapping[str, Any], wanted: Tree, version: int) -> Object:
    """A version as it is told."""
    body = plain(wanted)
    body["metadata"] = {**body.get("metadata", {}), **system, "resourceVersion": str(version)}
    body |= {"apiVersion": kind.api_version, "kind": kind.kind}
    return msgspec.json.decode(msgspec.json.encode(body), type=Object)
