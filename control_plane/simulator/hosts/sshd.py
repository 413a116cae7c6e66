"""A real SSH server in front of simulated machines: each listens at an address of loopback of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_SUCCEEDED,
)

from control_plane.simulator.hosts.installers import INSTALLERS
from control_plane.simulator.hosts.kubernetes import Cluster
from control_plane.simulator.hosts.machine import Machine, PowerLost, Program
from control_plane.simulator.hosts.programs import SYSTEM

_BACKLOG = 256
_ACCEPT_S = 5
_PIECE_BYTES = 64 * 1024
REKEY_BYTES = 16 * 2**32
PROGRAMS: Mapping[str, Program] = {**SYSTEM, **INSTALLERS}


class Hall:
    """Machines, their cluster to be, and the server that lets one key in. A context manager."""

    def __init__(
        self,
        names: Sequence[str],
        login: paramiko.PKey,
        *,
        pace_s: Mapping[str, float] | None = None,
    ) -> None:
        """`login` is the public key that may log in as anybody; `pace_s` as `Machine` has it."""
        self.cluster = Cluster()
        self.machines = {
            name: Machine(name, f"127.9.{n // 250}.{n % 250 + 1}", PROGRAMS, self.cluster, pace_s)
            for n, name in enumerate(names)
        }
        self.cluster.machines = self.machines
        self.host_keys: dict[str, paramiko.PKey] = {
            name: paramiko.ECDSAKey.generate(bits=256) for name in names
        }
        self.ports: dict[str, int] = {}
        self.at_once = 0
        """The most commands that ran at the same time, on all machines together."""
        self._running = 0
        self._login = login
        self._listeners: list[socket.socket] = []
        self._connected: dict[str, list[paramiko.Transport]] = {name: [] for name in names}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for machine in self.machines.values():
            listener = socket.create_server((machine.address, 0), backlog=_BACKLOG)
            self._listeners.append(listener)
            self.ports[machine.name] = listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(machine, listener), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for name in self.machines:
            self.hang_up(name)

    def hang_up(self, name: str) -> None:
        """Break every connection to a machine."""
        for transport in self._connected[name]:
            transport.close()

    def known_hosts(self) -> str:
        """The keys of all machines, as OpenSSH keeps them."""
        return "".join(
            f"[{self.machines[name].address}]:{self.ports[name]} {key.get_name()} {key.get_base64()}\n"
            for name, key in self.host_keys.items()
        )

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """While a command runs."""
        with self._lock:
            self._running += 1
            self.at_once = max(self.at_once, self._running)
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def _accept(self, machine: Machine, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not machine.is_on:
                sock.close()
                continue
            threading.Thread(target=self._greet, args=(machine, sock), daemon=True).start()

    def _greet(self, machine: Machine, sock: socket.socket) -> None:
        transport = paramiko.Transport(sock)
        # OpenSSH asks for new keys as late (RFC 4344 §3.2).
        transport.packetizer.REKEY_BYTES = REKEY_BYTES
        transport.add_server_key(self.host_keys[machine.name])
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            with self._lock:
                self._connected[machine.name].append(transport)
            transport.start_server(server=_Session(self, machine, transport))


class _Session(paramiko.ServerInterface):
    """One connection to one machine."""

    def __init__(self, hall: Hall, machine: Machine, transport: paramiko.Transport) -> None:
        self._hall, self._machine, self._transport = hall, machine, transport
        self._onward: dict[int, socket.socket] = {}
        """Channel that a jump goes through → the connection that it goes on to; kept once it is closed."""

    def get_allowed_auths(self, _username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, _username: str, key: paramiko.PKey) -> int:
        with contextlib.suppress(PowerLost):
            if not self._machine.greet():
                self._transport.close()
                return AUTH_FAILED
        is_known = key.asbytes() == self._hall._login.asbytes()  # noqa: SLF001 - its own hall
        return AUTH_SUCCESSFUL if is_known else AUTH_FAILED

    def check_channel_request(self, _kind: str, _chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, _origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        """A jump host: whatever comes goes on to another machine."""
        try:
            onward = socket.create_connection(destination, 5)
            onward.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        if not self._onward:
            threading.Thread(target=self._forward, daemon=True).start()
        self._onward[chanid] = onward
        return OPEN_SUCCEEDED

    def _run(self, channel: paramiko.Channel, line: str) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            stdin = self._input(channel)
            try:
                with self._hall.one_more():
                    ended = self._machine.execute(line, stdin)
            except PowerLost:
                self._transport.close()
                return
            channel.sendall(ended.out)
            channel.sendall_stderr(ended.err)
            channel.send_exit_status(ended.code)
            channel.shutdown_write()
            channel.close()

    def _input(self, channel: paramiko.Channel) -> bytes:
        """All that comes; a line that breaks is the end of it, as a program over there would see it."""
        got = bytearray()
        for piece in _pieces(channel):
            got += piece
            if self._machine.faults.cuts_inputs:
                self._machine.faults.cuts_inputs -= 1
                self._transport.close()
                break
        return bytes(got)

    def _forward(self) -> None:
        """Connect channels, as they are opened, with where they lead; those of commands come by, too."""
        while self._transport.is_active():
            channel = self._transport.accept(_ACCEPT_S)
            onward = self._onward.get(channel.get_id()) if channel else None
            if channel and onward:
                for ends in ((channel, onward), (onward, channel)):
                    threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(
    source: socket.socket | paramiko.Channel, target: socket.socket | paramiko.Channel
) -> None:
    with contextlib.suppress(OSError, EOFError):
        for piece in _pieces(source):
            target.sendall(piece)
    for end in (source, target):
        # A channel says goodbye, which a line that broke does not take.
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            end.close()


def _pieces(source: socket.socket | paramiko.Channel) -> Iterator[bytes]:
    while piece := source.recv(_PIECE_BYTES):
        yield piece
