"""What an API server does with pods that it does with nothing else: their grace, and evictions.

Facts: Kubernetes 1.36, `pkg/registry/core/pod/strategy.go` (grace) and `storage/eviction.go` (eviction).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from control_plane.core.cluster import (
    PDB,
    POD,
    DisruptionRefused,
    Kind,
    Object,
    Rejected,
)

GRACE_S = 30
"""Of a pod that names none."""
SOON_S = 10.0
"""When to come again, of a budget that the server has still to look at."""
_ENDED = frozenset({"Succeeded", "Failed"})
_BODY = "Cannot evict pod as it would violate the pod's disruption budget."


class _Condition(msgspec.Struct):
    type: str
    status: str


class PodStatus(msgspec.Struct):
    """What counts of a pod's status."""

    phase: str = "Pending"
    conditions: list[_Condition] = []

    @property
    def is_ready(self) -> bool:
        """Whether it counts as healthy."""
        return any(one.type == "Ready" and one.status == "True" for one in self.conditions)


class _Selector(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = {}


class BudgetSpec(msgspec.Struct, rename="camel"):
    """A PodDisruptionBudget, of selectors only `matchLabels`."""

    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    selector: _Selector = _Selector()
    unhealthy_pod_eviction_policy: str = "IfHealthyBudget"

    def covers(self, pod: Object) -> bool:
        """Whether the pod's labels are those that it asks for; one that asks for none covers nothing."""
        wanted = self.selector.match_labels.items()
        return bool(wanted) and wanted <= pod.metadata.labels.items()


class BudgetStatus(msgspec.Struct, rename="camel"):
    """What the disruption controller counted, less what was evicted since."""

    observed_generation: int = 0
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    disrupted_pods: dict[str, str] = {}


def status_of(pod: Object) -> PodStatus:
    """Of a pod that may have none yet."""
    return msgspec.json.decode(pod.status, type=PodStatus | None) or PodStatus()


def budget_of(budget: Object) -> tuple[BudgetSpec, BudgetStatus]:
    """What it asks for, and where it stands."""
    spec = msgspec.json.decode(budget.spec, type=BudgetSpec)
    return spec, msgspec.json.decode(budget.status, type=BudgetStatus | None) or BudgetStatus()


def grace_of(kind: Kind, tree: Mapping[str, Any], asked_s: int | None) -> int:
    """Seconds from a deletion to the end: none but for a pod that a kubelet runs."""
    if kind != POD or not tree.get("spec", {}).get("nodeName"):
        return 0
    if tree.get("status", {}).get("phase") in _ENDED:
        return 0
    own = tree["spec"].get("terminationGracePeriodSeconds", GRACE_S)
    return int(own if asked_s is None else asked_s)


def needs_no_budget(pod: Object) -> bool:
    """Whether its end costs nobody anything: it does not run yet, or it ends already."""
    phase = status_of(pod).phase
    return phase in _ENDED or phase == "Pending" or bool(pod.metadata.deletion_timestamp)


def spent(budget: Object, pod: Object, now: str) -> BudgetStatus | None:
    """The budget's status once the pod is evicted; `None` where that costs it nothing.

    Raises:
        DisruptionRefused: it does not allow that now.
        Rejected: it is damaged.
    """
    spec, status = budget_of(budget)
    is_unready = not status_of(pod).is_ready
    if is_unready and spec.unhealthy_pod_eviction_policy == "AlwaysAllow":
        return None
    if is_unready and status.current_healthy >= status.desired_healthy > 0:
        return None
    name = budget.metadata.name
    if status.observed_generation < budget.metadata.generation:
        raise DisruptionRefused(
            f"429 TooManyRequests: {_BODY} The disruption budget {name} is still being processed by the"
            " server.",
            SOON_S,
        )
    if status.disruptions_allowed < 0:
        raise Rejected(f"403 Forbidden: {name}: pdb disruptions allowed is negative")
    if status.disruptions_allowed == 0:
        raise DisruptionRefused(
            f"429 TooManyRequests: {_BODY} The disruption budget {name} needs {status.desired_healthy}"
            f" healthy pods and has {status.current_healthy} currently"
        )
    return msgspec.structs.replace(
        status,
        disruptions_allowed=status.disruptions_allowed - 1,
        disrupted_pods={**status.disrupted_pods, pod.metadata.name: now},
    )


def budget_over(pod: Object, budgets: list[Object]) -> Object | None:
    """The budget that a pod is under.

    Raises:
        DisruptionRefused: it is under more than one, which a server does not decide about.
    """
    found = [
        one
        for one in budgets
        if one.metadata.namespace == pod.metadata.namespace and budget_of(one)[0].covers(pod)
    ]
    if len(found) > 1:
        raise DisruptionRefused(
            "500 : This pod has more than one PodDisruptionBudget, which the eviction subresource does"
            " not support."
        )
    return found[0] if found else None


def budget_status_body(budget: Object, status: BudgetStatus) -> dict[str, Any]:
    """The status as it is written."""
    meta = budget.metadata
    return {
        "apiVersion": PDB.api_version,
        "kind": PDB.kind,
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "resourceVersion": meta.resource_version,
        },
        "status": msgspec.to_builtins(status),
    }
