"""Port 80 of a simulated stock Antminer: digest authentication, then CGI scripts.

The scripts do not look at the method, so a GET on `reboot.cgi` reboots. `set_miner_conf.cgi`
stores, answers `M000 OK!` whether it understood or not, takes 21 s on old builds, and lets the
miner restart in the background. It also takes a document without any pool. `upgrade.cgi` takes an image as
multipart form data, checks it, answers, and boots into it (hashsource_antminer_S21x, FR-1.1; asic-rs).
`set_network_conf.cgi` answers, and the machine stands at its new address from then on.
Not simulated: factory reset, log files.
"""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.simulator import antminer_dashboard as dashboard
from control_plane.simulator import antminer_http as http
from control_plane.simulator.antminer_builds import Framing, Race
from control_plane.simulator.antminer_conf import Verdict, merge, read_document
from control_plane.simulator.antminer_network import RESTART_AFTER_S, read_network
from control_plane.simulator.antminer_unit import CONTROL_BOARD, Unit
from control_plane.simulator.http_in import HttpSession, Request, uploaded
from control_plane.simulator.images import SimImage, read_image
from control_plane.simulator.json_in import object_in
from control_plane.simulator.wire import Reply

REBOOT_AFTER_S = 0.2
"""Wire seconds until the connection of a reboot command breaks. Ours."""

CHECK_IMAGE_S = 2.0
"""Wire seconds until an uploaded image is checked and copied. Ours."""
FAMILY = "antminer_stock"

_encode = msgspec.json.Encoder().encode


class WebSession(HttpSession):
    """One connection to port 80: requests one after the other."""

    __slots__ = ("_unit",)

    # lighttpd's read timeout, and its keep-alive idle time.
    IDLE_S = 60.0
    KEEP_ALIVE_S = 5.0
    UPLOADS = ("/cgi-bin/upgrade",)

    def __init__(self, unit: Unit, peer: str) -> None:
        super().__init__(unit.machine, peer)
        self._unit = unit

    def _bad(self, status: int) -> bytes:
        return http.response(status, b"", framing=Framing.LENGTH)[0]

    def _respond(self, request: Request) -> tuple[Reply, ...]:
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
        if script in dashboard.NEW:
            # The scripts ask the miner on 4028; while it restarts they have nothing to print.
            return (
                b"" if unit.is_restarting(sample) else _encode(dashboard.NEW[script](unit, sample))
            )
        match script:
            case "get_miner_conf":
                return _encode(read_document(unit.conf_as_read(sample), unit.build))
            case "get_system_info":
                return _encode(dashboard.system_info(unit))
            case "get_network_info":
                return _encode(dashboard.network_info(unit))
            case "get_blink_status":
                return _encode({"blink": unit.blink})
            case "miner_type" if unit.build.has_miner_type:
                return _encode(dashboard.miner_type(unit))
            case "log" | "get_kernel_log":
                return dashboard.log_text(unit, sample).encode()
            case _:
                return None

    # -- actions ---------------------------------------------------------------------------------

    def set_miner_conf(self, request: Request) -> tuple[Reply, ...]:
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

    def reboot(self, request: Request) -> tuple[Reply, ...]:
        """Boot the control board; the answer is an empty page."""
        machine = self._unit.machine
        asks_w = machine.permitted_w()
        machine.note("reboot", request.method, asks_w=asks_w, honoured=machine.obeys)
        page = self._page(request, 200, b"")
        if machine.obeys:
            machine.reboot()
        return (*page, Reply(after_s=REBOOT_AFTER_S, reset=True))

    def upgrade(self, request: Request) -> tuple[Reply, ...]:
        """Take an image, keep the settings, boot into it."""
        unit, data = self._unit, uploaded(request)
        image = read_image(data) if data is not None else None
        problem = _upgrade_problem(unit, data, image)
        acts = problem is None and unit.machine.obeys
        told = image.version if image else f"{len(data or b'')} bytes"
        unit.machine.note("upgrade", told, asks_w=unit.machine.permitted_w(), honoured=acts)
        if problem is not None:
            code, msg = problem
            return self._json(request, {"stats": "error", "code": code, "msg": msg})
        answer = {"stats": "success", "code": "U000", "msg": "OK!"}
        page = self._json(request, answer, after_s=CHECK_IMAGE_S)
        if acts and image is not None:
            unit.flash.write(image)
        return (*page, Reply(after_s=REBOOT_AFTER_S, reset=True))

    def set_blink(self, request: Request) -> tuple[Reply, ...]:
        """The locate lamp."""
        wanted = _document(request).get("blink") in {True, "true"}
        self._unit.machine.note("blink", f"blink={wanted}")
        self._unit.blink = wanted
        return self._json(request, {"code": "B000" if wanted else "B100"})

    def passwd(self, request: Request) -> tuple[Reply, ...]:
        """Change the administrator's password."""
        given = _document(request)
        machine = self._unit.machine
        new = given.get("newPwd")
        fits = given.get("curPwd") == machine.password and isinstance(new, str) and bool(new)
        fits = fits and new == given.get("confirmPwd")
        machine.note("passwd", "", honoured=fits and machine.obeys)
        if not fits:
            return self._json(
                request, {"stats": "error", "code": "P002", "msg": "Illegal request!"}
            )
        if machine.obeys:
            machine.take_password(str(new))
        if machine.loses_password_answer:
            return (Reply(reset=True),)
        return self._json(request, {"stats": "success", "code": "P000", "msg": "OK!"})

    def set_network_conf(self, request: Request) -> tuple[Reply, ...]:
        """Answer, and stand at another address from then on; see `antminer_network`."""
        unit = self._unit
        machine = unit.machine
        network, code, msg = read_network(object_in(request.body))
        acts = network is not None and machine.obeys
        told = "" if network is None else f"nettype={network.proto} ip={network.ip}"
        machine.note("set_network_conf", told, honoured=acts)
        stats = "error" if network is None else "success"
        page = self._json(request, {"stats": stats, "code": code, "msg": msg})
        if network is None or not acts:
            return page
        unit.stand(network)
        if machine.loses_network_answer:
            return (Reply(reset=True),)
        return (*page, Reply(after_s=RESTART_AFTER_S, reset=True))

    # -- replies ---------------------------------------------------------------------------------

    def _json(
        self, request: Request, body: dict[str, Any], *, after_s: float = 0.0
    ) -> tuple[Reply, ...]:
        return self._page(request, 200, _encode(body), after_s=after_s)

    def _page(
        self,
        request: Request,
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
    "upgrade": WebSession.upgrade,
}
"""Scripts that change something."""


def _upgrade_problem(
    unit: Unit, data: bytes | None, image: SimImage | None
) -> tuple[str, str] | None:
    """Code and message of a refusal. That there is a code for each is known, which one it is, is ours."""
    if data is None:
        return "U001", "6"
    if image is None:
        return "U002", "file check failed"
    if not unit.flash.fits(image, FAMILY, CONTROL_BOARD):
        return "U003", "miner type mismatch"
    return None


def _document(request: Request) -> dict[str, Any]:
    return object_in(request.body) or {}
