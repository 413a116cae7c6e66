"""The rule table, asked about one object or one stack before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from control_plane.provision.rules import GROUP, KEPT, RESOURCES_MAX, Keep, Rule


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of a stack, as the rules look at it."""

    type: str
    """Pulumi's type token."""
    name: str
    object: Mapping[str, Any]
    """Its inputs; of a Kubernetes object its manifest."""
    protected: bool


def broken(rules: Sequence[Rule], thing: Mapping[str, Any]) -> Iterator[Rule]:
    """The rules that an object breaks."""
    namespace = (thing.get("metadata") or {}).get("namespace")
    for rule in rules:
        if not _is_of(rule.kinds, thing) or namespace in rule.exempt:
            continue
        subject = _pod_of(thing) if rule.of_pods else thing
        if not rule.check.holds(subject):
            yield rule


def unprotected(declared: Declared, namespace: str) -> Iterator[Keep]:
    """What a resource should be protected for, and is not."""
    if declared.protected:
        return
    name = (declared.object.get("metadata") or {}).get("name")
    for keep in KEPT:
        if not keep.protected or not _is_of(keep.kinds, declared.object):
            continue
        group = (declared.object.get("spec") or {}).get("group")
        if (group if keep.group is not None else name) in {GROUP, namespace}:
            yield keep


def over_budget(count: int) -> str | None:
    """What is said of a stack with that many resources; nothing where they fit."""
    if count <= RESOURCES_MAX:
        return None
    return (
        f"the stack has {count} resources, and {RESOURCES_MAX} fit: devices enter a cluster as data, "
        "never as resources"
    )


def _is_of(kinds: Sequence[Any], thing: Mapping[str, Any]) -> bool:
    about = thing.get("apiVersion"), thing.get("kind")
    return any(about == (kind.api_version, kind.name) for kind in kinds)


def _pod_of(thing: Mapping[str, Any]) -> Any:
    """The spec of the pod that an object is, or makes."""
    spec = thing.get("spec") or {}
    if thing.get("kind") == "Pod":
        return spec
    if thing.get("kind") == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    return (spec.get("template") or {}).get("spec") or {}
