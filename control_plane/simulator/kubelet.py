"""A host's kubelet, and what a cluster makes of its silence: the `Node` in the API server twin.

Facts: Kubernetes 1.36, `pkg/kubelet/nodestatus`, `pkg/controller/nodelifecycle`. A kubelet renews its lease
every ten seconds; that it does is computed, not written, and so are heartbeats: the object changes when
something changes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from control_plane.core.cluster import NODE, POD, NotFound, Object
from control_plane.simulator.api_controllers import Controllers, edit
from control_plane.simulator.api_pods import status_of
from control_plane.simulator.api_selectors import selected
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.gpu_host import GpuMachine
from control_plane.simulator.machine import seed_of

GRACE_S: Final = 40.0
"""How long a node counts as ready after its last lease; `--node-monitor-grace-period`, 50 s since 1.32."""
RENEW_S: Final = 10.0
"""Between two renewals of a lease."""
GPU: Final = "nvidia.com/gpu"
EVICT_S: Final = 300.0
"""From the taint of a silent node to the end of pods that were given no other patience."""
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_VERSION: Final = "v1.36.1"
_PRESSURES: Final = ("MemoryPressure", "DiskPressure", "PIDPressure")


class Kubelet:
    """It makes its `Node` at once, and keeps it as the host is."""

    def __init__(
        self,
        host: GpuMachine,
        server: ApiServer,
        rest: Controllers | None = None,
        *,
        grace_s: float = GRACE_S,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """A `Node` of that name that is there already is taken over, as it is after a reboot.

        Args:
            host: the host.
            server: where its `Node` is.
            rest: what else runs in the cluster; pods on a host that is silent do not end.
            grace_s: from the last lease to NotReady.
            labels: of a `Node` that is new.
        """
        self._host, self._server, self._rest = host, server, rest
        self._grace_s = grace_s
        self._phase_s = seed_of(f"{host.name}/lease") % 1_000 / 1_000 * RENEW_S
        self._was: tuple[str, int | None] | None = None
        self._silences = 0
        self._labels = labels or {}
        host.watchers.append(self._look)
        self._look()

    def _look(self) -> None:
        """The host may be another one than before."""
        host = self._host
        now = (host.boot_id, host.offered()) if host.runs_pods else None
        if now == self._was:
            return
        was, self._was = self._was, now
        if now is None:
            self._fall_silent()
            return
        if was is None:
            self._silences += 1
            self._register()
        # One that somebody deleted comes back when its kubelet starts.
        with contextlib.suppress(NotFound):
            self._post()
            if was is None:
                self._return()

    def _register(self) -> None:
        try:
            self._server.get(NODE, self._host.name)
        except NotFound:
            self._server.create(NODE, self._body(), manager="kubelet")

    # -- alive ------------------------------------------------------------------------------------------

    def _post(self) -> None:
        host, now = self._host, self._now()

        def change(body: Any) -> None:
            status = body.get("status") or {}
            status["nodeInfo"] = self._info()
            counted = host.offered() or 0
            there = 0 if not host.plugged else sum(not gpu.absent for gpu in host.gpus.gpus)
            plain = {"cpu": "192", "memory": "2113413120Ki", "pods": "110"}
            status["capacity"] = (status.get("capacity") or {}) | plain | {GPU: str(there)}
            status["allocatable"] = (status.get("allocatable") or {}) | plain | {GPU: str(counted)}
            own = {one: ("False", f"KubeletHasNo{one}", "") for one in _PRESSURES}
            own["Ready"] = ("True", "KubeletReady", "kubelet is posting ready status")
            status["conditions"] = _with(status.get("conditions") or [], own, now, beats=True)
            body["status"] = status

        edit(self._server, NODE, host.name, change, manager="kubelet", subresource="status")

    def _return(self) -> None:
        """The taint goes, pods that were told to end have ended, and the others run again."""
        self._taint(unreachable=False)
        if self._rest is not None:
            self._rest.silent.discard(self._host.name)
        for pod in self._pods():
            if not pod.metadata.deletion_timestamp:
                self._mark(pod, "True")
            else:
                self._server.delete(POD, pod.key, grace_s=0)
                if self._rest is not None:
                    self._rest.gone(pod)

    # -- silent -----------------------------------------------------------------------------------------

    def _fall_silent(self) -> None:
        if self._rest is not None:
            self._rest.silent.add(self._host.name)
        self._silences += 1
        silence, bmc = self._silences, self._host.bmc
        now_s = bmc.wall_s - bmc.epoch_s
        since_renewed_s = (now_s - self._phase_s) % RENEW_S

        def miss() -> None:
            if silence == self._silences:
                self._miss()

        bmc.later(self._grace_s - since_renewed_s, miss)

    def _miss(self) -> None:
        """What the controller of node lives does when a lease has ended."""
        now = self._now()
        words = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")

        def change(body: Any) -> None:
            own = dict.fromkeys(("Ready", *_PRESSURES), words)
            body["status"]["conditions"] = _with(
                body["status"].get("conditions") or [], own, now, beats=False
            )

        try:
            edit(
                self._server, NODE, self._host.name, change,
                manager="kube-controller-manager", subresource="status",
            )  # fmt: skip
        except NotFound:
            return
        self._taint(unreachable=True)
        for pod in self._pods():
            self._mark(pod, "False")
        silence = self._silences

        def evict() -> None:
            if silence == self._silences:
                self._evict()

        self._host.bmc.later(EVICT_S, evict)

    def _evict(self) -> None:
        """Pods are told to end, and nobody is there who ends them; those of DaemonSets stay."""
        for pod in self._pods():
            owners = {owner.kind for owner in pod.metadata.owner_references}
            if "DaemonSet" not in owners and not pod.metadata.deletion_timestamp:
                self._server.delete(POD, pod.key)

    def _pods(self) -> tuple[Object, ...]:
        on_it = selected(None, "", f"spec.nodeName={self._host.name}")
        return self._server.list_page(
            POD, on_it, limit=1_000_000, page="", says_remaining=False
        ).items

    def _mark(self, pod: Object, ready: str) -> None:
        """What of a pod that ran before is counted as healthy."""

        def change(body: Any) -> None:
            for one in (body.get("status") or {}).get("conditions") or []:
                if one["type"] == "Ready":
                    one["status"] = ready

        if status_of(pod).phase == "Running":
            edit(
                self._server, POD, pod.key, change, manager="kube-controller-manager",
                subresource="status",
            )  # fmt: skip

    def _taint(self, *, unreachable: bool) -> None:
        now = self._now()

        def change(body: Any) -> None:
            spec = body.get("spec") or {}
            others = [one for one in spec.get("taints") or [] if one["key"] != UNREACHABLE]
            if unreachable:
                others.append({"key": UNREACHABLE, "effect": "NoSchedule", "timeAdded": now})
                others.append({"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": now})
            spec["taints"] = others
            if not others:
                del spec["taints"]
            body["spec"] = spec

        edit(self._server, NODE, self._host.name, change, manager="kube-controller-manager")

    # -- words ------------------------------------------------------------------------------------------

    def _now(self) -> str:
        moment = dt.datetime.fromtimestamp(int(self._host.bmc.wall_s), dt.UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _body(self) -> dict[str, Any]:
        host = self._host
        own = {
            "kubernetes.io/hostname": host.name,
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": host.gpus.gpus[0].model.name.replace(" ", "-"),
        }
        return {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": host.name, "labels": {**own, **self._labels}}, "spec": {},
        }  # fmt: skip

    def _info(self) -> dict[str, str]:
        host = self._host
        return {
            "architecture": "amd64",
            "bootID": host.boot_id,
            "containerRuntimeVersion": "containerd://2.1.4",
            "kernelVersion": (host.machine.text("/proc/sys/kernel/osrelease") or "").strip(),
            "kubeletVersion": _VERSION,
            "machineID": f"{seed_of(f'{host.name}/disk'):032x}"[-32:],
            "operatingSystem": "linux",
            "osImage": "Ubuntu 24.04.3 LTS",
            # Of the board's firmware: another board has another one.
            "systemUUID": host.board,
        }


def _with(
    conditions: list[dict[str, str]],
    own: Mapping[str, tuple[str, str, str]],
    now: str,
    *,
    beats: bool,
) -> list[dict[str, str]]:
    """Conditions with these ones (status, reason, message) in them; those of others stay."""
    found = {one["type"]: one for one in conditions}
    for kind, (status, reason, message) in own.items():
        before = found.get(kind, {})
        is_same = before.get("status") == status
        found[kind] = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now if beats else before.get("lastHeartbeatTime", now),
            "lastTransitionTime": before.get("lastTransitionTime", now) if is_same else now,
        }
    return list(found.values())
