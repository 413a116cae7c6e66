"""What NVIDIA's GPU operator does to a hall: driver upgrades node by node, and GPUs parted by MIG.

Facts: k8s-operator-libs `pkg/upgrade` (2026-04) in place, gpu-operator v26.7, mig-manager v0.15. Budgets are
`maxParallelUpgrades` and `maxUnavailable`, rounded up, of which nodes that are cordoned or not ready count.
As upstream has it:

- a node that somebody else cordoned is upgraded even when the budget is spent (gpu-operator#2820);
- `gpu-driver-upgrade.skip` keeps a node where it is before it is cordoned, and not after;
- one that was cordoned before stays so after;
- `upgrade-failed` turns into done as soon as the driver's pod is ready (gpu-operator#2549);
- the MIG manager drains nobody.

Nothing polls while nothing is to be done.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from control_plane.core.cluster import NODE, POD, Object
from control_plane.core.driver_upgrade import LABEL
from control_plane.core.mig import CONFIG, FAILED, STATE, SUCCESS
from control_plane.core.node_hold import SKIP_DRIVER_UPGRADE
from control_plane.simulator.api_controllers import edit
from control_plane.simulator.api_selectors import selected
from control_plane.simulator.api_server import ApiServer, Change
from control_plane.simulator.gpu_host import GpuMachine
from control_plane.simulator.gpus import Busy

RECONCILE_S: Final = 5.0
"""Between two passes while there is something to do."""
DRIVER_S: Final = 240.0
"""From the end of a driver's pod to the next one that is ready: a module is built meanwhile."""
MIG_S: Final = 45.0
"""From a label to GPUs that are parted."""
CLIENT: Final = "nvidia.com/gpu.deploy.client"
PAUSED: Final = "paused-for-driver-upgrade"
INITIAL: Final = "nvidia.com/gpu-driver-upgrade.node-initial-state.unschedulable"
_MANAGER: Final = "gpu-operator"
_REQUIRED, _DONE, _FAILED = "upgrade-required", "upgrade-done", "upgrade-failed"
_AT_WORK: Final = (
    "cordon-required", "wait-for-jobs-required", "pod-deletion-required", "pod-restart-required",
    "uncordon-required",
)  # fmt: skip


