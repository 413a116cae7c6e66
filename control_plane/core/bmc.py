"""BMCs as values: what one look tells, the closed set of writes, and what came of them.

Names of states and resets are those of DMTF's schemas (DSP8010: `ComputerSystem`, `Bios`, `UpdateService`,
`Task`), in snake case. `None` is unknown: never off, never zero. Nothing here says when a write is due.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import assert_never

import msgspec

from control_plane.core.bmc_quirks import Maker
from control_plane.core.change import Outcome

_UUID = re.compile(r"[0-9a-f]{32}").fullmatch
BiosValue = str | int | float | bool | None
"""A BIOS attribute's value (DSP8010 `Bios`: string, number, boolean)."""


class Power(StrEnum):
    """`PowerState` of the host. There is no word for unknown: that is `None`."""

    ON = "on"
    OFF = "off"
    POWERING_ON = "powering_on"
    POWERING_OFF = "powering_off"
    PAUSED = "paused"


class Health(StrEnum):
    """`Status.HealthRollup`, or `Health` where there is none."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


class BootProgress(StrEnum):
    """How far the host's boot is: `BootProgress.LastState`, in steps that make a difference."""

    NONE = "none"
    FIRMWARE = "firmware"
    """Initialisation of processors, memory, buses."""
    SETUP = "setup"
    """Somebody is in the firmware's setup."""
    OS_STARTED = "os_started"
    OS_RUNNING = "os_running"
    OTHER = "other"


class BootTarget(StrEnum):
    """What the host boots from: `BootSourceOverrideTarget`."""

    NONE = "none"
    PXE = "pxe"
    DISK = "disk"
    CD = "cd"
    USB = "usb"
    HTTP = "http"
    SETUP = "setup"
    OTHER = "other"
    """Something that we never write."""


