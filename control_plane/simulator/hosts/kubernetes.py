"""The cluster that installers make of simulated machines: members of etcd, tokens, nodes.

Its API needs a majority of etcd, and refuses what the real one refuses.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from control_plane.simulator.hosts.machine import Ended, Machine

KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
ADMIN_CONF = "/etc/kubernetes/admin.conf"
AUTHORITY = "/etc/kubernetes/pki/ca.crt"
RKE2_CONFIG = "/etc/rancher/rke2/config.yaml"
RKE2_DROPIN = "/etc/rancher/rke2/config.yaml.d/50-gridplane.yaml"
RKE2_KUBELET = "/var/lib/rancher/rke2/agent/kubelet.kubeconfig"
RKE2_NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105 - a path
GRACE_S = 0.3
"""How long a node whose kubelet is silent still counts as ready, in wire seconds; really 40 to 50."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class SimulatedNode(msgspec.Struct, kw_only=True):
    """A node as the API has it."""

    labels: dict[str, str]
    taints: set[str]
    silent_since_s: float | None = None
    """Monotonic; since when it was seen not to run what it has to."""


class Cluster:
    """What a set of machines share once they are one."""

    def __init__(self) -> None:
        self.authority = _certificate()
        self.nodes: dict[str, SimulatedNode] = {}
        self.members: set[str] = set()
        """Servers, by name: each holds a part of etcd."""
        self.machines: dict[str, Machine] = {}
        self.tokens: set[str] = set()
        self.certificate_keys: set[str] = set()
        self.node_passwords: dict[str, str] = {}
        """RKE2: node → what it made up when it first joined. A node that lost it is another one."""
        self.rke2_token = f"K10{secrets.token_hex(32)}::server:{secrets.token_hex(16)}"
        self.policies: set[str] = set()
        """Admission policies that others have installed, by name."""
        self.drained: list[str] = []
        self.began = 0
        """How often somebody began a cluster: more than once is two clusters."""
        self.lock = threading.RLock()

    @property
    def is_up(self) -> bool:
        """Whether etcd has a majority."""
        alive = [name for name in self.members if self.machines[name].is_on]
        return bool(self.members) and len(alive) > len(self.members) / 2

    def begin(self, machine: Machine, taints: set[str]) -> None:
        """A first server: a cluster of its own."""
        self.began += 1
        self.members = {machine.name}
        self.nodes = {}
        self.admit(machine, taints)

    def admit(self, machine: Machine, taints: set[str]) -> None:
        """A node registers."""
        self.nodes[machine.name] = SimulatedNode(
            labels={"kubernetes.io/hostname": machine.name}, taints=taints
        )

    def forget(self, name: str) -> None:
        """A server takes its part of etcd away."""
        self.members.discard(name)

    def new_token(self) -> str:
        """A bootstrap token."""
        letters = "".join(secrets.choice(_LETTERS) for _ in range(22))
        token = f"{letters[:6]}.{letters[6:]}"
        self.tokens.add(token)
        return token

    def pin(self) -> str:
        """How a joining machine knows it."""
        key = x509.load_pem_x509_certificate(self.authority.encode()).public_key()
        spki = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return f"sha256:{hashlib.sha256(spki).hexdigest()}"

    def is_ready(self, name: str) -> bool:
        """Whether a node's machine runs what it has to."""
        machine = self.machines[name]
        runs = {"containerd.service", "kubelet.service"} <= machine.running
        is_rke2 = bool({"rke2-server.service", "rke2-agent.service"} & machine.running)
        return machine.is_on and (runs or is_rke2)

    def counts_as_ready(self, name: str) -> bool:
        """Whether the API says so: the truth, a while late."""
        node, now_s = self.nodes[name], time.monotonic()
        if self.is_ready(name):
            node.silent_since_s = None
        elif node.silent_since_s is None:
            node.silent_since_s = now_s
        return node.silent_since_s is None or now_s < node.silent_since_s + GRACE_S

    def object_of(self, name: str) -> Mapping[str, Any]:
        """A node as kubectl prints it."""
        node = self.nodes[name]
        taints = [
            {"key": key, "effect": effect}
            for key, _, effect in (taint.partition(":") for taint in sorted(node.taints))
        ]
        status = "True" if self.counts_as_ready(name) else "Unknown"
        return {
            "metadata": {"name": name, "labels": node.labels},
            "spec": {"taints": taints} if taints else {},
            "status": {
                "conditions": [{"type": "Ready", "status": status}],
                "nodeInfo": {"bootID": self.machines[name].boot_id},
            },
        }

    def start_unit(self, machine: Machine, unit: str) -> Ended:
        """What a unit does when it starts, beyond running: RKE2's join the cluster."""
        if unit not in {"rke2-server.service", "rke2-agent.service"}:
            return Ended()
        with self.lock:
            return self._start_rke2(machine, is_server=unit == "rke2-server.service")

    def _start_rke2(self, machine: Machine, *, is_server: bool) -> Ended:
        if RKE2_KUBELET in machine.files:
            return Ended()
        config = msgspec.json.decode(machine.text(RKE2_CONFIG) or "{}")
        dropin = msgspec.json.decode(machine.text(RKE2_DROPIN) or "{}")
        taints = {taint.replace("=:", ":") for taint in dropin.get("node-taint", ())}
        if "server" not in config:
            self.begin(machine, taints)
        elif not self.is_up or config.get("token") != self.rke2_token:
            return Ended(1, b"", b"Job for rke2 failed: failed to validate connection to cluster\n")
        elif self.node_passwords.get(machine.name) not in {None, machine.text(RKE2_NODE_PASSWORD)}:
            return Ended(1, b"", b"Node password rejected, duplicate hostname or contents of it\n")
        else:
            self.admit(machine, taints)
            if is_server:
                self.members.add(machine.name)
        if machine.text(RKE2_NODE_PASSWORD) is None:
            machine.put(RKE2_NODE_PASSWORD, secrets.token_hex(16), 0o600)
        self.node_passwords[machine.name] = machine.text(RKE2_NODE_PASSWORD) or ""
        machine.put("/var/lib/rancher/rke2/agent/server-ca.crt", self.authority)
        machine.put(RKE2_KUBELET, "kubeconfig", 0o600)
        if is_server:
            for name in ("token", "agent-token"):
                machine.put(f"/var/lib/rancher/rke2/server/{name}", self.rke2_token, 0o600)
            machine.put("/etc/rancher/rke2/rke2.yaml", admin_config(machine.address), 0o600)
        return Ended()


def admin_config(address: str) -> str:
    """An administrator's kubeconfig, as installers write it."""
    return (
        "apiVersion: v1\nclusters:\n- cluster:\n"
        f"    server: https://{address}:6443\n  name: kubernetes\nusers:\n- name: admin\n  user:\n"
        f"    client-key-data: {secrets.token_hex(16)}\n"
    )


def _certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()
