"""Which GPU nodes of a site one failure takes down together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from control_plane.core.domain_budget import Books, Domain, DomainKind, books_of
from control_plane.core.fleet import Device, DeviceKind, Site


def gpu_devices(site: Site) -> Iterator[Device]:
    """The GPU nodes that are ours to manage."""
    for device in site.devices:
        if device.type.kind is DeviceKind.GPU_NODE and device.is_managed:
            yield device


def domains_of(site: Site) -> Books:
    """Empty books of a site's failure and power domains: racks, every node of the feed tree, the cluster.

    A domain's id is its kind and its name in the declaration: `rack/ga-g1-r001`, `feed/ga-f2`,
    `cluster/ga-macon`.
    """
    members: dict[tuple[DomainKind, str], set[str]] = {}
    for device in gpu_devices(site):
        keys = [(DomainKind.RACK, device.rack), (DomainKind.CLUSTER, site.id)]
        keys += [(DomainKind.FEED, node.id) for node in site.path(device.feed)]
        for key in keys:
            members.setdefault(key, set()).add(device.asset)
    return books_of(
        Domain(id=f"{kind}/{name}", kind=kind, members=frozenset(those))
        for (kind, name), those in members.items()
    )


def paths_of(site: Site) -> Mapping[str, tuple[str, ...]]:
    """GPU node → ids of what is above it, from its rack up to the site."""
    return {
        device.asset: (device.rack, *(node.id for node in site.path(device.feed)), site.id)
        for device in gpu_devices(site)
    }