class GpuOperator:
    """The one of a cluster."""

    def __init__(
        self,
        hosts: Mapping[str, GpuMachine],
        server: ApiServer,
        *,
        max_parallel: int = 1,
        max_unavailable: float = 0.25,
        clients: Callable[[str, bool], None] = lambda _node, _there: None,
    ) -> None:
        """It has installed the driver that the hosts run.

        Args:
            hosts: by the names of their nodes.
            server: where the nodes are.
            max_parallel: nodes that it upgrades at once; 0 is without limit.
            max_unavailable: share of the nodes.
            clients: told whose clients of the GPUs have to go, and may come again: DaemonSets with the label
                `gpu.deploy.client`.
        """
        self.version = next(iter(hosts.values())).gpus.driver
        """That its own declaration says."""
        self.fails: set[str] = set()
        """Nodes on which the next driver's pod does not become ready."""
        self.refuses: set[str] = set()
        """MIG profiles that the GPUs cannot do."""
        self.waits_for_jobs: set[str] = set()
        """Nodes with work that it waits for."""
        self.pauses = False
        """Its pod is away."""
        self.began: list[str] = []
        """Nodes that it cordoned for an upgrade, in order."""
        self.parted: list[tuple[str, str]] = []
        """Node and profile, as they were asked for."""
        self._hosts, self._server, self._clients = hosts, server, clients
        self._max_parallel, self._max_unavailable = max_parallel, max_unavailable
        self._restarts: dict[str, str] = {}
        """Node → the version that its driver's pod comes with."""
        self._configs: dict[str, str] = {}
        self._is_due = False
        server.hears.append(self._hear)

    def declare(self, version: str) -> None:
        """Its own declaration names another driver."""
        self.version = version
        self._soon()

    def mend(self, name: str) -> None:
        """What kept a driver's pod from becoming ready is over."""
        self.fails.discard(name)
        self._ready(name)

    def resume(self) -> None:
        """It is there again, or what it waited for is over of which no node tells."""
        self.pauses = False
        self._soon()

    # -- its loop -----------------------------------------------------------------------------------

    def _hear(self, change: Change) -> None:
        if (
            change.kind != NODE
            or change.after is None
            or change.after.metadata.name not in self._hosts
        ):
            return
        self._part(change.after)
        self._soon()

    def _soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(RECONCILE_S, self._pass)

    def _pass(self) -> None:
        self._is_due = False
        if self.pauses:
            return
        nodes = {name: node for name in self._hosts if (node := self._node(name)) is not None}
        states = {name: node.metadata.labels.get(LABEL, "") for name, node in nodes.items()}
        moved = False
        for name, state in states.items():
            if state in {"", _DONE} and self._is_stale(name):
                moved = self._say(name, _REQUIRED) or moved
        at_work = sum(state in _AT_WORK or state == _FAILED for state in states.values())
        down = sum(_is_down(node) for node in nodes.values())
        share = math.ceil(self._max_unavailable * len(nodes))
        room = share - down
        if self._max_parallel:
            room = min(room, self._max_parallel - at_work)
        for name, node in nodes.items():
            if states[name] != _REQUIRED:
                moved = self._go_on(name, node, states[name]) or moved
            elif node.metadata.labels.get(SKIP_DRIVER_UPGRADE) == "true":
                continue
            elif room > 0 or _is_cordoned(node):
                room -= 1
                self.began.append(name)
                moved = self._say(name, "cordon-required") or moved
        if moved:
            self._soon()

    def _go_on(self, name: str, node: Object, state: str) -> bool:
        """The next step of a node at which it is at work; whether there was one."""
        match state:
            case "cordon-required":
                was = _is_cordoned(node)

                def cordon(body: Any) -> None:
                    body["spec"]["unschedulable"] = True
                    if was:
                        body["metadata"].setdefault("annotations", {})[INITIAL] = "true"

                edit(self._server, NODE, name, cordon, manager=_MANAGER)
                return self._say(name, "wait-for-jobs-required")
            case "wait-for-jobs-required":
                return name not in self.waits_for_jobs and self._say(name, "pod-deletion-required")
            case "pod-deletion-required":
                for pod in self._tenants(name):
                    self._server.delete(POD, pod.key, grace_s=0)
                self._operands(name, there=False)
                return self._say(name, "pod-restart-required")
            case "pod-restart-required":
                return self._restart(name)
            case "uncordon-required":
                self._uncordon(name)
                return self._say(name, _DONE)
            case _:
                return False

    def _restart(self, name: str) -> bool:
        host = self._hosts[name]
        if name in self._restarts or not host.runs_pods:
            return False
        try:
            host.unload_driver()
        except Busy:
            return self._say(name, _FAILED)
        self._restarts[name] = self.version
        asyncio.get_running_loop().call_later(DRIVER_S, lambda: self._ready(name))
        return False

    def _ready(self, name: str) -> None:
        """The driver's pod is ready, or has failed."""
        version = self._restarts.get(name)
        if version is None:
            return
        if name in self.fails:
            self._say(name, _FAILED)
            return
        del self._restarts[name]
        self._hosts[name].load_driver(version)
        self._operands(name, there=True)
        self._say(name, "uncordon-required")
        self._soon()

    def _uncordon(self, name: str) -> None:
        def change(body: Any) -> None:
            if (body["metadata"].get("annotations") or {}).pop(INITIAL, None) is None:
                body["spec"].pop("unschedulable", None)

        edit(self._server, NODE, name, change, manager=_MANAGER)

    def _operands(self, name: str, *, there: bool) -> None:
        def change(body: Any) -> None:
            body["metadata"].setdefault("labels", {})[CLIENT] = "true" if there else PAUSED

        edit(self._server, NODE, name, change, manager=_MANAGER)
        self._clients(name, there)

    def _is_stale(self, name: str) -> bool:
        return self._hosts[name].gpus.driver != self.version

    # -- MIG ----------------------------------------------------------------------------------------

    def _part(self, node: Object) -> None:
        name, config = node.metadata.name, node.metadata.labels.get(CONFIG, "")
        before, self._configs[name] = self._configs.get(name, ""), config
        if config and config != before:
            self.parted.append((name, config))
            asyncio.get_running_loop().call_later(MIG_S, lambda: self._parted(name, config))

    def _parted(self, name: str, config: str) -> None:
        node, host = self._node(name), self._hosts[name]
        if node is None or node.metadata.labels.get(CONFIG) != config:
            return
        busy = any(gpu.processes for gpu in host.gpus.gpus)
        if config in self.refuses or busy or not host.runs_pods:
            self._tell(name, STATE, FAILED)
            return
        for gpu in host.gpus.gpus:
            gpu.mig = config != "all-disabled"
        self._tell(name, STATE, SUCCESS)

    # -- words --------------------------------------------------------------------------------------

    def _say(self, name: str, state: str) -> bool:
        self._tell(name, LABEL, state)
        return True

    def _tell(self, name: str, label: str, value: str) -> None:
        def change(body: Any) -> None:
            body["metadata"].setdefault("labels", {})[label] = value

        edit(self._server, NODE, name, change, manager=_MANAGER)

    def _node(self, name: str) -> Object | None:
        every = self._server.list_page(
            NODE, lambda _each: True, limit=1_000_000, page="", says_remaining=False
        )
        return next((node for node in every.items if node.metadata.name == name), None)

    def _tenants(self, name: str) -> list[Object]:
        """Pods on a node that no DaemonSet keeps there."""
        on_it = selected(None, "", f"spec.nodeName={name}")
        found = self._server.list_page(
            POD, on_it, limit=1_000_000, page="", says_remaining=False
        ).items
        return [
            pod
            for pod in found
            if all(owner.kind != "DaemonSet" for owner in pod.metadata.owner_references)
        ]


def _is_cordoned(node: Object) -> bool:
    spec = msgspec.json.decode(node.spec) or {}
    return bool(spec.get("unschedulable"))


def _is_down(node: Object) -> bool:
    status = msgspec.json.decode(node.status) or {}
    ready = [one for one in status.get("conditions") or [] if one["type"] == "Ready"]
    return _is_cordoned(node) or not ready or ready[0]["status"] != "True"
