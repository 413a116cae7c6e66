"""What a power meter says, and whether it is to be believed. Pure: registers and times come as arguments.

A meter is the truth about a node until it shows itself wrong: silent, frozen, a current transformer the
other way round, a ratio that nobody set. Unknown is `None`, never 0. What is done about it (energy §7):
stale means no increases below the node; where meter and devices differ, caps use the larger of the two
and settlement the meter.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import StrEnum
from math import isfinite
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.errors import DeviceError, TransientError, Unreachable
from control_plane.core.findings import SourceRef
from control_plane.core.meter_maps import MAPS, Kind, Point, Quantity, RegisterMap


class MeterSilent(Unreachable):
    """The gateway answers, the meter behind it does not (Modbus 0x0B): its cable, its power, or its unit."""


class MeterBusy(TransientError):
    """The meter or its gateway is at something else (Modbus 5, 6): it is asked again."""


class WrongMap(DeviceError):
    """The meter has no such registers, or is none of this model: who declared its `model` acts."""


class NoPath(DeviceError):
    """The gateway has no line to such a unit (Modbus 0x0A): who set the gateway up acts."""


class Meter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One meter as declared, and where it is read."""

    name: str
    node: str | None
    """The feed that it measures; `None` where no node names it."""
    address: str
    """Its own, or its gateway's."""
    port: int = 502
    unit: int = 1
    model: str
    """Of `core.meter_maps.MAPS`."""
    gateway: str | None = None
    """The host that it hangs behind, on a serial line; `None`: it speaks Modbus TCP itself."""
    accuracy_class: float = 0.5
    """Per cent of what it shows (IEC 62053)."""
    interval_s: float = 1.0
    scale: float = 1.0
    """What its registers tell times this is what flows: a ratio of transformers that it does not know."""
    is_reversed: bool = False
    """Its current transformers are known to be the other way round."""
    is_two_way: bool = False
    """Power may flow out of the site here."""
    range_w: float
    """The most that its current transformers can measure."""
    register_offset: int = 0
    """Added to every address of its map."""
    where: SourceRef

    @property
    def map(self) -> RegisterMap:
        """Its registers."""
        return MAPS[self.model]


class Quality(StrEnum):
    """Whether what a meter says can be so."""

    GOOD = "good"
    JUMP = "jump"
    """More than half its range within one interval: believed once the next reading says the same."""
    MISSING = "missing"
    """It tells no power: not a number, or a mark for "not measured"."""
    NEGATIVE = "negative"
    """Power flows out where it only flows in."""
    OUT_OF_RANGE = "out_of_range"
    """More than its current transformers can measure."""
    STUCK = "stuck"
    """Every number is the same for many intervals while power flows."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one meter said at one moment; `None` is unknown."""

    meter: str
    at_s: float
    """Seconds since the epoch, by the reader's clock, when the answer was there."""
    power_w: float | None = None
    reactive_var: float | None = None
    apparent_va: float | None = None
    voltage_v: float | None = None
    current_a: float | None = None
    import_wh: float | None = None
    export_wh: float | None = None
    quality: Quality = Quality.GOOD

    @property
    def trusted_w(self) -> float | None:
        """The power, where it can be so."""
        return self.power_w if self.quality is Quality.GOOD else None


# --- registers ---------------------------------------------------------------------------------


_FORMATS: Final = {
    Kind.INT16: ">h", Kind.UINT16: ">H", Kind.INT32: ">i", Kind.UINT32: ">I", Kind.INT64: ">q",
    Kind.ACC32: ">I", Kind.FLOAT32: ">f",
}  # fmt: skip
_NOT_THERE: Final[Mapping[Kind, int]] = {
    Kind.INT16: -0x8000, Kind.UINT16: 0xFFFF, Kind.INT32: -0x8000_0000, Kind.UINT32: 0xFFFF_FFFF,
    Kind.INT64: -0x8000_0000_0000_0000, Kind.ACC32: 0,
}  # fmt: skip
"""What stands for "not implemented" (SunSpec's specification; Schneider's lists use the same)."""
_EXPONENT_MOST: Final = 10


def decode(
    known: RegisterMap, words: Mapping[int, int], *, offset: int = 0
) -> dict[Quantity, float | None]:
    """The quantities in canonical units; what is not implemented or no number is `None`.

    Args:
        known: the map.
        words: registers by address; all that `meter_maps.blocks` names.
        offset: added to every address of the map.

    Raises:
        WrongMap: a register does not hold what it has to hold.
    """
    for address, wanted in known.expects:
        found = words[address + offset]
        if found != wanted:
            raise WrongMap(
                f"register {address + offset} holds {found}, and {wanted} where it is a {known.name}: "
                "correct `model`, or `register_offset`"
            )
    return {point.quantity: _value(known, point, words, offset) for point in known.points}


