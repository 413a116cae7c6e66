"""Conditions of GPUs on a `Node`: told on change, with the times that a remediator counts by."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.cluster import NODE
from control_plane.core.errors import FenceLost
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.node_conditions import HEALTHY, TYPES, conditions_in
from control_plane.kube.node_conditions import NodeConditions
from tests.kube.nodes import Hall, hall

LOST = Alert(
    kind=AlertKind.XID, rung=Rung.REBOOT, since_s=0.0, gpu="00000000:0F:00.0", xid=79,
    detail="fallen off the bus",
)  # fmt: skip


def conditions(h: Hall) -> NodeConditions:
    return NodeConditions(h.client, clock=h.clock, may_write=lambda: h.leads)


def shown(h: Hall) -> dict[str, Any]:
    status = msgspec.json.decode(h.server.get(NODE, "n1").status) or {}
    return {one["type"]: one for one in status.get("conditions", [])}


def test_every_kind_of_alert_is_in_one_condition() -> None:
    found = [kind for kinds in TYPES.values() for kind in kinds]
    assert sorted(found) == sorted(set(AlertKind) - {AlertKind.HANDED_OVER})


def test_a_problem_is_true_and_says_what_helps() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        assert await conditions(h).tell("n1", [LOST])
        there = shown(h)
        assert set(there) == set(TYPES)
        errors = there["GridplaneGpuErrors"]
        assert (errors["status"], errors["reason"]) == ("True", "GridplaneGpuErrorsIsNotHealthy")
        assert errors["message"] == (
            "ErrorCode:79 PCI:00000000:0F:00.0 xid fallen off the bus Recommended Action=RESTART_BM;"
        )
        fine = there["GridplaneGpuMemory"]
        assert (fine["status"], fine["reason"]) == ("False", "GridplaneGpuMemoryIsHealthy")
        assert fine["message"] == HEALTHY

    hall(case)


def test_it_is_written_on_change_and_once_in_a_long_while() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        said = conditions(h)
        assert await said.tell("n1", [])
        began = conditions_in(h.server.get(NODE, "n1"))["GridplaneGpuErrors"]
        await asyncio.sleep(600.0)
        assert not await said.tell("n1", [])
        assert await said.tell("n1", [LOST])
        changed = conditions_in(h.server.get(NODE, "n1"))
        errors, memory = changed["GridplaneGpuErrors"], changed["GridplaneGpuMemory"]
        assert errors.last_transition_time > began.last_transition_time
        assert errors.last_heartbeat_time == errors.last_transition_time
        # What did not change is as old as it is.
        assert memory.last_transition_time == began.last_transition_time
        assert memory.last_heartbeat_time == errors.last_heartbeat_time
        await asyncio.sleep(limits.NODE_CONDITION_BEAT_S)
        assert await said.tell("n1", [LOST])
        later = conditions_in(h.server.get(NODE, "n1"))["GridplaneGpuErrors"]
        assert later.last_transition_time == errors.last_transition_time
        assert later.last_heartbeat_time > errors.last_heartbeat_time
        assert await said.tell("n1", [])
        over = conditions_in(h.server.get(NODE, "n1"))["GridplaneGpuErrors"]
        assert over.status == "False"
        assert over.last_transition_time > errors.last_transition_time

    hall(case)


def test_conditions_of_the_kubelet_stay_as_they_are() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                 "lastHeartbeatTime": "2026-11-01T10:00:00Z",
                 "lastTransitionTime": "2026-11-01T10:00:00Z"}  # fmt: skip
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
        told = {**body, "status": {"conditions": [ready], "capacity": {"nvidia.com/gpu": "8"}}}
        await h.client.apply(NODE, told, manager="kubelet", subresource="status")
        await conditions(h).tell("n1", [LOST])
        assert shown(h)["Ready"] == ready
        status = msgspec.json.decode(h.server.get(NODE, "n1").status)
        assert status["capacity"] == {"nvidia.com/gpu": "8"}

    hall(case)


def test_many_alerts_are_a_few_words_and_a_number() -> None:
    async def case(h: Hall) -> None:
        await h.have()
        alerts = [msgspec.structs.replace(LOST, gpu=f"00000000:{n:02X}:00.0") for n in range(8)]
        await conditions(h).tell("n1", alerts)
        message = shown(h)["GridplaneGpuErrors"]["message"]
        assert message.endswith("and 4 more;")
        assert message.count("ErrorCode:79") == 4

    hall(case)


def test_without_the_fence_or_a_node_nothing_is_told() -> None:
    async def case(h: Hall) -> None:
        assert not await conditions(h).tell("n1", [LOST])
        await h.have()
        h.leads = False
        with pytest.raises(FenceLost):
            await conditions(h).tell("n1", [LOST])
        assert shown(h) == {}

    hall(case)
