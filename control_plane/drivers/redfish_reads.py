"""What a BMC's resources say, in the words of `core.bmc`. Pure; whatever comes, nothing is raised."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final, TypeVar

from control_plane.core import limits
from control_plane.core.bmc import (
    BiosValue,
    BmcSeen,
    BootOverride,
    BootProgress,
    BootTarget,
    Firmware,
    Health,
    LogEntry,
    Media,
    Power,
    PowerCap,
    Sensor,
    SensorKind,
    TaskSeen,
    TaskState,
)
from control_plane.core.bmc_quirks import NO_SERIALS, QUIRKS, Maker, maker_of
from control_plane.core.observation import Identity
from control_plane.drivers.driver import Reply, clean, number_of, positive_of, rows, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")

_POWER: Final = {
    "On": Power.ON,
    "Off": Power.OFF,
    "PoweringOn": Power.POWERING_ON,
    "PoweringOff": Power.POWERING_OFF,
    "Paused": Power.PAUSED,
}
_HEALTH: Final = {"OK": Health.OK, "Warning": Health.WARNING, "Critical": Health.CRITICAL}
TARGETS: Final = {
    BootTarget.NONE: "None",
    BootTarget.PXE: "Pxe",
    BootTarget.DISK: "Hdd",
    BootTarget.CD: "Cd",
    BootTarget.USB: "Usb",
    BootTarget.HTTP: "UefiHttp",
    BootTarget.SETUP: "BiosSetup",
}
_TARGETS: Final = {word: target for target, word in TARGETS.items()}
_PROGRESS: Final = {
    "None": BootProgress.NONE,
    "PrimaryProcessorInitializationStarted": BootProgress.FIRMWARE,
    "BusInitializationStarted": BootProgress.FIRMWARE,
    "MemoryInitializationStarted": BootProgress.FIRMWARE,
    "SecondaryProcessorInitializationStarted": BootProgress.FIRMWARE,
    "PCIResourceConfigStarted": BootProgress.FIRMWARE,
    "SystemHardwareInitializationComplete": BootProgress.FIRMWARE,
    "SetupEntered": BootProgress.SETUP,
    "OSBootStarted": BootProgress.OS_STARTED,
    "OSRunning": BootProgress.OS_RUNNING,
}
_ENDED: Final = {
    "Completed": TaskState.DONE,
    "Exception": TaskState.FAILED,
    "Killed": TaskState.FAILED,
    "Cancelled": TaskState.FAILED,
}
_KINDS: Final = {
    "Temperature": SensorKind.TEMPERATURE_C,
    "Voltage": SensorKind.VOLTAGE_V,
    "Power": SensorKind.POWER_W,
}
_MESSAGES: Final = 8
_LOG_IDS: Final = ("sel", "iml", "eventlog", "log1", "standardlog", "platformlog")


def maker_from(root: Reply, system: Reply) -> Maker:
    """Whose BMC it is: what the host says of itself goes before who wrote the firmware."""
    return maker_of(
        text_of(system.get("Manufacturer")),
        text_of(root.get("Vendor")),
        text_of(root.get("Product")),
    )


def identity_from(system: Reply, maker: Maker) -> Identity:
    """The host, by the serial number on its label; by its UUID where nobody gave it one."""
    told = (system.get(QUIRKS[maker].serial_field), system.get("SerialNumber"))
    serials = [text for value in told if (text := text_of(value)) is not None]
    uuid = text_of(system.get("UUID"))
    return Identity(
        serial=next((text for text in serials if text.lower() not in NO_SERIALS), None)
        or (None if uuid is None else uuid.lower()),
        make=text_of(system.get("Manufacturer")),
        model=text_of(system.get("Model")),
    )


def seen_from(system: Reply, maker: Maker, resets: frozenset[str] | None) -> BmcSeen:
    """What the system itself tells."""
    identity = identity_from(system, maker)
    uuid = text_of(system.get("UUID"))
    return BmcSeen(
        maker=maker,
        manufacturer=identity.make,
        model=identity.model,
        serial=identity.serial,
        uuid=None if uuid is None else uuid.lower(),
        bios_version=text_of(system.get("BiosVersion")),
        power=power_of(system),
        health=health_of(system),
        boot=_boot(system.get("Boot")),
        progress=_progress(system.get("BootProgress")),
        resets=resets,
        locate=_light(system),
    )


def power_of(system: Reply) -> Power | None:
    """`PowerState`; `None` for a word that the schema has not, and for none."""
    return _word(_POWER, system.get("PowerState"))


def health_of(resource: Reply) -> Health | None:
    """Of a resource and all below it, else of itself."""
    status = resource.get("Status")
    if not isinstance(status, dict):
        return None
    return _word(_HEALTH, status.get("HealthRollup")) or _word(_HEALTH, status.get("Health"))


def reset_of(system: Reply) -> Reply:
    """The reset action; empty where there is none."""
    return _dict(_dict(system, "Actions"), "#ComputerSystem.Reset")


def resets_in(reset: Reply, info: Reply | None) -> frozenset[str] | None:
    """`ResetType`s that a BMC tells, at the action or in its `ActionInfo`; `None` where it tells none."""
    told = reset.get("ResetType@Redfish.AllowableValues")
    if told is None and info is not None:
        for row in rows(info.get("Parameters")):
            if row.get("Name") == "ResetType":
                told = row.get("AllowableValues")
    if not isinstance(told, list):
        return None
    return frozenset(clean(word) for word in told if isinstance(word, str))


def watts_in(power: Reply | None, environment: Reply | None) -> float | None:
    """What the host draws."""
    for value in (
        _dict(environment, "PowerWatts").get("Reading"),
        _control(power).get("PowerConsumedWatts"),
    ):
        watts = positive_of(value)
        if watts is not None:
            return watts
    return None


def cap_in(power: Reply | None, environment: Reply | None) -> PowerCap | None:
    """The cap, on or off; `None` where the resources have none."""
    limit = _dict(environment, "PowerLimitWatts")
    if limit:
        is_off = limit.get("ControlMode") == "Disabled"
        return PowerCap(
            watts=None if is_off else positive_of(limit.get("SetPoint")),
            min_w=positive_of(limit.get("AllowableMin")),
            max_w=positive_of(limit.get("AllowableMax")),
        )
    control = _control(power)
    limit = _dict(control, "PowerLimit")
    if "LimitInWatts" not in limit:
        return None
    watts = positive_of(limit["LimitInWatts"])
    # Some write 0 for "none".
    return PowerCap(watts=watts or None, max_w=positive_of(control.get("PowerCapacityWatts")))


def attributes_in(bios: Reply) -> dict[str, BiosValue] | None:
    """BIOS attributes that have a value of a kind that the schema has."""
    told = bios.get("Attributes")
    if not isinstance(told, dict):
        return None
    return {
        clean(name): _bios_value(value)
        for name, value in told.items()
        if value is None or isinstance(value, str | int | float | bool)
    }


def pending_in(bios: dict[str, BiosValue], settings: Reply) -> dict[str, BiosValue] | None:
    """What the settings object has that is not in force: some keep every attribute there, some only news."""
    told = attributes_in(settings)
    if told is None:
        return None
    return {name: value for name, value in told.items() if bios.get(name, _NOTHING) != value}


_NOTHING: Final = object()


def firmware_in(path: str, row: Reply) -> Firmware:
    """One row of the inventory."""
    updateable = row.get("Updateable")
    id_ = text_of(row.get("Id")) or clean(path.rpartition("/")[2])
    return Firmware(
        id=id_,
        name=text_of(row.get("Name")) or id_,
        version=text_of(row.get("Version")),
        updateable=updateable if isinstance(updateable, bool) else None,
    )


def sensors_in(
    thermal: Reply | None, power: Reply | None, sensors: Iterable[Reply] = ()
) -> tuple[Sensor, ...]:
    """Readings of either generation of resources."""
    heat, drawn = thermal or {}, power or {}
    found = [
        _sensor(row, SensorKind.TEMPERATURE_C, row.get("ReadingCelsius"))
        for row in rows(heat.get("Temperatures"))
    ]
    for row in rows(heat.get("Fans")):
        is_share = row.get("ReadingUnits") == "Percent"
        kind = SensorKind.FAN_PERCENT if is_share else SensorKind.FAN_RPM
        found.append(_sensor(row, kind, row.get("Reading", row.get("ReadingRPM"))))
    found += [
        _sensor(row, SensorKind.VOLTAGE_V, row.get("ReadingVolts"))
        for row in rows(drawn.get("Voltages"))
    ]
    for row in sensors:
        told = row.get("ReadingType")
        kind_ = _word(_KINDS, told)
        if told in ("Rotational", "Percent") and row.get("ReadingUnits") in ("RPM", "{rev}/min"):
            kind_ = SensorKind.FAN_RPM
        if kind_ is not None:
            found.append(_sensor(row, kind_, row.get("Reading")))
    return tuple(found[: limits.BMC_MEMBERS_MAX])


def log_in_order(services: Iterable[tuple[str, Reply]]) -> list[str]:
    """Paths of log services, the system's event log first."""

    def rank(service: tuple[str, Reply]) -> int:
        path, body = service
        if body.get("LogEntryType") == "SEL":
            return 0
        name = path.rstrip("/").rpartition("/")[2].lower()
        return 1 + _LOG_IDS.index(name) if name in _LOG_IDS else len(_LOG_IDS) + 1

    return [path for path, _ in sorted(services, key=rank)]


