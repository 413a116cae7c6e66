"""Where power meters keep what they measure: register maps as data, each with its source.

Addresses are as on the wire, from 0. Manuals print register numbers: one higher (`3060` is 3059 on the
wire), and with 30,000 or 40,000 added where they name input or holding registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import sqrt
from typing import Final

import msgspec


class Kind(StrEnum):
    """How a number stands in registers of 16 bits, the most significant first."""

    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    ACC32 = "acc32"
    """SunSpec's counter: unsigned, and 0 where there is none."""
    FLOAT32 = "float32"

    @property
    def size(self) -> int:
        """Registers."""
        return {"16": 1, "32": 2, "64": 4}[self.value[-2:]]


class Quantity(StrEnum):
    """What is measured, in canonical units."""

    POWER_W = "power_w"
    """Active power of all phases; above 0 where the site takes it."""
    REACTIVE_VAR = "reactive_var"
    APPARENT_VA = "apparent_va"
    VOLTAGE_V = "voltage_v"
    """Between lines, their mean."""
    CURRENT_A = "current_a"
    """Of a line, their mean."""
    IMPORT_WH = "import_wh"
    """Counter of energy taken."""
    EXPORT_WH = "export_wh"


class Point(msgspec.Struct, frozen=True):
    """One number of a map."""

    quantity: Quantity
    address: int
    kind: Kind
    scale: float = 1.0
    """The canonical unit is the register times this."""
    exponent: int | None = None
    """Address of a register with the power of ten by which to multiply as well (SunSpec's `sunssf`)."""


class RegisterMap(msgspec.Struct, frozen=True, kw_only=True):
    """What one model of meter has where."""

    name: str
    """As a declaration names it."""
    title: str
    function: int
    """3: holding registers, 4: input registers."""
    points: tuple[Point, ...]
    expects: tuple[tuple[int, int], ...] = ()
    """Registers that hold a fixed number, by which the map shows that it is the right one."""
    most: int = 125
    """Registers that one request may ask for; 125 fit into one."""
    is_low_word_first: bool = False
    source: str


def _sunspec(base: int, *, is_float: bool) -> tuple[Point, ...]:
    """Models 203 and 213; `base` is the address of the model's id."""
    if is_float:
        kind = Kind.FLOAT32
        places = (28, 44, 36, 18, 2, 68, 60)
        scales = (1.0, 1.0, 1.0, 1.0, 1 / 3, 1.0, 1.0)
        return tuple(
            Point(q, base + at, kind, scale)
            for q, at, scale in zip(Quantity, places, scales, strict=True)
        )
    rows = (
        (18, Kind.INT16, 1.0, 22),
        (28, Kind.INT16, 1.0, 32),
        (23, Kind.INT16, 1.0, 27),
        (11, Kind.INT16, 1.0, 15),
        (2, Kind.INT16, 1 / 3, 6),
        (46, Kind.ACC32, 1.0, 54),
        (38, Kind.ACC32, 1.0, 54),
    )
    return tuple(
        Point(q, base + at, kind, scale, base + exponent)
        for q, (at, kind, scale, exponent) in zip(Quantity, rows, strict=True)
    )


_SUNSPEC_BASE: Final = 40_070
"""`SunS` at 40000, the common block of 66 registers behind it, then the meter's model."""


def _floats(*rows: tuple[Quantity, int, float]) -> tuple[Point, ...]:
    return tuple(Point(quantity, at, Kind.FLOAT32, scale) for quantity, at, scale in rows)


