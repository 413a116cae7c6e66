"""NVSentinel, as far as a hand-over shows it: a quarantine, a request, and what follows an answer."""

from __future__ import annotations

from typing import Any

from control_plane.core.external_remediation import (
    COMPLETE,
    RELEASED,
    REQUEST,
    Answer,
    Request,
    request_in,
)
from control_plane.core.handed_over import CORDONED, FOUND_CORDONED, QUARANTINED
from control_plane.core.moments import moment_text
from control_plane.core.node_hold import MANAGED_BY_NVSENTINEL
from control_plane.simulator.api_controllers import edit
from tests.kube.halls import Floor

CLEANUP = "nvsentinel.dgxc.nvidia.com/cleanup"


class Sentinel:
    """That of a floor."""

    def __init__(self, floor: Floor) -> None:
        self.floor, self.server = floor, floor.playing.server

    def quarantine(self, node: str) -> None:
        """Cordon a node, as its fault-quarantine does; one that it keeps out already stays as it is."""

        def change(body: Any) -> None:
            words = body["metadata"].setdefault("annotations", {})
            if QUARANTINED in words:
                return
            words[QUARANTINED] = "[]"
            if body["spec"].get("unschedulable"):
                words[FOUND_CORDONED] = "True"
            words[CORDONED] = "True"
            body["spec"]["unschedulable"] = True

        self.floor.edit(node, change, manager="fault-quarantine")

    def hand_over(
        self,
        node: str,
        name: str = "err-1",
        *,
        action: str = "RESTART_BM",
        quarantines: bool = True,
    ) -> None:
        """Quarantine a node and release it, with what it asks for."""
        if quarantines:
            self.quarantine(node)
        now = moment_text(self.floor.playing.stage.clock.wall_s())
        event = {
            "nodeName": node, "recommendedAction": action, "checkName": "SysLogsXIDError",
            "errorCode": ["79"], "message": "GPU fell off the bus",
        }  # fmt: skip
        body = {
            "apiVersion": REQUEST.api_version, "kind": REQUEST.kind,
            "metadata": {"name": name, "finalizers": [CLEANUP]}, "spec": {"healthEvent": event},
        }  # fmt: skip
        made = self.server.create(REQUEST, body, manager="fault-remediation")
        status = {
            "conditions": [
                {"type": RELEASED, "status": "True", "reason": "R", "message": "", "lastTransitionTime": now},
                {"type": COMPLETE, "status": "Unknown", "reason": "AwaitingExternalSystem",
                 "message": "", "lastTransitionTime": now},
            ]
        }  # fmt: skip
        meta = {"name": name, "resourceVersion": made.metadata.resource_version}
        told = {**body, "metadata": meta, "status": status}
        self.server.replace(REQUEST, told, manager="janitor", subresource="status")

    def request(self, name: str = "err-1") -> Request:
        """As the server has it."""
        return request_in(self.server.get(REQUEST, name))

    def answer(self, name: str = "err-1") -> Answer:
        """Given to it."""
        return self.request(name).answer

    def delete(self, name: str = "err-1") -> None:
        """`kubectl delete`, and what its janitor cleans up."""
        self.server.delete(REQUEST, name)
        self._forget(name)

    def take_back(self, name: str = "err-1") -> None:
        """What follows on success: the node is NVSentinel's again, and in service."""
        request = self.request(name)
        assert request.answer is Answer.DONE
        assert not self.floor.is_held(request.node), "what is held NVSentinel leaves out"
        self.delete(name)
        self.free(request.node)

    def free(self, node: str) -> None:
        """Uncordon, of what it does not leave out."""

        def change(body: Any) -> None:
            words = body["metadata"]["annotations"]
            for word in (QUARANTINED, CORDONED, FOUND_CORDONED):
                words.pop(word, None)
            body["metadata"].get("labels", {}).pop(MANAGED_BY_NVSENTINEL, None)
            body["spec"].pop("unschedulable", None)

        self.floor.edit(node, change, manager="fault-quarantine")

    def _forget(self, name: str) -> None:
        def change(body: Any) -> None:
            body["metadata"]["finalizers"] = []

        edit(self.server, REQUEST, name, change, manager="janitor")
