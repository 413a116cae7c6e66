"""What must hold of a site's cluster.yaml: servers, endpoint, and networks that hide nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from control_plane.api.v1alpha1 import ClusterDoc, HostDoc
from control_plane.inventory import errors
from control_plane.inventory.expand import PodNetwork, gpu_sources, pod_networks
from control_plane.inventory.problems import Problems
from control_plane.inventory.shape import File
from control_plane.inventory.source import quoted
from control_plane.inventory.tree import SiteTree

Network = ipaddress.IPv4Network
_OWN_KUBELET: Final = frozenset(
    {"apiVersion", "kind", "cgroupDriver", "clusterDNS", "clusterDomain", "staticPodPath"}
)
_OWN_PROXY: Final = frozenset({"apiVersion", "kind", "clusterCIDR", "clientConnection"})
_SERVER_ROLES: Final = ("control_plane", "management")


def check_cluster(tree: SiteTree, problems: Problems) -> None:
    """Check the cluster, where the site declares one."""
    if tree.cluster is None:
        return
    _servers(tree, tree.cluster, problems)
    _own_settings(tree.cluster, problems)
    pods = _networks(tree, tree.cluster, problems)
    if tree.cluster.data.cni == "routed" and pods is not None and "gpu" not in tree.torn:
        _routed(tree, tree.cluster, pods, problems)


def _hosts(tree: SiteTree) -> list[HostDoc]:
    return [host for file in tree.hosts for host in file.data.hosts]


def _servers(tree: SiteTree, cluster: File[ClusterDoc], problems: Problems) -> None:
    if "hosts" in tree.torn:
        return
    doc, hosts = cluster.doc, _hosts(tree)
    if not any(host.role in _SERVER_ROLES for host in hosts):
        what = "no host of the site has the role control_plane or management"
        problems.add(errors.NO_SERVER, doc, doc.spot("backend"), what)
        return
    servers = [host.name for host in hosts if host.role == "control_plane"]
    if len(servers) > 1 and cluster.data.endpoint is None:
        what = f"{len(servers)} servers ({', '.join(servers[:3])}) and no endpoint in front of them"
        problems.add(errors.NO_ENDPOINT, doc, doc.spot("version"), what)
    if len(servers) > 1 and len(servers) % 2 == 0:
        what = f"{len(servers)} servers: {', '.join(servers[:4])}"
        problems.add(errors.EVEN_SERVERS, doc, doc.spot("version"), what)


def _own_settings(cluster: File[ClusterDoc], problems: Problems) -> None:
    doc = cluster.doc
    for part, given, own in (
        ("kubelet", cluster.data.kubelet, _OWN_KUBELET),
        ("kube_proxy", cluster.data.kube_proxy, _OWN_PROXY),
    ):
        for field in sorted(own & given.keys()):
            what = f"{part} sets {quoted(field)}"
            problems.add(errors.OWN_SETTING, doc, doc.key(part, field), what)


def _networks(tree: SiteTree, cluster: File[ClusterDoc], problems: Problems) -> Network | None:
    """Check the ranges of the cluster; that of the pods, where it is one."""
    doc = cluster.doc
    found: dict[str, Network] = {}
    for key, text in (("pods", cluster.data.pods), ("services", cluster.data.services)):
        try:
            found[key] = Network(text)
        except ValueError as error:
            problems.add(errors.BAD_NETWORK, doc, doc.spot(key), f"{quoted(text)}: {error}")
    if len(found) == len(("pods", "services")) and found["pods"].overlaps(found["services"]):
        what = f"services ({found['services']}) overlap pods ({found['pods']})"
        problems.add(errors.BAD_CLUSTER_NETWORK, doc, doc.spot("services"), what)
    for key, network in found.items():
        for name, other in _site_networks(tree, but="pods" if key == "pods" else ""):
            if network.overlaps(other):
                what = f"{key} ({network}) overlap the network {quoted(name)} ({other})"
                problems.add(errors.BAD_CLUSTER_NETWORK, doc, doc.spot(key), what)
    return found.get("pods")


def _site_networks(tree: SiteTree, *, but: str) -> Iterator[tuple[str, Network]]:
    for network in tree.site.data.networks if tree.site else ():
        if network.purpose == but:
            continue
        try:
            yield network.name, Network(network.cidr)
        except ValueError:
            continue  # a finding of the site's own


def _routed(tree: SiteTree, cluster: File[ClusterDoc], pods: Network, problems: Problems) -> None:
    widest: PodNetwork | None = None
    # Of thousands of nodes, those before in the order of addresses are the only ones that may overlap.
    for node, network, source, spot in sorted(pod_networks(tree), key=lambda one: one.network):
        if not network.subnet_of(pods):
            what = f"pods of {quoted(node)} ({network}) are outside of the cluster's ({pods})"
            problems.add(errors.BAD_CLUSTER_NETWORK, source, spot, what)
        if widest is not None and network.overlaps(widest.network):
            what = f"pods of {quoted(node)} ({network}) overlap those of {quoted(widest.node)}"
            problems.add(errors.BAD_CLUSTER_NETWORK, source, spot, what)
        if widest is None or network.broadcast_address > widest.network.broadcast_address:
            widest = PodNetwork(node, network, source, spot)
    for file in tree.hosts:
        for index, host in enumerate(file.data.hosts):
            spot = file.doc.spot("hosts", index, "pods")
            if host.role not in _SERVER_ROLES:
                continue
            if host.pods is None:
                what = f"host {quoted(host.name)} has no pods"
                problems.add(errors.NO_POD_NETWORK, file.doc, spot, what)
            elif not _is_network(host.pods):
                what = f"{quoted(host.pods)} is no network"
                problems.add(errors.BAD_NETWORK, file.doc, spot, what)
    for gpu in gpu_sources(tree):
        if gpu.rack.first_pods is None:
            what = f"GPU rack {quoted(gpu.rack.id)} has no first_pods"
            problems.add(errors.NO_POD_NETWORK, gpu.doc, gpu.spot("id"), what)
        elif not _is_network(gpu.rack.first_pods):
            what = f"{quoted(gpu.rack.first_pods)} is no network"
            problems.add(errors.BAD_NETWORK, gpu.doc, gpu.spot("first_pods"), what)


def _is_network(text: str) -> bool:
    try:
        Network(text)
    except ValueError:
        return False
    return True
