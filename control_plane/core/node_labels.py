"""Labels and taints that a node has because of what it is and where it stands: from the declaration alone.

NVIDIA's operators set none for site, rack or power (gpu-operator v26.7); schedulers and drains by failure
domain need them. What others put on a node is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from control_plane.core.cluster import NODE
from control_plane.core.fleet import Device, FeedKind, Site
from control_plane.core.node_hold import Node, Taint

MANAGER: Final = "gridplane-inventory"
"""Who owns the labels."""
TAINT_MANAGER: Final = "gridplane-taints"
"""Who owns the list of taints where it was changed: another one, since labels are given up by leaving them
out, and taints never may be."""
SITE: Final = "gridplane.dev/site"
FEED: Final = "gridplane.dev/feed"
POWER_DOMAIN: Final = "gridplane.dev/power-domain"
ROLE: Final = "gridplane.dev/role"
RACK: Final = "gridplane.dev/rack"
OURS: Final = frozenset({SITE, FEED, POWER_DOMAIN, ROLE, RACK})
"""Labels that nobody else sets: one that is declared no more goes."""


def node_labels(site: Site, *, feed: str, zone: str, role: str) -> dict[str, str]:
    """Of any machine of a site's cluster."""
    return {
        "topology.kubernetes.io/region": site.id,
        "topology.kubernetes.io/zone": zone,
        SITE: site.id,
        FEED: feed,
        POWER_DOMAIN: power_domain(site, feed),
        ROLE: role,
    }


def gpu_node_labels(site: Site, device: Device) -> dict[str, str]:
    """Of a GPU node: its zone is its rack, which is lost together."""
    labels = node_labels(site, feed=device.feed, zone=device.rack, role="gpu")
    return {**labels, RACK: device.rack}


def power_domain(site: Site, feed: str) -> str:
    """What is dark together: the nearest node above a machine that is more than a PDU."""
    path = site.path(feed)
    return next((node.id for node in path if node.kind is not FeedKind.PDU), path[-1].id)


def drifted(node: Node, declared: Mapping[str, str]) -> frozenset[str]:
    """Labels that are not as declared, and those of ours that are not declared any more."""
    wrong = {name for name, value in declared.items() if node.labels.get(name) != value}
    return frozenset(wrong | {name for name in OURS - declared.keys() if name in node.labels})


def labels_body(node: Node, declared: Mapping[str, str]) -> dict[str, Any]:
    """What is applied so that the node has them, and of ours no other."""
    return {
        "apiVersion": NODE.api_version,
        "kind": NODE.kind,
        "metadata": {"name": node.name, "uid": node.uid, "labels": dict(declared)},
    }


def with_taints(
    node: Node, declared: Iterable[Taint], keys: frozenset[str]
) -> tuple[Taint, ...] | None:
    """The node's taints with those declared in place of all of `keys`; `None` where it has them.

    Args:
        node: as it was read.
        declared: those that it should have.
        keys: all that are the declaration's to set; any other taint stays as it is.
    """
    wanted = {(taint.key, taint.effect): taint for taint in declared}
    kept = [
        taint
        for taint in node.taints
        if taint.key not in keys or _same(taint, wanted.get((taint.key, taint.effect)))
    ]
    there = {(taint.key, taint.effect) for taint in kept}
    made = (*kept, *(taint for place, taint in wanted.items() if place not in there))
    return None if made == node.taints else made


def taints_body(node: Node, taints: Iterable[Taint]) -> dict[str, Any]:
    """What is applied so that the node has exactly these; onto the node as it was read."""
    return {
        "apiVersion": NODE.api_version,
        "kind": NODE.kind,
        "metadata": {"name": node.name, "uid": node.uid, "resourceVersion": node.version},
        "spec": {"taints": [msgspec.to_builtins(taint) for taint in taints]},
    }


def _same(taint: Taint, wanted: Taint | None) -> bool:
    """Whether it is the declared one; when a server added it does not matter."""
    return wanted is not None and taint.value == wanted.value
