"""Which firmware families gridplane speaks: one line each.

Importing a driver costs nothing but its own module; what it needs for writing (HTTP framing,
ciphers) it imports where it writes, so that a plan starts fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from control_plane.core.change import Capabilities
    from control_plane.core.ports import Clock, Driver, Net

_DRIVERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "antminer_stock": ("control_plane.drivers.antminer", "AntminerDriver"),
        "luxos": ("control_plane.drivers.luxos", "LuxosDriver"),
        "whatsminer_v2": ("control_plane.drivers.whatsminer", "WhatsminerDriver"),
        "vnish": ("control_plane.drivers.vnish", "VnishDriver"),
    }
)
"""Family → module (which has `CAPABILITIES`) and class (made from a `Net` and a `Clock`)."""

FAMILIES: Final = tuple(_DRIVERS)
"""Firmware families that have a driver; any other is planned as held."""


def capabilities_of(family: str) -> Capabilities | None:
    """What a family can do; `None` where it has no driver."""
    if family not in _DRIVERS:
        return None
    return cast("Capabilities", _module(family).CAPABILITIES)


def all_capabilities() -> Mapping[str, Capabilities]:
    """What every family can do, by family."""
    return {family: _module(family).CAPABILITIES for family in FAMILIES}


def make_drivers(net: Net, clock: Clock) -> dict[str, Driver]:
    """One driver per family, all on the same network and clock."""
    return {family: _maker(family)(net, clock) for family in FAMILIES}


def _module(family: str) -> ModuleType:
    return import_module(_DRIVERS[family][0])


def _maker(family: str) -> Callable[[Net, Clock], Driver]:
    maker = getattr(_module(family), _DRIVERS[family][1])
    return cast("Callable[[Net, Clock], Driver]", maker)
