"""Long-lived programs of a lab: started apart from the caller, found again by a mark, ended as a group.

A process carries the lab's mark in its environment from its first instruction. Whoever comes later (or
after a crash between starting and recording) finds it in /proc: there is no pid file that could be stale.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

_MARK = "GRIDPLANE_LAB"
_PROGRAM = "GRIDPLANE_LAB_PROGRAM"
MARKS = (_MARK, _PROGRAM)
"""The environment variables by which a program is known: whatever starts another passes them on."""
_PROC = Path("/proc")
_TICK_S = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LAST_WORDS = 12


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One running program of a lab."""

    program: str
    pid: int
    rss_bytes: int


def start(
    program: str,
    command: Sequence[str | Path],
    *,
    lab: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Start a program of a lab, in a session of its own, its words appended to `log`.

    It is nobody's child: `setsid --fork` (util-linux) has ended when this returns.
    """
    with log.open("ab") as out:
        os.fchmod(out.fileno(), 0o600)
        subprocess.run(  # noqa: S603 - programs that this module's callers name
            ["setsid", "--fork", *(str(part) for part in command)],  # noqa: S607 - of this system
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=lab,
            check=True,
            env={
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(lab),
                **(environment or {}),
                _MARK: str(lab),
                _PROGRAM: program,
            },
        )


def python(module: str, *arguments: str) -> list[str]:
    """A module of ours as a command, under this very interpreter."""
    return [sys.executable, "-m", module, *arguments]


def running(lab: Path) -> dict[str, Process]:
    """The programs of a lab that run now, by name."""
    mark = f"{_MARK}={lab}".encode()
    found: dict[str, Process] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        # A process may end, or belong to somebody else, while it is looked at.
        with contextlib.suppress(OSError, IndexError, ValueError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            if mark not in variables or (entry / "stat").read_text().rpartition(")")[2][1] == "Z":
                continue
            program = next(
                v.partition(b"=")[2].decode() for v in variables if v.startswith(_PROGRAM.encode())
            )
            rss_pages = int((entry / "statm").read_text().split()[1])
            pid = int(entry.name)
            if program not in found or pid < found[program].pid:
                found[program] = Process(
                    program=program, pid=pid, rss_bytes=rss_pages * _PAGE_BYTES
                )
    return found


def stop(lab: Path) -> None:
    """End every program of a lab at once; all are gone when it returns."""
    while alive := running(lab):
        for process in alive.values():
            kill(process.pid)


def kill(pid: int) -> None:
    """End the whole session of a process at once; gone when it returns."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(os.getpgid(pid), signal.SIGKILL)
    while _lives(pid):
        time.sleep(_TICK_S)


def _lives(pid: int) -> bool:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2][1] != "Z"
    except OSError:
        return False


def last_words(log: Path) -> str:
    """The end of a log, for the message that says why a program ended."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "it left no word"
    return "\n".join(f"  {line[:300]}" for line in lines[-_LAST_WORDS:]) or "it left no word"
