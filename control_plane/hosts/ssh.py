"""SSH by paramiko: keys are pinned or there is no connection, every wait has a deadline.

The host key is compared before anything is sent of ours, and before a login is tried. One connection to a
jump host carries all that go through it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import paramiko

from control_plane.core.errors import Unreachable
from control_plane.hosts.connection import READ_S, Command, Reply, Target, redacted, shell
from control_plane.hosts.errors import DeadlinePassed, LineBroke, LoginRefused
from control_plane.hosts.keys import HostKey, Pins

CONNECT_S = 20.0
"""From the first packet to a login, in wire seconds."""
_KEEPALIVE_S = 15
# What paramiko has to say comes back as our errors; without a handler it would go to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
_REKEY_BYTES = 16 * 2**32
"""What goes over one connection before new keys are asked for: 2^32 blocks of AES, as RFC 4344 (§3.2) allows
and OpenSSH does. Paramiko's own 512 MiB come by with a hall's programs, and then it may stand still: where
the other side closes a channel while keys are exchanged, the thread that waits for the keys is the one that
answers the close. Behind a jump host all lines break together."""
_PIECE_BYTES = 128 * 1024
_OUT_MAX_BYTES = 8 * 1024**2
"""Of what a command prints; more is dropped, read to its end."""
_HOST_KEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_RSA = ("rsa-sha2-512", "rsa-sha2-256")
_RSA_KIND = "ssh-rsa"


class _Broken(Unreachable):
    """The line broke before a login: nothing of ours was sent over it, so another one may be tried."""


class _Onward:
    """A channel through a jump host as the socket of another connection.

    A thread of paramiko closes it. A channel says goodbye then, which a line that broke does not take, and
    what a thread raises nobody hears of but standard error.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def close(self) -> None:
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            self._channel.close()


