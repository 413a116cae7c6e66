"""A simulated Antminer with Bitmain's stock firmware: cgminer RPC on 4028, CGI scripts on port 80.

4028 (asic-devices reference §1): one JSON command per connection, a reply that ends in NUL, close.
It cannot write: cgminer's privileged commands are refused (`api-allow` is `A:0/0,W:*`), joined
commands (`a+b`) are not understood, `new_api` counts at the top of the command only: nested under
`parameter` it gives the old reply (ARS PR#325). The oldest build leaves out the comma between the
rows of `stats` (pyasic mends it; on which builds is our choice).

Port 80: digest authentication before everything, then scripts that do not look at the method, so a
GET on `reboot.cgi` reboots. `set_miner_conf.cgi` stores, answers `M000 OK!` whether it understood or
not, takes 21 s on old builds, and lets the miner restart in the background. It also takes a
document without any pool. Not simulated: firmware upgrade, factory reset, log files.
"""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.simulator import antminer_http as http
from control_plane.simulator import antminer_reads as reads
from control_plane.simulator.antminer_builds import Build, Framing, Race, build_of
from control_plane.simulator.antminer_conf import Conf, Pool, Verdict, merge, read_document
from control_plane.simulator.antminer_unit import Network, Unit, conf_of
from control_plane.simulator.machine import Machine
from control_plane.simulator.wire import Reply, Session

