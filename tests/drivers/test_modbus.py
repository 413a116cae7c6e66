"""Meters by Modbus TCP: frames that are none, exceptions, whose turn it is, and who is left alone."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Callable

import pytest

from control_plane.core import limits
from control_plane.core.errors import (
    ControlPlaneError,
    HardwareFault,
    OversizedReply,
    UnexpectedReply,
    Unreachable,
)
from control_plane.core.meter import MeterBusy, MeterSilent, NoPath, Reading, WrongMap
from control_plane.drivers.modbus import ModbusMeters
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.meter_wire import Request, requests_in
from control_plane.simulator.meters import Gateway, MeterFault
from control_plane.simulator.network import Network, Station, Trouble
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual
from control_plane.simulator.wire import Reply
from tests.metering import GATEWAY, Bench, Play, a_meter, in_memory, on_sockets, renamed


class Scripted:
    """A device that answers each request with the next of its replies."""

    def __init__(self, *replies: bytes | None, closes: bool = False) -> None:
        self.replies = list(replies)
        self.closes = closes
        self.asked: list[Request] = []
        self.connections = 0

    def accept(self, port: int, peer: str) -> Scripted:
        self.connections += 1
        return self

    def reachable(self) -> bool:
        return True

    def idle_limit_s(self) -> float | None:
        return None

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        self.asked += requests_in(bytearray(data))
        reply = self.replies.pop(0) if self.replies else None
        if reply is None:
            return ()
        head = struct.pack(">H", self.asked[-1].transaction)
        return (Reply(data=reply.replace(b"TT", head), close=self.closes),)


def a_reply(body: bytes, *, unit: int = 1, protocol: int = 0) -> bytes:
    return b"TT" + struct.pack(">HHB", protocol, len(body) + 1, unit) + body


def registers(count: int) -> bytes:
    return a_reply(bytes((3, 2 * count)) + struct.pack(">f", 1000.0) * (count // 2))


WHOLE = registers(72)
"""All that is asked of a Janitza: 19006 to 19077."""


def asked(device: Scripted, times: int = 1) -> list[Reading | ControlPlaneError]:
    async def main(loop: VirtualLoop) -> list[Reading | ControlPlaneError]:
        network = Network()
        network.add(Station("gw-1", GATEWAY, device))
        meters = ModbusMeters(MemoryNet(network), VirtualClock(loop))
        told: list[Reading | ControlPlaneError] = []
        for _ in range(times):
            try:
                told.append(await meters.read(a_meter()))
            except ControlPlaneError as error:
                told.append(error)
        return told

    return run_virtual(main)


def test_one_request_reads_all_of_it() -> None:
    device = Scripted(WHOLE, WHOLE)
    told = asked(device, 2)
    assert [one.power_w for one in told if isinstance(one, Reading)] == [1000.0, 1000.0]
    assert device.connections == 1
    assert [one.transaction for one in device.asked] == [1, 2]
    assert device.asked[0].body == struct.pack(">HH", 19_006, 72)


@pytest.mark.parametrize(
    ("code", "kind", "who"),
    [
        (1, WrongMap, "model"),
        (2, WrongMap, "register_offset"),
        (3, WrongMap, "model"),
        (4, HardwareFault, "look at the meter"),
        (5, MeterBusy, "longer"),
        (6, MeterBusy, "busy"),
        (8, HardwareFault, "replace"),
        (10, NoPath, "gateway's settings"),
        (11, MeterSilent, "cable"),
        (99, UnexpectedReply, "says no"),
    ],
)
def test_an_exception_names_who_acts(code: int, kind: type[ControlPlaneError], who: str) -> None:
    (told,) = asked(Scripted(a_reply(bytes((0x83, code)))))
    assert type(told) is kind
    assert who in str(told)
    assert "m-1" in str(told)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        a_reply(b"\x03\x04\0\0\0\0", protocol=7),
        a_reply(b"\x03\x04\0\0\0\0", unit=9),
        b"\xff\xff" + a_reply(b"\x03\x04\0\0\0\0")[2:],
        a_reply(b"\x03\x90\0\0"),
        a_reply(b"\x03\x03\0\0\0"),
        a_reply(b"\x03"),
        a_reply(b"\x03\x00"),
        a_reply(b"\x83"),
        a_reply(b"\x2a\0"),
        a_reply(b""),
        b"TT\0\0\0\0",
        registers(70),
        WHOLE + b"\0",
        WHOLE + a_reply(b"\x83\x0b"),
    ],
)
def test_what_is_no_answer_to_the_question_is_named_and_not_read(reply: bytes) -> None:
    device = Scripted(reply, WHOLE)
    first, second = asked(device, 2)
    assert isinstance(first, UnexpectedReply)
    assert isinstance(second, Reading), "on a connection of its own"
    assert device.connections == 2


def test_a_reply_without_an_end_is_dropped() -> None:
    (told,) = asked(Scripted(b"TT\0\0\xff\xff\x01" + b"\x03" * 4_000))
    assert isinstance(told, OversizedReply)


def test_a_connection_that_was_taken_back_is_opened_anew() -> None:
    # What is sent into a connection that is closed already reaches nobody.
    device = Scripted(WHOLE, b"", WHOLE, closes=True)
    told = asked(device, 2)
    assert all(isinstance(one, Reading) for one in told)
    assert device.connections == 2


def test_a_meter_of_another_model_is_told_apart_where_its_registers_can() -> None:
    async def play(bench: Bench) -> None:
        for name, model in (
            ("m-1", "eastron-sdm630"),
            ("m-3", "janitza-umg96"),
            ("m-0", "sunspec-203"),
        ):
            with pytest.raises(WrongMap, match="correct"):
                await bench.meters.read(renamed(bench.meter(name), model=model))

    in_memory(play)


def test_who_was_silent_is_left_alone_longer_each_time_and_forgiven() -> None:
    async def play(bench: Bench) -> None:
        station = bench.sims.station("m-1")
        station.trouble = Trouble.HANG
        tries: list[float] = []
        gateway = station.device
        assert isinstance(gateway, Gateway)
        for _ in range(600):
            began = bench.clock.wire_s()
            with pytest.raises(Unreachable):
                await bench.meters.read(bench.meter("m-1"))
            if bench.clock.wire_s() > began:
                tries.append(began)
            await bench.clock.wire_sleep(0.1)
        waits = [round(after - before, 1) for before, after in itertools.pairwise(tries)]
        assert waits == sorted(waits)
        assert waits[-1] <= limits.METER_BACKOFF_MAX_S + 2 * limits.METER_REPLY_DEADLINE_S
        station.trouble = None
        await bench.clock.wire_sleep(limits.METER_BACKOFF_MAX_S + 1.0)
        for _ in range(3):
            await bench.meters.read(bench.meter("m-1"))

    in_memory(play)


def test_a_gateway_that_says_nothing_costs_three_deadlines_and_not_one_for_each_meter() -> None:
    async def play(bench: Bench) -> None:
        bench.sims.station("m-1").trouble = Trouble.HANG
        began = bench.clock.wire_s()
        names = ["m-1", "m-2", "m-3", "m-4", "m-5", "m-6"]
        told = await asyncio.gather(
            *(bench.meters.read(bench.meter(name)) for name in names), return_exceptions=True
        )
        assert all(isinstance(one, Unreachable) for one in told)
        assert bench.clock.wire_s() - began < 3.5 * limits.METER_REPLY_DEADLINE_S

    in_memory(play)


def test_a_silent_meter_does_not_hold_up_the_others_of_its_line() -> None:
    async def play(bench: Bench) -> None:
        bench.sims.break_(MeterFault.SILENT, ["m-1"])
        with pytest.raises(MeterSilent):
            await bench.meters.read(bench.meter("m-1"))
        began = bench.clock.wire_s()
        with pytest.raises(Unreachable, match="asked again in"):
            await bench.meters.read(bench.meter("m-1"))
        await bench.meters.read(bench.meter("m-2"))
        assert bench.clock.wire_s() - began < 0.5

    in_memory(play)


@pytest.mark.parametrize("carrier", [in_memory, on_sockets])
def test_one_request_is_in_flight_at_a_gateway(carrier: Callable[[Play], None]) -> None:
    async def play(bench: Bench) -> None:
        open_now = most = 0
        gateway = bench.sims.station("m-1").device
        assert isinstance(gateway, Gateway)
        reply = gateway.reply

        def counted(port: int, request: Request) -> Reply:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            told = reply(port, request)

            def done() -> None:
                nonlocal open_now
                open_now -= 1

            asyncio.get_running_loop().call_later(told.after_s, done)
            return told

        gateway.reply = counted  # type: ignore[method-assign]
        names = ["m-1", "m-2", "m-3", "m-4"] * 2
        told = await asyncio.gather(*(bench.meters.read(bench.meter(name)) for name in names))
        assert [one.meter for one in told] == names
        assert most == 1

    carrier(play)


def test_a_reader_that_gives_up_leaves_no_answer_behind() -> None:
    async def play(bench: Bench) -> None:
        for wait_s in (0.005, 0.02, 0.05, 0.07):
            task = asyncio.ensure_future(bench.meters.read(bench.meter("m-1")))
            await bench.clock.wire_sleep(wait_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await bench.meters.read(bench.meter("m-2"))).meter == "m-2"

    in_memory(play)


def test_nothing_is_printed_of_what_is_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    asked(Scripted(a_reply(b"\x03\x04\0\0\0\0", unit=9)))
    assert capfd.readouterr() == ("", "")
