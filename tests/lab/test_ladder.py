"""A GPU that stays off its bus, on real hosts: reboot, power cycle, ticket, a person's word, and back."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.lab.cluster import ClusterLab
from tests.lab.cluster import Cluster, Refused
from tests.lab.machines import GRIDPLANE, INVENTORY, SITE, host, until
from tests.lab.orders import LASTING, order
from tests.lab.test_controller import served
from tests.lab.test_enforcing import at_the_pace_of, paced, pointed
from tests.lab.test_node_agent import NODES, PROFILE, agents, enforced, pod_on, ready, status
from tests.lab.test_remedies import NODE, OTHER, authority, declared, node, offer

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
__all__ = ["agents", "authority", "served"]
SCALE = 15
"""The grace of a reboot, 20 minutes, is 80 s. What a look is good for, a minute, is 4 s: a machine that does
other things beside needs two of them between a look of the agent and the command that leans on it."""
CAP_W = 500
FAULT = {"do": "fall_off", "gpu": 3}
"""With its Xid 79. In a boot that finds it gone there is no Xid, and no GPU by that address."""


@pytest.fixture
def pace(served: Cluster, agents: Cluster, tmp_path: Path) -> Path:
    """Controllers and agents by one and the same policy time; the map that says which, for people."""
    path = tmp_path / "network-map.json"
    told = {
        "version": 1, "rules": [], "ports": {}, "is_declared": True,
        "time_scale": SCALE, "epoch_s": time.time(),
    }  # fmt: skip
    path.write_text(json.dumps(told), encoding="utf-8")
    at_the_pace_of(agents, told, "daemonset/gridplane-node-agent", "node-agent")
    paced(served, told)
    return path


def said(power: Cluster, pace: Path, *verb: str) -> Any:
    """What a verb of gridplane's says, in JSON."""
    done = subprocess.run(
        [
            GRIDPLANE, *verb, f"--site={SITE}", f"--inventory={INVENTORY}", f"--network-map={pace}",
            f"--kubeconfig={power.kubeconfig}", "--namespace=power", "-o", "json",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kept(power: Cluster, pace: Path) -> dict[str, Any]:
    """What was done to the node, and how it lived."""
    return dict(said(power, pace, "explain", NODE)["remedies"]["kept"])


@contextlib.contextmanager
def explained(power: Cluster, pace: Path) -> Iterator[None]:
    """Have a failure tell what was done about the node, and why no more."""
    try:
        yield
    except AssertionError:
        told = said(power, pace, "explain", NODE)
        print(json.dumps({"remedies": told["remedies"], "events": told["events"]}, indent=1))
        raise


def boot(everywhere: Cluster, name: str) -> str:
    return str(node(everywhere, name)["status"]["nodeInfo"]["bootID"])


def agent_container(agents: Cluster) -> str:
    """The agent's container on the node, as it was told last."""
    pod = agents.json("get", "pod", pod_on(agents, NODE))
    return str(pod["status"]["containerStatuses"][0]["containerID"])


def capped_anew(agents: Cluster, before: str) -> bool:
    """Whether an agent that started after another one has written the cap, which no GPU has after a boot."""
    if agent_container(agents) == before:
        return False
    try:
        log = agents.run("logs", pod_on(agents, NODE))
    except Refused:  # its kubelet is not there yet
        return False
    return any(f'"watts":{CAP_W}' in line and ": applied" in line for line in log.splitlines())


def broken(lab: ClusterLab, everywhere: Cluster) -> None:
    """One GPU falls off its bus, and will in each boot to come; its device plugin offers the others."""
    lab.hosts.run(host(lab, NODE), f"cat > {LASTING}", text=f"{json.dumps(FAULT)}\n")
    order(lab, NODE, **FAULT)
    offer(everywhere, NODE, 7)


def mended(lab: ClusterLab, everywhere: Cluster) -> None:
    """A person has put another one in; the machine was off for that, and its GPUs know it."""
    lab.hosts.run(host(lab, NODE), f"rm {LASTING}")
    order(lab, NODE, do="power_cycle")
    offer(everywhere, NODE, 8)


@pytest.mark.parametrize("authority", [SCALE], indirect=True)
def test_a_gpu_that_no_restart_brings_back_goes_to_repair_and_comes_back_by_a_word(
    cluster_lab: ClusterLab, served: Cluster, agents: Cluster, authority: str, pace: Path
) -> None:
    everywhere = Cluster(cluster_lab.kubeconfig)
    for name in NODES:
        offer(everywhere, name, 8)
    files = declared(authority)
    files[PROFILE] = files[PROFILE].replace(b"power_limit_w: 650", b"power_limit_w: %d" % CAP_W)
    pointed(served, files, "enforce")
    until(lambda: [ready(served, n) for n in NODES] == [("True", "AsDeclared")] * 2, within_s=240)
    until(lambda: [status(served, n).get("life") for n in NODES] == ["ready"] * 2, within_s=60)
    assert enforced(served) == [CAP_W, CAP_W]
    others = boot(everywhere, OTHER)

    broken(cluster_lab, everywhere)
    with explained(served, pace):
        for _ in ("reboot", "power cycle"):
            before, agent = boot(everywhere, NODE), agent_container(agents)
            until(lambda: boot(everywhere, NODE) != before, within_s=300)  # noqa: B023 - asked in its turn
            until(lambda: capped_anew(agents, agent), within_s=120)  # noqa: B023
        until(lambda: status(served, NODE).get("life") == "repair", within_s=300)
    assert node(everywhere, NODE)["spec"]["unschedulable"] is True
    [listed] = said(served, pace, "remedy", "list")["nodes"]
    assert (listed["node"], listed["doing"]) == (NODE, "in_repair")
    then = kept(served, pace)
    assert then["ticket"]["id"] == listed["ticket"]
    assert [alert["kind"] for alert in then["ticket"]["alerts"]] == ["gpu_lost"]
    # At this pace evidence may be too old by the time that a command would leave: it does not, and failed.
    assert [a["action"] for a in then["attempts"] if a["outcome"] == "done"] == [
        "drain", "reboot", "power_cycle", "quarantine",
    ]  # fmt: skip

    mended(cluster_lab, everywhere)
    said(served, pace, "remedy", "repaired", NODE, "--by=ann", "--reason=another GPU 3")
    until(lambda: status(served, NODE).get("life") == "ready", within_s=120)
    assert "unschedulable" not in node(everywhere, NODE)["spec"]
    until(lambda: ready(served, NODE) == ("True", "AsDeclared"))
    now = kept(served, pace)
    assert now["repaired"]["by"] == "ann"
    steps = now["life"]["history"]
    assert [steps[0]["before"], *(step["after"] for step in steps)] == [
        "declared", "discovered", "inspecting", "provisioning", "joining", "validating", "ready",
        "degraded", "draining", "repair", "validating", "ready",
    ]  # fmt: skip
    [degraded] = [step["by"]["detail"] for step in steps if step["after"] == "degraded"]
    assert "xid 79" in degraded
    assert boot(everywhere, OTHER) == others
    assert enforced(served) == [CAP_W, CAP_W]
    # At this pace a busy machine is a report late now and then: nothing of that lasts.
    until(lambda: said(served, pace, "remedy", "list")["nodes"] == [], within_s=60)