RPC_PORT, WEB_PORT = 4028, 80
RPC_IDLE_S = 30.0
WEB_IDLE_S = 60.0
"""Before the first request: lighttpd's read timeout. Between requests `KEEP_ALIVE_S`."""
MAX_COMMAND = 8192
REBOOT_AFTER_S = 0.2
"""Wire seconds until the connection of a reboot command breaks. Ours."""
PRIVILEGED = frozenset(
    {
        "privileged",
        "addpool",
        "removepool",
        "switchpool",
        "enablepool",
        "disablepool",
        "poolpriority",
        "poolquota",
        "ascset",
        "ascenable",
        "ascdisable",
        "restart",
        "quit",
        "save",
        "setconfig",
        "zero",
    }
)
"""cgminer's commands that need `W:` access from the caller's address."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Antminer:
    """One simulated unit, as a network sees it."""

    __slots__ = ("unit",)

    def __init__(
        self,
        machine: Machine,
        *,
        pools: tuple[Pool, ...] = (),
        network: Network | None = None,
        build: Build | None = None,
        conf: Conf | None = None,
    ) -> None:
        """A unit in the mode that `machine.step` names.

        Args:
            machine: its physics, identity and password.
            pools: up to three slots, by priority.
            network: what it tells of its own address.
            build: its firmware; drawn by type and asset where not given.
            conf: the whole config instead of `pools` and the machine's step.
        """
        build = build or build_of(machine)
        self.unit = Unit(
            machine,
            build=build,
            conf=conf or conf_of(machine, build, pools),
            network=network or Network(),
        )

    @property
    def machine(self) -> Machine:
        """The physics behind it."""
        return self.unit.machine

    def accept(self, port: int, peer: str) -> Session | None:
        """A session on 4028 while the miner runs, on 80 while the web server does."""
        unit = self.unit
        if not unit.machine.answers():
            return None
        if port == RPC_PORT:
            return None if unit.is_restarting(unit.machine.sample()) else RpcSession(unit, peer)
        if port == WEB_PORT and unit.race() is not Race.REFUSE:
            return WebSession(unit, peer)
        return None

    def reachable(self) -> bool:
        """False without power, and where the hardware is dead."""
        return not (self.machine.is_off or self.machine.is_dead)


class RpcSession:
    """One connection to 4028: one command."""

    __slots__ = ("_buffer", "_peer", "_unit")

    def __init__(self, unit: Unit, peer: str) -> None:
        self._unit = unit
        self._peer = peer
        self._buffer = b""

    def idle_limit_s(self) -> float | None:
        """Half a minute."""
        return RPC_IDLE_S

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        """Answer as soon as the bytes are a whole JSON object, or cannot become one."""
        unit = self._unit
        if not unit.machine.answers():
            return (Reply(reset=True),)
        unit.machine.world.peer = self._peer
        self._buffer += data
        text = self._buffer.strip(b"\0 \r\n\t")
        try:
            command = _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if len(text) <= MAX_COMMAND and not text.endswith(b"}"):
                return ()
            command = None
        self._buffer = b""
        return (Reply(data=self._answer(command), close=True),)

    def _answer(self, command: object) -> bytes:
        unit = self._unit
        if not isinstance(command, dict):
            return self._error(23, "Invalid JSON")
        name = command.get("command")
        if not isinstance(name, str):
            return self._error(24, "Missing JSON 'command'")
        if name in PRIVILEGED:
            unit.machine.note(name, "refused: no access", honoured=False)
            return self._error(45, f"Access denied to '{name}' command")
        sample = unit.machine.sample()
        if command.get("new_api") is True and name in reads.NEW:
            return _encode(reads.NEW[name](unit, sample)) + b"\0"
        if name not in reads.RPC:
            return self._error(14, "Invalid command")
        text = _encode(reads.RPC[name](unit, sample))
        if name == "stats" and unit.build.lacks_comma:
            text = text.replace(b"},{", b"}{")
        return text + b"\0"

    def _error(self, code: int, message: str) -> bytes:
        body = {"STATUS": reads.status(self._unit, "E", code, message), "id": 1}
        return _encode(body) + b"\0"


class WebSession:
    """One connection to port 80: requests one after the other."""

    __slots__ = ("_buffer", "_peer", "_served", "_unit")

    def __init__(self, unit: Unit, peer: str) -> None:
        self._unit = unit
        self._peer = peer
        self._buffer = bytearray()
        self._served = False

    def idle_limit_s(self) -> float | None:
        """Longer before the first request than between two."""
        return http.KEEP_ALIVE_S if self._served else WEB_IDLE_S

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        """Answer every request that is complete."""
        unit = self._unit
        if not unit.machine.answers():
            return (Reply(reset=True),)
        unit.machine.world.peer = self._peer
        self._buffer += data
        replies: list[Reply] = []
        while True:
            try:
                request = http.take_request(self._buffer)
            except http.BadRequest as error:
                text, _ = http.response(error.status, b"", framing=Framing.LENGTH)
                return (*replies, Reply(data=text, close=True))
            if request is None:
                return tuple(replies)
            self._served = True
            replies += self._respond(request)
            if replies[-1].close or replies[-1].reset:
                return tuple(replies)

    def _respond(self, request: http.Request) -> tuple[Reply, ...]:
        unit = self._unit
        if unit.race() is Race.REFUSE:
            return (Reply(reset=True),)
        wire_s = unit.machine.world.clock.wire_s()
        secret = f"{unit.machine.asset}/{unit.machine.boots}"
        allowed, stale = http.is_authorised(
            request, password=unit.machine.password, secret=secret, wire_s=wire_s
        )
        if not allowed:
            challenge = http.challenge(secret, wire_s, stale=stale)
            return self._page(
                request, 401, b"<h1>401 - Unauthorized</h1>", html=True, challenge=challenge
            )
        if not request.script:
            return self._page(request, 200, b"<html><title>Ant Miner</title></html>", html=True)
        if request.script in ACTIONS:
            return ACTIONS[request.script](self, request)
        body = self._read(request.script)
        if body is None:
            return self._page(request, 404, b"<h1>404 - Not Found</h1>", html=True)
        if request.script == "get_miner_conf" and unit.race() is Race.HALF:
            body = body[: len(body) // 2]
        return self._page(request, 200, body, html=request.script in {"log", "get_kernel_log"})

    def _read(self, script: str) -> bytes | None:
        """Body of a script that changes nothing; `None` where there is no such script."""
        unit = self._unit
        sample = unit.machine.sample()
        if script in reads.NEW:
            # The scripts ask the miner on 4028; while it restarts they have nothing to print.
            return b"" if unit.is_restarting(sample) else _encode(reads.NEW[script](unit, sample))
        match script:
            case "get_miner_conf":
                return _encode(read_document(unit.conf_as_read(sample), unit.build))
            case "get_system_info":
                return _encode(reads.system_info(unit))
            case "get_network_info":
                return _encode(reads.network_info(unit))
            case "get_blink_status":
                return _encode({"blink": unit.blink})
            case "miner_type" if unit.build.has_miner_type:
                return _encode(reads.miner_type(unit))
            case "log" | "get_kernel_log":
                return reads.log_text(unit, sample).encode()
            case _:
                return None

    # -- actions ---------------------------------------------------------------------------------

    def set_miner_conf(self, request: http.Request) -> tuple[Reply, ...]:
        """Store what was understood, answer `OK!`, restart."""
        unit = self._unit
        verdict, conf, asked = merge(
            unit.conf,
            request.body,
            content_type=request.headers.get("content-type", ""),
            build=unit.build,
        )
        if verdict is Verdict.ILLEGAL:
            unit.machine.note("set_miner_conf", "not JSON", honoured=False)
            return self._json(
                request, {"stats": "error", "code": "M001", "msg": "Illegal request!"}
            )
        acts = verdict is Verdict.HONOURED and unit.machine.obeys
        # What a discarded write asks for still counts as asked for: the ledger judges intent.
        wanted = conf if asked is None else msgspec.structs.replace(conf, mode=asked)
        named = tuple(pool.url for pool in conf.live_pools())
        unit.machine.note(
            "set_miner_conf",
            f"mode={'-' if asked is None else asked} pools={','.join(named) or 'none'}",
            asks_w=unit.draw_under(wanted),
            pools=named if conf.pools != unit.conf.pools else None,
            honoured=acts,
        )
        if acts:
            unit.write(conf)
        answer = {"stats": "success", "code": "M000", "msg": "OK!"}
        return self._json(request, answer, after_s=unit.build.accept_s)

    def reboot(self, request: http.Request) -> tuple[Reply, ...]:
        """Boot the control board; the answer is an empty page."""
        machine = self._unit.machine
        asks_w = machine.permitted_w()
        machine.note("reboot", request.method, asks_w=asks_w, honoured=machine.obeys)
        page = self._page(request, 200, b"")
        if machine.obeys:
            machine.reboot()
        return (*page, Reply(after_s=REBOOT_AFTER_S, reset=True))

    def set_blink(self, request: http.Request) -> tuple[Reply, ...]:
        """The locate lamp."""
        wanted = _document(request).get("blink") in {True, "true"}
        self._unit.machine.note("blink", f"blink={wanted}")
        self._unit.blink = wanted
        return self._json(request, {"code": "B000" if wanted else "B100"})

    def passwd(self, request: http.Request) -> tuple[Reply, ...]:
        """Change the administrator's password."""
        given = _document(request)
        machine = self._unit.machine
        new = given.get("newPwd")
        fits = given.get("curPwd") == machine.password and isinstance(new, str) and bool(new)
        fits = fits and new == given.get("confirmPwd")
        machine.note("passwd", "", honoured=fits)
        if not fits:
            return self._json(
                request, {"stats": "error", "code": "P002", "msg": "Illegal request!"}
            )
        machine.password = str(new)
        return self._json(request, {"stats": "success", "code": "P000", "msg": "OK!"})

    def set_network_conf(self, request: http.Request) -> tuple[Reply, ...]:
        """Changes what it tells of its address; where it stands on the network stays as it is."""
        given = _document(request)
        machine = self._unit.machine
        kind = {1: "DHCP", 2: "Static"}.get(given.get("ipPro", 0))
        machine.note("set_network_conf", f"nettype={kind}", honoured=kind is not None)
        if kind is None:
            return self._json(
                request, {"stats": "error", "code": "N003", "msg": "Illegal request!"}
            )
        network = msgspec.structs.replace(
            self._unit.network,
            proto=kind,
            hostname=str(given.get("ipHost", self._unit.network.hostname)),
        )
        if kind == "Static":
            network = msgspec.structs.replace(
                network,
                ip=str(given.get("ipAddress", "")),
                netmask=str(given.get("ipSub", "")),
                gateway=str(given.get("ipGateway", "")),
                dns=str(given.get("ipDns", "")),
            )
        self._unit.network = network
        return self._json(request, {"stats": "success", "code": "N000", "msg": "OK!"})

    # -- replies ---------------------------------------------------------------------------------

    def _json(
        self, request: http.Request, body: dict[str, Any], *, after_s: float = 0.0
    ) -> tuple[Reply, ...]:
        return self._page(request, 200, _encode(body), after_s=after_s)

    def _page(
        self,
        request: http.Request,
        status: int,
        body: bytes,
        *,
        html: bool = False,
        challenge: str = "",
        after_s: float = 0.0,
    ) -> tuple[Reply, ...]:
        data, closes = http.response(
            status,
            body,
            framing=Framing.CLOSE if request.is_old else self._unit.build.framing,
            content_type="text/html" if html else "application/json",
            challenge=challenge,
        )
        return (Reply(data=data, after_s=after_s, close=closes or not request.keeps_alive),)


ACTIONS = {
    "set_miner_conf": WebSession.set_miner_conf,
    "reboot": WebSession.reboot,
    "blink": WebSession.set_blink,
    "passwd": WebSession.passwd,
    "set_network_conf": WebSession.set_network_conf,
}
"""Scripts that change something."""


def _document(request: http.Request) -> dict[str, Any]:
    try:
        value = _decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}
