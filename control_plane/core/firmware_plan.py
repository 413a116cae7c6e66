"""What a revision's firmware would do to a site, before anybody lets a wave go. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from control_plane.core.catalogue import Image
from control_plane.core.diff import nameplate_ths, permitted_w
from control_plane.core.firmware import Bundle, waves_by_bundle
from control_plane.core.fleet import Device, Site
from control_plane.core.observation import Observation, Sighting
from control_plane.core.work_order import needs_person, speaks


class WaveEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What a wave costs, if all of its machines that do not run the version yet are flashed."""

    wave: int
    """From 1."""
    machines: int
    """Those that do not run it yet, and those that did not tell what they run."""
    lost_ths_h: float
    """Hash by nameplate that the machines do not hash while they are flashed: TH/s × h, at the longest."""
    swing_w: float
    """Permitted watts that fall away and come back if all of them are down at once."""


class FirmwareEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What one bundle does to the machines that do not run it yet."""

    bundle: str
    """Digest."""
    family: str
    make: str
    model: str
    version: str
    images: tuple[Image, ...]
    machines: int
    waves: tuple[WaveEffect, ...]
    """Those with something to do."""
    of_waves: int
    """All waves of the bundle."""
    unknown: int
    """Of the machines, those that did not tell what they run."""
    voided: int
    """Of the machines, those whose warranty ends by it."""
    is_final: bool
    """Whether machines of the family cannot go back by themselves."""


def firmware_effects(site: Site, sightings: Mapping[str, Sighting]) -> tuple[FirmwareEffect, ...]:
    """What each bundle does that some machine does not run yet.

    Args:
        site: as it would be in force.
        sightings: asset → what was seen of it last.
    """
    if not any(_differs(device, sightings) for device in site.devices):
        return ()
    found = []
    for bundle, waves in waves_by_bundle(site).items():
        needing = {
            wave.number: [d for d in wave.devices if _needs(d, bundle, sightings)] for wave in waves
        }
        if any(needing.values()):
            found.append(_effect(site, bundle, needing, sightings))
    return tuple(found)


def _effect(
    site: Site,
    bundle: Bundle,
    needing: Mapping[int, list[Device]],
    sightings: Mapping[str, Sighting],
) -> FirmwareEffect:
    machines = [device for devices in needing.values() for device in devices]
    releases = [site.release_of(device) for device in machines]
    return FirmwareEffect(
        bundle=bundle.digest,
        family=bundle.family,
        make=bundle.make,
        model=bundle.model,
        version=bundle.version,
        images=bundle.images,
        machines=len(machines),
        waves=tuple(
            WaveEffect(
                wave=number + 1,
                machines=len(devices),
                lost_ths_h=sum(nameplate_ths(d, d.desired()) for d in devices)
                * bundle.flash_s
                / 3600,
                swing_w=sum(permitted_w(d.type, d.desired()) for d in devices),
            )
            for number, devices in needing.items()
            if devices
        ),
        of_waves=len(needing),
        unknown=sum(_runs(device, sightings) is None for device in machines),
        voided=sum(release is not None and release.voids_warranty for release in releases),
        is_final=not bundle.can_roll_back,
    )


def _differs(device: Device, sightings: Mapping[str, Sighting]) -> bool:
    wanted = device.intent.firmware
    if needs_person(device, speaks(sightings.get(device.asset))):
        return False
    return wanted is not None and _runs(device, sightings) not in {None, wanted}


def _needs(device: Device, bundle: Bundle, sightings: Mapping[str, Sighting]) -> bool:
    told = speaks(sightings.get(device.asset))
    by_hand = needs_person(device, told)
    return device.is_managed and not by_hand and _runs(device, sightings) != bundle.version


def _runs(device: Device, sightings: Mapping[str, Sighting]) -> str | None:
    seen = sightings.get(device.asset)
    return seen.settings.firmware if isinstance(seen, Observation) else None
