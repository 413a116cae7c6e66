"""Waiting for others, and ending them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def eventually(check: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    """Look until it holds: there is nothing to wait on but answers."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"{what}: not within {within_s:.0f} s"
        time.sleep(0.1)


def kill_session(leader: int) -> None:
    """Kill a program and all that it started: plugins have process groups of their own, and outlive it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(entry.name)) == leader:
                    os.kill(int(entry.name), signal.SIGKILL)
