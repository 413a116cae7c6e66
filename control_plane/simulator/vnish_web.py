"""The web server of VNish on port 80: a page that names AnthillOS, and the API below `/api/v1`.

Responses carry a length and keep the connection. Codes: 401 without a session, 403 for a wrong password,
400 for a document that is refused, 500 with `err` where the mining process says no, 404 and 405 for what
is not there (swagger document and the API log of an S19).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from control_plane.simulator import vnish_dashboard as dashboard
from control_plane.simulator import vnish_firmware as firmware
from control_plane.simulator import vnish_reads as reads
from control_plane.simulator.http_in import HttpSession, Request
from control_plane.simulator.json_in import object_in
from control_plane.simulator.vnish_auth import KEY_CHARS
from control_plane.simulator.vnish_builds import MIN_THROTTLE, REBOOT_AFTER_S, Locked
from control_plane.simulator.vnish_conf import Rejected, merge, merge_network
from control_plane.simulator.vnish_unit import Unit
from control_plane.simulator.wire import Reply

_API = "/api/v1/"
_PAGE = b"<!DOCTYPE html><html><head><title>AnthillOS</title></head><body></body></html>"
_SAVE_S = 0.014
"""`POST /settings` took 13.6 ms (API log of an S19)."""
_MINING_S = 0.8
"""`/mining/*` asks the mining process. Ours."""
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Payload Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
}

Handler = Callable[["WebSession", Request], tuple[Reply, ...]]
_encode = msgspec.json.Encoder().encode


class WebSession(HttpSession):
    """One connection to the web server; as many requests as the client likes."""

    __slots__ = ("unit",)

    IDLE_S = 15.0
    KEEP_ALIVE_S = 5.0
    UPLOADS = ("/api/v1/firmware/update",)

    def __init__(self, unit: Unit, peer: str) -> None:
        super().__init__(unit.machine, peer)
        self.unit = unit

    def _bad(self, status: int) -> bytes:
        return _response(status, b"")

    def _respond(self, request: Request) -> tuple[Reply, ...]:
        # What the firmware did by itself since the last look comes before what is asked now.
        self.unit.sample()
        path = request.target.partition("?")[0]
        if not path.startswith(_API):
            if request.method != "GET":
                return self.answer(request, 405, b"")
            return self.answer(request, 200, _PAGE, kind="text/html")
        name = path[len(_API) :]
        if name == "unlock":
            return self._unlock(request)
        unlocked = self._allows(request, name)
        if request.method == "GET":
            return self._read(request, name, unlocked=unlocked)
        if name == "find-miner":
            return self.find(request)
        if name not in WRITES:
            return self.err(request, 404, "Not found")
        if request.method != "POST":
            return self.answer(request, 405, b"")
        if not unlocked:
            self.unit.machine.note(name, "refused: locked", honoured=False)
            return self.answer(request, 401, b"")
        return WRITES[name](self, request)

    # -- replies ---------------------------------------------------------------------------------

    def answer(
        self,
        request: Request,
        status: int,
        body: bytes,
        *,
        kind: str = "application/json",
        after_s: float = 0.0,
    ) -> tuple[Reply, ...]:
        """One response."""
        return (
            Reply(
                data=_response(status, body, kind=kind),
                after_s=after_s,
                close=not request.keeps_alive,
            ),
        )

    def json(self, request: Request, body: object, *, after_s: float = 0.0) -> tuple[Reply, ...]:
        """One response with JSON."""
        return self.answer(request, 200, _encode(body), after_s=after_s)

    def err(self, request: Request, status: int, text: str) -> tuple[Reply, ...]:
        """One refusal in words."""
        return self.answer(request, status, _encode({"err": text}))

    # -- reads -----------------------------------------------------------------------------------

    def _allows(self, request: Request, name: str) -> bool:
        wire_s = self.unit.machine.world.clock.wire_s()
        return self.unit.sessions.allows(request.headers, name, wire_s=wire_s)

    def _unlock(self, request: Request) -> tuple[Reply, ...]:
        unit = self.unit
        given = (object_in(request.body) or {}).get("pw")
        wire_s = unit.machine.world.clock.wire_s()
        status, token = unit.sessions.unlock(given, unit.machine.password, wire_s=wire_s)
        if not token:
            return self.answer(request, status, b"{}")
        return self.json(request, {"token": token})

    def _read(self, request: Request, name: str, *, unlocked: bool) -> tuple[Reply, ...]:
        unit = self.unit
        sample = unit.machine.sample()
        if name in reads.OPEN:
            return self.json(request, reads.OPEN[name](unit, sample, unlocked=unlocked))
        if name == "summary":
            if unit.build.summary is Locked.REFUSED and not unlocked:
                return self.answer(request, 401, b"")
            return self.json(request, dashboard.summary(unit, sample, unlocked=unlocked))
        if name not in {*reads.LOCKED, "apikeys", "auth-check"}:
            return self.err(request, 404, "Not found")
        if not unlocked:
            return self.answer(request, 401, b"")
        if name == "apikeys":
            keys = unit.sessions.keys
            return self.json(request, [{"key": k, "description": d} for k, d in keys.items()])
        if name == "auth-check":
            return self.json(request, {})
        return self.json(request, reads.LOCKED[name](unit, sample, unlocked=unlocked))

    # -- writes ----------------------------------------------------------------------------------

    def find(self, request: Request) -> tuple[Reply, ...]:
        """The locate lamp: toggles, or as `on` says. Open to everybody."""
        wanted = (object_in(request.body) or {}).get("on")
        self.unit.find = wanted if isinstance(wanted, bool) else not self.unit.find
        return self.json(request, {"on": self.unit.find})

    def save(self, request: Request) -> tuple[Reply, ...]:
        """`POST /settings`."""
        unit = self.unit
        machine = unit.machine
        posted = object_in(request.body)
        if posted is None:
            machine.note("settings", "not JSON", honoured=False)
            return self.err(request, 400, "Json deserialize error: expected value")
        try:
            conf = merge(
                unit.conf,
                posted.get("miner"),
                presets=unit.names(),
                refuses=unit.build.refuses_off_ladder,
            )
            network = merge_network(unit.network_next or unit.network, posted.get("network"))
            password = self._new_password(posted.get("password"))
        except Rejected as why:
            machine.note("settings", "refused", honoured=False)
            return self.err(request, 400, str(why))
        pools = tuple(pool.url for pool in conf.live_pools())
        asks_w = None if machine.asleep else unit.permits_w(conf)
        addressed = posted.get("network") is not None
        told_address = f" address={'dhcp' if network.dhcp else network.ip}" if addressed else ""
        machine.note(
            "settings",
            f"preset={conf.preset} pools={','.join(pools) or 'none'}{told_address}",
            asks_w=asks_w if asks_w != unit.permits_w(unit.conf) else None,
            pools=pools if conf.pools != unit.conf.pools else None,
            honoured=machine.obeys,
        )
        ip = unit.network.ip
        if machine.obeys:
            unit.save(conf)
            unit.set_network(network)
            if addressed and machine.loses_network_answer:
                return (Reply(reset=True),)
            if password:
                machine.take_password(password)
                unit.sessions.end()
                if machine.loses_password_answer:
                    return (Reply(reset=True),)
        told = {
            "restart_required": unit.needs_restart,
            "reboot_required": unit.network_next is not None,
        }
        page = self.json(request, told, after_s=_SAVE_S)
        return page if unit.network.ip == ip else (*page, Reply(after_s=0.2, reset=True))

    def _new_password(self, part: object) -> str:
        if part is None:
            return ""
        if not isinstance(part, dict) or part.get("current") != self.unit.machine.password:
            raise Rejected("Wrong password")
        new = part.get("pw")
        if not isinstance(new, str) or not new:
            raise Rejected("Json deserialize error: password.pw")
        return new

    def mining(self, request: Request) -> tuple[Reply, ...]:
        """`/mining/{start,stop,pause,resume,restart}`."""
        unit = self.unit
        machine = unit.machine
        name = request.target.partition("?")[0][len(_API) :]
        stops = name in {"mining/stop", "mining/pause"}
        asks_w = machine.model.standby_w if stops else unit.permits_w(unit.conf)
        idle = machine.asleep and not unit.waits_for_water
        cannot = (stops and idle) or (
            name in {"mining/start", "mining/resume"} and not machine.asleep
        )
        machine.note(name, "", asks_w=asks_w, honoured=machine.obeys and not cannot)
        if cannot:
            mode = "pause" if stops else "resume"
            return self.err(
                request, 500, f"CGMiner err: Cgminer error failed-to-activate-{mode}-mode "
            )
        if machine.obeys:
            if stops:
                unit.stop()
            elif name == "mining/restart":
                unit.restart()
            else:
                unit.start()
        return self._done(request)

    def throttle(self, request: Request) -> tuple[Reply, ...]:
        """`/mining/throttle`: a share of the preset's watts."""
        unit = self.unit
        percent = (object_in(request.body) or {}).get("percent")
        if not unit.build.has_throttle:
            return self.err(request, 404, "Not found")
        if type(percent) is not int or not MIN_THROTTLE <= percent <= 100:  # noqa: PLR2004 — per cent
            return self.err(request, 400, "Json deserialize error: percent")
        machine = unit.machine
        asks_w = None if machine.asleep else unit.permits_w(unit.conf) * percent / 100
        machine.note("mining/throttle", f"{percent} %", asks_w=asks_w, honoured=machine.obeys)
        if machine.obeys:
            unit.set_throttle(percent)
        return self._done(request)

    def switch_pool(self, request: Request) -> tuple[Reply, ...]:
        """`/mining/switch-pool`: by the id that `/summary` prints."""
        unit = self.unit
        place = (object_in(request.body) or {}).get("pool_id")
        if type(place) is not int or not 0 <= place < len(unit.pools_in_force):
            unit.machine.note("mining/switch-pool", "no such pool", honoured=False)
            return self.err(request, 500, "Could not find pool")
        unit.machine.note("mining/switch-pool", str(place), honoured=unit.machine.obeys)
        if unit.machine.obeys:
            unit.switch_pool(place)
        return self._done(request)

    def reboot(self, request: Request) -> tuple[Reply, ...]:
        """`/system/reboot`: answers, and boots some seconds later."""
        unit = self.unit
        machine = unit.machine
        machine.note("system/reboot", "", asks_w=unit.permits_w(unit.conf), honoured=machine.obeys)
        told = self.json(request, {"after": REBOOT_AFTER_S})
        if not machine.obeys:
            return told
        unit.reboot()
        return (*told, Reply(after_s=0.2, reset=True))

    def update(self, request: Request) -> tuple[Reply, ...]:
        """`/firmware/update`: checks, answers, and boots into what it was given."""
        problem = firmware.update(self.unit, request)
        if problem is not None:
            return self.err(request, 500, problem)
        told = self.json(request, {"after": REBOOT_AFTER_S}, after_s=firmware.CHECK_IMAGE_S)
        return (*told, Reply(after_s=0.2, reset=True)) if self.unit.machine.obeys else told

    def remove(self, request: Request) -> tuple[Reply, ...]:
        """`/firmware/remove`: back to stock firmware, which no simulated unit has."""
        return self.err(request, 400, firmware.remove(self.unit))

    def add_key(self, request: Request) -> tuple[Reply, ...]:
        """`POST /apikeys`."""
        given = object_in(request.body) or {}
        key, what = given.get("key"), given.get("description")
        if not isinstance(key, str) or len(key) != KEY_CHARS or not isinstance(what, str):
            return self.err(request, 400, "Json deserialize error: key")
        self.unit.machine.note("apikeys", "")
        keys = self.unit.sessions.keys
        status = "updated" if key in keys else "inserted"
        keys[key] = what
        return self.json(request, {"status": status})

    def delete_key(self, request: Request) -> tuple[Reply, ...]:
        """`POST /apikeys/delete`."""
        key = (object_in(request.body) or {}).get("key")
        self.unit.machine.note("apikeys/delete", "")
        self.unit.sessions.keys.pop(str(key), None)
        return self.answer(request, 200, b"")

    def _done(self, request: Request) -> tuple[Reply, ...]:
        body = b"" if self.unit.build.empty_acks else b"{}"
        return self.answer(request, 200, body, after_s=_MINING_S)


WRITES: Mapping[str, Handler] = {
    "settings": WebSession.save,
    **dict.fromkeys(
        (f"mining/{verb}" for verb in ("start", "stop", "pause", "resume", "restart")),
        WebSession.mining,
    ),
    "mining/throttle": WebSession.throttle,
    "mining/switch-pool": WebSession.switch_pool,
    "system/reboot": WebSession.reboot,
    "firmware/update": WebSession.update,
    "firmware/remove": WebSession.remove,
    "apikeys": WebSession.add_key,
    "apikeys/delete": WebSession.delete_key,
}
"""All that changes something, by path."""


def _response(status: int, body: bytes, *, kind: str = "application/json") -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        f"content-length: {len(body)}\r\ncontent-type: {kind}\r\n\r\n"
    )
    return head.encode("ascii") + body
