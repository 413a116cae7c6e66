"""TLS over a connection of the port `Net`, to one pinned certificate and to nobody else.

A handshake goes over the plain connection as bytes (`ssl.MemoryBIO`), so that it keeps deadlines and caps of
its carrier. Nothing but the handshake leaves before the certificate is known to be the pinned one.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import ssl
from typing import TYPE_CHECKING, Final

from control_plane.core.errors import OversizedReply, UnexpectedReply, Unreachable, WrongIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from control_plane.core.ports import Connection
    from control_plane.core.tls import TlsPin

_PIECE_BYTES: Final = 64 * 1024
_RAW_MAX_BYTES: Final = 1024 * 1024
"""At most so much is taken off the carrier at once."""


async def secured(
    inner: Connection, pin: TlsPin, *, address: str, name: str, deadline_s: float
) -> Connection:
    """Shake hands, and give the connection that speaks TLS; where that fails `inner` is closed.

    Args:
        inner: a fresh connection.
        pin: what the device has to show.
        address: the one that was called; with an authority it has to be in the certificate.
        name: of the device in errors.
        deadline_s: wire seconds for the handshake.

    Raises:
        Unreachable: the connection broke, or the deadline passed.
        WrongIdentity: another certificate than the pinned one.
        UnexpectedReply: no TLS there, or none of version 1.2 and later.
    """
    try:
        context = _context(pin)
    except (ssl.SSLError, ValueError) as error:
        inner.close()
        raise WrongIdentity(f"{name}: the pinned authority is no PEM certificate") from error
    connection = _Tls(inner, context, pin.server_name or address, name)
    try:
        await connection.shake_hands(pin, deadline_s)
    except BaseException:
        inner.close()
        raise
    return connection


@functools.lru_cache(maxsize=1024)
def _context(pin: TlsPin) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pin.ca_pem is None:
        # The digest of the very certificate is compared instead, before a byte leaves: `shake_hands`.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=pin.ca_pem)
    return context


class _Tls:
    """One connection that speaks TLS; see `core.ports.Connection`."""

    def __init__(
        self, inner: Connection, context: ssl.SSLContext, server_name: str, name: str
    ) -> None:
        self._inner, self._name = inner, name
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=server_name)

    async def shake_hands(self, pin: TlsPin, deadline_s: float) -> None:
        """Be sure of who is there; as `secured`."""
        end_s = _now_s() + deadline_s
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush(end_s)
                if not await self._take(end_s):
                    raise Unreachable(f"{self._name}: closed in the handshake") from None
            except ssl.SSLCertVerificationError as error:
                why = error.verify_message
                raise WrongIdentity(f"{self._name}: its certificate is not pinned: {why}") from None
            except ssl.SSLError as error:
                raise UnexpectedReply(f"{self._name}: no TLS: {error.reason}") from None
            else:
                break
        if pin.sha256 is not None:
            shown = hashlib.sha256(self._tls.getpeercert(binary_form=True) or b"").hexdigest()
            if shown != pin.sha256:
                raise WrongIdentity(
                    f"{self._name}: shows certificate {shown}, and {pin.sha256} is pinned"
                )
        await self._flush(end_s)

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        """Send, collect until `complete`, return."""
        end_s = _now_s() + deadline_s
        buffer = bytearray()
        try:
            if payload:
                self._tls.write(payload)
            await self._flush(end_s)
            while True:
                piece = await self._read(end_s)
                buffer += piece
                self._check(len(buffer), max_bytes)
                if complete(buffer, not piece):
                    return bytes(buffer)
                self._check_open(piece, len(buffer))
        except BaseException:
            self.close()
            raise

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        """Send piece by piece."""
        end_s = _now_s() + deadline_s
        try:
            for piece in pieces:
                if piece:
                    self._tls.write(piece)
                    await self._flush(end_s)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close at once; safe to call twice."""
        self._inner.close()

    # ----------------------------------------------------------------------------------------------

    def _check(self, size: int, max_bytes: int) -> None:
        if size > max_bytes:
            raise OversizedReply(f"{self._name}: more than {max_bytes} bytes")

    def _check_open(self, piece: bytes, size: int) -> None:
        if not piece:
            raise Unreachable(f"{self._name}: closed after {size} bytes")

    async def _read(self, end_s: float) -> bytes:
        """Some bytes of the other side; none at its end."""
        while True:
            try:
                return self._tls.read(_PIECE_BYTES)
            except ssl.SSLWantReadError:
                await self._flush(end_s)
                await self._take(end_s)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise Unreachable(f"{self._name}: broken TLS: {error.reason}") from None

    async def _take(self, end_s: float) -> bool:
        """Whether more came; at the end, `False`."""
        raw = await self._inner.request(
            b"", complete=_anything, deadline_s=_left_s(end_s), max_bytes=_RAW_MAX_BYTES
        )
        if raw:
            self._in.write(raw)
        else:
            self._in.write_eof()
        return bool(raw)

    async def _flush(self, end_s: float) -> None:
        if self._out.pending:
            await self._inner.send([self._out.read()], deadline_s=_left_s(end_s))


def _anything(buffer: bytearray, eof: bool) -> bool:  # noqa: FBT001 — the port's signature
    return eof or len(buffer) > 0


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _left_s(end_s: float) -> float:
    return max(0.0, end_s - _now_s())
