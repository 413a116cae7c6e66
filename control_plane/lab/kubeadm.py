"""What kubeadm is told: its configuration, pure. One server, any number of agents.

Kinds and fields: kubeadm.k8s.io/v1beta4, kubelet.config.k8s.io/v1beta1, kubeproxy.config.k8s.io/v1alpha1.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from control_plane.lab.images import REGISTRY
from control_plane.lab.programs import KUBERNETES_VERSION
from control_plane.lab.records import HostRecord

PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
API_PORT = 6443
_KUBEADM = "kubeadm.k8s.io/v1beta4"
_SOCKET = "unix:///run/containerd/containerd.sock"
_IGNORED = ("SystemVerification", "Swap", "NumCPU", "Mem")
"""Preflight checks that look at the machine below the lab, not at the host."""
_TOKEN_LETTERS = string.ascii_lowercase + string.digits


def new_token() -> str:
    """A bootstrap token."""

    def letters(count: int) -> str:
        return "".join(secrets.choice(_TOKEN_LETTERS) for _ in range(count))

    return f"{letters(6)}.{letters(16)}"


def pin_of(certificate: bytes) -> str:
    """What a joining host knows of the cluster's authority: the hash of its public key.

    Args:
        certificate: the authority's, as PEM.
    """
    key = x509.load_pem_x509_certificate(certificate).public_key()
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def init_config(server: HostRecord, *, token: str, names: Sequence[str]) -> str:
    """For `kubeadm init` on the server.

    Args:
        server: the host.
        token: with which others may join.
        names: under which the API server answers beside its address.
    """
    return _documents(
        {
            "apiVersion": _KUBEADM,
            "kind": "InitConfiguration",
            "bootstrapTokens": [{"token": token, "ttl": "0s"}],
            # Before the proxy stands, CoreDNS finds no API server, and lets half a minute go by.
            "skipPhases": ["addon/coredns"],
            "localAPIEndpoint": {"advertiseAddress": server.address, "bindPort": API_PORT},
            "nodeRegistration": _registration(server),
        },
        {
            "apiVersion": _KUBEADM,
            "kind": "ClusterConfiguration",
            "clusterName": "lab",
            "kubernetesVersion": f"v{KUBERNETES_VERSION}",
            "imageRepository": REGISTRY,
            "dns": {"imageRepository": REGISTRY},
            "etcd": {
                "local": {
                    "imageRepository": REGISTRY,
                    # A lab is not kept through a power cut; without it every write waits for the disk.
                    "extraArgs": [{"name": "unsafe-no-fsync", "value": "true"}],
                }
            },
            "controlPlaneEndpoint": f"{server.address}:{API_PORT}",
            # Not `podSubnet`: each host's pod network is on its disk, and nobody hands out others.
            "networking": {"serviceSubnet": SERVICES},
            "apiServer": {"certSANs": list(names)},
        },
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            # The host shares a machine with others: what is free here says nothing about it.
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
        },
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": PODS,
            # These belong to the machine, not to a host.
            "conntrack": {"maxPerCore": 0, "min": 0},
        },
    )


def join_config(host: HostRecord, server: HostRecord, *, token: str, pin: str) -> str:
    """For `kubeadm join` on an agent."""
    return _documents(
        {
            "apiVersion": _KUBEADM,
            "kind": "JoinConfiguration",
            "discovery": {
                "bootstrapToken": {
                    "apiServerEndpoint": f"{server.address}:{API_PORT}",
                    "token": token,
                    "caCertHashes": [pin],
                }
            },
            "nodeRegistration": _registration(host),
        }
    )


def _registration(host: HostRecord) -> Mapping[str, Any]:
    return {
        "name": host.name,
        "criSocket": _SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "ignorePreflightErrors": list(_IGNORED),
        "kubeletExtraArgs": [{"name": "node-ip", "value": host.address}],
    }


def _documents(*documents: Mapping[str, Any]) -> str:
    """JSON is YAML."""
    return "---\n".join(
        msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
        for document in documents
    )
