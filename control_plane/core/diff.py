"""Declared + observed → differences. Pure; unreadable is neither equal nor different."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from control_plane.core.fleet import Device, DeviceType
from control_plane.core.observation import FIELDS, Field, Observation, PoolSetting, Settings

Value = tuple[PoolSetting, ...] | bool | int | str


_OF_THE_AWAKE = frozenset({Field.POWER_MODE, Field.POWER_LIMIT_W})


class Direction(StrEnum):
    """What an observed difference means for the permitted draw."""

    LESS = "less"
    MORE = "more"
    SAME = "same"
    UNKNOWN = "unknown"
    """A step that the ladder does not have: it may draw anything, so nothing is written from it."""


class Difference(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One disagreement between a device and its declaration."""

    field: Field
    declared: Value
    observed: Value
    direction: Direction


def permitted_w(kind: DeviceType, settings: Settings) -> float:
    """Watts that the settings permit, by nameplate; unknown settings permit the highest step.

    Source: ladder of the device type; `standby_w` for a sleeping device.
    """
    if settings.mining is False:
        return kind.standby_w
    step = kind.mode(settings.power_mode) if settings.power_mode else None
    watts = step.power_w if step else kind.max_w
    if settings.power_limit_w is not None:
        watts = (
            min(settings.power_limit_w, kind.max_w)
            if step is None
            else min(watts, settings.power_limit_w)
        )
    return watts


def nameplate_ths(device: Device, settings: Settings) -> float:
    """Nameplate TH/s of this unit at the settings; unknown settings count as running."""
    return 0.0 if settings.mining is False else device.hashrate_at(settings.power_mode)


def differences(device: Device, desired: Settings, seen: Observation) -> tuple[Difference, ...]:
    """All fields that are declared, known and not equal, in the order of `Field`."""
    found = []
    observed = seen.settings
    for field in FIELDS:
        want = getattr(desired, field)
        have = getattr(observed, field)
        if want is None or have is None or want == have:
            continue
        if not is_compared(field, desired, observed):
            continue
        found.append(
            Difference(
                field=field,
                declared=want,
                observed=have,
                direction=_direction(device, field, want, have),
            )
        )
    return tuple(found)


def is_compared(field: Field, desired: Settings, observed: Settings) -> bool:
    """Whether a field means anything now: of a device that is not known to be awake, mode and limit do not.

    They are named when it is woken; written to a sleeping device, some families wake up.
    """
    if field not in _OF_THE_AWAKE:
        return True
    return observed.mining is True and desired.mining is not False


def equal(desired: Settings, observed: Settings) -> Settings:
    """The desired fields that were read and equal, the others unset."""
    same = {
        field.value: want
        for field in FIELDS
        if (want := getattr(desired, field.value)) is not None
        and want == getattr(observed, field.value)
        and is_compared(field, desired, observed)
    }
    return Settings(**same)


def unreadable(desired: Settings, seen: Observation) -> frozenset[Field]:
    """Fields that are declared and were asked for, but could not be read."""
    unread = seen.unreadable()
    if not unread:
        return unread
    unknown = {field for field in unread if getattr(desired, field) is not None}
    if seen.settings.mining is False:
        unknown -= _OF_THE_AWAKE
    return frozenset(unknown)


def _direction(device: Device, field: Field, want: Value, have: Value) -> Direction:
    match field:
        case Field.MINING:
            return Direction.MORE if have else Direction.LESS
        case Field.POWER_LIMIT_W:
            return _compare(float(str(want)), float(str(have)))
        case Field.POWER_MODE:
            declared, observed = device.type.mode(str(want)), device.type.mode(str(have))
            if observed is None:
                return Direction.UNKNOWN
            return _compare(declared.power_w if declared else 0.0, observed.power_w)
        case _:
            return Direction.SAME


def _compare(want: float, have: float) -> Direction:
    if have == want:
        return Direction.SAME
    return Direction.MORE if have > want else Direction.LESS
