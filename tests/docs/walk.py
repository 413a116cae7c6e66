"""Walk through a page of the documentation: run its commands in order, hold what they print to what it shows.

A `console` block holds commands after `$ ` and below each the lines that it shows. `...` stands for any
lines, `# exit N` after a command says how it ends (otherwise with 0), a trailing `&` leaves it running.
What differs from run to run (digests, ages, seconds, measured hash) is not compared.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"  # exit (\d+)$")
_DIGEST = re.compile(r"\b[0-9a-f]{12}\b")
_VARIES = (
    (_DIGEST, "DIGEST"),
    (re.compile(r"\b\d+ (s|min|h|d) ago\b"), "AGO"),
    (re.compile(r"\b[\d.]+ s\b"), "SECONDS"),
    (re.compile(r"\b[\d,.]+ [TPE]H/s (?=measured|not hashed)"), "HASH "),
    (re.compile(r"\s+"), " "),
)
_STARTED_S, _TIMEOUT_S = 30, 300
_BASH = shutil.which("bash") or "bash"


class Command(NamedTuple):
    """One command of a page and what the page shows of it."""

    line: int
    text: str
    code: int
    shown: tuple[str, ...]


def commands_of(page: str) -> Iterator[Command]:
    """The commands of a page, in order."""
    for block in _BLOCK.finditer(page):
        first = page.count("\n", 0, block.start(1)) + 1
        text, at, shown = "", 0, list[str]()
        for number, line in enumerate([*block[1].splitlines(), "$ "], first):
            if not line.startswith("$ "):
                shown.append(line)
                continue
            if text:
                told = _EXIT.search(text)
                yield Command(at, _EXIT.sub("", text), int(told[1]) if told else 0, tuple(shown))
            text, at, shown = line.removeprefix("$ "), number, []


def unseen(shown: tuple[str, ...], printed: str) -> str | None:
    """The first shown line that was not printed at its place; `None` if all were."""
    text = "".join(f"{_plain(line)}\n" for line in printed.splitlines() if line.strip())
    wanted = [line for line in shown if line.strip()]
    parts = ["(?:.*\n)*" if line == "..." else f"{re.escape(_plain(line))}\n" for line in wanted]
    if not parts or re.fullmatch("".join(parts), text):
        return None
    for count, line in enumerate(wanted, 1):
        if not re.match("".join(parts[:count]), text):
            return line
    return "nothing more, but there is"


def _plain(line: str) -> str:
    for pattern, word in _VARIES:
        line = pattern.sub(word, line)
    return line.strip()


class Shell:
    """One person's shell: its folder and variables carry over from command to command."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = dict(env)
        self._left: list[subprocess.Popen[bytes]] = []
        self._latest = ""

    def close(self) -> None:
        """End what was left running."""
        for process in self._left:
            process.terminate()
            process.wait()

    def walk(self, page: str, name: str) -> int:
        """Run every command of a page; how many there were."""
        count = 0
        for command in commands_of(page):
            count += 1
            where = f"{name}, line {command.line}: $ {command.text}"
            code, printed, errors = self._run(command)
            said = f"{where}\nprinted:\n{printed}\n{errors}"
            assert code == command.code, f"ended with {code}: {said}"
            missing = unseen(command.shown, printed)
            if missing is not None and missing not in errors:
                raise AssertionError(f"not shown by {said}\n--> {missing}")
        return count

    def _run(self, command: Command) -> tuple[int, str, str]:
        if command.text.endswith("&"):
            return self._leave(command)
        text = _DIGEST.sub(lambda _: self._latest, command.text)
        after = self._folder / ".env-after"
        done = subprocess.run(
            [_BASH, "-c", f'{text}\ncode=$?; env -0 > "{after}"; exit $code'],
            cwd=self._folder, env=self._env, capture_output=True, text=True,
            timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
        pairs = after.read_bytes().decode().split("\0")
        self._env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        plan = re.search(r"^Plan ([0-9a-f]{12}):", done.stdout, re.MULTILINE)
        self._latest = plan[1] if plan else self._latest
        return done.returncode, done.stdout, done.stderr

    def _leave(self, command: Command) -> tuple[int, str, str]:
        """Start it, and wait until it printed what the page shows."""
        log = self._folder / f".left-{len(self._left)}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [_BASH, "-c", f"exec {command.text.removesuffix('&')}"],
                cwd=self._folder, env=self._env | {"PYTHONUNBUFFERED": "1"}, stdout=out, stderr=out,
            )  # fmt: skip
        self._left.append(process)
        until = time.monotonic() + _STARTED_S
        while unseen(command.shown, printed := log.read_text(encoding="utf-8")):
            if process.poll() is not None or time.monotonic() > until:
                return process.poll() or 1, printed, ""
            time.sleep(0.05)
        return 0, printed, ""


def clean_env(scripts: Path) -> dict[str, str]:
    """The environment of somebody who just installed gridplane."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GRIDPLANE_")}
    return env | {
        "EDITOR": "true",
        "PATH": f"{scripts}{os.pathsep}{env.get('PATH', os.defpath)}",
        "NO_COLOR": "1",
    }
