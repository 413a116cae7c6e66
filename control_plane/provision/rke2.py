"""RKE2 as a backend. Unproven: written from its documentation, seen to work on simulated hosts only.

The programs have to be on the machines, or in the bundle (`rke2.linux-amd64.tar.gz` as a tree at
`/usr/local`, its image archives as files below `/var/lib/rancher/rke2/agent/images`): nothing is fetched by
a script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from control_plane.core.errors import UnexpectedReply
from control_plane.core.secret import Secret
from control_plane.hosts.connection import Command
from control_plane.hosts.items import File, Item, Payload, Unit
from control_plane.provision.backend import FORWARDING, Step, Ticket
from control_plane.provision.cluster import Node, Software

JOIN_PORT: Final = 9345
_FOLDER: Final = "/etc/rancher/rke2"
_JOIN_S: Final = 900.0


class Rke2:
    """A `ClusterBackend`."""

    name = "rke2"
    proof = "simulated hosts only"
    kubectl: Command = (
        "/var/lib/rancher/rke2/bin/kubectl",
        "--kubeconfig=/etc/rancher/rke2/rke2.yaml",
    )
    admin_config = f"{_FOLDER}/rke2.yaml"
    authority = "/var/lib/rancher/rke2/agent/server-ca.crt"
    membership = "/var/lib/rancher/rke2/agent/kubelet.kubeconfig"

    def preparation(
        self, node: Node, software: Software, payloads: Sequence[Payload]
    ) -> tuple[tuple[Item, ...], ...]:
        """RKE2 brings its own containerd, and imports the images that lie in its folder by itself."""
        settings: dict[str, Any] = {
            "node-name": node.name,
            "node-ip": node.target.address,
            "node-taint": [taint.replace(":", "=:", 1) for taint in node.taints],
        }
        files = [
            File(path=f"{_FOLDER}/config.yaml.d/50-gridplane.yaml", content=_document(settings))
        ]
        if software.registry_mirrors:
            mirrors = {
                name: {"endpoint": list(places)}
                for name, places in software.registry_mirrors.items()
            }
            content = _document({"mirrors": mirrors})
            files.append(File(path=f"{_FOLDER}/registries.yaml", content=content))
        return ((*payloads, *files, *FORWARDING),)

    def begin(self, node: Node, software: Software) -> Step:
        """The first server makes the cluster's token itself."""
        return _step("rke2-server.service", _server(node, software))

    def ask(self, *, is_server: bool) -> tuple[tuple[Command, ...], ...]:
        """RKE2 has one token for servers and one for agents; neither expires."""
        token = "token" if is_server else "agent-token"
        return ((("cat", f"/var/lib/rancher/rke2/server/{token}"),),)

    def ticket(self, answers: tuple[str, ...], *, is_server: bool) -> Ticket:
        """From what `ask` brought.

        Raises:
            UnexpectedReply: it is no token that pins the authority.
        """
        token = answers[0].strip()
        kind = "token" if is_server else "agent-token"
        if not token.startswith("K10"):
            raise UnexpectedReply(
                f"no {kind} in /var/lib/rancher/rke2/server: expected one that begins with K10"
            )
        return Ticket(token=Secret(token))

    def join(self, node: Node, software: Software, ticket: Ticket, *, is_server: bool) -> Step:
        """The unit joins when it starts, and goes on trying."""
        own = _server(node, software) if is_server else {}
        config = {
            **own,
            "server": f"https://{software.endpoint}:{JOIN_PORT}",
            "token": ticket.token.reveal(),
        }
        return _step(f"rke2-{'server' if is_server else 'agent'}.service", config)

    def rejoin(self, name: str) -> tuple[Command, ...]:
        """Each machine made up a password when it first joined, and `reset` took it away."""
        secret = f"{name}.node-password.rke2"
        words = ("delete", "secret", secret, "--namespace=kube-system", "--ignore-not-found")
        return ((*self.kubectl, *words),)

    def reset(self) -> tuple[Command, ...]:
        """Ends all that runs, and removes RKE2 as its own installer would."""
        return (("rke2-killall.sh",), ("rke2-uninstall.sh",))


def _server(node: Node, software: Software) -> dict[str, Any]:
    return {
        "tls-san": sorted({node.target.address, software.endpoint}),
        "cluster-cidr": software.pods,
        "service-cidr": software.services,
        **({"cni": "none"} if software.cni == "external" else {}),
    }


def _step(unit: str, config: dict[str, Any]) -> Step:
    return Step(
        files=(File(path=f"{_FOLDER}/config.yaml", content=_document(config), mode=0o600),),
        units=(Unit(name=unit),),
        deadline_s=_JOIN_S,
    )


def _document(value: dict[str, Any]) -> str:
    """JSON is YAML."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
