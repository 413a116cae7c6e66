"""Programs of this system, run to their end; a failure carries the command and its last words."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from control_plane.core.errors import ControlPlaneError

_LAST_LINES = 5
_SYSTEM_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class CommandFailed(ControlPlaneError):
    """A program of this system ended with an error. The operator acts: the message has its words."""


def which(program: str) -> str | None:
    """Where a program is; also those that only root's PATH leads to."""
    places = os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_PLACES))
    return shutil.which(program, path=places)


def run(
    *command: str | Path,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_s: float | None = None,
) -> str:
    """Run a program; what it printed.

    Args:
        command: the program, and what it is told.
        text: for its standard input.
        environment: beside ours.
        folder: where it runs.
        timeout_s: after which it is ended.

    Raises:
        CommandFailed: it is missing, ended with an error, or did not end in time.
    """
    program, *arguments = (str(part) for part in command)
    path = which(program)
    if path is None:
        raise CommandFailed(f"this machine lacks {program}")
    try:
        done = subprocess.run(  # noqa: S603 - the callers name programs of this system
            [path, *arguments],
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            env={**os.environ, **environment} if environment else None,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"`{_short(command)}` did not end in {timeout_s:.0f} s") from error
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]
        words = "".join(f"\n  {line}" for line in lines)
        raise CommandFailed(
            f"`{_short(command)}` ended with {done.returncode}{words and ':'}{words}"
        )
    return done.stdout


def _short(command: tuple[str | Path, ...]) -> str:
    shown = " ".join(str(part) for part in command)
    return shown if len(shown) <= 160 else f"{shown[:157]}..."  # noqa: PLR2004 - a line or two
