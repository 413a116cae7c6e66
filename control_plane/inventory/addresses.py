"""Addresses and networks as a declaration writes them; what is wrong with one, with its place."""

from __future__ import annotations

import ipaddress
from typing import Final

from control_plane.api.v1alpha1 import PreviousAddressingDoc
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.source import Source, Spot, quoted

Network = ipaddress.IPv4Network
_SWEEP_MAX: Final = 16_384
"""Addresses of one DHCP network: a sweep at 500 connections has seen them all in half a minute."""


def read_address(text: str, doc: Source, spot: Spot, problems: Problems) -> int | None:
    """An address; `None` where it is none, which is noted."""
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError as error:
        problems.add(errors.BAD_ADDRESS, doc, spot, str(error).replace("'", "").replace('"', ""))
        return None


def read_network(text: str, doc: Source, spot: Spot, problems: Problems) -> Network | None:
    """A network; `None` where it is none, which is noted."""
    try:
        return Network(text)
    except ValueError as error:
        problems.add(errors.BAD_NETWORK, doc, spot, f"{quoted(text)}: {error}")
        return None


def read_searched(text: str, doc: Source, spot: Spot, problems: Problems) -> Network | None:
    """A network in which machines are looked for; `None` where that cannot be done, which is noted."""
    network = read_network(text, doc, spot, problems)
    if network is not None and network.num_addresses > _SWEEP_MAX:
        what = f"{network} has {network.num_addresses:,} addresses; at most {_SWEEP_MAX:,}"
        problems.add(errors.BAD_NETWORK, doc, spot, f"{what} are searched for machines")
        return None
    return network


def ambiguous(given: PreviousAddressingDoc) -> str | None:
    """How a rack is addressed, where that is not exactly one way."""
    if (given.static_by_slot is None) != (given.dhcp is None):
        return None
    return "both static_by_slot and dhcp" if given.dhcp else "neither static_by_slot nor dhcp"
