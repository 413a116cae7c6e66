"""What must hold of racks whose machines are to get other addresses, and of what they are told with them."""

from __future__ import annotations

import ipaddress

from control_plane.api.v1alpha1 import PreviousAddressingDoc, RackDoc
from control_plane.inventory import errors
from control_plane.inventory.addresses import ambiguous, read_address, read_searched
from control_plane.inventory.choices import RackSource
from control_plane.inventory.expand import network_around, rack_sources
from control_plane.inventory.problems import Problems
from control_plane.inventory.source import quoted
from control_plane.inventory.tree import SiteTree


def check_renumbering(tree: SiteTree, problems: Problems) -> None:
    """Check every `addressing.previous` of a site whose networks are well-formed."""
    for source in rack_sources(tree):
        if (before := source.rack.addressing.previous) is not None:
            _rack(source, before, tree, problems)


def _rack(
    source: RackSource[RackDoc], before: PreviousAddressingDoc, tree: SiteTree, problems: Problems
) -> None:
    rack, doc, given = source.rack, source.doc, source.rack.addressing
    at = source.spot("addressing", "previous")
    if how := ambiguous(before):
        problems.add(errors.EXCLUSIVE, doc, at, f"rack {quoted(rack.id)} was addressed by {how}")
        return
    if given.static_by_slot is None:
        what = f"rack {quoted(rack.id)} is on DHCP, and was addressed otherwise"
        problems.add(errors.BAD_PREVIOUS, doc, at, what)
        return
    if before.static_by_slot == given.static_by_slot:
        what = f"rack {quoted(rack.id)} has the addresses that it had"
        problems.add(errors.BAD_PREVIOUS, doc, at, what)
    if before.static_by_slot is not None:
        spot = source.spot("addressing", "previous", "static_by_slot")
        read_address(before.static_by_slot, doc, spot, problems)
    elif before.dhcp is not None:
        spot = source.spot("addressing", "previous", "dhcp")
        read_searched(before.dhcp, doc, spot, problems)
    network = network_around(given.static_by_slot, tree.site.data.networks if tree.site else ())
    if network is not None and network.gateway is None:
        what = f"rack {quoted(rack.id)} moves into network {quoted(network.name)}, which names no gateway"
        problems.add(errors.NO_GATEWAY, doc, at, what)


def check_gateways(tree: SiteTree, problems: Problems) -> None:
    """Check that the gateway of a network is one of its addresses, and that name servers have any."""
    if tree.site is None:
        return
    doc = tree.site.doc
    for index, network in enumerate(tree.site.data.networks):
        for place, server in enumerate(network.dns):
            read_address(server, doc, doc.spot("networks", index, "dns", place), problems)
        if network.gateway is None:
            continue
        spot = doc.spot("networks", index, "gateway")
        gateway = read_address(network.gateway, doc, spot, problems)
        if gateway is None:
            continue
        if ipaddress.IPv4Address(gateway) not in ipaddress.IPv4Network(network.cidr):
            what = f"gateway {network.gateway} is not of network {quoted(network.name)} ({network.cidr})"
            problems.add(errors.ADDRESS_OUTSIDE, doc, spot, what)
