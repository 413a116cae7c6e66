"""What must hold of racks whose machines are to get other addresses."""

from __future__ import annotations

import ipaddress
from typing import Final

from control_plane.api.v1alpha1 import RackDoc
from control_plane.inventory import errors
from control_plane.inventory.choices import RackSource
from control_plane.inventory.expand import network_around, rack_sources
from control_plane.inventory.problems import Problems
from control_plane.inventory.source import quoted
from control_plane.inventory.tree import SiteTree

SWEEP_MAX: Final = 16_384
"""Addresses of one DHCP network: a sweep at 500 connections has seen them all in half a minute."""


def check_renumbering(tree: SiteTree, problems: Problems) -> None:
    """Check every `addressing.previous` of a site whose networks and addresses are well-formed."""
    for source in rack_sources(tree):
        if source.rack.addressing.previous is not None:
            _rack(source, tree, problems)


def _rack(source: RackSource[RackDoc], tree: SiteTree, problems: Problems) -> None:
    rack, doc = source.rack, source.doc
    given, before = rack.addressing, rack.addressing.previous
    assert before is not None  # noqa: S101 - the caller asked
    at = source.spot("addressing", "previous")
    if (before.static_by_slot is None) == (before.dhcp is None):
        how = "both static_by_slot and dhcp" if before.dhcp else "neither static_by_slot nor dhcp"
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
        try:
            ipaddress.IPv4Address(before.static_by_slot)
        except ValueError as error:
            problems.add(errors.BAD_ADDRESS, doc, spot, str(error).replace("'", ""))
    elif before.dhcp is not None:
        spot = source.spot("addressing", "previous", "dhcp")
        try:
            size = ipaddress.IPv4Network(before.dhcp).num_addresses
        except ValueError as error:
            problems.add(errors.BAD_NETWORK, doc, spot, f"{quoted(before.dhcp)}: {error}")
        else:
            if size > SWEEP_MAX:
                what = f"{before.dhcp} has {size:,} addresses; at most {SWEEP_MAX:,} are searched"
                problems.add(errors.BAD_NETWORK, doc, spot, what)
    network = network_around(given.static_by_slot, tree.site.data.networks if tree.site else ())
    if network is not None and network.gateway is None:
        what = f"rack {quoted(rack.id)} moves into network {quoted(network.name)}, which names no gateway"
        problems.add(errors.NO_GATEWAY, doc, at, what)


def check_gateways(tree: SiteTree, problems: Problems) -> None:
    """Check that the gateway of a network is one of its addresses."""
    if tree.site is None:
        return
    doc = tree.site.doc
    for index, network in enumerate(tree.site.data.networks):
        if network.gateway is None:
            continue
        spot = doc.spot("networks", index, "gateway")
        try:
            gateway = ipaddress.IPv4Address(network.gateway)
        except ValueError as error:
            problems.add(errors.BAD_ADDRESS, doc, spot, str(error).replace("'", ""))
            continue
        if gateway not in ipaddress.IPv4Network(network.cidr):
            what = f"gateway {gateway} is not of network {quoted(network.name)} ({network.cidr})"
            problems.add(errors.ADDRESS_OUTSIDE, doc, spot, what)