_Q: Final = Quantity
_MAPS: Final = (
    RegisterMap(
        name="sunspec-203",
        title="SunSpec model 203: three-phase wye meter, integers with scale factors",
        function=3,
        points=_sunspec(_SUNSPEC_BASE, is_float=False),
        expects=((_SUNSPEC_BASE, 203),),
        source="SunSpec Alliance, model definitions (github.com/sunspec/models, json/model_203.json); the "
        "block stands at 40070 behind a common block of 66 registers, at 40069 behind one of 65 "
        "(`register_offset: -1`)",
    ),
    RegisterMap(
        name="sunspec-213",
        title="SunSpec model 213: three-phase wye meter, floats",
        function=3,
        points=_sunspec(_SUNSPEC_BASE, is_float=True),
        expects=((_SUNSPEC_BASE, 213),),
        source="SunSpec Alliance, model definitions (github.com/sunspec/models, json/model_213.json); "
        "place of the block as for model 203",
    ),
    RegisterMap(
        name="schneider-pm5000",
        title="Schneider PowerLogic PM5000, and iEM3x55 which have the same registers",
        function=3,
        points=(
            *_floats(
                (_Q.POWER_W, 3059, 1000.0),
                (_Q.REACTIVE_VAR, 3067, 1000.0),
                (_Q.APPARENT_VA, 3075, 1000.0),
                (_Q.VOLTAGE_V, 3025, 1.0),
                (_Q.CURRENT_A, 3009, 1.0),
            ),
            Point(_Q.IMPORT_WH, 3203, Kind.INT64),
            Point(_Q.EXPORT_WH, 3207, Kind.INT64),
        ),
        most=100,
        source="Schneider Electric, public register list of PM5000 and user guide DOCA0005 of iEM3000: "
        "registers 3010, 3026, 3060, 3068, 3076 (FLOAT32, A, V, kW, kvar, kVA), 3204, 3208 (INT64, Wh)",
    ),
    RegisterMap(
        name="eastron-sdm630",
        title="Eastron SDM630, SDM630MCT",
        function=4,
        points=_floats(
            (_Q.POWER_W, 52, 1.0),
            (_Q.REACTIVE_VAR, 60, 1.0),
            (_Q.APPARENT_VA, 56, 1.0),
            (_Q.VOLTAGE_V, 42, sqrt(3)),
            (_Q.CURRENT_A, 46, 1.0),
            (_Q.IMPORT_WH, 72, 1000.0),
            (_Q.EXPORT_WH, 74, 1000.0),
        ),
        most=60,
        source="Eastron, SDM630 Modbus protocol: input registers 30043 (mean volts to neutral), 30047, "
        "30053, 30057, 30061, 30073, 30075 (FLOAT32; energy in kWh); a request may ask for 30 parameters",
    ),
    RegisterMap(
        name="janitza-umg96",
        title="Janitza UMG 96, UMG 604",
        function=3,
        points=_floats(
            (_Q.POWER_W, 19_026, 1.0),
            (_Q.REACTIVE_VAR, 19_042, 1.0),
            (_Q.APPARENT_VA, 19_034, 1.0),
            (_Q.VOLTAGE_V, 19_006, 1.0),
            (_Q.CURRENT_A, 19_012, 1.0),
            (_Q.IMPORT_WH, 19_068, 1.0),
            (_Q.EXPORT_WH, 19_076, 1.0),
        ),
        source="Janitza, Modbus address list and formulary (UMG 96-PA, doc. 2.061.029.1): frequently "
        "required readings, FLOAT32; its manual prints addresses as on the wire. Volts are those between "
        "L1 and L2, amperes those of L1",
    ),
)
MAPS: Final[Mapping[str, RegisterMap]] = {one.name: one for one in _MAPS}
"""By the `model` of a declaration."""


class Block(msgspec.Struct, frozen=True):
    """Registers that are read by one request."""

    start: int
    count: int


def blocks(known: RegisterMap) -> tuple[Block, ...]:
    """The fewest requests that read all of a map, in the order of addresses."""
    spans = sorted(_spans(known))
    found: list[Block] = []
    for start, end in spans:
        if found and end - found[-1].start <= known.most:
            last = found.pop()
            found.append(Block(last.start, max(end, last.start + last.count) - last.start))
        else:
            found.append(Block(start, end - start))
    return tuple(found)


def _spans(known: RegisterMap) -> Iterable[tuple[int, int]]:
    for point in known.points:
        yield point.address, point.address + point.kind.size
        if point.exponent is not None:
            yield point.exponent, point.exponent + 1
    for address, _ in known.expects:
        yield address, address + 1
