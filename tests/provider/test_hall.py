"""A whole hall at once: 67 machines, 32 at a time, some of them slow, dark, strange or already there."""

from __future__ import annotations

import paramiko
import pytest

from control_plane.provider import nodes
from control_plane.provider.resources import Agents, PartlyDone, Server
from control_plane.simulator.hosts.sshd import Hall
from tests.provider.base import a_crew, a_hall, agents, node, server, target

SERVERS = ("s1", "s2", "s3")
NODES = tuple(f"n{number}" for number in range(1, 65))
AT_ONCE = 32


def inputs(hall: Hall) -> dict[str, object]:
    jump = target(hall, "s1")
    return agents(hall, *(node(hall, n, via=jump, rack="r1") for n in NODES), servers=SERVERS)


@pytest.mark.slow
def test_a_hall_comes_up_around_its_broken_hosts_and_the_next_run_brings_those() -> None:
    with a_hall(*SERVERS, *NODES, pace_s={"kubeadm": 0.3}) as hall:
        crew = a_crew(hall, at_once=AT_ONCE)
        for name in SERVERS:
            peers = [other for other in SERVERS if other != name]
            Server().bring(crew, None, server(hall, name, peers))
        hall.machines["n3"].cut()
        hall.machines["n9"].faults.dies_at = ("kubeadm", "join")
        hall.machines["n12"].faults.fails_at = ("dd",)
        hall.machines["n20"].faults.lag_s = 0.05
        right_key, hall.host_keys["n30"] = (
            hall.host_keys["n30"],
            paramiko.ECDSAKey.generate(bits=256),
        )

        with pytest.raises(PartlyDone) as told:
            Agents().bring(crew, None, inputs(hall))
        broken = {"n3", "n9", "n12", "n30"}
        assert {reason.split()[1].rstrip(":") for reason in told.value.reasons} == broken
        assert hall.cluster.nodes.keys() == {*SERVERS, *NODES} - broken
        assert hall.machines["n30"].log == []
        # A ticket for each server that joined, one for all agents; and no more at a time than were asked for,
        # beside the server that lets them in.
        assert hall.machines["s1"].log.count("kubeadm token create --ttl 30m") == len(SERVERS)
        assert AT_ONCE / 2 <= hall.at_once <= AT_ONCE + 1

        hall.machines["n3"].boot()
        hall.machines["n9"].boot()
        hall.machines["n12"].faults.fails_at = ()
        hall.host_keys["n30"] = right_key
        joins = sum("kubeadm join" in line for n in NODES for line in hall.machines[n].log)
        state = Agents().bring(crew, told.value.state, inputs(hall))
        assert state == inputs(hall)
        assert hall.cluster.nodes.keys() == {*SERVERS, *NODES}
        again = sum("kubeadm join" in line for n in NODES for line in hall.machines[n].log)
        assert again - joins == len(broken)


def test_a_machine_that_bears_the_name_of_a_node_that_runs_does_not_join(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes, "SILENT_S", 0.5)
    with a_hall("s1", "n1", "n2") as hall:
        crew = a_crew(hall)
        Server().bring(crew, None, server(hall, "s1"))
        both = agents(hall, node(hall, "n1"), node(hall, "n2"), servers=["s1"])
        Agents().bring(crew, None, both)
        # A second machine stands where n2 stood, and n2's own kubelet goes on elsewhere.
        second = hall.machines["n2"]
        for path in [p for p in second.files if p.startswith("/etc/kubernetes")]:
            del second.files[path]
        with pytest.raises(PartlyDone) as told:
            Agents().bring(crew, None, both)
        assert ["its name is that of a node that is ready" in r for r in told.value.reasons] == [
            True
        ]
        assert sum("kubeadm join" in line for line in second.log) == 1
