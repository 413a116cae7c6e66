"""The seam to a machine: commands go in, replies come out. No shell is spoken but `&&`.

A command is a tuple of arguments, so that nothing a declaration says is ever read as shell. The
vocabulary that `converge` and the cluster's backends use is small on purpose: a simulated host knows all of
it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from control_plane.core.errors import DeviceError
from control_plane.hosts.errors import CommandFailed

Command = tuple[str, ...]
"""A program and its arguments."""

READ_S = 60.0
"""Deadline of a command that only looks, in wire seconds; a busy disk may take its time."""
_WORDS_MAX = 1_200
"""Characters of a program's last words that an error carries."""
_BOOTSTRAP = re.compile(r"\b(?:[a-z0-9]{6}\.[a-z0-9]{16}|[0-9a-f]{64}|K10[0-9a-f]{64}::\S+)\b")
"""Join tokens of kubeadm, its certificate keys, and RKE2's tokens: what installers print of themselves."""


class Target(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Where a host is found, and as whom."""

    name: str
    address: str
    user: str = "root"
    """Others than root run every command through `sudo -n`."""
    port: int = 22
    via: Target | None = None
    """The jump host."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended."""

    code: int
    out: str
    err: str


class Connection(Protocol):
    """One machine, logged in to. Not for concurrent use."""

    @property
    def name(self) -> str:
        """Of the host, as it is declared."""
        ...

    def run(
        self, *commands: Command, stdin: bytes | Path = b"", deadline_s: float = READ_S
    ) -> Reply:
        """Run commands one after the other, up to the first that fails.

        Args:
            commands: joined by `&&`.
            stdin: for the first of them that reads it; a path is a file of this machine.
            deadline_s: wire seconds for all of them together.

        Raises:
            DeadlinePassed: they did not end in time.
            LineBroke: the connection broke under them.
        """
        ...


def shell(commands: Sequence[Command], *, is_root: bool = True) -> str:
    """The line that the machine's shell gets."""
    before: Command = () if is_root else ("sudo", "-n")
    return " && ".join(shlex.join((*before, *command)) for command in commands)


def check(
    connection: Connection,
    *commands: Command,
    stdin: bytes | Path = b"",
    deadline_s: float = READ_S,
    secrets: Collection[str] = (),
) -> str:
    """Run commands that have to succeed; what they printed.

    Args:
        connection: to the host.
        commands: as `Connection.run`.
        stdin: as `Connection.run`.
        deadline_s: as `Connection.run`.
        secrets: texts that no error may carry, beside what looks like a join token.

    Raises:
        CommandFailed: one ended with an error.
        DeadlinePassed: as `Connection.run`.
    """
    reply = connection.run(*commands, stdin=stdin, deadline_s=deadline_s)
    if reply.code:
        words = (reply.err.strip() or reply.out.strip())[-_WORDS_MAX:]
        what = shell(commands)
        shown = what if len(what) <= 200 else f"{what[:197]}..."  # noqa: PLR2004 - two lines
        raise CommandFailed(
            redacted(
                f"host {connection.name}: `{shown}` ended with {reply.code}"
                + (f":\n{words}" if words else " and said nothing"),
                secrets,
            )
        )
    return reply.out


def holds(connection: Connection, *command: str) -> bool:
    """Whether a command that only looks ends without an error.

    Raises:
        DeadlinePassed: as `Connection.run`.
    """
    return connection.run(command).code == 0


def heads(connection: Connection, paths: Sequence[str], size_bytes: int) -> dict[str, str]:
    """The beginnings of files, with one command; those that are missing or not readable are missing here.

    Raises:
        DeadlinePassed: as `Connection.run`.
    """
    # `head` names each file, so that a missing one does not shift the others; it ends with an error then.
    told = connection.run(("head", "--verbose", f"--bytes={size_bytes}", "--", *paths)).out
    found: dict[str, str] = {}
    path = ""
    for line in told.split("\n"):
        if line.startswith("==> ") and line.endswith(" <=="):
            path = line[4:-4]
            found[path] = ""
        elif path:
            found[path] += f"{line}\n"
    return {path: content.strip() for path, content in found.items()}


def redacted(text: str, secrets: Collection[str] = ()) -> str:
    """The text without these secrets, and without anything that looks like a join token."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _BOOTSTRAP.sub("***", text)


class SeveralFailed(DeviceError):
    """Some of several hosts failed; `by_host` says which, and why. The others are done."""

    def __init__(self, by_host: dict[str, Exception]) -> None:
        self.by_host = by_host
        count = len(by_host)
        lines = "\n".join(f"- {error}" for _, error in sorted(by_host.items()))
        super().__init__(f"{count} host{'s' if count > 1 else ''} failed:\n{lines}")
