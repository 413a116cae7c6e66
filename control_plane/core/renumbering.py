"""Machines that are given other addresses: which, from where, and where each is looked for meanwhile. Pure.

An address is a way to a machine, never its identity: that it has the new one is shown by the pinned machine
answering there.
"""

from __future__ import annotations

import msgspec

from control_plane.core.fleet import Device, DeviceKind


class Addresses(msgspec.Struct, frozen=True, kw_only=True, tag="addresses"):
    """Static addresses that machines are given."""

    family: str
    network: str
    """CIDR of the network that they are of."""
    before: str
    """CIDR in which DHCP dealt them theirs; `static` where they were static."""


def addresses_of(device: Device) -> Addresses | None:
    """Which addresses a device is given one of; `None` where its rack names no addressing before."""
    moves = device.renumbering
    if moves is None or device.type.kind is not DeviceKind.MINER:
        return None
    return Addresses(family=device.intent.family, network=moves.to, before=moves.subnet or "static")


def is_there(device: Device, located: str | None) -> bool:
    """Whether a device was found last at the address that it is given."""
    return device.renumbering is None or located == device.renumbering.network.address


def places_of(device: Device, located: str | None) -> tuple[str, ...]:
    """Addresses at which a device may be, in the order in which it is looked for there.

    Args:
        device: as declared.
        located: where it was found last: a hint, and of no use where its address is simply declared.

    >>> from types import SimpleNamespace as Bare
    >>> places_of(Bare(address=None, renumbering=None), "10.8.1.37")
    ('10.8.1.37',)
    >>> places_of(Bare(address="10.8.0.11", renumbering=None), "10.8.1.37")
    ('10.8.0.11',)
    >>> places_of(Bare(address="10.8.0.11", renumbering=Bare(address="10.7.0.11")), None)
    ('10.7.0.11', '10.8.0.11')
    """
    moves = device.renumbering
    if moves is None:
        place = device.address or located
        return (place,) if place else ()
    places = (located, moves.address, device.address)
    return tuple(dict.fromkeys(place for place in places if place is not None))


def first_place(device: Device, located: str | None) -> str | None:
    """Where a device is looked for first; `None` where it has to be found."""
    return next(iter(places_of(device, located)), None)
