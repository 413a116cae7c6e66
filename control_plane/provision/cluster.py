"""A declared site → the cluster that its hosts are to be: servers, agents by rack, labels, taints. Pure.

What is found here crosses to the provider as plain values: every struct is camelCase in Pulumi's state, and
is read back from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from control_plane.core.fleet import Cluster, Device, DeviceKind, Host, Site
from control_plane.core.node_labels import gpu_node_labels, node_labels, power_domain
from control_plane.hosts.bundle import Supply
from control_plane.hosts.connection import Target

API_PORT: Final = 6443
SERVER_ROLE: Final = "control_plane"
MANAGEMENT: Final = "management"
"""Role of hosts, and name of the group of agents that they are."""
_MANAGEMENT_TAINT: Final = "gridplane.dev/role:NoSchedule"
_CONTROL_PLANE_TAINT: Final = "node-role.kubernetes.io/control-plane:NoSchedule"


class Node(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One machine of the cluster."""

    target: Target
    """Its name is the node's."""
    labels: Mapping[str, str]
    """Of ours alone: what others put on a node is not looked at."""
    taints: tuple[str, ...] = ()
    """`key:Effect`, from the moment that it joins."""
    pods: str | None = None
    """Network of its pods, where the site routes them."""

    @property
    def name(self) -> str:
        """Of the host and of the node."""
        return self.target.name


class Software(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What every machine of the cluster is given, and how it is set."""

    backend: str
    version: str
    endpoint: str
    """Address at which the API servers are found."""
    pods: str
    services: str
    cni: str
    image_repository: str
    pause_image: str | None = None
    registry_mirrors: Mapping[str, tuple[str, ...]] = {}
    cgroup_driver: str = "systemd"
    restrict_oom_score_adj: bool = False
    kubelet: Mapping[str, Any] = {}
    kube_proxy: Mapping[str, Any] = {}
    ignore_preflight: tuple[str, ...] = ()
    on_removal: str = "release"
    payloads: tuple[Supply, ...] = ()
    """What is brought to the machines instead of being fetched by them."""


class Agents(msgspec.Struct, frozen=True, kw_only=True):
    """Machines that come and go together: those of a rack, or the management hosts."""

    name: str
    nodes: tuple[Node, ...]


class ClusterPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of the layer."""

    site: str
    software: Software
    servers: tuple[Node, ...]
    """The first one begins the cluster, the others join it one after the other."""
    agents: tuple[Agents, ...]
    host_keys: Mapping[str, str]
    """Host → its public key, where the declaration has it."""


def plan_cluster(site: Site, supplies: Iterable[Supply] = ()) -> ClusterPlan | None:
    """The cluster of a site; `None` where it declares none.

    Args:
        site: as the inventory resolved it, so that its checks hold.
        supplies: of an offline bundle.
    """
    cluster = site.cluster
    if cluster is None:
        return None
    targets = _Targets(site, cluster)
    managing = [host for host in site.hosts if host.role == MANAGEMENT]
    serving = [host for host in site.hosts if host.role == SERVER_ROLE] or managing[:1]
    servers = tuple(_host_node(site, cluster, host, targets, is_server=True) for host in serving)
    others = [host for host in managing if host not in serving]
    groups = [
        Agents(
            name=MANAGEMENT,
            nodes=tuple(_host_node(site, cluster, h, targets, is_server=False) for h in others),
        )
    ]
    groups += [Agents(name=rack, nodes=nodes) for rack, nodes in _racks(site, cluster, targets)]
    return ClusterPlan(
        site=site.id,
        software=_software(cluster, serving[0].address, tuple(supplies)),
        servers=servers,
        agents=tuple(group for group in groups if group.nodes),
        host_keys={host.name: host.host_key for host in site.hosts if host.host_key},
    )


class _Targets:
    """How each machine is reached: the jump host directly, the others through it."""

    def __init__(self, site: Site, cluster: Cluster) -> None:
        self._user, self._port = cluster.ssh_user, cluster.ssh_port
        jump = next((host for host in site.hosts if host.name == site.jump_host), None)
        self._via = self._target(jump.name, jump.address, None) if jump else None

    def of(self, name: str, address: str) -> Target:
        """The way to a machine."""
        via = self._via if self._via and self._via.name != name else None
        return self._target(name, address, via)

    def _target(self, name: str, address: str, via: Target | None) -> Target:
        return Target(name=name, address=address, user=self._user, port=self._port, via=via)


def _software(cluster: Cluster, first: str, supplies: tuple[Supply, ...]) -> Software:
    return Software(
        backend=cluster.backend,
        version=cluster.version,
        endpoint=cluster.endpoint or first,
        pods=cluster.pods,
        services=cluster.services,
        cni=cluster.cni,
        image_repository=cluster.image_repository,
        pause_image=cluster.pause_image,
        registry_mirrors=cluster.registry_mirrors,
        cgroup_driver=cluster.cgroup_driver,
        restrict_oom_score_adj=cluster.restrict_oom_score_adj,
        kubelet=cluster.kubelet,
        kube_proxy=cluster.kube_proxy,
        ignore_preflight=cluster.ignore_preflight,
        on_removal=cluster.on_removal,
        payloads=supplies,
    )


def _host_node(
    site: Site, cluster: Cluster, host: Host, targets: _Targets, *, is_server: bool
) -> Node:
    taints: tuple[str, ...] = (_CONTROL_PLANE_TAINT,) if is_server else ()
    if host.role == MANAGEMENT:
        taints += (_MANAGEMENT_TAINT,)
    # That it serves the API too is told by Kubernetes' own label.
    role = MANAGEMENT if host.role == MANAGEMENT else "server"
    return Node(
        target=targets.of(host.name, host.address),
        labels=node_labels(site, feed=host.feed, zone=power_domain(site, host.feed), role=role),
        taints=taints,
        pods=cluster.pods_of.get(host.name) if cluster.cni == "routed" else None,
    )


def _racks(
    site: Site, cluster: Cluster, targets: _Targets
) -> Iterable[tuple[str, tuple[Node, ...]]]:
    racks: dict[str, list[Node]] = {}
    for device in sorted(site.devices, key=lambda d: (d.rack, d.slot)):
        if device.type.kind is DeviceKind.GPU_NODE and device.is_managed and device.address:
            node = _gpu_node(site, cluster, device, targets.of(device.asset, device.address))
            racks.setdefault(device.rack, []).append(node)
    return [(rack, tuple(nodes)) for rack, nodes in sorted(racks.items())]


def _gpu_node(site: Site, cluster: Cluster, device: Device, target: Target) -> Node:
    return Node(
        target=target,
        labels=gpu_node_labels(site, device),
        pods=cluster.pods_of.get(device.asset) if cluster.cni == "routed" else None,
    )
