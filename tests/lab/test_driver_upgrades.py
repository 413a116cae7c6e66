"""NVIDIA's own upgrade manager, of the GPU operator's library, and the nodes that we hold.

It runs beside the API lab, over the DaemonSet of a driver of ours; kwok marks its pods as running.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.core.driver_upgrade import LABEL, UpgradeState, Worker
from control_plane.core.node_hold import FOUND_BY_UPGRADE, NodeHold
from control_plane.engine.adapters import SystemClock
from control_plane.kube.client import connect, kubeconfig
from control_plane.kube.node_hold import Holding, HoldState, NodeHolds
from control_plane.lab.programs import find
from tests.lab.cluster import Cluster as Kubectl
from tests.lab.machines import until
from tests.lab.test_node_actions import node

pytestmark = [pytest.mark.lab("operator"), pytest.mark.slow]
APP = "nvidia-driver-daemonset"
BY = "remedies"
OLD, NEW = "driver:570.86.15", "driver:580.65.06"
TURN = "State Manager, finished processing"
ALL = "abcd"


def driver(namespace: str, image: str) -> dict[str, Any]:
    """As the operator has it: replaced by hand alone, and on every node whatever its taints."""
    labels = {"app": APP}
    return {
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": APP, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "OnDelete"},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {"test": namespace},
                    "tolerations": [{"operator": "Exists"}],
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "driver", "image": image}],
                },
            },
        },
    }  # fmt: skip


class Upgrades:
    """The nodes of a test, their drivers, and the manager over them."""

    def __init__(self, cluster: Kubectl, log: Path) -> None:
        self.cluster, self._log = cluster, log

    def name(self, letter: str) -> str:
        return f"{self.cluster.namespace}-{letter}"

    def node(self, letter: str) -> dict[str, Any]:
        return dict(self.cluster.json("get", "node", self.name(letter)))

    def state(self, letter: str) -> str:
        return str(self.node(letter)["metadata"]["labels"].get(LABEL, ""))

    def is_cordoned(self, letter: str) -> bool:
        return bool(self.node(letter)["spec"].get("unschedulable", False))

    def renewed(self) -> str:
        """Letters of the nodes whose driver is the new one."""
        pods = self.cluster.json("get", "pods", f"--selector=app={APP}")["items"]
        found = {
            pod["spec"]["nodeName"].rpartition("-")[2]
            for pod in pods
            if pod["spec"]["containers"][0]["image"] == NEW
            and pod["status"].get("phase") == "Running"
        }
        return "".join(sorted(found))

    def turns(self) -> int:
        return self._log.read_text(encoding="utf-8").count(TURN)

    def turned(self, times: int = 4) -> None:
        """Wait until the manager has looked at everything so often again."""
        before = self.turns()
        until(lambda: self.turns() >= before + times)

    def daemons(self) -> dict[str, Any]:
        return dict(self.cluster.json("get", "daemonset", APP).get("status", {}))

    def declare(self, image: str) -> None:
        self.cluster.apply(driver(self.cluster.namespace, image))


@pytest.fixture
def upgrades(cluster: Kubectl, tmp_path: Path) -> Iterator[Upgrades]:
    """Four nodes with the old driver; one at a time may be away."""
    log = tmp_path / "upgrades.log"
    made = Upgrades(cluster, log)
    names = [made.name(letter) for letter in ALL]
    for name in names:
        cluster.run("create", "-f", "-", stdin=json.dumps(node(name)))
    for name in names:
        cluster.wait("condition=Ready", f"node/{name}")
    made.declare(OLD)
    until(lambda: made.daemons().get("numberReady") == len(ALL))
    with log.open("wb") as out:
        manager = subprocess.Popen(
            [
                find("gpu-driver-upgrades"), f"-kubeconfig={cluster.kubeconfig}",
                f"-namespace={cluster.namespace}", "-max-parallel=1", "-max-unavailable=25%",
            ],
            stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(lambda: [made.state(letter) for letter in ALL] == [UpgradeState.UPGRADE_DONE] * 4)
        yield made
    finally:
        manager.terminate()
        manager.wait(timeout=30)
        cluster.run("delete", "daemonset", APP, "--wait=false")
        cluster.run("delete", "node", *names)


def holding(upgrades: Upgrades, ask: Callable[[NodeHolds], Awaitable[Holding]]) -> Holding:
    async def main() -> Holding:
        async with connect(kubeconfig(upgrades.cluster.kubeconfig)) as client:
            return await ask(NodeHolds(client, may_write=lambda: True))

    return asyncio.run(main())


def hold(upgrades: Upgrades, letter: str) -> None:
    words = NodeHold(by=BY, why="XID 79", since_s=SystemClock().wall_s())
    done = holding(upgrades, lambda holds: holds.hold(upgrades.name(letter), words))
    assert done.state is HoldState.HELD


def test_a_cordon_is_upgraded_and_a_hold_is_not(upgrades: Upgrades) -> None:
    """With its budget spent the manager goes on to a node that somebody cordoned: a hold says skip."""
    upgrades.cluster.run("cordon", upgrades.name("a"))
    hold(upgrades, "b")
    assert upgrades.is_cordoned("a")
    assert upgrades.is_cordoned("b")
    upgrades.declare(NEW)
    until(lambda: upgrades.renewed() == "a")
    until(lambda: upgrades.state("a") == UpgradeState.UPGRADE_DONE)
    upgrades.turned()
    # Nobody else: those that we hold, and that a person cordoned, count as away, and one may be.
    assert upgrades.renewed() == "a"
    assert upgrades.is_cordoned("a")
    assert [upgrades.state(letter) for letter in "bcd"] == [UpgradeState.UPGRADE_REQUIRED] * 3
    # It notes that it found the node cordoned, and would leave it so: that our hold ends, it does not know.
    assert FOUND_BY_UPGRADE in upgrades.node("b")["metadata"]["annotations"]

    # The cordon ended: what we hold still fills the budget of one, and nothing is begun.
    upgrades.cluster.run("uncordon", upgrades.name("a"))
    upgrades.turned()
    assert upgrades.renewed() == "a"
    now = holding(upgrades, lambda holds: holds.look(upgrades.name("b"), by=BY))
    assert (now.state, now.missing) == (HoldState.HELD, ())
    assert now.upgrade is not None
    assert (now.upgrade.worker, now.upgrade.may_begin) == (Worker.WAITS, False)

    # The hold ended: the manager goes on, one at a time, and leaves nobody cordoned.
    done = holding(upgrades, lambda holds: holds.release(upgrades.name("b"), by=BY))
    assert (done.state, done.is_cordoned) == (HoldState.FREE, False)
    until(lambda: upgrades.renewed() == ALL)
    until(lambda: [upgrades.state(letter) for letter in ALL] == [UpgradeState.UPGRADE_DONE] * 4)
    assert not any(upgrades.is_cordoned(letter) for letter in ALL)
