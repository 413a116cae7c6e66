"""A simulated BMC's web server: sessions, reads out of the tree, and the writes of DSP0266."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_parts import Boot
from control_plane.simulator.bmc_profiles import PowerStyle
from control_plane.simulator.bmc_readings import Resource
from control_plane.simulator.bmc_tree import OPEN, ROOT, Tree, task_body
from control_plane.simulator.http_in import BadRequest, Request, take_request
from control_plane.simulator.wire import Reply

PORT = 443
IDLE_S = 30.0
RETRY_S = "1"
"""Seconds after which a client may ask for a task again."""
_METADATA = b'<?xml version="1.0"?><edmx:Edmx Version="4.0"/>'
Made = tuple[HTTPStatus, Resource | None, dict[str, str]]


class No(Exception):
    """The request is not done, and why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


class BmcDevice:
    """A BMC as a network sees it; see `wire.Device`."""

    def __init__(self, bmc: Bmc, port: int = PORT) -> None:
        self.bmc, self.port = bmc, port
        self.tree = Tree(bmc)
        self.asked: list[str] = []
        """Method and path of every request."""

    def accept(self, port: int, peer: str) -> BmcSession | None:
        """Refused while it restarts."""
        del peer
        return BmcSession(self) if port == self.port and self.bmc.answers() else None

    def reachable(self) -> bool:
        """Silent without power, and dead."""
        self.bmc.settle()
        return not self.bmc.is_silent