def entries_in(reply: Reply) -> tuple[LogEntry, ...]:
    """Entries, newest first, at most `BMC_LOG_MAX`."""
    found = []
    for row in rows(reply.get("Members")):
        message = text_of(row.get("Message"))
        id_ = text_of(row.get("Id"))
        if id_ is not None and message is not None:
            at_s = _time(row.get("Created"))
            health = _word(_HEALTH, row.get("Severity"))
            found.append(LogEntry(id=id_, at_s=at_s, health=health, message=message))
    # Makers list them either way round; those without a time stay where they are.
    if all(entry.at_s is not None for entry in found):
        found.sort(key=lambda entry: -(entry.at_s or 0.0))
    return tuple(found[: limits.BMC_LOG_MAX])


def is_cd(drive: Reply) -> bool:
    """Whether a virtual drive takes images of CDs."""
    types = drive.get("MediaTypes")
    return isinstance(types, list) and any(kind in ("CD", "DVD") for kind in types)


def media_in(drive: Reply) -> Media:
    """What is in it."""
    inserted = drive.get("Inserted")
    image = text_of(drive.get("Image")) or text_of(drive.get("ImageName"))
    return Media(inserted=inserted if isinstance(inserted, bool) else None, image=image)


def task_in(reply: Reply) -> TaskSeen | None:
    """How a task stands; `None` for what is no task. A word that the schema has not is not an end."""
    told = reply.get("TaskState")
    if not isinstance(told, str):
        return None
    state = _ENDED.get(told, TaskState.RUNNING)
    if state is TaskState.DONE and reply.get("TaskStatus") == "Critical":
        state = TaskState.FAILED
    percent = number_of(reply.get("PercentComplete"))
    messages = [text_of(row.get("Message")) for row in rows(reply.get("Messages"))[-_MESSAGES:]]
    return TaskSeen(
        state=state,
        percent=int(percent) if percent is not None and 0 <= percent <= 100 else None,  # noqa: PLR2004 — per cent
        messages=tuple(message for message in messages if message is not None),
    )