class BootOverride(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is booted instead of the first of the boot order."""

    target: BootTarget
    once: bool
    """False: it stays until somebody takes it back."""
    uefi: bool | None = None


class Firmware(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the firmware inventory."""

    id: str
    name: str
    version: str | None
    updateable: bool | None = None


class SensorKind(StrEnum):
    """What a sensor measures; the unit is in the name."""

    TEMPERATURE_C = "temperature_c"
    FAN_RPM = "fan_rpm"
    FAN_PERCENT = "fan_percent"
    VOLTAGE_V = "voltage_v"
    POWER_W = "power_w"


class Sensor(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reading."""

    name: str
    kind: SensorKind
    value: float | None
    """`None`: absent, or switched off with the host."""
    health: Health | None = None


class PowerCap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The BMC's own limit on what the whole host draws."""

    watts: float | None
    """`None`: the BMC has such a limit, and it is off."""
    min_w: float | None = None
    max_w: float | None = None


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of the event log."""

    id: str
    at_s: float | None
    """Since the epoch, by the BMC's clock, which may be wrong."""
    health: Health | None
    message: str


class Media(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The virtual drive for CDs."""

    inserted: bool | None
    image: str | None = None


class Part(StrEnum):
    """What one look may ask beside the system itself; each costs requests."""

    DRAW = "draw"
    """Watts and the cap."""
    SENSORS = "sensors"
    FIRMWARE = "firmware"
    BIOS = "bios"
    LOG = "log"
    MEDIA = "media"


EVERYTHING = frozenset(Part)


class BmcSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One look. Parts that were not asked, or could not be read, are `None`."""

    maker: Maker
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    """The one on the label: Dell's service tag."""
    uuid: str | None = None
    """Lower case."""
    bmc_version: str | None = None
    """Read with the firmware, the log or the media."""
    bios_version: str | None = None
    power: Power | None = None
    health: Health | None = None
    boot: BootOverride | None = None
    progress: BootProgress | None = None
    resets: frozenset[str] | None = None
    """`ResetType`s that this BMC says it takes."""
    locate: bool | None = None
    """Whether the locate light is lit."""
    power_w: float | None = None
    cap: PowerCap | None = None
    """`None`: none is known. Whether there is one at all is in `has_cap`."""
    has_cap: bool | None = None
    bios: dict[str, BiosValue] | None = None
    """In force."""
    bios_pending: dict[str, BiosValue] | None = None
    """What the next reset will change; empty: nothing."""
    firmware: tuple[Firmware, ...] | None = None
    sensors: tuple[Sensor, ...] | None = None
    log: tuple[LogEntry, ...] | None = None
    """Newest first, bounded."""
    media: Media | None = None
    unread: tuple[str, ...] = ()
    """Parts that were asked and could not be understood, each with why; for people."""


def is_same_board(one: str, other: str) -> bool:
    """Whether two UUIDs are of one board's firmware.

    SMBIOS (DSP0134 §7.2.1) keeps the first three fields with their bytes the other way round; not every BMC
    turns them as a kernel does.
    """
    ours, theirs = one.replace("-", "").lower(), other.replace("-", "").lower()
    if not _UUID(ours) or len(set(ours)) == 1:
        return False  # none, or a board that nobody gave one
    turned = "".join(_turned(ours[at:to]) for at, to in ((0, 8), (8, 12), (12, 16))) + ours[16:]
    return theirs in {ours, turned}


def _turned(field: str) -> str:
    """Bytes in the other order, as hex."""
    return bytes.fromhex(field)[::-1].hex()


# -- writes ------------------------------------------------------------------------------------------


class PowerOn(msgspec.Struct, frozen=True, tag="power_on"):
    """Switch the host on. A raise."""


class PowerOff(msgspec.Struct, frozen=True, tag="power_off"):
    """Switch the host off: the operating system is asked, or the power is taken from under it."""

    forced: bool = False


class PowerCycle(msgspec.Struct, frozen=True, tag="power_cycle"):
    """Take the power, wait, give it back: what a reset does not reach is reached by it."""


class Restart(msgspec.Struct, frozen=True, tag="restart"):
    """Restart the host without taking its power."""

    forced: bool = False


class BootOnce(msgspec.Struct, frozen=True, tag="boot_once"):
    """Boot from elsewhere at the next boot alone, in UEFI mode."""

    target: BootTarget


class SetBios(msgspec.Struct, frozen=True, tag="set_bios"):
    """BIOS attributes: pending until the host is reset."""

    attributes: dict[str, BiosValue]


class UpdateFirmware(msgspec.Struct, frozen=True, tag="update_firmware"):
    """Have the BMC fetch an image and write it. Irreversible; never with the host's power unknown."""

    image_uri: str
    """Where the BMC fetches it from: `http`, `https`, `nfs` and what else it takes."""
    targets: tuple[str, ...] = ()
    """`Firmware.id`s that it is for; empty: the image says so itself."""


class SetPowerCap(msgspec.Struct, frozen=True, tag="set_power_cap"):
    """The whole host's limit in watts; `None` takes it away, which is a raise."""

    watts: int | None


class InsertMedia(msgspec.Struct, frozen=True, tag="insert_media"):
    """Put an image into the virtual drive, write protected."""

    image_uri: str


class EjectMedia(msgspec.Struct, frozen=True, tag="eject_media"):
    """Empty the virtual drive."""


class Locate(msgspec.Struct, frozen=True, tag="locate"):
    """The locate light."""

    lit: bool


BmcChange = (
    PowerOn
    | PowerOff
    | PowerCycle
    | Restart
    | BootOnce
    | SetBios
    | UpdateFirmware
    | SetPowerCap
    | InsertMedia
    | EjectMedia
    | Locate
)


def is_raise(change: BmcChange, seen: BmcSeen | None = None) -> bool:
    """Whether a change lifts what the host is permitted to draw; unknown counts as a raise.

    Restarts and cycles need headroom for the host's full draw, as design §5 says, but lift nothing: the
    host was on. A cycle of one that is off is a raise.
    """
    match change:
        case PowerOn():
            return True
        case PowerCycle():
            return seen is None or seen.power is not Power.ON
        case SetPowerCap(watts=watts):
            now_w = seen.cap.watts if seen is not None and seen.cap is not None else None
            return watts is None or now_w is None or watts > now_w
        case _:
            return False


def takes_host_down(change: BmcChange) -> bool:
    """Whether a change ends what runs on the host, at once: it is drained first."""
    return isinstance(change, PowerOff | PowerCycle | Restart)


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one write."""

    outcome: Outcome
    """`Applied`: the BMC acknowledged, and a look tells whether it is so. `InProgress`: it left, and its
    fate is not known, or a task does it. `RefusedByDevice`: it said no. `Failed`: nothing was written."""
    task: str | None = None
    """Path of the task that does it; follow it to its end."""
    pending: bool = False
    """It takes effect at the next reset of the host."""


# -- tasks -------------------------------------------------------------------------------------------


class TaskState(StrEnum):
    """How a task stands: `TaskState` of DSP8010, in what there is to do about it."""

    RUNNING = "running"
    DONE = "done"
    """Ended well by its own word: a look at what it was for is the evidence."""
    FAILED = "failed"
    GONE = "gone"
    """The BMC does not know it, any more: it was restarted, maybe by this very update. Look."""
    STUCK = "stuck"
    """It did not end in the time that it was given. A person; never a second one on top."""


class TaskSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a task, or its end."""

    state: TaskState
    percent: int | None = None
    messages: tuple[str, ...] = ()
    """The BMC's own words, bounded."""


# -- evidence ----------------------------------------------------------------------------------------


def shows(seen: BmcSeen, change: BmcChange) -> bool | None:
    """Whether a look shows the effect of a change; `None` where a look alone cannot tell.

    A restart is shown by the host's boot id, firmware by `has_version`.
    """
    match change:
        case PowerOn():
            return None if seen.power is None else seen.power is Power.ON
        case PowerOff():
            return None if seen.power is None else seen.power is Power.OFF
        case BootOnce(target=target):
            boot = seen.boot
            return None if boot is None else boot.once and boot.target is target
        case SetBios(attributes=wanted):
            return _bios_shows(seen, wanted)
        case SetPowerCap(watts=watts):
            return None if seen.cap is None else seen.cap.watts == watts
        case InsertMedia(image_uri=uri):
            if seen.media is None or seen.media.inserted is None:
                return None
            # Some tell the image's name alone, or nothing of it.
            return seen.media.inserted and (
                seen.media.image in {None, "", uri} or _ends(uri, seen.media)
            )
        case EjectMedia():
            inserted = None if seen.media is None else seen.media.inserted
            return None if inserted is None else not inserted
        case Locate(lit=lit):
            return None if seen.locate is None else seen.locate is lit
        case PowerCycle() | Restart() | UpdateFirmware():
            return None
        case _:
            assert_never(change)


def is_pending(seen: BmcSeen, wanted: SetBios) -> bool | None:
    """Whether what was set waits for a reset: in force or pending, and not all of it in force."""
    if seen.bios is None or seen.bios_pending is None:
        return None
    after = {**seen.bios, **seen.bios_pending}
    meant = all(after.get(name) == value for name, value in wanted.attributes.items())
    return meant and _bios_shows(seen, wanted.attributes) is False


def has_version(seen: BmcSeen, id: str, version: str) -> bool | None:  # noqa: A002 — the inventory's word
    """Whether the inventory shows a version; `None` where it was not read, or has no such row."""
    for row in seen.firmware or ():
        if row.id == id:
            return None if row.version is None else row.version == version
    return None


def _bios_shows(seen: BmcSeen, wanted: dict[str, BiosValue]) -> bool | None:
    if seen.bios is None:
        return None
    return all(seen.bios.get(name) == value for name, value in wanted.items())


def _ends(uri: str, media: Media) -> bool:
    return media.image is not None and uri.rpartition("/")[2] == media.image.rpartition("/")[2]
