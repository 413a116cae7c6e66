"""Names of nodes as people give them: a device, rack, switch, feed node, or the site itself."""

from __future__ import annotations

import difflib

from control_plane.cli.exits import Exit, Stop
from control_plane.core.fleet import Device, Site
from control_plane.core.overlay import nodes_above


def names_of(site: Site) -> frozenset[str]:
    """Every name that covers something on a site."""
    switches = {rack.switch for rack in site.racks.values() if rack.switch}
    hosts = {host.name for host in site.hosts}
    assets = {device.asset for device in site.devices}
    return frozenset({site.id} | set(site.feeds) | set(site.racks) | switches | hosts | assets)


def check_node(site: Site, node: str) -> None:
    """Refuse a name that covers nothing: a hold on a typing error protects nobody.

    Raises:
        Stop: with the nearest names.
    """
    names = names_of(site)
    if node in names:
        return
    near = difflib.get_close_matches(node, names, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise Stop(f"{site.id} has no device, rack, switch or feed node '{node}'.{hint}", Exit.USAGE)


def below(site: Site, node: str) -> list[Device]:
    """Every device that a node covers, itself included."""
    return [device for device in site.devices if node in nodes_above(site, device)]
