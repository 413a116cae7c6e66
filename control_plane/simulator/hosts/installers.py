"""kubeadm, kubectl and RKE2's scripts, as machines run them (kubeadm 1.36, RKE2's documentation)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from control_plane.simulator.hosts.kubernetes import (
    ADMIN_CONF,
    AUTHORITY,
    KUBELET_CONF,
    admin_config,
)
from control_plane.simulator.hosts.machine import Ended, Machine, Program

_CLEAN = ("/etc/kubernetes/", "/var/lib/kubelet/", "/var/lib/etcd/")
_RKE2_CLEAN = ("/etc/rancher/", "/var/lib/rancher/")
_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"


def _error(text: str, code: int = 1) -> Ended:
    return Ended(code, b"", f"{text}\n".encode())


# --- kubeadm ---------------------------------------------------------------------------------


def _kubeadm(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    with machine.cluster.lock:
        match list(words):
            case ["init", "--config", path]:
                return _init(machine, path)
            case ["join", "--config", path]:
                return _join(machine, path)
            case ["reset", "--force", *_]:
                return _reset(machine)
            case ["token", "create", "--ttl", _]:
                if not _reaches_api(machine):
                    return _error("timed out waiting for the condition")
                return Ended(0, f"{machine.cluster.new_token()}\n".encode())
            case ["init", "phase", "upload-certs", "--upload-certs"]:
                if not _reaches_api(machine):
                    return _error("timed out waiting for the condition")
                key = secrets.token_hex(32)
                machine.cluster.certificate_keys.add(key)
                return Ended(0, f"[upload-certs] Using certificate key:\n{key}\n".encode())
            case _:
                return _error(f"unknown command {' '.join(words)!r}")


def _documents(machine: Machine, path: str) -> dict[str, Mapping[str, Any]]:
    text = machine.text(path) or ""
    found = [msgspec.json.decode(part) for part in text.split("---\n") if part.strip()]
    return {document["kind"]: document for document in found}


def _preflight(machine: Machine) -> Ended | None:
    problems = []
    if KUBELET_CONF in machine.files:
        problems.append("[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: already exists")
    if _MANIFEST in machine.files:
        problems.append("[ERROR DirAvailable--etc-kubernetes-manifests]: is not empty")
    if "containerd.service" not in machine.running:
        problems.append("[ERROR CRI]: container runtime is not running")
    if machine.sysctls["net.ipv4.ip_forward"] != "1":
        problems.append("[ERROR FileContent--proc-sys-net-ipv4-ip_forward]: is not set to 1")
    if problems:
        return _error("[preflight] Some fatal errors occurred:\n\t" + "\n\t".join(problems))
    return None


def _init(machine: Machine, path: str) -> Ended:
    refused = _preflight(machine)
    if refused:
        return refused
    registration = _documents(machine, path)["InitConfiguration"]["nodeRegistration"]
    machine.cluster.begin(machine, _taints(registration))
    _become_server(machine)
    token = machine.cluster.new_token()
    return Ended(0, f"kubeadm join {machine.address}:6443 --token {token}\n".encode())


def _join(machine: Machine, path: str) -> Ended:
    refused = _preflight(machine)
    if refused:
        return refused
    cluster, config = machine.cluster, _documents(machine, path)["JoinConfiguration"]
    how = config["discovery"]["bootstrapToken"]
    if not cluster.is_up:
        return _error("couldn't validate the identity of the API Server: connection refused")
    if how["token"] not in cluster.tokens:
        return _error(f"could not find a JWS signature for token ID {how['token'][:6]!r}")
    if cluster.pin() not in how["caCertHashes"]:
        return _error("cluster CA found in cluster-info ConfigMap is invalid")
    if machine.name in cluster.nodes and cluster.counts_as_ready(machine.name):
        return _error(
            f'a Node with name "{machine.name}" and status "Ready" already exists in the cluster'
        )
    server = config.get("controlPlane")
    if server and server["certificateKey"] not in cluster.certificate_keys:
        return _error("error downloading the secret: secrets 'kubeadm-certs' not found")
    cluster.admit(machine, _taints(config["nodeRegistration"]))
    if server:
        cluster.members.add(machine.name)
        _become_server(machine)
    else:
        _become_node(machine)
    return Ended(0, b"This node has joined the cluster\n")


def _become_server(machine: Machine) -> None:
    machine.put(_MANIFEST, "kind: Pod\n")
    machine.put(ADMIN_CONF, admin_config(machine.address), 0o600)
    _become_node(machine)


def _become_node(machine: Machine) -> None:
    machine.put(AUTHORITY, machine.cluster.authority)
    machine.put(KUBELET_CONF, "kind: Config\n", 0o600)
    machine.put("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\n")
    machine.start("kubelet.service")


def _reset(machine: Machine) -> Ended:
    for path in [path for path in machine.files if path.startswith(_CLEAN)]:
        del machine.files[path]
    machine.cluster.forget(machine.name)
    machine.running.discard("kubelet.service")
    return Ended()


def _taints(registration: Mapping[str, Any]) -> set[str]:
    return {f"{taint['key']}:{taint['effect']}" for taint in registration["taints"]}


# --- kubectl ---------------------------------------------------------------------------------


def _reaches_api(machine: Machine) -> bool:
    return machine.name in machine.cluster.members and machine.cluster.is_up


def _kubectl(machine: Machine, words: Sequence[str], _stdin: bytes) -> Ended:
    config, *rest = words
    if config.partition("=")[2] not in machine.files:
        return _error("error: stat admin.conf: no such file or directory")
    with machine.cluster.lock:
        if not _reaches_api(machine):
            return _error(
                "The connection to the server was refused - did you specify the right host or port?"
            )
        return _ask(machine, rest)


def _ask(machine: Machine, words: Sequence[str]) -> Ended:
    cluster = machine.cluster
    match list(words):
        case ["get", "node", name]:
            return Ended() if name in cluster.nodes else _error(f'nodes "{name}" not found')
        case ["get", "nodes", *names]:
            found = [cluster.object_of(n) for n in names if n in cluster.nodes]
            told = found[0] if len(found) == 1 else {"items": found}
            return Ended(0, msgspec.json.encode(told) if found else b"")
        case ["get", "validatingadmissionpolicy", name, "--ignore-not-found", "--output=name"]:
            kind = "validatingadmissionpolicy.admissionregistration.k8s.io"
            return Ended(0, f"{kind}/{name}\n".encode() if name in cluster.policies else b"")
        case ["label", "node", name, *changes]:
            for change in changes:
                key, _, value = change.partition("=")
                if change.startswith("--"):
                    continue
                if change.endswith("-"):
                    cluster.nodes[name].labels.pop(change[:-1], None)
                else:
                    cluster.nodes[name].labels[key] = value
            return Ended()
        case ["taint", "node", name, *changes]:
            for change in changes:
                if change.startswith("--"):
                    continue
                if change.endswith("-"):
                    cluster.nodes[name].taints.discard(change[:-1])
                else:
                    cluster.nodes[name].taints.add(change.replace("=:", ":"))
            return Ended()
        case ["drain", name, *_]:
            cluster.drained.append(name)
            return Ended()
        case ["delete", "node", name]:
            del cluster.nodes[name]
            cluster.node_passwords.pop(name, None)
            return Ended()
        case ["delete", "secret", secret, "--namespace=kube-system", "--ignore-not-found"]:
            cluster.node_passwords.pop(secret.removesuffix(".node-password.rke2"), None)
            return Ended()
        case _:
            return _error(f"unknown command {' '.join(words)!r}")


# --- RKE2 ------------------------------------------------------------------------------------


def _killall(machine: Machine, _words: Sequence[str], _stdin: bytes) -> Ended:
    machine.running -= {"rke2-server.service", "rke2-agent.service"}
    return Ended()


def _uninstall(machine: Machine, _words: Sequence[str], _stdin: bytes) -> Ended:
    for path in [path for path in machine.files if path.startswith(_RKE2_CLEAN)]:
        del machine.files[path]
    machine.enabled -= {"rke2-server.service", "rke2-agent.service"}
    machine.cluster.forget(machine.name)
    return Ended()


INSTALLERS: Mapping[str, Program] = {
    "kubeadm": _kubeadm, "kubectl": _kubectl, "rke2-killall.sh": _killall,
    "rke2-uninstall.sh": _uninstall,
}  # fmt: skip
"""Program → what it does."""
