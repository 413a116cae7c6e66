"""kubeadm as a backend: what it is told, in its own kinds. Proven on real hosts (`tests/lab`).

Kinds: kubeadm.k8s.io/v1beta4, kubelet.config.k8s.io/v1beta1, kubeproxy.config.k8s.io/v1alpha1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from control_plane.core.errors import UnexpectedReply
from control_plane.core.secret import Secret
from control_plane.hosts.connection import Command
from control_plane.hosts.items import File, Item, Payload, Unit
from control_plane.provision import containerd
from control_plane.provision.authority import pin_of
from control_plane.provision.backend import FORWARDING, Step, Ticket
from control_plane.provision.cluster import API_PORT, Node, Software

CONFIG: Final = "/var/lib/gridplane/kubeadm.yaml"
KUBELET: Final = "kubelet.service"
TICKET_TTL: Final = "30m"
_BEGIN_S: Final = 600.0
_JOIN_S: Final = 400.0
"""The slowest part is pulling images over the site's uplink."""
_KIND: Final = "kubeadm.k8s.io/v1beta4"
_SOCKET: Final = "unix:///run/containerd/containerd.sock"
_TOKEN: Final = re.compile(r"^[a-z0-9]{6}\.[a-z0-9]{16}$")
_CERTIFICATE_KEY: Final = re.compile(r"^[0-9a-f]{64}$", re.MULTILINE)
_KUBELET_UNIT: Final = """\
[Unit]
Description=kubelet
Documentation=https://kubernetes.io/docs/
Wants=network-online.target containerd.service
After=network-online.target containerd.service
# kubeadm writes it: until then there is nothing to run.
ConditionPathExists=/var/lib/kubelet/config.yaml

[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=/usr/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml \
$KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
Restart=always
StartLimitIntervalSec=0
RestartSec=10

[Install]
WantedBy=multi-user.target
"""


class Kubeadm:
    """A `ClusterBackend`."""

    name = "kubeadm"
    proof = "real hosts of the lab"
    kubectl: Command = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
    admin_config = "/etc/kubernetes/admin.conf"
    authority = "/etc/kubernetes/pki/ca.crt"
    membership = "/etc/kubernetes/kubelet.conf"

    def preparation(
        self, node: Node, software: Software, payloads: Sequence[Payload]
    ) -> tuple[tuple[Item, ...], ...]:
        """Programs and settings; images, once containerd runs to take them."""
        images = tuple(p for p in payloads if p.kind == "image")
        return (
            (
                *(p for p in payloads if p.kind != "image"),
                *containerd.files(node, software),
                File(path="/etc/systemd/system/kubelet.service", content=_KUBELET_UNIT),
                *FORWARDING,
                Unit(name=containerd.UNIT),
                Unit(name=KUBELET, is_running=False),
            ),
            images,
        )

    def begin(self, node: Node, software: Software) -> Step:
        """`kubeadm init`."""
        address = node.target.address
        config = _documents(
            {
                "apiVersion": _KIND,
                "kind": "InitConfiguration",
                "localAPIEndpoint": {"advertiseAddress": address, "bindPort": API_PORT},
                "nodeRegistration": _registration(node, software),
            },
            {
                "apiVersion": _KIND,
                "kind": "ClusterConfiguration",
                "kubernetesVersion": f"v{software.version}",
                "imageRepository": software.image_repository,
                "controlPlaneEndpoint": f"{software.endpoint}:{API_PORT}",
                "networking": {
                    "serviceSubnet": software.services,
                    # Where the site routes them, nobody may hand out others.
                    **({} if software.cni == "routed" else {"podSubnet": software.pods}),
                },
                "apiServer": {"certSANs": sorted({address, software.endpoint})},
            },
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "cgroupDriver": software.cgroup_driver,
                **software.kubelet,
            },
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "clusterCIDR": software.pods,
                **software.kube_proxy,
            },
        )
        return _step("init", config, _BEGIN_S)

    def ask(self, *, is_server: bool) -> tuple[tuple[Command, ...], ...]:
        """A token, the authority, and for servers the key to the certificates that wait in the cluster."""
        questions: tuple[tuple[Command, ...], ...] = (
            (("kubeadm", "token", "create", "--ttl", TICKET_TTL),),
            (("cat", self.authority),),
        )
        if is_server:
            questions += ((("kubeadm", "init", "phase", "upload-certs", "--upload-certs"),),)
        return questions

    def ticket(self, answers: tuple[str, ...], *, is_server: bool) -> Ticket:
        """From what `ask` brought.

        Raises:
            UnexpectedReply: the token, the authority or the key is not in it.
        """
        lines = answers[0].strip().splitlines() or [""]
        if not _TOKEN.match(lines[-1]):
            raise UnexpectedReply(
                "kubeadm printed no join token: `kubeadm token create` on a server"
            )
        key = None
        if is_server:
            found = _CERTIFICATE_KEY.findall(answers[2])
            if not found:
                raise UnexpectedReply(
                    "kubeadm printed no certificate key while uploading certificates"
                )
            key = Secret(found[-1])
        return Ticket(token=Secret(lines[-1]), authority=pin_of(answers[1]), certificate_key=key)

    def join(self, node: Node, software: Software, ticket: Ticket, *, is_server: bool) -> Step:
        """`kubeadm join`."""
        config: dict[str, Any] = {
            "apiVersion": _KIND,
            "kind": "JoinConfiguration",
            "discovery": {
                "bootstrapToken": {
                    "apiServerEndpoint": f"{software.endpoint}:{API_PORT}",
                    "token": ticket.token.reveal(),
                    "caCertHashes": [f"sha256:{ticket.authority}"],
                }
            },
            "nodeRegistration": _registration(node, software),
        }
        if is_server and ticket.certificate_key:
            config["controlPlane"] = {
                "certificateKey": ticket.certificate_key.reveal(),
                "localAPIEndpoint": {
                    "advertiseAddress": node.target.address,
                    "bindPort": API_PORT,
                },
            }
        return _step("join", _documents(config), _JOIN_S)

    def rejoin(self, name: str) -> tuple[Command, ...]:
        """Nothing: it takes over a node that is not ready."""
        return ()

    def reset(self) -> tuple[Command, ...]:
        """`kubeadm reset` leaves nothing of the cluster but CNI's own files."""
        return (("kubeadm", "reset", "--force", "--cri-socket", _SOCKET),)


def _step(verb: str, config: str, deadline_s: float) -> Step:
    return Step(
        files=(File(path=CONFIG, content=config, mode=0o600),),
        commands=(("kubeadm", verb, "--config", CONFIG),),
        leftovers=(CONFIG,),
        deadline_s=deadline_s,
    )


def _registration(node: Node, software: Software) -> Mapping[str, Any]:
    return {
        "name": node.name,
        "criSocket": _SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "ignorePreflightErrors": list(software.ignore_preflight),
        "taints": [
            {"key": key, "effect": effect}
            for key, _, effect in (taint.partition(":") for taint in node.taints)
        ],
        "kubeletExtraArgs": [{"name": "node-ip", "value": node.target.address}],
    }


def _documents(*documents: Mapping[str, Any]) -> str:
    """JSON is YAML."""
    return "---\n".join(
        msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
        for document in documents
    )
