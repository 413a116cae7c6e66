"""A connection to cgminer's RPC port: one JSON command, one reply that ends in NUL, close.

What the reply is, each firmware says for itself; LuxOS and WhatsMiner have framing of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from control_plane.simulator.json_in import object_in
from control_plane.simulator.machine import Machine
from control_plane.simulator.wire import Reply

IDLE_S = 30.0
MAX_COMMAND = 8192

Answer = Callable[[dict[str, Any] | None], bytes]
"""The reply, without its NUL, to a command; to `None` where the bytes were none."""


class RpcSession:
    """One connection to 4028: one command."""

    __slots__ = ("_answer", "_buffer", "_machine", "_peer")

    def __init__(self, machine: Machine, peer: str, answer: Answer) -> None:
        self._machine = machine
        self._peer = peer
        self._answer = answer
        self._buffer = b""

    def idle_limit_s(self) -> float | None:
        """Half a minute."""
        return IDLE_S

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        """Answer as soon as the bytes are a whole JSON object, or cannot become one."""
        machine = self._machine
        if not machine.answers():
            return (Reply(reset=True),)
        machine.world.peer = self._peer
        self._buffer += data
        text = self._buffer.strip(b"\0 \r\n\t")
        command = object_in(text)
        if command is None and len(text) <= MAX_COMMAND and not text.endswith(b"}"):
            return ()
        self._buffer = b""
        return (Reply(data=self._answer(command) + b"\0", close=True),)
