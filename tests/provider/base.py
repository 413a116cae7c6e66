"""A hall of simulated machines, and what the resources are told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import paramiko

from control_plane.hosts.connection import Target
from control_plane.hosts.keys import read_known_hosts
from control_plane.hosts.ssh import Ssh
from control_plane.provider.crew import Crew
from control_plane.provision.cluster import Node, Software
from control_plane.simulator.hosts.sshd import Hall

LOGIN = paramiko.ECDSAKey.generate(bits=256)
LOOK_S = 0.02
SERVER_TAINT = "node-role.kubernetes.io/control-plane:NoSchedule"
KUBEADM = Software(
    backend="kubeadm",
    version="1.36.3",
    endpoint="10.0.0.1",
    pods="10.244.0.0/16",
    services="10.96.0.0/16",
    cni="routed",
    image_repository="registry.k8s.io",
    on_removal="uninstall",
)
RKE2 = msgspec.structs.replace(KUBEADM, backend="rke2")


@contextmanager
def a_hall(*names: str, pace_s: dict[str, float] | None = None) -> Iterator[Hall]:
    """Machines as they leave the factory, with what an image has: containerd and RKE2's units."""
    with Hall(names, LOGIN, pace_s=pace_s) as hall:
        for machine in hall.machines.values():
            for unit in ("containerd", "rke2-server", "rke2-agent"):
                machine.put(f"/lib/systemd/system/{unit}.service", "[Service]\n")
        yield hall


def a_crew(hall: Hall, **more: Any) -> Crew:
    return Crew(
        Ssh(LOGIN, read_known_hosts(hall.known_hosts(), "known_hosts")), look_s=LOOK_S, **more
    )


def target(hall: Hall, name: str, via: Target | None = None) -> Target:
    return Target(name=name, address=hall.machines[name].address, port=hall.ports[name], via=via)


def node(hall: Hall, name: str, *, via: Target | None = None, **labels: str) -> Node:
    return Node(
        target=target(hall, name, via),
        labels={f"gridplane.dev/{key}": value for key, value in labels.items()},
        pods="10.244.1.0/24",
    )


def server(hall: Hall, name: str, peers: Sequence[str] = (), **software: Any) -> dict[str, Any]:
    """Inputs of a Server; the first of all may begin."""
    return {
        "node": msgspec.to_builtins(
            msgspec.structs.replace(node(hall, name, role="server"), taints=(SERVER_TAINT,))
        ),
        "software": _software(software),
        "peers": [msgspec.to_builtins(target(hall, peer)) for peer in peers],
        "mayBegin": name == next(iter(hall.machines)),
    }


def agents(hall: Hall, *nodes: Node, servers: Sequence[str], **software: Any) -> dict[str, Any]:
    """Inputs of Agents."""
    return {
        "nodes": {one.name: msgspec.to_builtins(one) for one in nodes},
        "software": _software(software),
        "servers": [msgspec.to_builtins(target(hall, name)) for name in servers],
    }


def _software(changes: dict[str, Any]) -> dict[str, Any]:
    base = changes.pop("base", KUBEADM)
    found = msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(base, **changes)))
    assert isinstance(found, dict)
    return found
