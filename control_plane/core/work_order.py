"""Changing the firmware family of a machine: a work order for a person, never a write of ours. Pure.

Another family is another protocol, another login and often another way in (a card, a cable, a vendor's tool),
and it may end the warranty: docs/decisions/0021. So gridplane says what is to be done and where, holds the
machine, and takes it up again, as the same asset, once it answers as what is declared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from control_plane.core.catalogue import Image, Release
from control_plane.core.fleet import Device, DeviceKind, Site
from control_plane.core.observation import Observation, Sighting, Unseen

_WAY_BACK: Final[Mapping[str, str]] = {
    # reference/asic-devices.md §1: what each family's own interface offers.
    "luxos": "to stock firmware by its command `uninstallluxos`",
    "vnish": "to stock firmware by its page `/firmware/remove`",
    "braiins_os": "to stock firmware by its call `RestoreStock`, from release 26.04",
}
_FACTORY_LOGIN: Final[Mapping[str, str]] = {
    # reference/asic-devices.md §1, column "Auth".
    "antminer_stock": "root, password root",
    "vnish": "password admin",
    "whatsminer_v2": "admin, and its write API is off until WhatsMinerTool switches it on",
    "braiins_os": "root, without a password or with root",
    "luxos": "none: it takes no password",
}


class Speaks(msgspec.Struct, frozen=True):
    """Which family a machine speaks, as far as anybody knows."""

    family: str
    version: str | None = None


class WorkSlot(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of an order."""

    asset: str
    rack: str
    slot: int
    address: str | None
    mac: str | None
    serial: str | None
    runs: str | None
    """The version that it told; `None`: none."""


class WorkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a person does to all machines of one type that go from one family to another."""

    type: str
    make: str
    model: str
    family_now: str
    family: str
    version: str | None
    """`None`: the declaration leaves it to whoever installs it."""
    release: str | None
    """Of the catalogue; `None` where no version is declared."""
    images: tuple[Image, ...]
    slots: tuple[WorkSlot, ...]
    """In walking order: rack by rack, slot by slot."""
    steps: tuple[str, ...]
    final: tuple[str, ...]
    """What cannot be taken back, or only so."""


def speaks(sighting: Sighting | None) -> Speaks | None:
    """The family that a machine answered in; `None` where it told none."""
    match sighting:
        case Observation(identity=identity, settings=settings) if identity and identity.family:
            return Speaks(identity.family, settings.firmware)
        case Unseen(family=str(family), firmware=firmware):
            return Speaks(family, firmware)
        case _:
            return None


def spoken(sightings: Mapping[str, Sighting]) -> Mapping[str, Speaks]:
    """Asset → family, of those that told one."""
    return {a: told for a, sighting in sightings.items() if (told := speaks(sighting)) is not None}


def needs_person(device: Device, told: Speaks | None) -> bool:
    """Whether a machine speaks another family than is declared: nothing is written to it."""
    return told is not None and device.is_managed and told.family != device.intent.family


def work_orders(site: Site, told: Mapping[str, Speaks]) -> tuple[WorkOrder, ...]:
    """The orders that a declaration makes, the largest first.

    Args:
        site: as it would be in force.
        told: asset → what it speaks now, or is declared to before.
    """
    groups: dict[tuple[str, str, str, str | None], list[Device]] = {}
    for device in site.devices:
        now = told.get(device.asset)
        if now is None or device.type.kind is not DeviceKind.MINER:
            continue
        if needs_person(device, now):
            key = (device.type.id, now.family, device.intent.family, device.intent.firmware)
            groups.setdefault(key, []).append(device)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), str(item[0])))
    return tuple(_order(site, key[1], devices, told) for key, devices in ordered)


def _order(
    site: Site, family_now: str, devices: list[Device], told: Mapping[str, Speaks]
) -> WorkOrder:
    one = devices[0]
    release = site.release_of(one)
    return WorkOrder(
        type=one.type.id,
        make=one.type.make,
        model=one.type.model,
        family_now=family_now,
        family=one.intent.family,
        version=one.intent.firmware,
        release=release.id if release else None,
        images=release.images if release else (),
        slots=tuple(
            WorkSlot(
                asset=device.asset,
                rack=device.rack,
                slot=device.slot,
                address=device.address,
                mac=device.mac,
                serial=device.serial,
                runs=told[device.asset].version,
            )
            for device in sorted(devices, key=_walk)
        ),
        steps=_steps(one, release),
        final=_final(one.intent.family, family_now, release),
    )


def _walk(device: Device) -> tuple[list[tuple[int, str]], int]:
    """Racks as people count them: r2 before r10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", device.rack)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts], device.slot


def _steps(device: Device, release: Release | None) -> tuple[str, ...]:
    intent = device.intent
    by_hand = release.by_hand if release else ()
    if not by_hand:
        version = intent.firmware or "in the version that its maker names"
        text = f"install {intent.family} {version} as its maker says"
        by_hand = (f"{text}: the catalogue has no steps (`by_hand` of the release)",)
    login = _FACTORY_LOGIN.get(intent.family, "unknown: see its maker")
    becomes = "it is left as it is: no login is declared"
    if intent.credentials is not None:
        who, where = intent.credentials.user, intent.credentials.secret_ref
        becomes = f"it becomes user {who} with the password of {where}"
    address = "an address by DHCP" if device.subnet else "the address that is listed"
    return (
        # It may be started as soon as it answers: a hold keeps that from hands that are still in the rack.
        "hold the rack before you reach into it: `gridplane hold RACK --kind safety --reason ...`",
        "compare MAC and serial on the label with the list; leave any other machine alone",
        "take the image from the store; its SHA-256 is listed" if release else "obtain the image",
        *by_hand,
        f"login of the new firmware: {login}; {becomes}",
        f"give it {address}",
        "when nobody works there any more: `gridplane release RACK`; settings follow by themselves",
        "`gridplane explain DEVICE` says how far a machine is",
    )


def _final(family: str, family_now: str, release: Release | None) -> tuple[str, ...]:
    found = [f"settings and tuning of {family_now} are lost; the declared ones are written"]
    if release is None:
        found.append("no release is declared: what it does to the warranty is not known here")
    else:
        if release.voids_warranty:
            found.append("the warranty ends")
        if release.note:
            found.append(release.note)
    if family in _WAY_BACK:
        found.append(f"the way back is {_WAY_BACK[family]}")
    else:
        found.append(f"no way back from {family} is known here")
    return tuple(found)
