"""The other side of Modbus TCP: frames and registers as meters give them, without any library of ours.

MBAP header, functions 3 and 4, exceptions: Modbus Messaging on TCP/IP implementation guide V1.0b, Modbus
application protocol V1.1b3. Written apart from the driver and from its library, so that a mistake of one
side shows on the other.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from control_plane.core.meter_maps import Kind, Quantity, RegisterMap

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
DEVICE_FAILURE, TARGET_FAILED = 4, 11
_READS: Final = frozenset({3, 4})
_REGISTERS_MAX: Final = 125
_ASKED_BYTES: Final = 4
"""First address, and how many."""
_HEAD: Final = struct.Struct(">HHHB")
_LENGTH_MAX: Final = 254


class Request(NamedTuple):
    """One request, or what came instead of one."""

    transaction: int
    unit: int
    function: int
    body: bytes


class BadFrame(Exception):
    """No Modbus: the connection is closed."""


def requests_in(buffer: bytearray) -> list[Request]:
    """Take the whole requests out of what has arrived.

    Raises:
        BadFrame: another protocol, or a length that cannot be.
    """
    found: list[Request] = []
    while len(buffer) >= _HEAD.size:
        transaction, protocol, length, unit = _HEAD.unpack_from(buffer)
        if protocol or not 2 <= length <= _LENGTH_MAX:  # noqa: PLR2004 - a unit and a function at least
            raise BadFrame
        if len(buffer) < length + 6:
            break
        found.append(Request(transaction, unit, buffer[7], bytes(buffer[8 : length + 6])))
        del buffer[: length + 6]
    return found


def frame(request: Request, pdu: bytes) -> bytes:
    """The answer to a request."""
    return _HEAD.pack(request.transaction, 0, len(pdu) + 1, request.unit) + pdu


def refusal(request: Request, code: int) -> bytes:
    """An exception, as a frame."""
    return frame(request, bytes((request.function | 0x80, code)))


def answer(request: Request, function: int, registers: Mapping[int, int]) -> bytes:
    """What a meter with these registers answers; `function` is the one that it knows."""
    if request.function not in _READS or request.function != function:
        return refusal(request, ILLEGAL_FUNCTION)
    if len(request.body) < _ASKED_BYTES:
        return refusal(request, ILLEGAL_VALUE)
    start, count = struct.unpack_from(">HH", request.body)
    if not 1 <= count <= _REGISTERS_MAX:
        return refusal(request, ILLEGAL_VALUE)
    low, high = min(registers), max(registers)
    if start < low or start + count - 1 > high:
        return refusal(request, ILLEGAL_ADDRESS)
    # Registers between ours hold something else in a real meter.
    words = [registers.get(address, 0) for address in range(start, start + count)]
    return frame(request, bytes((request.function, 2 * count)) + struct.pack(f">{count}H", *words))


# --- registers ---------------------------------------------------------------------------------

_NOT_A_NUMBER: Final = {
    Kind.INT16: b"\x80\0", Kind.UINT16: b"\xff\xff", Kind.INT32: b"\x80\0\0\0",
    Kind.UINT32: b"\xff" * 4, Kind.INT64: b"\x80" + b"\0" * 7, Kind.ACC32: b"\0" * 4,
    Kind.FLOAT32: b"\x7f\xc0\0\0",
}  # fmt: skip
_INTEGERS: Final = {
    Kind.INT16: ">h", Kind.UINT16: ">H", Kind.INT32: ">i", Kind.UINT32: ">I", Kind.INT64: ">q",
    Kind.ACC32: ">I",
}  # fmt: skip


def registers_of(
    known: RegisterMap,
    values: Mapping[Quantity, float | None],
    full_scale: Mapping[Quantity, float],
    *,
    offset: int = 0,
) -> dict[int, int]:
    """A meter's registers.

    Args:
        known: where what stands.
        values: in canonical units; `None` is "not measured".
        full_scale: the most of each quantity: by it a meter chooses the exponents that it never changes.
        offset: of all addresses.
    """
    words = {address + offset: value for address, value in known.expects}
    if known.name in _SUNSPEC:
        words |= _sunspec(known.name, min(words))
    for point in known.points:
        value = values.get(point.quantity)
        exponent = 0
        if point.exponent is not None:
            exponent = _exponent(full_scale[point.quantity] / point.scale)
            words[point.exponent + offset] = exponent & 0xFFFF
        raw = None if value is None else value / point.scale / 10.0**exponent
        data = _NOT_A_NUMBER[point.kind] if raw is None else _packed(point.kind, raw)
        told = list(struct.unpack(f">{len(data) // 2}H", data))
        if known.is_low_word_first:
            told.reverse()
        words |= dict(enumerate(told, point.address + offset))
    return words


_SUNSPEC: Final = {"sunspec-203": 105, "sunspec-213": 124}
"""Length of the model's block, without its id and length."""
_SUNSPEC_START: Final = 40_000
_INTEGERS_OF_203: Final = 36
"""Registers of currents, volts and powers; counters follow, of which 0 means "none"."""


def _sunspec(name: str, base: int) -> dict[int, int]:
    """What a client walks over to find a meter's block: the mark, the common block, and the end.

    Points of the block that no quantity of ours is in are "not implemented".
    """
    length = _SUNSPEC[name]
    common = bytearray(2 * (base - _SUNSPEC_START))
    common[:8] = b"SunS" + struct.pack(">HH", 1, base - _SUNSPEC_START - 4)
    for place, size, text in ((4, 32, b"gridplane"), (20, 32, name.encode()), (52, 32, b"SIM1")):
        common[2 * place : 2 * place + size] = text.ljust(size, b"\0")
    words = dict(enumerate(struct.unpack(f">{len(common) // 2}H", common), _SUNSPEC_START))
    if name == "sunspec-213":
        block = [0x7FC0, 0] * (length // 2)
        block[-2:] = [0, 0]
    else:
        block = [0x8000] * _INTEGERS_OF_203 + [0] * (length - _INTEGERS_OF_203)
    number = int(name.rpartition("-")[2])
    words |= dict(enumerate([number, length, *block, 0xFFFF, 0], base))
    return words


def _exponent(most: float) -> int:
    """The least with which the largest value still fits into 15 bits, with room for a half more."""
    return max(-2, math.ceil(math.log10(max(most, 1e-6) * 1.5 / 0x7FFF)))


def _packed(kind: Kind, raw: float) -> bytes:
    if kind is Kind.FLOAT32:
        return struct.pack(">f", raw)
    size = 16 * kind.size
    whole = round(raw)
    if kind is Kind.ACC32:
        whole %= 1 << size  # Counters roll over.
    elif kind in {Kind.INT16, Kind.INT32, Kind.INT64}:
        whole = min(max(whole, -(1 << size - 1) + 1), (1 << size - 1) - 1)
    else:
        whole = min(max(whole, 0), (1 << size) - 2)
    return struct.pack(_INTEGERS[kind], whole)
