"""The simulator's own control socket: faults in, truth out, one JSON object per line.

It is not part of any device and no controller may use it: it exists for people, demos and proofs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from control_plane.simulator.faults import Fault, inject
from control_plane.simulator.ledger import Direction, Write
from control_plane.simulator.meters import MeterFault
from control_plane.simulator.site import NoSuchTarget, SimSite, Target

SOCKET = "simulator.sock"
MAX_LINE = 64 * 1024 * 1024
_MOST_WRITES = 100_000


class ControlError(Exception):
    """The simulator said no, in its own words; or nobody simulates there."""


class Inject(Fault, frozen=True, kw_only=True, tag_field="do", tag="fault"):
    """Let something go wrong."""


class AskTruth(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="truth"):
    """What machines really are and do."""

    target: Target = Target()


class AskTotals(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="totals"):
    """Drawn watts and TH/s together; of hosts with a BMC the watts beside."""

    target: Target | None = None


class AskLedger(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="ledger"):
    """The writes that reached devices, oldest first."""

    asset: str | None = None
    rack: str | None = None
    direction: Direction | None = None
    since_device_s: float | None = None
    last: int = _MOST_WRITES
    """At most so many, the newest."""


class BreakMeters(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="meter_fault"):
    """Let something go wrong with meters."""

    kind: MeterFault | None
    """`None`: they are well again, and their gateways."""
    meters: tuple[str, ...] = ()
    """By name; none: all of the site."""
    late_s: float = 30.0


class AskMeters(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="meters"):
    """What flows through meters, and what is wrong with them."""


class AskStatus(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="status"):
    """How many machines, what time it is for them."""


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="stop"):
    """End the simulation."""


Request = Inject | AskTruth | AskTotals | AskLedger | BreakMeters | AskMeters | AskStatus | Stop


class Control:
    """Answers requests about one site."""

    def __init__(self, site: SimSite, *, connections: Callable[[], int] = lambda: 0) -> None:
        """`connections` tells how many were taken so far, on any port of any machine."""
        self._site = site
        self._connections = connections
        self.stopped = asyncio.Event()

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one request; `error` says what is wrong with it."""
        try:
            request = _REQUEST.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return {"error": f"not a request: {error}"}
        try:
            return self._act(request)
        except NoSuchTarget as error:
            return {"error": str(error)}

    def _act(self, request: Request) -> dict[str, Any]:
        site = self._site
        match request:
            case Inject():
                return {"assets": inject(site, request)}
            case AskTruth(target=target):
                assets = site.pick(target)
                return {
                    "machines": [site.truth(asset) for asset in assets if asset in site.stations],
                    "nodes": [site.node_truth(asset) for asset in assets if asset in site.nodes],
                }
            case AskTotals(target=target):
                assets = (*site.stations, *site.nodes) if target is None else site.pick(target)
                watts, rate = site.totals(assets)
                return {
                    "drawn_w": watts,
                    "hashrate_ths": rate,
                    "nodes_drawn_w": site.nodes_w(assets),
                }
            case AskLedger():
                return self._ledger(request)
            case BreakMeters():
                return {"meters": self._break(request)}
            case AskMeters():
                return {"meters": site.meters.truths()}
            case AskStatus():
                return self._status()
            case Stop():
                self.stopped.set()
                return {"stopping": True}

    def _ledger(self, request: AskLedger) -> dict[str, Any]:
        ledger = self._site.world.ledger
        writes: tuple[Write, ...] = ledger.select(
            asset=request.asset,
            rack=request.rack,
            direction=request.direction,
            since_device_s=request.since_device_s,
        )
        kept = writes[len(writes) - min(request.last, len(writes)) :]
        return {"received": ledger.received, "matching": len(writes), "writes": kept}

    def _break(self, request: BreakMeters) -> list[str]:
        known = self._site.meters.meters
        names = request.meters or tuple(known)
        for name in names:
            if name not in known:
                raise NoSuchTarget(f"{self._site.id} has no simulated meter {name}")
        self._site.meters.break_(request.kind, names, late_s=request.late_s)
        return list(names)

    def _status(self) -> dict[str, Any]:
        site = self._site
        return {
            "site": site.id,
            "machines": len(site.stations),
            "nodes": len(site.nodes),
            "absent": site.absent,
            "device_s": site.world.clock.device_s(),
            "wall_s": site.world.wall_s(),
            "writes": site.world.ledger.received,
            "connections": self._connections(),
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, line by line."""
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while line := await reader.readline():
                writer.write(msgspec.json.encode(self.answer(line)) + b"\n")
                await writer.drain()


_REQUEST: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


_PATH_BYTES = 107
"""Room for the path of a Unix socket (unix(7))."""


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A spelling of a path that fits: as it is, from here, or by a handle on its folder.

    Raises:
        OSError: the folder is not there.
    """
    spelling = min(str(path), os.path.relpath(path), key=len)
    if len(os.fsencode(spelling)) <= _PATH_BYTES:
        yield spelling
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def listen(control: Control, path: Path) -> asyncio.Server:
    """Open the control socket, for this user alone.

    Raises:
        OSError: the path cannot be written.
    """
    return await asyncio.start_unix_server(control.serve, sock=_bound(path))


def _bound(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with _short(path) as spelling:
            sock.bind(spelling)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


class ControlClient:
    """Talks to a simulation by its control socket."""

    def __init__(self, path: Path, *, timeout_s: float = 30.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def request(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request and its answer.

        Raises:
            ControlError: nobody simulates there, or the simulator said no.
        """
        data = b""
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(self._timeout_s)
                with _short(self._path) as spelling:
                    sock.connect(spelling)
                sock.sendall(msgspec.json.encode(request) + b"\n")
                pieces = []
                while not data.endswith(b"\n"):
                    data = sock.recv(1 << 16)
                    if not data:
                        raise ControlError(f"the simulator at {self._path} hung up")
                    pieces.append(data)
        except OSError as error:
            raise ControlError(f"no simulator at {self._path}: {error.strerror or error}") from None
        answer: dict[str, Any] = msgspec.json.decode(b"".join(pieces))
        if "error" in answer:
            raise ControlError(answer["error"])
        return answer
