"""After a write: accepted, read back, physically confirmed; each with its own grace.

Success is a read-back, and for power also evidence in watts and hashrate, never an acknowledgement.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import msgspec

from control_plane.core import limits
from control_plane.core.change import (
    Change,
    Reboot,
    RestartMining,
    SetPools,
    SetPowerLimit,
    SetPowerMode,
    SettingClass,
    StartMining,
    StopMining,
)
from control_plane.core.fleet import Device
from control_plane.core.observation import Activity, Observation, Settings


class Stage(StrEnum):
    """How far a write has come."""

    SENT = "sent"
    """Left this machine; also the state in which a crash leaves it."""
    READ_BACK = "read_back"
    CONFIRMED = "confirmed"
    NOT_APPLIED = "not_applied"
    """The grace is over and the setting does not read as written."""
    NO_EFFECT = "no_effect"
    """It reads as written, but watts and hashrate do not show it: a fault, not drift."""


OPEN_STAGES = frozenset({Stage.SENT, Stage.READ_BACK})


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One write that was intended; sent at most once."""

    id: str
    asset: str
    change: Change
    before: Settings
    after: Settings
    sent_at_s: float
    """Policy time of the intent: the write left after it, if it left at all."""
    answered_at_s: float | None = None
    """Policy time at which the call came back: graces run from here, so that a slow accept costs none."""
    hashrate_before_ths: float | None = None
    """By the fresh look that the write was decided from: what a gate compares with."""
    cost: SettingClass
    stage: Stage = Stage.SENT
    why: str = ""
    epoch: int = 0
    """Fence under which it was intended."""
    detail: str = ""


def progress(
    op: Operation,
    device: Device,
    seen: Observation | None,
    now_s: float,
    *,
    floor_s: float = 0.0,
) -> Operation:
    """The operation after one more look; `seen` is `None` where the look failed.

    A look older than the intent says nothing about it; one that could not read the setting says
    neither yes nor no; and a no counts only from a look after the grace.

    Args:
        op: the open operation.
        device: its device.
        seen: the last look at all settings.
        now_s: policy time.
        floor_s: policy seconds below which no grace goes: looks take wire time at any time scale.
    """
    if op.stage not in OPEN_STAGES:
        return op
    began_s = op.sent_at_s if op.answered_at_s is None else op.answered_at_s
    age_s = now_s - began_s
    readback_s, effect_s = max(op.cost.readback_s, floor_s), max(op.cost.effect_s, 2 * floor_s)
    fresh = seen if seen is not None and seen.at_s > op.sent_at_s else None
    stage = op.stage
    if stage is Stage.SENT and fresh is not None and reads_as_written(op, fresh):
        stage = Stage.READ_BACK
    if stage is Stage.READ_BACK and fresh is not None and _is_reverted(op, fresh):
        return msgspec.structs.replace(
            op, stage=Stage.NOT_APPLIED, detail="it was changed again before it took effect"
        )
    if stage is Stage.READ_BACK and fresh is not None and _shows_effect(op, device, fresh):
        return msgspec.structs.replace(op, stage=Stage.CONFIRMED)
    if stage is Stage.SENT:
        denied = fresh is not None and fresh.at_s > began_s + readback_s and _tells(op, fresh)
        # Without a look that tells, the verdict waits longer: silence is what a rebooting device does.
        if denied or age_s > effect_s:
            return msgspec.structs.replace(op, stage=Stage.NOT_APPLIED)
    if stage is Stage.READ_BACK and age_s > effect_s:
        return msgspec.structs.replace(op, stage=Stage.NO_EFFECT)
    return op if stage is op.stage else msgspec.structs.replace(op, stage=stage)


def reads_as_written(op: Operation, seen: Observation) -> bool:
    """Whether a look shows the setting as the operation wrote it (for restarts: that it happened)."""
    have = seen.settings
    match op.change:
        case SetPools(pools=pools):
            return have.pools == pools
        case SetPowerMode(power_mode=mode):
            return have.power_mode == mode
        case SetPowerLimit(power_limit_w=watts):
            return have.power_limit_w == watts
        case StopMining():
            return have.mining is False
        case StartMining(power_mode=mode):
            return have.mining is True and (mode is None or have.power_mode == mode)
        case RestartMining():
            return _restarted(op, seen)
        case Reboot():
            return _rebooted(op, seen)
        case _:
            assert_never(op.change)


def _is_reverted(op: Operation, seen: Observation) -> bool:
    """Whether a look could read the setting, and it is not what was written (any more)."""
    return _tells(op, seen) and not reads_as_written(op, seen)


def _tells(op: Operation, seen: Observation) -> bool:
    """Whether a look could read what the operation wrote."""
    have = seen.settings
    match op.change:
        case SetPools():
            return have.pools is not None
        case SetPowerMode():
            return have.power_mode is not None
        case SetPowerLimit():
            return have.power_limit_w is not None
        case StopMining() | StartMining():
            return have.mining is not None
        case RestartMining() | Reboot():
            return seen.telemetry.mining_uptime_s is not None
        case _:
            assert_never(op.change)


def _rebooted(op: Operation, seen: Observation) -> bool:
    if seen.telemetry.uptime_s is None:
        # Stock Antminer tells only how long it mines, and a reboot starts that anew too.
        return _restarted(op, seen)
    return seen.telemetry.uptime_s < seen.at_s - op.sent_at_s + _UPTIME_SLACK_S


def _restarted(op: Operation, seen: Observation) -> bool:
    uptime = seen.telemetry.mining_uptime_s
    if uptime is None:
        return False
    return uptime < seen.at_s - op.sent_at_s + _UPTIME_SLACK_S


_UPTIME_SLACK_S = 5.0
"""Devices count uptime in whole seconds and from different moments of their boot."""


def _shows_effect(op: Operation, device: Device, seen: Observation) -> bool:
    telemetry = seen.telemetry
    settings = seen.settings
    if isinstance(op.change, StopMining) or op.after.mining is False:
        if (
            telemetry.power_w is not None
            and telemetry.power_w > device.type.nominal.power_w * limits.SLEEP_EVIDENCE_SHARE
        ):
            return False
        return telemetry.hashrate_ths is not None and telemetry.hashrate_ths <= 0.0
    if telemetry.hashrate_ths is None:
        return False
    if telemetry.activity in {Activity.STARTING, Activity.TUNING, Activity.UPDATING}:
        return False
    expected = device.hashrate_at(settings.power_mode or op.after.power_mode)
    if isinstance(op.change, SetPowerMode | StartMining):
        slack = expected * limits.MODE_EVIDENCE_SHARE
        return abs(telemetry.hashrate_ths - expected) <= slack
    if isinstance(op.change, SetPowerLimit):
        return telemetry.hashrate_ths > 0
    return telemetry.hashrate_ths >= expected * limits.HASH_EVIDENCE_SHARE
