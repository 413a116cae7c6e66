"""The cluster layer: 67 simulated machines behind real SSH become a cluster, 32 at a time.

Beside it stands the same work on one machine after the other, as scripts of `remote.Command` resources
that depend on one another do it: same transport, same commands, so that the ratio is that of the order alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
import paramiko

from bench.figures import Figure
from control_plane.hosts.connection import Target
from control_plane.hosts.keys import read_known_hosts
from control_plane.hosts.ssh import Ssh
from control_plane.provider.crew import AT_ONCE, Crew
from control_plane.provision.cluster import Node, Software
from control_plane.simulator.hosts.sshd import Hall

_SERVERS = ("s1", "s2", "s3")
_AGENTS = tuple(f"n{number}" for number in range(1, 65))
_PACE_S: Mapping[str, float] = {"kubeadm": 1.0, "systemctl": 0.05}
"""A tenth of what kubeadm takes on the lab's hosts: enough for waiting to be most of it."""
_SOFTWARE = Software(
    backend="kubeadm",
    version="1.36.3",
    endpoint="127.9.0.1",
    pods="10.244.0.0/16",
    services="10.96.0.0/16",
    cni="routed",
    image_repository="registry.k8s.io",
)


def measure() -> list[Figure]:
    """Wall seconds of both, of all machines together."""
    ours_s, peer_s = _bootstrap(AT_ONCE), _bootstrap(1)
    return [
        Figure(
            name=f"bootstrap of 67 simulated hosts, {AT_ONCE} at a time",
            value=ours_s,
            unit="s",
            peer="one host after the other",
            peer_value=peer_s,
            note=f"kubeadm takes {_PACE_S['kubeadm']:.0f} s there, real SSH on loopback",
        )
    ]


def _bootstrap(at_once: int) -> float:
    login = paramiko.ECDSAKey.generate(bits=256)
    with Hall((*_SERVERS, *_AGENTS), login, pace_s=_PACE_S) as hall:
        for machine in hall.machines.values():
            machine.put("/lib/systemd/system/containerd.service", "[Service]\n")
        crew = Crew(
            Ssh(login, read_known_hosts(hall.known_hosts(), "known_hosts")),
            at_once=at_once,
            look_s=0.05,
        )
        began = time.perf_counter()
        targets = {name: _target(hall, name) for name in (*_SERVERS, *_AGENTS)}
        for number, name in enumerate(_SERVERS):
            peers = [targets[other] for other in _SERVERS if other != name]
            crew.bring_server(_node(targets[name]), _SOFTWARE, peers, None, may_begin=not number)
        servers = [targets[name] for name in _SERVERS]
        outcome = crew.bring_agents([_node(targets[n]) for n in _AGENTS], _SOFTWARE, servers, {})
        took_s = time.perf_counter() - began
        if outcome.failed or len(hall.cluster.nodes) != len(targets):
            raise RuntimeError(f"{len(hall.cluster.nodes)} nodes: {msgspec.to_builtins(outcome)}")
    return took_s


def _target(hall: Hall, name: str) -> Target:
    return Target(name=name, address=hall.machines[name].address, port=hall.ports[name])


def _node(target: Target) -> Node:
    return Node(target=target, labels={"gridplane.dev/site": "bench"}, pods="10.244.1.0/24")
