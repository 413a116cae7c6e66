"""A site's slice of the inventory as bytes: what a Store keeps, and what a `FleetRevision` holds.

Sorted paths, msgpack, zlib at its highest level. The same files give the same bytes on one build of zlib;
another build may pack them otherwise, so that bytes name an object and never decide whether two
declarations are equal: the canonical digest does.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from control_plane.api.objects import FleetRevisionSpec, SiteSpec
from control_plane.api.v1alpha1 import API_VERSION
from control_plane.core import limits

_LEVEL = 9


class DamagedBundle(ValueError):
    """Bytes that are no bundle, or one that is larger than any inventory. Whoever made them acts."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """The files, as bytes."""
    return zlib.compress(msgspec.msgpack.encode(dict(sorted(files.items()))), _LEVEL)


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of a bundle, never more than an inventory may be.

    Raises:
        DamagedBundle: it does not open, or passes `INVENTORY_MAX_BYTES` or `INVENTORY_MAX_FILES`.
    """
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, limits.INVENTORY_MAX_BYTES)
        if not inflater.eof or inflater.unused_data:
            raise DamagedBundle(
                "it is truncated, larger than an inventory may be, or followed by more"
            )
        files = msgspec.msgpack.decode(plain, type=dict[str, bytes])
    except (zlib.error, msgspec.MsgspecError) as error:
        raise DamagedBundle(f"it does not open: {error}") from error
    if len(files) > limits.INVENTORY_MAX_FILES:
        raise DamagedBundle(f"{len(files):,} files, more than an inventory may have")
    return files


def render(
    site: str,
    files: Mapping[str, bytes],
    *,
    namespace: str,
    commit: str | None,
    mode: Literal["observe", "enforce"] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The site's `FleetRevision` and the `Site` that points to it, as plain values.

    Without `mode` nothing is said of it: what stands in the `Site` stays.
    """
    data = pack(files)
    name = hashlib.sha256(data).hexdigest()
    about = _object("Site", site, namespace, SiteSpec(revision=name, commit=commit))
    if mode is not None:
        about["spec"]["mode"] = mode
    return (
        _object(
            "FleetRevision",
            name,
            namespace,
            FleetRevisionSpec(site=site, format="msgpack+zlib", data=data),
        ),
        about,
    )


def _object(kind: str, name: str, namespace: str, spec: msgspec.Struct) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": msgspec.to_builtins(spec),
    }