class BmcSession:
    """One connection."""

    def __init__(self, device: BmcDevice) -> None:
        self._device = device
        self._buffer = bytearray()

    def idle_limit_s(self) -> float | None:
        """Connections are few, and not kept for long."""
        return IDLE_S

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        """Answer every request that is complete."""
        bmc = self._device.bmc
        if not bmc.answers():
            return (Reply(reset=True),)
        self._buffer += data
        replies: list[Reply] = []
        while True:
            try:
                request = take_request(self._buffer, (ROOT,))
            except BadRequest as error:
                return (
                    *replies,
                    Reply(data=_bytes((HTTPStatus(error.status), None, {})), close=True),
                )
            if request is None:
                return tuple(replies)
            answer = self._answer(request)
            faults = bmc.faults
            if request.method in faults.mute:
                return tuple(replies)
            if request.method in faults.breaks:
                return (*replies, Reply(reset=True))
            replies.append(Reply(data=answer, after_s=faults.lag_s, close=not request.keeps_alive))
            if replies[-1].close:
                return tuple(replies)

    def _answer(self, request: Request) -> bytes:
        path = request.target.partition("?")[0].rstrip("/") or "/"
        self._device.asked.append(f"{request.method} {path}")
        faults = self._device.bmc.faults
        if any(path.endswith(end) for end in faults.garbage):
            noise = self._device.bmc.noise()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(noise), noise)
        if path == f"{ROOT}/$metadata":
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
            return head % len(_METADATA) + _METADATA
        try:
            made = self._done(request, path)
        except No as no:
            made = no.status, _error(no.message), {}
        if not request.keeps_alive:
            made[2]["Connection"] = "close"
        return _bytes(made)

    def _done(self, request: Request, path: str) -> Made:
        device = self._device
        tree, bmc = device.tree, device.bmc
        if any(path.endswith(end) for end in bmc.faults.missing):
            raise No(HTTPStatus.NOT_FOUND, f"{path} is not there.")
        if request.method == "POST" and path in {tree.sessions, f"{tree.sessions}/Members"}:
            return self._log_in(_body(request))
        if path not in OPEN:
            self._check_login(request)
        match request.method:
            case "GET":
                return self._read(path)
            case "DELETE":
                for token, session in list(bmc.sessions.items()):
                    if path == f"{tree.sessions}/{session.id}":
                        del bmc.sessions[token]
                        return HTTPStatus.NO_CONTENT, None, {}
            case "PATCH":
                return self._patch(request, path)
            case "POST":
                return self._post(path, _body(request))
            case _:
                pass
        raise No(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not for {path}.")

    # -- logins ----------------------------------------------------------------------------------

    def _log_in(self, body: Resource) -> Made:
        device = self._device
        session = device.bmc.log_in(body.get("UserName"), body.get("Password"))
        if session is None:
            raise No(HTTPStatus.UNAUTHORIZED, "Wrong user name or password.")
        path = f"{device.tree.sessions}/{session.id}"
        return (
            HTTPStatus.CREATED,
            device.tree.at(path),
            {"X-Auth-Token": session.token, "Location": path},
        )

    def _check_login(self, request: Request) -> None:
        bmc = self._device.bmc
        token = request.headers.get("x-auth-token")
        if token is not None:
            if bmc.session_of(token) is None:
                raise No(HTTPStatus.UNAUTHORIZED, "No such session.")
            return
        kind, _, told = request.headers.get("authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(told, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            kind = user = password = ""
        session = bmc.log_in(user, password) if kind.lower() == "basic" else None
        if session is None:
            raise No(HTTPStatus.UNAUTHORIZED, "Log in first.")
        del bmc.sessions[session.token]

    # -- reads -----------------------------------------------------------------------------------

    def _read(self, path: str) -> Made:
        tree, bmc = self._device.tree, self._device.bmc
        monitor = path.removeprefix(f"{ROOT}/TaskService/TaskMonitors/")
        if monitor in bmc.tasks:
            task = bmc.tasks[monitor]
            if task.state != "Running":
                return HTTPStatus.OK, task_body(task), {}
            return HTTPStatus.ACCEPTED, task_body(task), {"Location": path, "Retry-After": RETRY_S}
        found = tree.at(path)
        if found is None:
            raise No(HTTPStatus.NOT_FOUND, f"{path} is not there.")
        return HTTPStatus.OK, found, {"ETag": tree.etag(path)}

    # -- writes ----------------------------------------------------------------------------------

    def _patch(self, request: Request, path: str) -> Made:
        tree, bmc = self._device.tree, self._device.bmc
        profile, body = bmc.profile, _body(request)
        takes: dict[str, Callable[[Resource], None]] = {
            tree.system: self._patch_system,
            tree.settings: self._patch_bios,
        }
        if profile.power is PowerStyle.POWER:
            takes[f"{tree.chassis}/Power"] = self._patch_power
        elif profile.power is PowerStyle.ENVIRONMENT:
            takes[f"{tree.chassis}/EnvironmentMetrics"] = self._patch_environment
        if path not in takes:
            raise No(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} cannot be changed.")
        if profile.wants_etag:
            match_ = request.headers.get("if-match")
            if match_ is None:
                raise No(HTTPStatus.PRECONDITION_REQUIRED, "If-Match is missing.")
            if match_ not in {"*", tree.etag(path)}:
                raise No(HTTPStatus.PRECONDITION_FAILED, "It was changed meanwhile.")
        takes[path](body)
        return HTTPStatus.OK, tree.at(path), {"ETag": tree.etag(path)}

    def _patch_system(self, body: Resource) -> None:
        bmc = self._device.bmc
        boot = body.get("Boot")
        if isinstance(boot, dict):
            bmc.boot_override = Boot(
                target=str(boot.get("BootSourceOverrideTarget", bmc.boot_override.target)),
                enabled=str(boot.get("BootSourceOverrideEnabled", bmc.boot_override.enabled)),
                mode=str(boot.get("BootSourceOverrideMode", bmc.boot_override.mode)),
            )
        name = bmc.profile.light
        if name in body:
            bmc.is_lit = body[name] in {True, "Lit", "Blinking"}
        if not body.keys() & {"Boot", name}:
            raise No(HTTPStatus.BAD_REQUEST, "Nothing of that can be changed.")

    def _patch_bios(self, body: Resource) -> None:
        bmc = self._device.bmc
        attributes = body.get("Attributes")
        if not isinstance(attributes, dict) or not attributes:
            raise No(HTTPStatus.BAD_REQUEST, "Attributes is missing.")
        for name, value in attributes.items():
            if name not in bmc.bios or type(value) is not type(bmc.bios[name]):
                raise No(HTTPStatus.BAD_REQUEST, f"{name} has no such value.")
        times = body.get("@Redfish.SettingsApplyTime")
        scheduled = isinstance(times, dict) and times.get("ApplyTime") == "OnReset"
        bmc.set_bios(attributes, scheduled=scheduled)

    def _patch_power(self, body: Resource) -> None:
        rows = body.get("PowerControl")
        row = rows[0] if isinstance(rows, list) and rows else {}
        limit = row.get("PowerLimit") if isinstance(row, dict) else None
        if not isinstance(limit, dict) or "LimitInWatts" not in limit:
            raise No(HTTPStatus.BAD_REQUEST, "PowerLimit is missing.")
        self._cap(limit["LimitInWatts"])

    def _patch_environment(self, body: Resource) -> None:
        limit = body.get("PowerLimitWatts")
        if not isinstance(limit, dict):
            raise No(HTTPStatus.BAD_REQUEST, "PowerLimitWatts is missing.")
        if limit.get("ControlMode") == "Disabled":
            self._cap(None)
        else:
            self._cap(limit.get("SetPoint"))

    def _cap(self, watts: object) -> None:
        if watts is not None and (isinstance(watts, bool) or not isinstance(watts, int | float)):
            raise No(HTTPStatus.BAD_REQUEST, "That is no limit.")
        self._device.bmc.cap_w = None if watts is None else float(watts)

    def _post(self, path: str, body: Resource) -> Made:
        tree, bmc = self._device.tree, self._device.bmc
        if path == f"{tree.system}/Actions/ComputerSystem.Reset":
            kind = body.get("ResetType")
            if kind not in bmc.profile.resets:
                raise No(HTTPStatus.BAD_REQUEST, f"ResetType {kind} is not one of this system.")
            bmc.reset(str(kind))
        elif path == f"{tree.media}/CD/Actions/VirtualMedia.InsertMedia":
            if not isinstance(body.get("Image"), str):
                raise No(HTTPStatus.BAD_REQUEST, "Image is missing.")
            bmc.image = body["Image"]
        elif path == f"{tree.media}/CD/Actions/VirtualMedia.EjectMedia":
            bmc.image = None
        elif path == f"{ROOT}/UpdateService/Actions/UpdateService.SimpleUpdate":
            return self._update(body)
        else:
            raise No(HTTPStatus.NOT_FOUND, f"{path} is not there.")
        return HTTPStatus.NO_CONTENT, None, {}

    def _update(self, body: Resource) -> Made:
        image, targets = body.get("ImageURI"), body.get("Targets", [])
        if not isinstance(image, str) or not isinstance(targets, list):
            raise No(HTTPStatus.BAD_REQUEST, "ImageURI is missing.")
        names = [str(target).rpartition("/")[2] for target in targets]
        task = self._device.bmc.update(image, names)
        path = f"{self._device.tree.tasks}/{task.id}"
        monitor = f"{ROOT}/TaskService/TaskMonitors/{task.id}"
        body = {"@odata.id": path, **task_body(task)}
        return HTTPStatus.ACCEPTED, body, {"Location": monitor, "Retry-After": RETRY_S}


def _body(request: Request) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(request.body or b"{}")
    except msgspec.DecodeError:
        raise No(HTTPStatus.BAD_REQUEST, "The body is not JSON.") from None
    if not isinstance(told, dict):
        raise No(HTTPStatus.BAD_REQUEST, "The body is no JSON object.")
    return told


def _error(message: str) -> Resource:
    return {
        "error": {
            "code": "Base.1.12.GeneralError",
            "message": "See @Message.ExtendedInfo.",
            "@Message.ExtendedInfo": [
                {"MessageId": "Base.1.12.GeneralError", "Message": message, "Severity": "Warning"}
            ],
        }
    }


def _bytes(made: Made) -> bytes:
    status, resource, headers = made
    body = b"" if resource is None else msgspec.json.encode(resource)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "OData-Version: 4.0",
        "Cache-Control: no-cache",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines.append("Content-Type: application/json; charset=utf-8")
    if status is not HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
