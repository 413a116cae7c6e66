"""One machine: a disk that outlives a reboot, and what runs on it, which does not."""

from __future__ import annotations

import shlex
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from control_plane.simulator.hosts.kubernetes import Cluster

NOT_FOUND = 127


class Ended(msgspec.Struct, frozen=True):
    """How a program ended."""

    code: int = 0
    out: bytes = b""
    err: bytes = b""


class StoredFile(msgspec.Struct, frozen=True):
    """A file on the disk."""

    content: bytes
    mode: int = 0o644


class Faults(msgspec.Struct, kw_only=True):
    """What goes wrong with a machine."""

    dies_at: tuple[str, ...] = ()
    """The first words of a command, in whose middle it loses its power."""
    hangs_at: tuple[str, ...] = ()
    """The first words of a command that never ends."""
    fails_at: tuple[str, ...] = ()
    """The first words of a command that ends with an error."""
    lag_s: float = 0.0
    """Before each command, in wire seconds."""
    cuts_inputs: int = 0
    """So many times the line breaks while a command's input comes."""
    cuts_logins: int = 0
    """Logins, from now on, in whose middle the line breaks."""
    stalls_logins: bool = False
    """A login gets no answer, while the line stands."""


class PowerLost(Exception):
    """The machine went dark in the middle of a command."""


Program = Callable[["Machine", Sequence[str], bytes], Ended]


class Machine:
    """One machine, with what is on its disk."""

    def __init__(
        self,
        name: str,
        address: str,
        programs: Mapping[str, Program],
        cluster: Cluster,
        pace_s: Mapping[str, float] | None = None,
    ) -> None:
        """`pace_s` is how long programs take, in wire seconds; those that are not in it take none."""
        self.name, self.address, self.cluster = name, address, cluster
        self.files: dict[str, StoredFile] = {
            "/proc/swaps": StoredFile(b"Filename Type Size Used Priority\n"),
            "/proc/sys/kernel/osrelease": StoredFile(b"6.8.0-79-generic\n"),
            "/proc/meminfo": StoredFile(b"MemTotal:       2113413120 kB\nMemFree: 1 kB\n"),
            "/etc/os-release": StoredFile(b'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nID=ubuntu\n'),
        }
        self.gpus: list[str] = []
        """Bus addresses of the GPUs that the bus has, as lspci prints them."""
        self.kernel_log: list[tuple[float, str]] = []
        """Seconds since the epoch, and what the kernel said since it booted."""
        self.enabled: set[str] = set()
        self.running: set[str] = {"ssh.service"}
        self.started: dict[str, int] = {}
        """Unit → how often it was started since the machine is there."""
        self.sysctls = {"net.ipv4.ip_forward": "0"}
        self.images: set[str] = set()
        self.faults = Faults()
        self.log: list[str] = []
        """Each command line that it was given."""
        self.new_boot_id: Callable[[], str] = lambda: str(uuid.uuid4())
        self.reboots: Callable[[], None] | None = None
        """Who restarts it when it is told to; without anybody it is back at once."""
        self._begin()
        self._programs, self._pace_s = programs, pace_s or {}
        self._dark = threading.Event()

    # --- the shell -----------------------------------------------------------------------------

    def execute(self, line: str, stdin: bytes) -> Ended:
        """Run a command line: programs joined by `&&`, of which the first that reads gets the input.

        Raises:
            PowerLost: the machine went dark meanwhile.
        """
        self.log.append(line)
        out, err = b"", b""
        for words in _split(line):
            arguments = words[2:] if words[:2] == ["sudo", "-n"] else words
            ended = self._run(arguments, stdin)
            out, err = out + ended.out, err + ended.err
            if ended.code:
                return Ended(ended.code, out, err)
        return Ended(0, out, err)

    def _run(self, words: Sequence[str], stdin: bytes) -> Ended:
        faults = self.faults
        self._wait(faults.lag_s + self._pace_s.get(words[0].rpartition("/")[2], 0.0))
        if _begins(words, faults.hangs_at):
            self._dark.wait()
            raise PowerLost(self.name)
        if _begins(words, faults.dies_at):
            self.faults = Faults()
            self.cut()
            raise PowerLost(self.name)
        if _begins(words, faults.fails_at):
            return Ended(1, b"", f"{words[0]}: simulated failure\n".encode())
        program = self._programs.get(words[0]) or self._programs.get(words[0].rpartition("/")[2])
        if program is None:
            return Ended(NOT_FOUND, b"", f"sh: 1: {words[0]}: not found\n".encode())
        return program(self, words[1:], stdin)

    def greet(self) -> bool:
        """Whether somebody who logs in gets an answer; it takes as long as the machine stalls.

        Raises:
            PowerLost: the machine went dark meanwhile.
        """
        if self.faults.stalls_logins:
            self._dark.wait()
            raise PowerLost(self.name)
        if self.faults.cuts_logins:
            self.faults.cuts_logins -= 1
            return False
        return True

    def _wait(self, seconds: float) -> None:
        if seconds and self._dark.wait(seconds):
            raise PowerLost(self.name)

    # --- power ---------------------------------------------------------------------------------

    def cut(self) -> None:
        """Take its power: nothing runs on it any more."""
        self.is_on = False
        self._dark.set()
        self.running.clear()

    def boot(self) -> None:
        """Give it back: what is enabled starts, the disk is as it was."""
        self._dark = threading.Event()
        self._begin()
        self.running = {"ssh.service"}
        for unit in sorted(self.enabled):
            self.start(unit)

    def reboot(self) -> None:
        """As it is told from within."""
        if self.reboots is not None:
            self.reboots()
            return
        self.cut()
        self.boot()

    def _begin(self) -> None:
        """What begins anew with each boot."""
        self.boot_id = self.new_boot_id()
        self.put("/proc/sys/kernel/random/boot_id", f"{self.boot_id}\n")
        self.kernel_log.clear()
        self.is_on = True

    # --- what programs share -------------------------------------------------------------------

    def start(self, unit: str) -> None:
        """Start a unit; whatever it does, it does at once."""
        self.running.add(unit)
        self.started[unit] = self.started.get(unit, 0) + 1

    def has_unit(self, unit: str) -> bool:
        """Whether systemd knows it."""
        name = unit if "." in unit else f"{unit}.service"
        places = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
        return any(f"{place}/{name}" in self.files for place in places)

    def text(self, path: str) -> str | None:
        """A file as text; `None` where there is none."""
        found = self.files.get(path)
        return found.content.decode() if found else None

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file."""
        self.files[path] = StoredFile(text.encode(), mode)


def _split(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _begins(words: Sequence[str], wanted: tuple[str, ...]) -> bool:
    return bool(wanted) and tuple(words[: len(wanted)]) == wanted
