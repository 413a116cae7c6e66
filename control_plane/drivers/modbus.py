"""Power meters by Modbus TCP: the port `Meters`, over the port `Net`.

pymodbus builds and reads frames; this is the one module that imports it (its interface changes between
minor versions). Its own client is not used: it opens sockets itself, so neither the network map of a
simulation nor a virtual clock would hold for it, it retries by itself, and skips a reply of another
transaction until the time is over. Here one request is in flight on one connection per gateway, and
whatever answers it wrongly ends the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from control_plane.core import limits
from control_plane.core.errors import (
    ControlPlaneError,
    HardwareFault,
    UnexpectedReply,
    Unreachable,
)
from control_plane.core.meter import (
    Meter,
    MeterBusy,
    MeterSilent,
    NoPath,
    Reading,
    WrongMap,
    reading_of,
)
from control_plane.core.meter_maps import Block, blocks

if TYPE_CHECKING:
    from control_plane.core.ports import Clock, Connection, Net

# What is wrong with a reply is raised here, with the meter's name; pymodbus would print it as well.
logging.getLogger("pymodbus.logging").addHandler(logging.NullHandler())
logging.getLogger("pymodbus.logging").propagate = False

_HEAD: Final = 6
"""Bytes of a frame until its length is known: transaction, protocol, length."""
_FRAME_MAX: Final = 260
"""Bytes of the longest frame (Modbus TCP implementation guide, 4.1)."""
_REQUESTS: Final = {3: ReadHoldingRegistersRequest, 4: ReadInputRegistersRequest}
_EXCEPTIONS: Final[dict[int, tuple[Callable[[str], ControlPlaneError], str]]] = {
    1: (WrongMap, "it does not know the function; correct its `model`"),
    2: (WrongMap, "it has no such registers; correct its `model`, or `register_offset`"),
    3: (WrongMap, "it does not give so many registers at once; correct its `model`"),
    4: (HardwareFault, "it says that it failed; look at the meter"),
    5: (MeterBusy, "it needs longer"),
    6: (MeterBusy, "it is busy"),
    8: (HardwareFault, "its memory is broken; replace the meter"),
    10: (NoPath, "its gateway has no line to this unit; correct `unit`, or the gateway's settings"),
    11: (MeterSilent, "its gateway gets no answer; look at its cable and power, or correct `unit`"),
}
"""What a device answers instead of registers (Modbus application protocol 1.1b3, 7), and who acts."""


class _Pause:
    """Somebody who did not answer, and until when he is left alone."""

    __slots__ = ("_step_s", "until_s")

    def __init__(self) -> None:
        self._step_s = 0.0
        self.until_s = float("-inf")

    def longer(self, now_s: float) -> None:
        self._step_s = min(
            max(2.0 * self._step_s, limits.METER_BACKOFF_MIN_S), limits.METER_BACKOFF_MAX_S
        )
        self.until_s = now_s + self._step_s

    def over(self) -> None:
        self._step_s, self.until_s = 0.0, float("-inf")


class _Line:
    """One gateway, or one meter with an address of its own: its connection, and whose turn it is."""

    def __init__(self, net: Net, clock: Clock, address: str, port: int) -> None:
        self._net, self._clock = net, clock
        self._address, self._port = address, port
        self._name = f"{address}:{port}"
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._framer = FramerSocket(DecodePDU(False))  # noqa: FBT003 - pymodbus's signature: no server
        self._transaction = 0
        self._pause = _Pause()
        self._units: dict[int, _Pause] = {}
        self._silent = 0
        """Requests in a row that nobody answered, whichever meter was asked."""

    async def read(self, meter: Meter) -> dict[int, int]:
        """All registers of a meter's map, by address."""
        known = meter.map
        words: dict[int, int] = {}
        async with self._turn:
            self._refuse_paused(meter)
            try:
                for block in blocks(known):
                    words |= await self._block(meter, known.function, block)
            except MeterSilent:
                # Its gateway waited for it, and with it everybody else on its line.
                self._unit(meter).longer(self._clock.wire_s())
                raise
        return words

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _refuse_paused(self, meter: Meter) -> None:
        now_s = self._clock.wire_s()
        for pause, who in ((self._pause, self._name), (self._unit(meter), f"meter {meter.name}")):
            if now_s < pause.until_s:
                left_s = pause.until_s - now_s
                raise Unreachable(
                    f"{who} was silent; asked again in {left_s:.1f} s", retry_after_s=left_s
                )

    def _unit(self, meter: Meter) -> _Pause:
        return self._units.setdefault(meter.unit, _Pause())

    async def _block(self, meter: Meter, function: int, block: Block) -> dict[int, int]:
        start = block.start + meter.register_offset
        self._transaction = self._transaction % 0xFFFF + 1
        request = _REQUESTS[function](
            address=start, count=block.count, dev_id=meter.unit, transaction_id=self._transaction
        )
        try:
            frame = self._framer.buildFrame(request)
        except ValueError as error:
            raise WrongMap(f"meter {meter.name}: {error}; correct `register_offset`") from None
        registers = self._registers(meter, await self._exchange(meter, frame))
        if len(registers) != block.count:
            self.close()
            raise UnexpectedReply(
                f"meter {meter.name}: {len(registers)} registers instead of {block.count}"
            )
        return dict(enumerate(registers, start))

    async def _exchange(self, meter: Meter, frame: bytes) -> bytes:
        """One request and the frame that answers it; a kept connection that was closed is opened anew."""
        if self._connection is not None:
            began_s = self._clock.wire_s()
            try:
                return await self._send(meter, self._connection, frame)
            except Unreachable:
                if self._clock.wire_s() - began_s >= limits.METER_REPLY_DEADLINE_S:
                    self._was_silent(meter)
                    raise
        try:
            self._connection = await self._net.connect(
                self._address, self._port, deadline_s=limits.METER_CONNECT_DEADLINE_S
            )
        except Unreachable:
            self._pause.longer(self._clock.wire_s())
            raise
        try:
            return await self._send(meter, self._connection, frame)
        except Unreachable:
            self._was_silent(meter)
            raise

    async def _send(self, meter: Meter, connection: Connection, frame: bytes) -> bytes:
        try:
            reply = await connection.request(
                frame,
                complete=_complete,
                deadline_s=limits.METER_REPLY_DEADLINE_S,
                max_bytes=_FRAME_MAX,
            )
        except BaseException:
            # A late answer must not be taken for that of the next request.
            self.close()
            raise
        self._silent = 0
        self._pause.over()
        self._unit(meter).over()
        return reply

    def _was_silent(self, meter: Meter) -> None:
        now_s = self._clock.wire_s()
        self._unit(meter).longer(now_s)
        self._silent += 1
        if self._silent >= limits.METER_SILENT_IN_ROW:
            self._pause.longer(now_s)

    def _registers(self, meter: Meter, reply: bytes) -> list[int]:
        try:
            used, pdu = self._framer.handleFrame(reply, meter.unit, self._transaction)
        except ModbusException as error:
            used, pdu, why = 0, None, str(error)
        else:
            why = "another transaction, unit or protocol"
        if pdu is None or used != len(reply):
            self.close()
            shown = reply[:24].hex(" ")
            raise UnexpectedReply(
                f"meter {meter.name} at {self._name}: no answer to what was asked ({why}): {shown}"
            )
        if pdu.isError():
            kind, what = _EXCEPTIONS.get(pdu.exception_code, (UnexpectedReply, "it says no"))
            code = pdu.exception_code
            raise kind(f"meter {meter.name} at {self._name}, Modbus exception {code:02d}: {what}")
        return list(pdu.registers)


def _complete(buffer: bytearray, eof: bool) -> bool:  # noqa: FBT001 - the port's signature
    """Whether a whole frame is there, or what comes is none."""
    if eof:
        return False
    if len(buffer) < _HEAD:
        return False
    is_modbus = buffer[2:4] == b"\0\0"
    return not is_modbus or len(buffer) >= _HEAD + int.from_bytes(buffer[4:6], "big")


class ModbusMeters:
    """The port `Meters`.

    Args:
        net: towards the gateways.
        clock: stamps readings, and times how long who was silent is left alone.
    """

    def __init__(self, net: Net, clock: Clock) -> None:
        self._net, self._clock = net, clock
        self._lines: dict[tuple[str, int], _Line] = {}

    async def read(self, meter: Meter) -> Reading:
        """What a meter says now; see `core.ports.Meters`."""
        where = (meter.address, meter.port)
        line = self._lines.get(where)
        if line is None:
            line = self._lines[where] = _Line(self._net, self._clock, *where)
        words = await line.read(meter)
        try:
            return reading_of(meter, words, self._clock.wall_s())
        except WrongMap as error:
            raise WrongMap(f"meter {meter.name}: {error}") from None

    async def close(self) -> None:
        """End all connections."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()
