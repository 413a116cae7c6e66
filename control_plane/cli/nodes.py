"""Names of nodes as people give them: a device, rack, switch, feed node, or the site itself."""

from __future__ import annotations

import difflib

from control_plane.cli.exits import Exit, Stop
from control_plane.core.fleet import Device, Site
from control_plane.core.overlay import node_names, nodes_above, path_above


def check_node(site: Site, node: str) -> None:
    """Refuse a name that covers nothing: a hold on a typing error protects nobody.

    Raises:
        Stop: with the nearest names.
    """
    names = node_names(site)
    if node in names:
        return
    if any(host.name == node for host in site.hosts):
        raise Stop(
            f"{node} is a host of {site.id}: nothing is written to hosts, and it covers no device. "
            "Name a device, rack, switch, feed node or the site",
            Exit.USAGE,
        )
    near = difflib.get_close_matches(node, names, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise Stop(f"{site.id} has no device, rack, switch or feed node '{node}'.{hint}", Exit.USAGE)


def names_below(site: Site, node: str) -> frozenset[str]:
    """A node, and every device and node that it covers."""
    names = {node}
    for device in below(site, node):
        upwards = (device.asset, *path_above(site, device), site.id)
        names.update(upwards[: upwards.index(node)])
    return frozenset(names)


def below(site: Site, node: str) -> list[Device]:
    """Every device that a node covers, itself included."""
    return [device for device in site.devices if node in nodes_above(site, device)]
