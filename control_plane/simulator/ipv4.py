"""What simulated firmware takes for an address."""

from __future__ import annotations

import ipaddress


def is_address(text: str) -> bool:
    """Four numbers below 256."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def is_netmask(text: str) -> bool:
    """A run of ones, then zeros: what `0.0.0.255` is not, though a network is read from it."""
    if not is_address(text):
        return False
    inverse = ~int(ipaddress.IPv4Address(text)) & 0xFFFFFFFF
    return inverse & (inverse + 1) == 0
