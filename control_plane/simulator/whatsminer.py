"""A simulated WhatsMiner with MicroBT's stock firmware: BTMiner API v2.0.x on TCP 4028.

Wire (WhatsMiner API v2.0.5 §2, and what pyasic, asic-rs and the MDK worker expect): one JSON object
per connection, the command under `cmd` or `command`, no terminator on either side; the device
answers and closes. A connection without data for 10 s is closed. Reads travel as plain text or
encrypted, writes encrypted only.

Codes and texts: 14 `invalid cmd` (recorded), 23 `enc json load err` for a wrong password (recorded
by several clients) and `json cmd err` for other broken JSON (MDK), 45 `can't access write cmd`
(pyasic) and `command join err` (from the firmware's text table), 131 `API command OK`, 132
`API command ERROR`, 134 for a token (recorded), 135 `check token err`, 136 `over max connect`,
137 `base64 decode err`. Which errors a device encrypts is not documented: here those found before
the token is known good go out in plain text. Inferred.

While the mining process restarts its commands answer `Socket connect failed: Connection refused`,
plain text that is not JSON (pyasic).
"""

from __future__ import annotations

import msgspec

from control_plane.simulator import whatsminer_reads as reads
from control_plane.simulator import whatsminer_writes as writes
from control_plane.simulator.json_in import object_in
from control_plane.simulator.machine import Machine, Sample
from control_plane.simulator.whatsminer_crypto import TokenState
from control_plane.simulator.whatsminer_power import PowerSettings, step_for
from control_plane.simulator.whatsminer_unit import (
    Build,
    Network,
    Pool,
    Unit,
    WriteApi,
    build_of,
)
from control_plane.simulator.whatsminer_writes import Arguments
from control_plane.simulator.wire import Reply

PORT = 4028
IDLE_S = 10.0
"""WhatsMiner API v2.0.5 §2, notice 1."""
MAX_REQUEST = 65_536
"""Bytes; ours. A real daemon's buffer is smaller, and no honest client comes near."""
MAX_IMAGE = 200_000_000
"""Bytes; ours."""
CHECK_IMAGE_S = 2.0
"""Wire seconds until an image is checked and copied. Ours."""
_SIZE_BYTES = 4
NO_MINER = b"Socket connect failed: Connection refused\n"

_encode = msgspec.json.Encoder().encode
_TEXTS = {
    14: "invalid cmd",
    45: "can't access write cmd",
    131: "API command OK",
    132: "API command ERROR",
    135: "check token err",
    136: "over max connect",
    137: "base64 decode err",
}


class WhatsMiner:
    """One simulated unit, as a network sees it."""

    __slots__ = ("unit",)

    def __init__(
        self,
        machine: Machine,
        *,
        pools: tuple[Pool, ...] = (),
        network: Network | None = None,
        build: Build | None = None,
        writes_enabled: bool = True,
        limit_w: int | None = None,
        upfreq_speed: int = 0,
        fast_boot: bool = False,
        clock_skew_s: float = 0.0,
    ) -> None:
        """A unit in the mode that `machine.step` names.

        Args:
            machine: its physics, identity and password.
            pools: up to three slots, by priority.
            network: what it tells of its own address.
            build: its firmware; drawn by the asset's name where not given.
            writes_enabled: False is the factory state.
            limit_w: the limit that somebody set before.
            upfreq_speed: 0 (factory) to 10.
            fast_boot: excludes an upfreq speed above 0.
            clock_skew_s: how far its clock is ahead.
        """
        build = build or build_of(machine)
        self.unit = Unit(
            machine,
            pools=pools,
            network=network or Network(),
            build=build,
            write_api=build.write_api if writes_enabled else WriteApi.DISABLED,
            power=PowerSettings(
                mode=machine.step.name,
                limit_w=limit_w,
                upfreq_speed=upfreq_speed,
                fast_boot=fast_boot,
            ),
            clock_skew_s=clock_skew_s,
        )
        if limit_w is not None:
            machine.settle(step_for(machine.model, self.unit.power))

    @property
    def machine(self) -> Machine:
        """The physics behind it."""
        return self.unit.machine

    def accept(self, port: int, peer: str) -> Session | None:
        """A session on 4028 while the control board is up."""
        if port != PORT or not self.machine.answers():
            return None
        return Session(self.unit, peer)

    def reachable(self) -> bool:
        """False without power, and where the hardware is dead."""
        return not (self.machine.is_off or self.machine.is_dead)


