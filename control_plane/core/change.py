"""The closed set of things that can be done to a device, and what came of it.

A `Change` is one write. Each driver says in its `Capabilities` which ones it can do and what each
one costs (`SettingClass`), so that the plan can print it as lost hashing and megawatts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import msgspec

from control_plane.core.observation import Field, PoolSetting, Settings


class SetPools(msgspec.Struct, frozen=True, tag="set_pools"):
    """Replace the pools. Never empty: a driver refuses what would leave zero pools."""

    pools: tuple[PoolSetting, ...]


class SetPowerMode(msgspec.Struct, frozen=True, tag="set_power_mode"):
    """Move to a step of the ladder, without leaving sleep."""

    power_mode: str


class SetPowerLimit(msgspec.Struct, frozen=True, tag="set_power_limit"):
    """Set the device's own watt limit."""

    power_limit_w: int


class StopMining(msgspec.Struct, frozen=True, tag="stop_mining"):
    """Put to sleep: hashing stops, the control board stays reachable. Never waits for approval."""


class StartMining(msgspec.Struct, frozen=True, tag="start_mining"):
    """Wake. `power_mode` is the step to wake to: a plain resume loses the mode on some families."""

    power_mode: str | None = None


class RestartMining(msgspec.Struct, frozen=True, tag="restart_mining"):
    """Restart the mining process; settings stay."""


class Reboot(msgspec.Struct, frozen=True, tag="reboot"):
    """Reboot the control board; settings stay."""


Change = SetPools | SetPowerMode | SetPowerLimit | StopMining | StartMining | RestartMining | Reboot


class ChangeKind(StrEnum):
    """The kinds of `Change`, as they stand in capabilities, plans and the Store."""

    SET_POOLS = "set_pools"
    SET_POWER_MODE = "set_power_mode"
    SET_POWER_LIMIT = "set_power_limit"
    STOP_MINING = "stop_mining"
    START_MINING = "start_mining"
    RESTART_MINING = "restart_mining"
    REBOOT = "reboot"


def kind_of(change: Change) -> ChangeKind:
    """The kind of a change."""
    match change:
        case SetPools():
            return ChangeKind.SET_POOLS
        case SetPowerMode():
            return ChangeKind.SET_POWER_MODE
        case SetPowerLimit():
            return ChangeKind.SET_POWER_LIMIT
        case StopMining():
            return ChangeKind.STOP_MINING
        case StartMining():
            return ChangeKind.START_MINING
        case RestartMining():
            return ChangeKind.RESTART_MINING
        case Reboot():
            return ChangeKind.REBOOT
        case _:
            assert_never(change)


def fields_written(change: Change, before: Settings) -> frozenset[Field]:
    """The fields that a change writes: waking to another mode writes the mode too."""
    match change:
        case SetPools():
            return frozenset({Field.POOLS})
        case SetPowerMode():
            return frozenset({Field.POWER_MODE})
        case SetPowerLimit():
            return frozenset({Field.POWER_LIMIT_W})
        case StartMining(power_mode=mode) if mode is not None and mode != before.power_mode:
            return frozenset({Field.MINING, Field.POWER_MODE})
        case StartMining() | StopMining():
            return frozenset({Field.MINING})
        case RestartMining() | Reboot():
            return frozenset()
        case _:
            assert_never(change)


def settings_after(before: Settings, change: Change) -> Settings:
    """The settings as they should read after a change.

    A limit that was in force in one mode says nothing about another (asic-devices, trap 13): with a
    new mode it is unknown, so that the step counts at the mode's full watts.
    """
    match change:
        case SetPools(pools=pools):
            return msgspec.structs.replace(before, pools=pools)
        case SetPowerMode(power_mode=mode):
            return msgspec.structs.replace(before, power_mode=mode, power_limit_w=None)
        case SetPowerLimit(power_limit_w=watts):
            return msgspec.structs.replace(before, power_limit_w=watts)
        case StopMining():
            return msgspec.structs.replace(before, mining=False)
        case StartMining(power_mode=mode):
            return msgspec.structs.replace(
                before, mining=True, power_mode=mode or before.power_mode, power_limit_w=None
            )
        case _:
            return before


class Disturbance(StrEnum):
    """What a write does to hashing, from least to most."""

    HOT = "hot"
    RAMPS = "ramps"
    RESTARTS_MINING = "restarts_mining"
    RETUNES = "retunes"
    REBOOTS = "reboots"


class SettingClass(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of write costs on one family. Device time, typical; the driver says the source."""

    disturbance: Disturbance
    persistent: bool
    """Survives a reboot. Persistent writes wear flash and are budgeted."""
    lost_s: float
    """Full-hash seconds lost by a typical write."""
    accept_s: float = 45.0
    """Wire seconds after which an unanswered write is indeterminate."""
    readback_s: float = 180.0
    """Device seconds after which the setting must read as written."""
    effect_s: float = 600.0
    """Device seconds after which watts and hashrate must show it."""


class FirmwareWays(msgspec.Struct, frozen=True, kw_only=True):
    """How a family takes a firmware image."""

    bytes_per_s: float
    """Wire: an upload that is slower than this is given up."""
    check_s: float
    """Wire seconds from the last byte to the answer: the device checks and copies meanwhile."""
    can_roll_back: bool
    """Whether it boots what it ran before, when told to."""


class PasswordWays(msgspec.Struct, frozen=True, kw_only=True):
    """How a family has its administrator's password changed over the network."""

    pattern: str
    """Regular expression that a new password has to match as a whole."""
    means: str
    """The same for people."""
    late_s: float
    """Device seconds after which a change that left is in force, or is not coming."""


class NetworkWays(msgspec.Struct, frozen=True, kw_only=True):
    """How a family has its network settings changed over the network."""

    late_s: float
    """Device seconds after which a change that left is in force, or is not coming."""
    reboots: bool
    """Whether it boots for it: it hashes nothing meanwhile."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a firmware family can do, as data; passed into the plan as a value."""

    family: str
    reads: frozenset[Field]
    """Fields that a FULL look can know."""
    writes: dict[ChangeKind, SettingClass]
    settle_s: float = 600.0
    """Device seconds from a change until telemetry is comparable again: the gate's soak."""
    max_pools: int = 3
    firmware: FirmwareWays | None = None
    """`None` where its driver installs none."""
    passwords: PasswordWays | None = None
    """`None` where no password of it can be changed over the network."""
    network: NetworkWays | None = None
    """`None` where its network settings cannot be changed over the network."""
    open_writes: frozenset[Field] = frozenset()
    """Fields that the device lets anyone on its network write: no password can close them."""


class Applied(msgspec.Struct, frozen=True, tag="applied"):
    """The device acknowledged. Not yet success: the engine reads back and looks for evidence."""

    detail: str = ""


class InProgress(msgspec.Struct, frozen=True, tag="in_progress"):
    """The write left and its fate is not known, or it takes time: look again, never re-send."""

    check_after_s: float
    """Device seconds."""
    detail: str = ""


class RefusedByDevice(msgspec.Struct, frozen=True, tag="refused"):
    """The device said no; a person acts, no retry."""

    reason: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Nothing was written."""

    reason: str
    retryable: bool


Outcome = Applied | InProgress | RefusedByDevice | Failed