def _value(known: RegisterMap, point: Point, words: Mapping[int, int], offset: int) -> float | None:
    first = point.address + offset
    raw = [words[address] for address in range(first, first + point.kind.size)]
    if known.is_low_word_first:
        raw.reverse()
    data = struct.pack(f">{len(raw)}H", *raw)
    (value,) = struct.unpack(_FORMATS[point.kind], data)
    if value == _NOT_THERE.get(point.kind) or not isfinite(value):
        return None
    value *= point.scale
    if point.exponent is None:
        return float(value)
    (exponent,) = struct.unpack(">h", struct.pack(">H", words[point.exponent + offset]))
    return float(value * 10.0**exponent) if abs(exponent) <= _EXPONENT_MOST else None


def reading_of(meter: Meter, words: Mapping[int, int], at_s: float) -> Reading:
    """What a meter said, scaled and turned as declared, and held against what can be so.

    Raises:
        WrongMap: as `decode`.
    """
    told = decode(meter.map, words, offset=meter.register_offset)
    scale = meter.scale

    def of(quantity: Quantity, by: float = scale) -> float | None:
        value = told.get(quantity)
        return None if value is None else value * by

    signed = -scale if meter.is_reversed else scale
    taken, given = of(Quantity.IMPORT_WH), of(Quantity.EXPORT_WH)
    if meter.is_reversed:
        taken, given = given, taken
    power_w = of(Quantity.POWER_W, signed)
    return Reading(
        meter=meter.name,
        at_s=at_s,
        power_w=power_w,
        reactive_var=of(Quantity.REACTIVE_VAR, signed),
        apparent_va=of(Quantity.APPARENT_VA),
        voltage_v=of(Quantity.VOLTAGE_V, 1.0),
        current_a=of(Quantity.CURRENT_A),
        import_wh=taken,
        export_wh=given,
        quality=_quality(meter, power_w),
    )


def _quality(meter: Meter, power_w: float | None) -> Quality:
    """By this reading alone."""
    if power_w is None:
        return Quality.MISSING
    if abs(power_w) > meter.range_w:
        return Quality.OUT_OF_RANGE
    # A meter of an idle node shows a little below zero: its accuracy.
    if not meter.is_two_way and power_w < -meter.range_w * meter.accuracy_class / 100:
        return Quality.NEGATIVE
    return Quality.GOOD


# --- one after another -------------------------------------------------------------------------


class Watch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What has to be remembered of a meter to judge its next reading."""

    last: Reading
    same_since_s: float
    """Since when every number is the same."""


def judge(meter: Meter, before: Watch | None, reading: Reading) -> tuple[Watch, Reading]:
    """A reading in the light of those before: stuck, or a jump that has to be confirmed."""
    if before is None:
        return Watch(last=reading, same_since_s=reading.at_s), reading
    is_same = _numbers(reading) == _numbers(before.last)
    since_s = before.same_since_s if is_same else reading.at_s
    judged = reading
    if reading.quality is Quality.GOOD:
        if (
            is_same
            and reading.power_w
            and reading.at_s - since_s >= limits.METER_STUCK_INTERVALS * meter.interval_s
        ):
            judged = msgspec.structs.replace(reading, quality=Quality.STUCK)
        elif _jumped(meter, before.last, reading):
            judged = msgspec.structs.replace(reading, quality=Quality.JUMP)
    return Watch(last=judged, same_since_s=since_s), judged


def _numbers(reading: Reading) -> tuple[float | None, ...]:
    return (
        reading.power_w, reading.reactive_var, reading.apparent_va, reading.voltage_v,
        reading.current_a, reading.import_wh, reading.export_wh,
    )  # fmt: skip


def _jumped(meter: Meter, last: Reading, reading: Reading) -> bool:
    """Only up: a breaker that opens takes all away within one interval, and that is believed at once."""
    if last.power_w is None or reading.power_w is None:
        return False
    is_next = reading.at_s - last.at_s <= limits.METER_STALE_INTERVALS * meter.interval_s
    return is_next and reading.power_w - last.power_w > limits.METER_JUMP_SHARE * meter.range_w


class Freshness(StrEnum):
    """Whether a reading still tells what is."""

    FRESH = "fresh"
    STALE = "stale"
    """Older than three intervals: no increases below its node."""
    AHEAD = "ahead"
    """From the future: somebody's clock is wrong, so nobody knows how old it is."""
    NEVER = "never"


def freshness(meter: Meter, reading: Reading | None, now_s: float) -> Freshness:
    """How old a reading is, in words; `now_s` in seconds since the epoch."""
    if reading is None:
        return Freshness.NEVER
    age_s = now_s - reading.at_s
    if age_s < -meter.interval_s:
        return Freshness.AHEAD
    late_s = limits.METER_STALE_INTERVALS * meter.interval_s
    return Freshness.STALE if age_s > late_s else Freshness.FRESH
