"""Which firmware a declaration asks for, and of which machines: bundles, and the waves of each.

A bundle is what one flash writes: equal for all machines of one model that are to run the same. It names
no profile, type or rack of the inventory, so that renaming one of those makes no new bundle, no new wave
and no new Job.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import msgspec

from control_plane.core.catalogue import Facts, Image, Unfit, image_for
from control_plane.core.digest import digest_of
from control_plane.core.fleet import Credentials, Device, DeviceKind, Site, SlotState
from control_plane.core.rollout import wave_members

FORM = "gridplane.dev/firmware/2"
"""What the digest of a bundle is taken over; another form makes another digest."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """One firmware with its configuration, for one model."""

    family: str
    make: str
    model: str
    reported_models: tuple[str, ...]
    """How machines print it, in lower case: another one is not given the image."""
    version: str
    images: tuple[Image, ...]
    """One for each control board and hardware revision."""
    min_from_version: str | None
    flash_s: float
    """Device seconds from the first byte until the machine answers again, at the longest."""
    settle_s: float
    """Device seconds from its boot until it has to hash again."""
    can_roll_back: bool
    power_mode: str | None
    """Written with the firmware, which forgets it."""
    power_limit_w: int | None
    credentials: Credentials | None
    """By reference: who logs in to read the machine."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex): the firmware's own revision. Waves are ordered by it."""
        return digest_of(FORM, self)

    def image_for(self, facts: Facts) -> Image | Unfit:
        """The image that a machine may be given, or why none may."""
        return image_for(
            self.images, facts, models=self.reported_models, min_from_version=self.min_from_version
        )


class Wave(msgspec.Struct, frozen=True, kw_only=True):
    """Machines that get a bundle together."""

    bundle: Bundle
    number: int
    """From 0."""
    devices: tuple[Device, ...]
    """In cohort order."""


def firmware_waves(site: Site) -> tuple[Wave, ...]:
    """Every wave of every bundle that a site declares, by bundle and number.

    Ordered by the digest of the bundle, not of the site: a pool that changes while a wave is under way
    makes no other wave of it. Slot states and holds are not asked; a vacant slot has no machine.
    """
    waves = []
    for bundle, by_asset in sorted(_by_bundle(site).items(), key=lambda item: _readable(item[0])):
        members = wave_members(bundle.digest, by_asset, site.strategy.cohorts)
        waves += [
            Wave(bundle=bundle, number=number, devices=tuple(by_asset[asset] for asset in assets))
            for number, assets in enumerate(members)
        ]
    return tuple(waves)


def waves_by_bundle(site: Site) -> Mapping[Bundle, tuple[Wave, ...]]:
    """The waves of `firmware_waves`, those of a bundle together."""
    grouped = groupby(firmware_waves(site), key=lambda wave: wave.bundle)
    return {bundle: tuple(waves) for bundle, waves in grouped}


def _by_bundle(site: Site) -> Mapping[Bundle, dict[str, Device]]:
    found: dict[Bundle, dict[str, Device]] = {}
    for device in site.devices:
        bundle = bundle_of(site, device)
        if bundle is not None and device.state is not SlotState.VACANT:
            found.setdefault(bundle, {})[device.asset] = device
    return found


def bundle_of(site: Site, device: Device) -> Bundle | None:
    """What a flash of the device would write; `None` where its profile leaves the firmware as it is."""
    intent, release = device.intent, site.release_of(device)
    if release is None or device.type.kind is not DeviceKind.MINER:
        return None
    return Bundle(
        family=intent.family,
        make=device.type.make,
        model=device.type.model,
        reported_models=device.type.reported_models,
        version=release.version,
        images=release.images,
        min_from_version=release.min_from_version,
        flash_s=release.flash_s,
        settle_s=release.settle_s,
        can_roll_back=release.can_roll_back,
        power_mode=intent.power_mode,
        power_limit_w=intent.power_limit_w,
        credentials=_settled(intent.credentials),
    )


def _settled(credentials: Credentials | None) -> Credentials | None:
    """What is logged in with once a rotation is behind: that one goes on makes no other firmware."""
    return credentials and msgspec.structs.replace(credentials, previous=())


def _readable(bundle: Bundle) -> tuple[str, ...]:
    return (bundle.family, bundle.make, bundle.model, bundle.version, bundle.digest)


# --- what a Job is told: files beside its runner -------------------------------------------------


class ShardDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a runner needs to find one machine, and to know it again."""

    asset: str
    address: str | None = None
    """`None` on DHCP."""
    mac: str | None = None
    serial: str | None = None


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """What one index of a Job works on: a file `shard-NNNN.json`."""

    devices: tuple[ShardDevice, ...]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner is told of its bundle: the file `bundle.json`."""

    digest: str
    """A grant names it: it holds for this firmware and no other."""
    bundle: Bundle


def shard_file(index: int) -> str:
    """The file that an index of a Job reads."""
    return f"shard-{index:04}.json"
