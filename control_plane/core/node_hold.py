"""A node that is taken out of service: which marks a hold of ours has, and what a node's marks tell.

A cordon alone is no lock: NVIDIA's driver upgrade controller upgrades a node that somebody else cordoned
even when its budget is spent (gpu-operator#2820), NVSentinel uncordons what it finds healthy, and medik8s
remediates it. So a hold is a taint, a cordon, three labels and the words of who holds it, set and removed
by one request of one field manager. Label names: gpu-operator v26.7, NVSentinel v1.19, medik8s
node-healthcheck-operator (2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from control_plane.core.cluster import NODE, Object
from control_plane.core.moments import moment_text, seconds_in

MANAGER: Final = "gridplane-hold"
"""Who owns the marks; what somebody else set as well stays when they are given up."""
TAINT: Final = "gridplane.dev/hold"
SKIP_DRIVER_UPGRADE: Final = "nvidia.com/gpu-driver-upgrade.skip"
MANAGED_BY_NVSENTINEL: Final = "k8saas.nvidia.com/ManagedByNVSentinel"
EXCLUDED_FROM_REMEDIATION: Final = "remediation.medik8s.io/exclude-from-remediation"
LABELS: Final[Mapping[str, str]] = {
    SKIP_DRIVER_UPGRADE: "true",
    MANAGED_BY_NVSENTINEL: "false",
    EXCLUDED_FROM_REMEDIATION: "true",
}
BY: Final = "gridplane.dev/hold-by"
WHY: Final = "gridplane.dev/hold-why"
SINCE: Final = "gridplane.dev/hold-since"
UNTIL: Final = "gridplane.dev/hold-until"
FOUND: Final = "gridplane.dev/hold-found"
"""`cordoned` where somebody had cordoned the node before it was held."""
CORDONED: Final = "cordoned"
FOUND_BY_UPGRADE: Final = "nvidia.com/gpu-driver-upgrade.node-initial-state.unschedulable"
"""There while NVIDIA's upgrade takes a node for one that it has to leave cordoned when it is done."""
UPGRADE_MANAGER: Final = "gridplane-hold-upgrade"
"""Who takes that word from it, by owning it first."""
CORDON: Final = "cordon"
"""The word for a missing `spec.unschedulable`, beside the taint's and the labels' own names."""


class Taint(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One taint of a node, as it is sent back unchanged."""

    key: str
    value: str = ""
    effect: str = ""
    time_added: str = ""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a node."""

    name: str
    uid: str
    version: str
    """Its resource version: the whole list of taints is one value, so who writes it names this."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    is_cordoned: bool
    taints: tuple[Taint, ...]
    is_going: bool = False
    """It is being deleted."""


class NodeHold(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a node, and why."""

    by: str
    """An operation, or a person: only the same one ends it."""
    why: str
    since_s: float
    until_s: float | None = None
    """When it should be over. Nothing ends by itself: past it, somebody is told."""


class _Spec(msgspec.Struct):
    unschedulable: bool = False
    taints: list[Taint] | None = None


def node_in(thing: Object) -> Node:
    """A node as the API server has it."""
    meta = thing.metadata
    spec = msgspec.json.decode(thing.spec, type=_Spec | None) or _Spec()
    return Node(
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        labels=meta.labels,
        annotations=meta.annotations,
        is_cordoned=spec.unschedulable,
        taints=tuple(spec.taints or ()),
        is_going=bool(meta.deletion_timestamp),
    )


def hold_in(node: Node) -> NodeHold | None:
    """Our hold of a node; `None` where it has not one mark that only we set.

    A hold whose words are damaged is a hold by nobody that is known: it is ended by a person.
    """
    words = node.annotations
    if BY not in words and not any(taint.key == TAINT for taint in node.taints):
        return None
    return NodeHold(
        by=words.get(BY, ""),
        why=words.get(WHY, ""),
        since_s=seconds_in(words.get(SINCE, "")) or 0.0,
        until_s=seconds_in(words.get(UNTIL, "")),
    )


def missing_in(node: Node) -> tuple[str, ...]:
    """Marks of a hold that the node does not have: somebody took them away, or it is not held."""
    lost = [] if any(_is_ours(taint) for taint in node.taints) else [TAINT]
    lost += [] if node.is_cordoned else [CORDON]
    lost += [name for name, value in LABELS.items() if node.labels.get(name) != value]
    return tuple(lost)


def was_cordoned(node: Node) -> bool:
    """Whether somebody had cordoned it when our hold began."""
    return node.annotations.get(FOUND) == CORDONED


def is_mistaken_for_cordoned(node: Node) -> bool:
    """Whether NVIDIA's upgrade takes our cordon for a person's: it would stay when the hold has ended."""
    return FOUND_BY_UPGRADE in node.annotations and not was_cordoned(node)


def corrections(node: Node) -> tuple[dict[str, Any], ...]:
    """What is applied, one after the other, to end that: a word of others goes where it is ours first."""
    return tuple(
        {
            "apiVersion": NODE.api_version,
            "kind": NODE.kind,
            "metadata": {"name": node.name, "uid": node.uid, "annotations": words},
        }
        for words in ({FOUND_BY_UPGRADE: UPGRADE_MANAGER}, {})
    )


def held_body(node: Node, hold: NodeHold) -> dict[str, Any]:
    """What is applied to hold a node, or to complete a hold; onto the node as it was read."""
    found = was_cordoned(node) if hold_in(node) else node.is_cordoned
    words = {
        BY: hold.by,
        WHY: hold.why,
        SINCE: moment_text(hold.since_s),
        **({} if hold.until_s is None else {UNTIL: moment_text(hold.until_s)}),
        **({FOUND: CORDONED} if found else {}),
    }
    ours = Taint(key=TAINT, effect="NoSchedule")
    meta = {"labels": dict(LABELS), "annotations": words}
    return _body(node, meta, taints=[*_others(node), ours], cordons=True)


def released_body(node: Node) -> dict[str, Any]:
    """What is applied to end our hold: everything is given up, and others' taints stay.

    The list of taints is named even when it is empty: given up, it would stay as whoever shares it has it.
    """
    return _body(node, {}, taints=_others(node), cordons=False)


def _body(
    node: Node, meta: Mapping[str, Any], *, taints: list[Taint], cordons: bool
) -> dict[str, Any]:
    return {
        "apiVersion": NODE.api_version,
        "kind": NODE.kind,
        "metadata": {
            "name": node.name,
            "uid": node.uid,
            "resourceVersion": node.version,
            **meta,
        },
        "spec": {
            "taints": [msgspec.to_builtins(taint) for taint in taints],
            **({"unschedulable": True} if cordons else {}),
        },
    }


def _others(node: Node) -> list[Taint]:
    return [taint for taint in node.taints if taint.key != TAINT]


def _is_ours(taint: Taint) -> bool:
    return taint.key == TAINT and taint.effect == "NoSchedule"
