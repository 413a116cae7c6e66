"""What a device said, with time and source. `None` is unknown and never means zero."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Field(StrEnum):
    """A setting that is declared, observed and compared. The value is its name in `Settings`."""

    POOLS = "pools"
    MINING = "mining"
    POWER_MODE = "power_mode"
    POWER_LIMIT_W = "power_limit_w"
    FIRMWARE = "firmware"
    ADDRESSING = "addressing"


FIELDS = tuple(Field)
"""In order; iterating the enumeration itself costs ten times more."""


class Depth(StrEnum):
    """How much one look at a device asks. Each depth includes the ones before it."""

    TELEMETRY = "telemetry"
    """Hashrate, watts, boards: the hot path, one connection."""
    POOLS = "pools"
    """Telemetry and the pools in use: how a hijack is seen."""
    FULL = "full"
    """Everything, identity included: what a write is decided from."""


class PoolSetting(msgspec.Struct, frozen=True, order=True, gc=False):
    """One pool slot in canonical form: blanks stripped, scheme present, host in lower case."""

    url: str
    """`stratum+tcp://host:port`; or `stratum+ssl`, or `stratum2+tcp` (its public key as path)."""
    worker: str
    """The user name as the device sends it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The settable state of one device.

    Declared: `None` leaves the field to the device. Observed: `None` is unknown (not asked, or
    unreadable; `Observation.asked` tells which).
    """

    pools: tuple[PoolSetting, ...] | None = None
    """In priority order. An observed empty tuple is a fact: the device has no pool."""
    mining: bool | None = None
    """Whether the settings permit hashing. Not whether it hashes: that is telemetry."""
    power_mode: str | None = None
    """A step of the device type's ladder; of a sleeping device the step it will wake to, if it tells."""
    power_limit_w: int | None = None
    """The device's own watt limit, where the family has one."""
    firmware: str | None = None
    """The version string as the device reports it."""
    addressing: str | None = None
    """`static` or `dhcp`."""


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who answered. The engine compares `mac` and `serial` with the asset's pin before any write."""

    mac: str | None = None
    """Lower case, colon separated."""
    serial: str | None = None
    make: str | None = None
    model: str | None = None
    """As the device prints it."""
    family: str | None = None
    """Firmware family, a key of the driver registry."""


class Board(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One hash board."""

    slot: int
    hashrate_ths: float | None = None
    chips: int | None = None
    """Chips that answer."""
    chips_expected: int | None = None
    temperature_c: float | None = None
    """The hottest chip, or the board where the family tells no chip."""


class Activity(StrEnum):
    """What the device is doing, by its own word and evidence."""

    HASHING = "hashing"
    STARTING = "starting"
    """Booting, or ramping after a start."""
    TUNING = "tuning"
    IDLE = "idle"
    """Settings permit hashing, but nothing hashes."""
    SLEEPING = "sleeping"
    UPDATING = "updating"
    FAULT = "fault"


class Telemetry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Measured state at one moment."""

    hashrate_ths: float | None = None
    power_w: float | None = None
    """As the device reports; many families estimate it. The meter is the truth."""
    temperature_c: float | None = None
    fan_rpm: tuple[int, ...] = ()
    boards: tuple[Board, ...] = ()
    uptime_s: float | None = None
    """Since the control board booted: the evidence for a reboot."""
    mining_uptime_s: float | None = None
    """Since the mining process started."""
    activity: Activity | None = None
    errors: tuple[str, ...] = ()
    """The device's own codes and texts, control characters stripped."""
    accepted: int | None = None
    rejected: int | None = None


class Observation(
    msgspec.Struct, frozen=True, kw_only=True, tag="observation", omit_defaults=True, gc=False
):
    """One look at one device."""

    asset: str
    at_s: float
    """Clock.wall_s() at which the last reply was complete."""
    depth: Depth
    source: str
    """Family and interface, e.g. `antminer_stock rpc+cgi`."""
    identity: Identity | None = None
    settings: Settings = Settings()
    asked: frozenset[Field] = frozenset()
    """The fields that this look asked for; asked and `None` in `settings` is unreadable."""
    telemetry: Telemetry = Telemetry()
    write_enabled: bool | None = None
    """False where the device's write interface is switched off (WhatsMiner's factory state)."""

    def unreadable(self) -> frozenset[Field]:
        """Fields that were asked for and not understood: never written from."""
        settings = self.settings
        return frozenset([field for field in self.asked if getattr(settings, field) is None])


class UnseenReason(StrEnum):
    """Why a look gave nothing."""

    UNREACHABLE = "unreachable"
    AUTH_REJECTED = "auth_rejected"
    WRONG_IDENTITY = "wrong_identity"
    UNEXPECTED_REPLY = "unexpected_reply"
    OVERSIZED_REPLY = "oversized_reply"
    HARDWARE_FAULT = "hardware_fault"
    UNLOCATED = "unlocated"
    """A DHCP device that no sweep has found yet."""
    NO_DRIVER = "no_driver"
    SECRET_MISSING = "secret_missing"  # noqa: S105 - the name of a state
    """Its password is not where the declaration says: it was not asked."""
    INTERNAL_ERROR = "internal_error"
    """Our code failed on it."""
    OTHER_FAMILY = "other_family"
    """It answers, in another firmware family than is declared."""


class Unseen(msgspec.Struct, frozen=True, kw_only=True, tag="unseen", gc=False):
    """A look that failed. It says nothing about the device's state: unknown is not off."""

    asset: str
    at_s: float
    reason: UnseenReason
    detail: str
    """Bounded, without control characters or secrets."""
    family: str | None = None
    """With `OTHER_FAMILY`: which one."""
    firmware: str | None = None
    """With `OTHER_FAMILY`: the version that it told."""


Sighting = Observation | Unseen


def merged(before: Observation | None, now: Observation) -> Observation:
    """The newest knowledge of every part: `now` where it asked, `before` where it did not.

    A field that was asked for and could not be read is unknown again, whatever was known before.
    """
    if before is None or now.depth is Depth.FULL:
        return now
    settings, told = before.settings, now.settings
    fresh = {
        field.value: value
        for field in now.asked
        if (value := getattr(told, field)) != getattr(settings, field)
    }
    if fresh:
        settings = msgspec.structs.replace(settings, **fresh)
    return Observation(
        asset=now.asset,
        at_s=now.at_s,
        depth=now.depth,
        source=now.source,
        identity=now.identity or before.identity,
        settings=settings,
        asked=before.asked | now.asked,
        telemetry=now.telemetry,
        write_enabled=before.write_enabled if now.write_enabled is None else now.write_enabled,
    )
