"""The rule table as admission policies: what an API server refuses, whoever asks, with whatever tool.

A policy that cannot be evaluated refuses (`failurePolicy: Fail`); each is total over what it matches.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, Final

from control_plane.provision.rules import (
    ALLOW_DELETE,
    CONTROLLER,
    GROUP,
    KEPT,
    NAMESPACE,
    Keep,
    Kind,
    Rule,
)

Manifest = dict[str, Any]

PLATFORM_POLICY: Final = "gridplane-keep-platform"
"""Stands from the beginning of a platform to its end: where it is, a platform is."""

_API: Final = "admissionregistration.k8s.io/v1"
_POD: Final = (
    'object.kind == "Pod" ? object.spec : '
    'object.kind == "CronJob" ? object.spec.jobTemplate.spec.template.spec : '
    "object.spec.template.spec"
)
_CLUSTER_USERS: Final = (
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
)


def policies(rules: Sequence[Rule], *, namespace: str) -> tuple[Manifest, ...]:
    """A policy and a binding for each rule of the table.

    Args:
        rules: about what is written; what is deleted is in the table itself.
        namespace: gridplane's own.
    """
    made: list[Manifest] = []
    for rule in rules:
        if rule.in_cluster:
            made += _written(rule, namespace)
    for keep in KEPT:
        made += _kept(keep, namespace)
    return tuple(made)


def _written(rule: Rule, namespace: str) -> tuple[Manifest, Manifest]:
    subject = "variables.pod" if rule.of_pods else "object"
    spec: Manifest = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": _matched(rule.kinds, ["CREATE", "UPDATE"])},
        "validations": [{"expression": rule.check.cel(subject), "message": rule.message}],
    }
    if rule.of_pods:
        spec["variables"] = [{"name": "pod", "expression": _POD}]
    if rule.exempt:
        listed = json.dumps(sorted(rule.exempt))
        spec["matchConditions"] = [
            {"name": "not-exempt", "expression": f"!(request.namespace in {listed})"}
        ]
    return _pair(rule.id, spec, None if rule.everywhere else namespace)


def _kept(keep: Keep, namespace: str) -> tuple[Manifest, Manifest]:
    key = json.dumps(ALLOW_DELETE)
    may = [f'oldObject.metadata.?annotations[?{key}].orValue("") == oldObject.metadata.name']
    names = keep.names or ((namespace,) if NAMESPACE in keep.kinds else ())
    if names:
        may.append(f"!(oldObject.metadata.name in {json.dumps(list(names))})")
    if keep.group is not None:
        may.append(f"oldObject.spec.group != {json.dumps(keep.group)}")
    if keep.idle is not None:
        may.append(keep.idle.cel("oldObject"))
    if keep.by_cluster:
        users = [*_CLUSTER_USERS, f"system:serviceaccount:{namespace}:{CONTROLLER}"]
        may.append(f"request.userInfo.username in {json.dumps(users)}")
    spec: Manifest = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": _matched(keep.kinds, ["DELETE"])},
        "validations": [{"expression": " || ".join(may), "message": keep.message}],
    }
    policy, binding = _pair(keep.id, spec, namespace if keep.is_namespaced else None)
    if keep.while_declared:
        # Asked once for each Site that stands there; where there is none it is not asked at all.
        spec["paramKind"] = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "Site"}
        binding["spec"]["paramRef"] = {
            "namespace": namespace,
            "selector": {},
            "parameterNotFoundAction": "Allow",
        }
    return policy, binding


def _pair(name: str, spec: Manifest, namespace: str | None) -> tuple[Manifest, Manifest]:
    metadata = {"name": f"gridplane-{name}"}
    binding: Manifest = {"policyName": metadata["name"], "validationActions": ["Deny"]}
    if namespace is not None:
        labels = {"kubernetes.io/metadata.name": namespace}
        binding["matchResources"] = {"namespaceSelector": {"matchLabels": labels}}
    return (
        {
            "apiVersion": _API, "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata, "spec": spec,
        },
        {
            "apiVersion": _API, "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata, "spec": binding,
        },
    )  # fmt: skip


def _matched(kinds: Sequence[Kind], operations: list[str]) -> list[Manifest]:
    """One rule for each group. No names: a deletion of many objects at once has none."""
    ordered = sorted(kinds, key=lambda kind: (kind.group, kind.version))
    return [
        {
            "apiGroups": [group],
            "apiVersions": [version],
            "operations": operations,
            "resources": [kind.resource for kind in found],
        }
        for (group, version), found in itertools.groupby(
            ordered, key=lambda kind: (kind.group, kind.version)
        )
    ]
