"""How open a device is to whoever stands on its network: its password, and its write interface. Pure.

What is public: the passwords that makers ship (reference/asic-devices.md §1, column "Auth"). What is known
without asking: a login that works, and whether its password is the shipped one; what a device told of its
write interface; and which families take writes of anybody. Everything else is unknown, until somebody has it
tried once (`drivers.factory_login`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core.change import Capabilities
from control_plane.core.fleet import Device
from control_plane.core.observation import Observation, Sighting, Unseen, UnseenReason
from control_plane.core.secret import Secret


class Password(StrEnum):
    """What guards a device."""

    FACTORY = "factory"
    """The one that its maker ships: everybody knows it."""
    CHANGED = "changed"
    NONE = "none"
    """The family knows no password."""
    UNKNOWN = "unknown"


class WriteApi(StrEnum):
    """Who may write to a device over its network."""

    OPEN = "open"
    """Anybody; no password closes it."""
    LOGIN = "login"
    """Whoever has the password."""
    CLOSED = "closed"
    """Nobody: it is switched off on the device."""
    UNKNOWN = "unknown"


class FactoryLogin(msgspec.Struct, frozen=True):
    """What a maker ships."""

    user: str
    password: str
    is_proven: bool
    """Whether a whole look logs in, so that one that came back proves the declared password."""
    write_api: WriteApi
    """Where the device told nothing of it."""


FACTORY: Final[Mapping[str, FactoryLogin]] = {
    "antminer_stock": FactoryLogin("root", "root", True, WriteApi.LOGIN),  # noqa: FBT003
    "vnish": FactoryLogin("admin", "admin", True, WriteApi.LOGIN),  # noqa: FBT003
    # Reads want no login; writes are off until the password was changed once (WM205).
    "whatsminer_v2": FactoryLogin("admin", "admin", False, WriteApi.UNKNOWN),  # noqa: FBT003
}
"""By family; LuxOS has no password."""
_API_KEY: Final = "x-api-key"
"""The user of who has a VNish key in place of a password."""


class Posture(msgspec.Struct, frozen=True, kw_only=True):
    """How open one device is."""

    asset: str
    family: str
    password: Password
    write_api: WriteApi
    known_by: str
    """How that is known."""
    fixes: tuple[str, ...]
    """What a person does; empty where nothing has to be done."""

    @property
    def needs_somebody(self) -> bool:
        """Whether something is to be done, or to be found out."""
        return bool(self.fixes)


def is_factory(family: str, declared: Secret) -> bool:
    """Whether a declared password is the one that the family's maker ships."""
    shipped = FACTORY.get(family)
    return shipped is not None and declared == Secret(shipped.password)


def posture_of(
    device: Device,
    sighting: Sighting | None,
    *,
    capabilities: Capabilities | None,
    declares_factory: bool | None,
) -> Posture | None:
    """What is known of a device without asking it; `None` where it is not managed or has no driver.

    Args:
        device: as declared.
        sighting: the last one.
        capabilities: of its family.
        declares_factory: whether the declared password is the shipped one; `None`: none is declared, or
            it is not known here.
    """
    if capabilities is None or not device.is_managed:
        return None
    family, shipped = device.intent.family, FACTORY.get(device.intent.family)
    seen = sighting if isinstance(sighting, Observation) else None
    write_api = shipped.write_api if shipped else WriteApi.UNKNOWN
    if capabilities.open_writes:
        write_api = WriteApi.OPEN
    if seen is not None and seen.write_enabled is not None:
        write_api = WriteApi.LOGIN if seen.write_enabled else WriteApi.CLOSED
    if shipped is None:
        password = Password.NONE if capabilities.open_writes else Password.UNKNOWN
        return _posture(device, password, write_api, f"family {family}")
    credentials = device.intent.credentials
    proven = seen is not None and (
        seen.write_enabled is True or (shipped.is_proven and seen.identity is not None)
    )
    if proven and declares_factory is not None and credentials and credentials.user != _API_KEY:
        password = Password.FACTORY if declares_factory else Password.CHANGED
        return _posture(device, password, write_api, "the declared login works")
    if _refused(sighting) and declares_factory:
        return _posture(device, Password.CHANGED, write_api, "it refuses the shipped password")
    return _posture(device, Password.UNKNOWN, write_api, "nothing proves a password")


def found_posture(
    device: Device, password: Password, write_api: WriteApi, known_by: str
) -> Posture:
    """What was found by asking."""
    return _posture(device, password, write_api, known_by)


def _refused(sighting: Sighting | None) -> bool:
    return isinstance(sighting, Unseen) and sighting.reason is UnseenReason.AUTH_REJECTED


def _posture(device: Device, password: Password, write_api: WriteApi, known_by: str) -> Posture:
    return Posture(
        asset=device.asset,
        family=device.intent.family,
        password=password,
        write_api=write_api,
        known_by=known_by,
        fixes=tuple(_fixes(device, password, write_api)),
    )


def _fixes(device: Device, password: Password, write_api: WriteApi) -> Iterable[str]:
    origin = device.intent.origins.get("credentials") or device.intent.origins.get("profile")
    where = f" ({origin})" if origin else ""
    match password:
        case Password.FACTORY:
            yield f"give it a password of its own, and `credentials` of its profile the new one{where}"
        case Password.UNKNOWN:
            yield f"`gridplane posture {device.asset} --ask` tries the shipped password, once"
        case Password.CHANGED | Password.NONE:
            pass
    match write_api:
        case WriteApi.OPEN:
            yield "no password closes it: let nobody but management hosts into its network (`may_reach`)"
        case WriteApi.CLOSED:
            yield (
                "change its password and switch its write API on with WhatsMinerTool; "
                "until then it is only read"
            )
        case WriteApi.LOGIN | WriteApi.UNKNOWN:
            pass


def urgency(posture: Posture) -> tuple[int, str]:
    """For sorting: what anybody can walk through first, what nobody knows behind it."""
    if posture.password is Password.FACTORY:
        return 0, posture.asset
    if posture.write_api in {WriteApi.OPEN, WriteApi.CLOSED}:
        return 1 if posture.write_api is WriteApi.OPEN else 2, posture.asset
    return 3 if posture.password is Password.UNKNOWN else 4, posture.asset


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The devices of a site, counted."""

    password: Mapping[Password, int]
    write_api: Mapping[WriteApi, int]


def tally(postures: Iterable[Posture]) -> Tally:
    """How many devices are how open."""
    found = tuple(postures)
    return Tally(
        password=dict(Counter(posture.password for posture in found)),
        write_api=dict(Counter(posture.write_api for posture in found)),
    )