class Session:
    """One connection: one command."""

    __slots__ = ("_buffer", "_done", "_image", "_peer", "_unit")

    def __init__(self, unit: Unit, peer: str) -> None:
        self._unit = unit
        self._peer = peer
        self._buffer = b""
        self._done = False
        self._image: bytearray | None = None
        """What has arrived of an image, once the device said that it is ready for one."""

    def idle_limit_s(self) -> float | None:
        """Ten seconds, also after a command that never answers."""
        return IDLE_S

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        """Answer as soon as the bytes are a whole JSON object."""
        machine = self._unit.machine
        if self._image is not None:
            machine.world.peer = self._peer
            return self._take_image(self._image, data)
        if self._done:
            return ()
        if not machine.answers():
            return (Reply(reset=True),)
        machine.world.peer = self._peer
        self._buffer += data
        request = object_in(self._buffer.rstrip(b"\0"))
        if request is None and _may_go_on(self._buffer):
            return ()
        self._done = True
        self._buffer = b""
        if request is None:
            return _send(self._error(23, "json cmd err"))
        if str(request.get("enc")) == "1":
            return self._encrypted(request)
        name = _name_of(request)
        if name in writes.WRITES:
            # "The writable API supports only ciphertext" (v2.0.5 §2.1).
            writes.refuse(self._unit, name, request)
            return _send(self._error(45))
        return _send(self._read(name, request))

    # -- reads -----------------------------------------------------------------------------------

    def _read(self, name: str, request: Arguments) -> bytes:
        unit = self._unit
        sample = unit.sample()
        if name == "get_token":
            return self._token()
        if name in reads.DAEMON:
            return self._daemon(name, request, sample)
        parts = name.split("+") if unit.build.joins else [name]
        if not all(part in reads.MINING or part in reads.DAEMON for part in parts):
            return self._error(14)
        if not all(part in reads.MINING for part in parts):
            return self._error(45, "command join err")
        if unit.is_restarting(sample):
            return NO_MINER
        if len(parts) == 1:
            return _encode(reads.MINING[name](unit, sample))
        joined: reads.Body = {part: [reads.MINING[part](unit, sample)] for part in parts}
        return _encode({**joined, "id": 1})

    def _daemon(self, name: str, request: Arguments, sample: Sample) -> bytes:
        body = reads.DAEMON[name](self._unit, sample)
        wanted = request.get("info")
        if name == "get_miner_info" and isinstance(wanted, str):
            keys = {key.strip() for key in wanted.split(",")}
            body = {key: value for key, value in body.items() if key in keys}
        text = self._envelope(131, body)
        if name == "get_error_code" and self._unit.build.pairs_in_list:
            # `[{"530":"…"}]` goes out as `["530":"…"]`: no parser takes it as it is.
            text = text.replace(b"[{", b"[").replace(b"},{", b",").replace(b"}]", b"]")
        return text

    def _token(self) -> bytes:
        unit = self._unit
        challenge = unit.tokens.issue(
            unit.credentials(),
            self._peer,
            unix_s=int(unit.unix_s()),
            wire_s=unit.machine.world.clock.wire_s(),
        )
        return self._error(136) if challenge is None else self._envelope(134, challenge)

    # -- writes ----------------------------------------------------------------------------------

    def _encrypted(self, request: Arguments) -> tuple[Reply, ...]:
        unit = self._unit
        credentials = unit.credentials()
        data = request.get("data")
        try:
            inner = object_in(
                credentials.decrypt(data if isinstance(data, str) else "").rstrip(b"\0")
            )
        except ValueError:
            writes.refuse(unit, "undecipherable", {})
            return _send(self._error(137))
        if inner is None:
            writes.refuse(unit, "undecipherable", {})
            return _send(self._error(23, "enc json load err"))
        unit.sample()
        name = _name_of(inner)
        if name not in writes.WRITES:
            return _send(self._seal(self._read(name, inner)))
        refusal = self._refusal(inner)
        if refusal:
            writes.refuse(unit, name, inner)
            return _send(self._error(refusal))
        # Where the command changes the password, its answer is still under the old one.
        answer = writes.WRITES[name](unit, name, inner)
        if answer.silent:
            return ()
        if answer.awaits_image:
            self._image = bytearray()
            ready = self._envelope(writes.OK, "ready")
            return (Reply(data=_encode({"enc": credentials.encrypt(ready).decode()})),)
        text = (
            self._envelope(answer.code, _TEXTS[answer.code])
            if answer.code == writes.OK
            else self._error(answer.code)
        )
        sealed = _encode({"enc": credentials.encrypt(text).decode()})
        return _send(sealed, after_s=answer.after_s)

    def _take_image(self, image: bytearray, data: bytes) -> tuple[Reply, ...]:
        """Four bytes of size, then as many of the image as they say."""
        if not self._unit.machine.answers():
            return (Reply(reset=True),)
        image += data
        size = int.from_bytes(image[:_SIZE_BYTES], "little")
        if len(image) < _SIZE_BYTES or (size <= MAX_IMAGE and len(image) < _SIZE_BYTES + size):
            return ()
        self._image = None
        good = size <= MAX_IMAGE and writes.install(self._unit, bytes(image[_SIZE_BYTES:]))
        code = writes.OK if good else writes.FAILED
        text = self._envelope(code, _TEXTS[code]) if good else self._error(code)
        return _send(text, after_s=CHECK_IMAGE_S)

    def _refusal(self, inner: Arguments) -> int:
        """The code with which a write is turned away; 0 where it is let through."""
        unit = self._unit
        if unit.write_api is WriteApi.REMOVED:
            return 14
        if unit.write_api is WriteApi.DISABLED:
            return 45
        wire_s = unit.machine.world.clock.wire_s()
        state = unit.tokens.check(str(inner.get("token")), self._peer, wire_s=wire_s)
        return 0 if state is TokenState.VALID else 135

    # -- envelopes -------------------------------------------------------------------------------

    def _envelope(self, code: int, message: object, status: str = "S") -> bytes:
        return _encode(
            {
                "STATUS": status,
                "When": int(self._unit.unix_s()),
                "Code": code,
                "Msg": message,
                "Description": "",
            }
        )

    def _error(self, code: int, text: str = "") -> bytes:
        return self._envelope(code, text or _TEXTS[code], "E")

    def _seal(self, text: bytes) -> bytes:
        return _encode({"enc": self._unit.credentials().encrypt(text).decode()})


def _send(text: bytes, *, after_s: float = 0.0) -> tuple[Reply, ...]:
    return (Reply(data=text, after_s=after_s, close=True),)


def _name_of(request: Arguments) -> str:
    name = request.get("cmd", request.get("command"))
    return name if isinstance(name, str) else ""


def _may_go_on(text: bytes) -> bool:
    """Whether more bytes could still make an object of them."""
    text = text.strip(b"\0 \r\n\t")
    if len(text) > MAX_REQUEST:
        return False
    return not text or (text.startswith(b"{") and not text.endswith(b"}"))
