"""The parts of one look at a BMC, each found by following links; what cannot be understood is noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from control_plane.core.bmc import BiosValue, Firmware, LogEntry, Part, Sensor
from control_plane.core.bmc_quirks import QUIRKS, Maker
from control_plane.core.errors import UnexpectedReply
from control_plane.drivers.driver import Reply, clean
from control_plane.drivers.redfish_reads import (
    attributes_in,
    cap_in,
    entries_in,
    firmware_in,
    is_cd,
    log_in_order,
    pending_in,
    sensors_in,
    watts_in,
)
from control_plane.drivers.redfish_session import Seat, link, members

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Found = tuple[str, Reply]
"""A resource and its path."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where one BMC has what; `None`: it has no such thing."""

    maker: Maker
    system: str
    chassis: str | None
    manager: str | None
    update: str | None
    reset_info: Reply | None
    """`ActionInfo` of the reset, where the BMC tells its resets there."""


class Parts:
    """Reads the parts of one look. Its holder holds the seat's lock.

    Every method raises as `Seat.get`, but for `UnexpectedReply` and what is below it: that is in `unread`.
    """

    def __init__(self, seat: Seat, place: Place) -> None:
        self._seat, self._place = seat, place
        self._address = seat.target.address
        self.unread: list[str] = []
        """What was asked and not understood, with why."""

    async def optional(self, path: str | None, what: str) -> Reply | None:
        """A resource that a look can do without."""
        if path is None:
            return None
        try:
            return await self._seat.get(path)
        except UnexpectedReply as error:
            self.unread.append(clean(f"{what}: {error}"))
            return None

    async def manager(self) -> Reply | None:
        """The BMC itself."""
        return await self.optional(self._place.manager, "manager")

    async def readings(self, parts: frozenset[Part]) -> dict[str, Any]:
        """Of `Part.DRAW` and `Part.SENSORS` those that are asked, by their names in `BmcSeen`."""
        chassis = await self.optional(self._place.chassis, "chassis") or {}
        power = await self._linked(chassis, "Power")
        environment = await self._linked(chassis, "EnvironmentMetrics")
        found: dict[str, Any] = {}
        if Part.DRAW in parts:
            bodies = power and power[1], environment and environment[1]
            cap = cap_in(*bodies)
            found = {"power_w": watts_in(*bodies), "cap": cap}
            if power is not None or environment is not None:
                found["has_cap"] = cap is not None
        if Part.SENSORS in parts:
            found["sensors"] = await self._sensors(chassis, power and power[1])
        return found

    async def cap(self) -> Found | None:
        """The resource that has the cap."""
        chassis = await self.optional(self._place.chassis, "chassis") or {}
        environment = await self._linked(chassis, "EnvironmentMetrics")
        if environment is not None and cap_in(None, environment[1]) is not None:
            return environment
        power = await self._linked(chassis, "Power")
        return power if power is not None and cap_in(power[1], None) is not None else None

    async def firmware(self) -> tuple[Firmware, ...] | None:
        """The inventory."""
        service = await self.optional(self._place.update, "update service")
        found = await self._linked(service or {}, "FirmwareInventory")
        if found is None:
            return None
        return tuple([firmware_in(*row) async for row in self._members(found[1], "Version")])

    async def bios(self, system: Reply) -> dict[str, Any]:
        """Attributes in force and pending, by their names in `BmcSeen`."""
        found = await self._linked(system, "Bios")
        if found is None:
            return {}
        attributes = attributes_in(found[1])
        settings = await self.optional(self._settings_path(*found), "BIOS settings")
        pending: dict[str, BiosValue] | None = None
        if attributes is not None and settings is not None:
            pending = pending_in(attributes, settings)
        return {"bios": attributes, "bios_pending": pending}

    async def settings(self, system: Reply) -> Found | None:
        """The object that BIOS settings are written to."""
        found = await self._linked(system, "Bios")
        if found is None:
            return None
        path = self._settings_path(*found)
        settings = await self.optional(path, "BIOS settings")
        return None if settings is None else (path, settings)

    async def log(self, *owners: Reply | None) -> tuple[LogEntry, ...] | None:
        """The newest entries of the system's event log, which is at the BMC, or at the host."""
        services: dict[str, Reply] = {}
        for owner in owners:
            found = await self._linked(owner or {}, "LogServices")
            if found is not None:
                services |= {path: body async for path, body in self._members(found[1], "Entries")}
        for path in log_in_order(services.items()):
            entries = await self._linked(services[path], "Entries")
            return None if entries is None else entries_in(entries[1])
        return None

    async def drive(self, *owners: Reply | None) -> Reply | None:
        """The virtual drive for CDs: of the BMC, or of the host (since schema 2021.1)."""
        for owner in owners:
            found = await self._linked(owner or {}, "VirtualMedia")
            if found is not None:
                async for _, drive in self._members(found[1], "MediaTypes"):
                    if is_cd(drive):
                        return drive
        return None

    async def update(self) -> dict[str, Any]:
        """The update service, and where each firmware is, by their names in `Around`."""
        service = await self.optional(self._place.update, "update service")
        found = await self._linked(service or {}, "FirmwareInventory")
        inventory = {}
        for path, _ in members(found[1], self._address) if found is not None else ():
            inventory[path.rstrip("/").rpartition("/")[2]] = path
        return {"update": service, "inventory": inventory}

    # ----------------------------------------------------------------------------------------------

    async def _sensors(self, chassis: Reply, power: Reply | None) -> tuple[Sensor, ...] | None:
        thermal = await self._linked(chassis, "Thermal")
        if thermal is not None:
            return sensors_in(thermal[1], power)
        found = await self._linked(chassis, "Sensors")
        if found is None:
            return None
        rows = [row async for _, row in self._members(found[1], "Reading")]
        return sensors_in(None, power, rows)

    def _settings_path(self, path: str, bios: Reply) -> str:
        """It says so itself, or its maker is known for a place."""
        told = link(bios.get("@Redfish.Settings"), "SettingsObject", self._address)
        return told or f"{path.rstrip('/')}/{QUIRKS[self._place.maker].bios_settings}"

    async def _linked(self, owner: Reply, name: str) -> Found | None:
        path = link(owner, name, self._address)
        body = await self.optional(path, name)
        return None if path is None or body is None else (path, body)

    async def _members(self, collection: Reply, has: str) -> AsyncIterator[Found]:
        """Members with their bodies; one that came expanded has the field `has`, and is not read again."""
        for path, row in members(collection, self._address):
            body = row if has in row else await self.optional(path, path)
            if body is not None:
                yield path, body
