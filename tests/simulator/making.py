"""Devices and clients for the simulator's own tests."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from control_plane.simulator.antminer import Antminer
from control_plane.simulator.antminer_builds import S21_2024, Build
from control_plane.simulator.antminer_conf import Pool
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.machine import Machine, Model, Step, World
from control_plane.simulator.whatsminer_crypto import Credentials, crypt_tail
from control_plane.simulator.wire import Device, Reply

S21 = Model(
    family="antminer_stock",
    make="Bitmain",
    model="Antminer S21",
    boards=3,
    chips_per_board=108,
    fans=4,
    ladder=(
        Step(name="low", hashrate_ths=150.0, power_w=2600.0),
        Step(name="normal", hashrate_ths=200.0, power_w=3500.0),
    ),
    nominal="normal",
    standby_w=25.0,
)
M60S = Model(
    family="whatsminer_v2",
    make="MicroBT",
    model="M60S_VK30",
    boards=3,
    chips_per_board=105,
    fans=2,
    ladder=(
        Step(name="low", hashrate_ths=130.0, power_w=2600.0),
        Step(name="normal", hashrate_ths=180.0, power_w=3400.0),
        Step(name="high", hashrate_ths=195.0, power_w=3900.0),
    ),
    nominal="normal",
    standby_w=20.0,
)
LUX_S21 = Model(
    family="luxos",
    make="Bitmain",
    model="Antminer S21",
    boards=3,
    chips_per_board=108,
    fans=4,
    ladder=(
        Step(name="under-4", hashrate_ths=163.0, power_w=2800.0),
        Step(name="normal", hashrate_ths=200.0, power_w=3500.0),
    ),
    nominal="normal",
    standby_w=25.0,
)
FACTORY = "root"
MICROBT = "admin"
POOLS = (
    Pool("stratum+tcp://a.pool:3333", "acct.r1", "x"),
    Pool("stratum+tcp://b.pool:3333", "acct.r1", "x"),
)


def a_world() -> tuple[World, ManualSimClock]:
    clock = ManualSimClock(1000.0)
    return World(clock), clock


def a_machine(world: World, model: Model = S21, asset: str = "A-1", **more: Any) -> Machine:
    return Machine(
        world=world,
        model=model,
        asset=asset,
        rack="R-1",
        mac="02:00:00:00:00:01",
        serial="SN0001",
        password=more.pop("password", "root"),
        **more,
    )


def an_antminer(
    world: World, *, build: Build = S21_2024, pools: tuple[Pool, ...] = POOLS, **more: Any
) -> Antminer:
    return Antminer(a_machine(world, **more), pools=pools, build=build)


def rpc(device: Device, command: dict[str, object] | bytes) -> bytes:
    """What 4028 answers to one command, without the closing NUL."""
    session = device.accept(4028, "127.0.0.9")
    assert session is not None, "refused"
    payload = command if isinstance(command, bytes) else msgspec.json.encode(command)
    return b"".join(reply.data for reply in session.feed(payload)).rstrip(b"\0")


def read(device: Device, name: str, **more: object) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(rpc(device, {"command": name, **more}))
    return decoded


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def digest(challenge: str, method: str, target: str, password: str) -> str:
    """The `Authorization` header that answers a challenge."""
    given = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    ha1 = _md5(f"root:{given['realm']}:{password}")
    ha2 = _md5(f"{method}:{target}")
    answer = _md5(f"{ha1}:{given['nonce']}:00000001:abcd:auth:{ha2}")
    return (
        f'Digest username="root", realm="{given["realm"]}", nonce="{given["nonce"]}", '
        f'uri="{target}", qop=auth, nc=00000001, cnonce="abcd", response="{answer}"'
    )


class Web:
    """A browser's view of one device's port 80."""

    def __init__(self, device: Device, *, password: str = FACTORY) -> None:
        self.device = device
        self.password = password
        self.replies: tuple[Reply, ...] = ()

    def send(
        self,
        method: str,
        script: str,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        authorization: str = "",
    ) -> tuple[int, dict[str, str], bytes]:
        session = self.device.accept(80, "127.0.0.9")
        assert session is not None, "refused"
        head = [
            f"{method} /cgi-bin/{script}.cgi HTTP/1.1",
            "Host: device",
            f"Content-Length: {len(body)}",
            f"Content-Type: {content_type}",
        ]
        if authorization:
            head.append(f"Authorization: {authorization}")
        self.replies = session.feed("\r\n".join((*head, "", "")).encode() + body)
        return parse_http(b"".join(reply.data for reply in self.replies))

    def ask(
        self, script: str, body: bytes = b"", *, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        method = "POST" if body else "GET"
        _, headers, _ = self.send("GET", script)
        header = digest(
            headers["www-authenticate"], method, f"/cgi-bin/{script}.cgi", self.password
        )
        status, _, text = self.send(
            method, script, body, content_type=content_type, authorization=header
        )
        return status, text

    def json(self, script: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        status, text = self.ask(script, msgspec.json.encode(body) if body else b"")
        assert status == 200
        decoded: dict[str, Any] = msgspec.json.decode(text)
        return decoded


class Writer:
    """A client that holds a token of a WhatsMiner."""

    def __init__(self, device: Device, password: str = MICROBT, peer: str = "10.0.0.1") -> None:
        self.device, self.peer = device, peer
        challenge = self._plain({"cmd": "get_token"})["Msg"]
        self.credentials = Credentials.of(password, challenge["salt"])
        self.token = crypt_tail(self.credentials.key + challenge["time"], challenge["newsalt"])
        self.replies: tuple[Reply, ...] = ()

    def send(self, command: str, **arguments: object) -> dict[str, Any] | None:
        """The answer to a write; `None` where the device stays silent."""
        inner = msgspec.json.encode({"cmd": command, "token": self.token, **arguments})
        envelope = {"enc": 1, "data": self.credentials.encrypt(inner).decode()}
        session = self.device.accept(4028, self.peer)
        assert session is not None, "refused"
        self.replies = session.feed(msgspec.json.encode(envelope))
        if not self.replies:
            return None
        answer: dict[str, Any] = msgspec.json.decode(self.replies[0].data)
        if "enc" in answer:
            answer = msgspec.json.decode(self.credentials.decrypt(answer["enc"]))
        return answer

    def _plain(self, command: dict[str, object]) -> dict[str, Any]:
        session = self.device.accept(4028, self.peer)
        assert session is not None, "refused"
        (reply,) = session.feed(msgspec.json.encode(command))
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        return answer


def parse_http(data: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in rest}
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole += body[: int(size, 16)]
            body = body[int(size, 16) + 2 :]
        body = whole
    elif "content-length" in headers:
        body = body[: int(headers["content-length"])]
    return int(first.split(" ")[1]), headers, body