# ----------------------------------------------------------------------------------------------------


def _word(words: Mapping[str, T], value: object) -> T | None:
    return words.get(value) if isinstance(value, str) else None


def _dict(resource: Reply | None, name: str) -> Reply:
    found = None if resource is None else resource.get(name)
    return found if isinstance(found, dict) else {}


def _control(power: Reply | None) -> Reply:
    found = rows((power or {}).get("PowerControl"))
    return found[0] if found else {}


def _bios_value(value: Any) -> BiosValue:
    return clean(value) if isinstance(value, str) else value


def _boot(boot: object) -> BootOverride | None:
    if not isinstance(boot, dict):
        return None
    enabled, target = boot.get("BootSourceOverrideEnabled"), boot.get("BootSourceOverrideTarget")
    if not isinstance(enabled, str) or not isinstance(target, str):
        return None
    mode = boot.get("BootSourceOverrideMode")
    if enabled == "Disabled":
        target = "None"
    return BootOverride(
        target=_TARGETS.get(target, BootTarget.OTHER),
        once=enabled == "Once",
        uefi=mode == "UEFI" if mode in ("UEFI", "Legacy") else None,
    )


def _progress(progress: object) -> BootProgress | None:
    last = progress.get("LastState") if isinstance(progress, dict) else None
    return _PROGRESS.get(last, BootProgress.OTHER) if isinstance(last, str) else None


def _light(system: Reply) -> bool | None:
    told = system.get("LocationIndicatorActive")
    if isinstance(told, bool):
        return told
    led = system.get("IndicatorLED")
    # Tuples: whatever a BMC sends may not be hashed.
    return led != "Off" if led in ("Lit", "Blinking", "Off") else None


def _sensor(row: Reply, kind: SensorKind, value: object) -> Sensor:
    name = text_of(row.get("Name")) or text_of(row.get("FanName")) or "?"
    return Sensor(name=name, kind=kind, value=number_of(value), health=health_of(row))


def _time(value: object) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(value[:40])
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    try:
        return moment.timestamp()
    except (OverflowError, OSError, ValueError):
        return None
