"""What else runs in a cluster: budgets are counted, kubelets end pods, cordons become taints.

Facts: Kubernetes 1.36, `pkg/controller/disruption` and `pkg/controller/nodelifecycle`. Of scales it knows
what it is told; without, as many pods are expected as there are.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import msgspec

from control_plane.core.cluster import NODE, PDB, POD, Kind, Object
from control_plane.simulator.api_pods import (
    BudgetSpec,
    BudgetStatus,
    budget_of,
    budget_status_body,
    status_of,
)
from control_plane.simulator.api_server import ApiServer, Change

COUNT_S = 0.2
"""From a change to the budgets that follow from it."""
TAINT_S = 0.5
"""From a cordon to its taint."""
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_MANAGER = "kube-controller-manager"


def edit(
    server: ApiServer,
    kind: Kind,
    key: str,
    change: Callable[[Any], None],
    *,
    manager: str,
    subresource: str = "",
) -> Object:
    """What `kubectl edit` and controllers do: read, change, write the whole."""
    body = msgspec.json.decode(msgspec.json.encode(server.get(kind, key)))
    change(body)
    return server.replace(kind, body, manager=manager, subresource=subresource)


class Controllers:
    """The rest of a cluster; it acts on its own, shortly after what it hears of."""

    def __init__(self, server: ApiServer) -> None:
        self.silent: set[str] = set()
        """Nodes whose kubelet does nothing any more: pods on them never end."""
        self.stops_s = 1.0
        """How long a pod takes to end, at most its grace."""
        self.lasts: set[str] = set()
        """Pods that take all of their grace."""
        self.scales: dict[str, int] = {}
        """Name of a controller of pods → replicas."""
        self.gone: Callable[[Object], None] = lambda _pod: None
        """Told of each pod that has ended: whoever makes another one in its place."""
        self._server = server
        server.hears.append(self._hear)

    def _hear(self, change: Change) -> None:
        if change.kind in {POD, PDB}:
            self._later(COUNT_S, self._count)
        if change.kind == NODE and change.after is not None:
            name = change.after.metadata.name
            self._later(TAINT_S, lambda: self._taint(name))
        if change.kind == POD and change.after is not None:
            pod = change.after
            was = change.before is not None and change.before.metadata.deletion_timestamp
            if pod.metadata.deletion_timestamp and not was:
                self._later(self._takes_s(pod), lambda: self._end(pod))

    def _later(self, after_s: float, act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(after_s, act)

    # --- kubelets --------------------------------------------------------------------------------

    def _takes_s(self, pod: Object) -> float:
        spec = msgspec.json.decode(pod.spec)
        grace_s = float(spec.get("terminationGracePeriodSeconds", 30))
        return grace_s if pod.metadata.name in self.lasts else min(self.stops_s, grace_s)

    def _end(self, pod: Object) -> None:
        if msgspec.json.decode(pod.spec).get("nodeName") in self.silent:
            return
        there = self._find(POD, pod.key)
        if there is not None and there.metadata.uid == pod.metadata.uid:
            self._server.delete(POD, pod.key, grace_s=0)
            self.gone(pod)

    # --- the taint of a cordon -------------------------------------------------------------------

    def _taint(self, name: str) -> None:
        node = self._find(NODE, name)
        if node is None:
            return
        spec = msgspec.json.decode(node.spec) or {}
        taints = spec.get("taints") or []
        others = [taint for taint in taints if taint["key"] != UNSCHEDULABLE]
        wanted = list(taints)
        if not spec.get("unschedulable"):
            wanted = others
        elif len(others) == len(taints):
            wanted = [*taints, {"key": UNSCHEDULABLE, "effect": "NoSchedule"}]
        if wanted != taints:

            def change(body: Any) -> None:
                body["spec"]["taints"] = wanted

            edit(self._server, NODE, name, change, manager=_MANAGER)

    # --- budgets ---------------------------------------------------------------------------------

    def _count(self) -> None:
        pods = self._all(POD)
        for budget in self._all(PDB):
            spec, status = budget_of(budget)
            here = budget.metadata.namespace
            covered = [p for p in pods if p.metadata.namespace == here and spec.covers(p)]
            counted = self._counted(budget, spec, status, covered)
            if counted != status:
                body = budget_status_body(budget, counted)
                self._server.replace(PDB, body, manager=_MANAGER, subresource="status")

    def _counted(
        self, budget: Object, spec: BudgetSpec, status: BudgetStatus, covered: list[Object]
    ) -> BudgetStatus:
        lives = [pod for pod in covered if not pod.metadata.deletion_timestamp]
        names = {pod.metadata.name for pod in lives}
        disrupted = {name: at for name, at in status.disrupted_pods.items() if name in names}
        healthy = sum(
            status_of(pod).is_ready and pod.metadata.name not in disrupted for pod in lives
        )
        expected, desired = self._desired(spec, covered)
        return BudgetStatus(
            observed_generation=budget.metadata.generation,
            disruptions_allowed=max(healthy - desired, 0) if expected else 0,
            current_healthy=healthy,
            desired_healthy=desired,
            expected_pods=expected,
            disrupted_pods=disrupted,
        )

    def _desired(self, spec: BudgetSpec, covered: list[Object]) -> tuple[int, int]:
        """How many pods there should be, and how many of them healthy."""
        if isinstance(spec.min_available, int):
            return len(covered), spec.min_available
        owners = [owner for pod in covered for owner in pod.metadata.owner_references]
        if len(owners) < len(covered):
            return (
                0,
                0,
            )  # It asks for a share, and of pods without a controller nobody knows the whole.
        names = {owner.name for owner in owners}
        told = sum(self.scales.get(name, 0) for name in names)
        expected = told or len(covered)
        if spec.min_available is not None:
            return expected, _share(spec.min_available, expected)
        return expected, max(expected - _share(spec.max_unavailable or 0, expected), 0)

    def _all(self, kind: Kind) -> tuple[Object, ...]:
        page = self._server.list_page(
            kind, lambda _each: True, limit=1_000_000, page="", says_remaining=False
        )
        return page.items

    def _find(self, kind: Kind, key: str) -> Object | None:
        return next((each for each in self._all(kind) if each.key == key), None)


def _share(value: int | str, whole: int) -> int:
    """A number, or a share of a whole, rounded up."""
    if isinstance(value, int):
        return value
    return math.ceil(int(value.rstrip("%")) * whole / 100)