class Ssh:
    """Opens connections with one login key. Safe to share between threads."""

    def __init__(
        self, login: paramiko.PKey | None, pins: Pins, *, connect_s: float = CONNECT_S
    ) -> None:
        """`login` is the private key, `None` for those of the SSH agent; `connect_s` in wire seconds."""
        self._login, self._pins, self._connect_s = login, pins, connect_s
        self._jumps: dict[Target, paramiko.Transport] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def connect(self, target: Target) -> Iterator[SshConnection]:
        """A connection, closed at the end.

        Raises:
            Unreachable: nobody answers there, or no SSH server does, or it was lost during the login.
            HostKeyUnknown, HostKeyChanged: the host is not known to be the one that is meant.
            LoginRefused: it does not take the login key.
        """
        connection = SshConnection(target, self._transport(target), lambda: self._transport(target))
        try:
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """End the connections to jump hosts."""
        with self._lock:
            for transport in self._jumps.values():
                _close(transport)
            self._jumps.clear()

    def _transport(self, target: Target) -> paramiko.Transport:
        until = time.monotonic() + self._connect_s
        try:
            return self._logged_in(target, until)
        except _Broken:
            # Once more: a jump host that was lost takes all that go through it along.
            return self._logged_in(target, until)

    def _logged_in(self, target: Target, until: float) -> paramiko.Transport:
        via = target.via
        sock = self._through(target, via, until) if via else self._direct(target)
        transport = paramiko.Transport(sock, disabled_algorithms=self._unpinned(target))
        transport.packetizer.REKEY_BYTES = _REKEY_BYTES
        try:
            self._log_in(transport, target, until)
        except BaseException:
            _close(transport)
            raise
        return transport

    def _direct(self, target: Target) -> socket.socket:
        try:
            sock = socket.create_connection((target.address, target.port), self._connect_s)
            # Commands are small packets, one after the other: each would wait 40 ms for the last one's echo.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise Unreachable(
                f"host {target.name} ({target.address}:{target.port}) takes no connection: "
                f"{error.strerror or error}. Is it on, and sshd up?"
            ) from error
        return sock

    def _through(self, target: Target, via: Target, until: float) -> paramiko.Channel:
        jump = self._jump(via)
        try:
            channel = jump.open_channel(
                "direct-tcpip",
                (target.address, target.port),
                ("127.0.0.1", 0),
                timeout=max(0.1, until - time.monotonic()),
            )
            return cast("paramiko.Channel", _Onward(channel))
        except (paramiko.SSHException, OSError, EOFError) as error:
            kind = Unreachable if jump.is_active() else _Broken
            raise kind(
                f"host {target.name} ({target.address}:{target.port}) cannot be reached through "
                f"{via.name}: {str(error) or 'the line broke'}. Is it on, and sshd up?"
            ) from error

    def _jump(self, target: Target) -> paramiko.Transport:
        with self._lock:
            standing = self._jumps.get(target)
            if standing is None or not standing.is_active():
                standing = self._jumps[target] = self._transport(target)
            return standing

    def _unpinned(self, target: Target) -> dict[str, list[str]]:
        """Kinds of host keys that are not asked for: a host with several shows the one that is pinned."""
        kinds = {key.kind for key in self._pins.of(target)}
        if not kinds:
            return {}
        unwanted = [kind for kind in _HOST_KEYS if kind not in kinds]
        if _RSA_KIND not in kinds:
            unwanted += _RSA
        return {"keys": unwanted}

    def _log_in(self, transport: paramiko.Transport, target: Target, until: float) -> None:
        def left_s() -> float:
            return max(0.1, until - time.monotonic())

        transport.banner_timeout = self._connect_s
        try:
            transport.start_client(timeout=left_s())
            # After a timeout it returns all the same; this raises then.
            shown = transport.get_remote_server_key()
        except paramiko.ssh_exception.IncompatiblePeer as error:
            pinned = ", ".join(sorted({key.kind for key in self._pins.of(target)}))
            raise Unreachable(
                f"host {target.name} ({target.address}) and we have no way to speak in common ({error}). "
                "Where it "
                f"has no key of the pinned kind ({pinned or 'none is pinned'}), find out why before "
                "pinning another"
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            where = f"host {target.name} ({target.address}:{target.port})"
            if time.monotonic() < until:
                said = f": {error}" if str(error) else ""
                raise _Broken(f"{where} was lost before it spoke SSH{said}. Is sshd up?") from error
            raise Unreachable(f"{where} does not speak SSH in time: {error}") from error
        self._pins.verify(target, HostKey(shown.get_name(), shown.asbytes()))
        tried = [self._login] if self._login else list(paramiko.Agent().get_keys())
        for key in tried:
            if _is_let_in(transport, target, key, until):
                transport.set_keepalive(_KEEPALIVE_S)
                return
        raise LoginRefused(
            f"host {target.name} ({target.address}) does not let {target.user} in with "
            f"{'the login key' if self._login else f'any of {len(tried)} keys of the SSH agent'}: put the "
            "public key "
            f"into ~{target.user}/.ssh/authorized_keys there"
        )


def _is_let_in(
    transport: paramiko.Transport, target: Target, key: paramiko.PKey, until: float
) -> bool:
    """Whether a host takes a key for a login; only a spoken no is one.

    Paramiko's own wait for an answer calls a line that broke, and no answer at all, a failed authentication.

    Raises:
        Unreachable: the line broke before an answer, or none came in time.
    """
    answered = threading.Event()
    try:
        transport.auth_publickey(target.user, key, answered)
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _lost(target, error) from error
    answered.wait(max(0.1, until - time.monotonic()))
    if transport.is_authenticated():
        return True
    why = transport.get_exception()
    if isinstance(why, paramiko.AuthenticationException):
        # Another way to log in is asked for, or no kind of signature is common to both.
        return False
    if not answered.is_set():
        raise Unreachable(
            f"host {target.name} ({target.address}:{target.port}) did not answer {target.user}'s login in "
            "time. Look at its load, and at what sshd asks for accounts (LDAP, DNS); then try again"
        )
    if not transport.is_active():
        raise _lost(target, why) from why
    return False


def _lost(target: Target, why: Exception | None) -> Unreachable:
    said = f" ({why})" if why and str(why) else ""
    return _Broken(
        f"host {target.name} ({target.address}:{target.port}) was lost while {target.user} logged in{said}: "
        "that is no refusal. Try again; if it happens each time, look at sshd there (MaxStartups, "
        "MaxAuthTries) and at the line"
    )


def _close(transport: paramiko.Transport) -> None:
    """Done with a connection; whether the other side still hears of it does not matter.

    Behind a jump host a goodbye is sent, which a broken line does not take.
    """
    with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
        transport.close()


class SshConnection:
    """One host, logged in to; a `Connection`.

    A line that broke while nothing went over it is opened anew: of the next command nothing has left.
    """

    def __init__(
        self, target: Target, transport: paramiko.Transport, again: Callable[[], paramiko.Transport]
    ) -> None:
        """`again` opens another one to the same host."""
        self._target, self._transport, self._again = target, transport, again

    def close(self) -> None:
        """Done with it."""
        _close(self._transport)

    @property
    def name(self) -> str:
        """Of the host."""
        return self._target.name

    def run(
        self, *commands: Command, stdin: bytes | Path = b"", deadline_s: float = READ_S
    ) -> Reply:
        """As `Connection.run`.

        Raises:
            DeadlinePassed: they did not end in time.
            LineBroke: the connection broke under them.
        """
        until = time.monotonic() + deadline_s
        line = shell(commands, is_root=self._target.user == "root")
        try:
            return self._exec(line, stdin, until)
        except (Unreachable, TimeoutError, paramiko.SSHException, OSError, EOFError) as error:
            shown = redacted(line if len(line) <= 120 else f"{line[:117]}...")  # noqa: PLR2004 - a line
            is_late = time.monotonic() >= until
            if not is_late:
                # It may seem to stand for a moment more, and the next command would go into it.
                self.close()
            how = (
                f"did not end in {deadline_s:.0f} s"
                if is_late
                else f"was cut off: {str(error) or type(error).__name__}"
            )
            raise (DeadlinePassed if is_late else LineBroke)(
                f"host {self.name}: `{shown}` {how}. Look at the host, then run the same again: what is done "
                "stays done"
            ) from error

    def _exec(self, line: str, stdin: bytes | Path, until: float) -> Reply:
        def left_s() -> float:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            return left

        channel = self._channel(left_s)
        with contextlib.closing(channel):
            channel.settimeout(left_s())
            channel.exec_command(line)
            with _opened(stdin) as source:
                # A command that ended early closes its side: what it said is worth more than the rest.
                while not channel.closed and (piece := source.read(_PIECE_BYTES)):
                    channel.settimeout(left_s())
                    try:
                        channel.sendall(piece)
                    except OSError:
                        break
            channel.shutdown_write()
            out, err = bytearray(), bytearray()
            for buffer, receive in ((out, channel.recv), (err, channel.recv_stderr)):
                while piece := _within(left_s, channel, receive):
                    buffer.extend(piece[: _OUT_MAX_BYTES - len(buffer)])
            if not channel.status_event.wait(left_s()):
                raise TimeoutError
            code = channel.recv_exit_status()
        if code < 0:
            raise EOFError("the connection ended before the command did")
        return Reply(code=code, out=out.decode(errors="replace"), err=err.decode(errors="replace"))

    def _channel(self, left_s: Callable[[], float]) -> paramiko.Channel:
        try:
            return self._transport.open_session(timeout=left_s())
        except (paramiko.SSHException, OSError, EOFError):
            if self._transport.is_active():
                raise
        self.close()
        self._transport = self._again()
        return self._transport.open_session(timeout=left_s())


def _within(
    left_s: Callable[[], float], channel: paramiko.Channel, receive: Callable[[int], bytes]
) -> bytes:
    channel.settimeout(left_s())
    return receive(_PIECE_BYTES)


@contextlib.contextmanager
def _opened(stdin: bytes | Path) -> Iterator[BinaryIO]:
    if isinstance(stdin, Path):
        with stdin.open("rb") as file:
            yield file
    else:
        yield io.BytesIO(stdin)


def login_key(path: Path) -> paramiko.PKey:
    """A private key without a passphrase.

    Raises:
        LoginRefused: it cannot be read or is none; the message never holds any of it.
    """
    try:
        return paramiko.PKey.from_path(path)
    except (OSError, ValueError, TypeError, paramiko.SSHException) as error:
        raise LoginRefused(
            f"{path} is no private key that can be used here ({type(error).__name__}): name one without a "
            "passphrase, or leave it out and have the SSH agent hold it"
        ) from error
