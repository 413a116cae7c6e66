"""The init of a pod: it reaps what others leave behind, and ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.lab.programs import find

pytestmark = pytest.mark.lab

_AS_INIT = """
import ctypes, os, sys, time
PR_SET_CHILD_SUBREAPER = 36  # orphans below become ours, as they become a pod's first process's
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
for lifetime_s in (0.0, 0.2, 0.2, 0.4):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(lifetime_s)
        os._exit(0)
os.execv(sys.argv[1], ["pause"])
"""


@pytest.fixture
def pause() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", _AS_INIT, str(find("pause"))]) as process:
        yield process
        process.kill()


def children(pid: int) -> list[str]:
    """Those that ended and that nobody asked for are among them."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_until_it_is_pause(pid: int) -> None:
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}/comm").read_text().strip() != "pause":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_it_reaps_the_orphans_of_its_pod(pause: subprocess.Popen[bytes]) -> None:
    wait_until_it_is_pause(pause.pid)
    until = time.monotonic() + 10
    while children(pause.pid):
        assert time.monotonic() < until, "a child that ended was never reaped"
        time.sleep(0.02)
    assert pause.poll() is None


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_without_an_error(
    pause: subprocess.Popen[bytes], told: signal.Signals
) -> None:
    wait_until_it_is_pause(pause.pid)
    until = time.monotonic() + 10
    while children(pause.pid):
        assert time.monotonic() < until
        time.sleep(0.02)
    pause.send_signal(told)
    assert pause.wait(timeout=5) == 0


def test_it_needs_nothing_but_the_kernel() -> None:
    program = find("pause").read_bytes()
    assert b"ld-linux" not in program
    assert len(program) < 2_000_000
