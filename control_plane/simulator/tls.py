"""Certificates of simulated devices: what they show on a socket, and the same question asked in memory."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import ipaddress
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from control_plane.core.errors import UnexpectedReply, WrongIdentity

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from control_plane.core.tls import TlsPin

_PIECE = 64 * 1024
_FROM = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_UNTIL = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
"""As BMCs have them: made in the factory, for ever."""


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a device shows, and the key that it keeps."""

    pem: bytes
    der: bytes
    key_pem: bytes

    @property
    def sha256(self) -> str:
        """The digest to pin."""
        return hashlib.sha256(self.der).hexdigest()

    def context(self) -> ssl.SSLContext:
        """For the device's server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The standard library takes a key from a file alone.
        with tempfile.TemporaryDirectory() as folder:
            both = Path(folder) / "both.pem"
            both.write_bytes(self.key_pem + self.pem)
            context.load_cert_chain(both)
        return context


class ServerTls:
    """The device's end of one TLS connection: ciphertext in, plain bytes out, no socket."""

    __slots__ = ("_in", "_is_open", "_out", "_tls", "has_ended")

    def __init__(self, context: ssl.SSLContext) -> None:
        """`context` shows the device's certificate."""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._is_open = False
        self.has_ended = False
        """Whether the client said goodbye, or what it said is no TLS: answer what is left and close."""

    def take(self, data: bytes) -> bytes:
        """What the client says with these bytes; nothing while it shakes hands."""
        self._in.write(data)
        pieces: list[bytes] = []
        try:
            if not self._is_open:
                self._tls.do_handshake()
                self._is_open = True
            while piece := self._tls.read(_PIECE):
                pieces.append(piece)
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.has_ended = True
        return b"".join(pieces)

    def write(self, data: bytes) -> None:
        """Have bytes for the client."""
        self._tls.write(data)

    def end(self) -> None:
        """Say goodbye."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    def taken(self) -> bytes:
        """Ciphertext that is to be sent now."""
        return self._out.read()


def make_certificate(
    address: str, issuer: Certificate | None = None, *, also: Iterable[str] = ()
) -> Certificate:
    """A certificate for an address and `also` for others, signed by itself or by an authority."""
    return _make(address, issuer, is_authority=False, also=also)


def make_authority(name: str) -> Certificate:
    """An authority of its own."""
    return _make(name, None, is_authority=True)


def check(pin: TlsPin, shown: Certificate | None, *, address: str, name: str) -> None:
    """What a TLS client finds out, of a device in the same process.

    Raises:
        UnexpectedReply: the device speaks no TLS.
        WrongIdentity: another certificate than the pinned one.
    """
    if shown is None:
        raise UnexpectedReply(f"{name}: no TLS")
    if pin.sha256 is not None and pin.sha256 != shown.sha256:
        raise WrongIdentity(f"{name}: shows {shown.sha256}, and {pin.sha256} is pinned")
    if pin.ca_pem is not None and not _is_signed(shown, pin.ca_pem, pin.server_name or address):
        raise WrongIdentity(f"{name}: its certificate is not signed by the pinned authority")


def _is_signed(shown: Certificate, ca_pem: str, address: str) -> bool:
    from cryptography import x509  # noqa: PLC0415 — takes a while, and few devices need it
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    certificate = x509.load_der_x509_certificate(shown.der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if ipaddress.ip_address(address) not in names.get_values_for_type(x509.IPAddress):
        return False
    for authority in x509.load_pem_x509_certificates(ca_pem.encode()):
        try:
            certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return True
    return False


def _make(
    name: str, issuer: Certificate | None, *, is_authority: bool, also: Iterable[str] = ()
) -> Certificate:
    from cryptography import x509  # noqa: PLC0415 — the same
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signs: ec.EllipticCurvePrivateKey = key
    issued_by: x509.Name = subject
    if issuer is not None:
        loaded = serialization.load_pem_private_key(issuer.key_pem, None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)  # noqa: S101 — made below
        signs, issued_by = loaded, x509.load_der_x509_certificate(issuer.der).subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issued_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key()), critical=False
        )
    )
    if not is_authority:
        names = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(address)) for address in (name, *also)]
        )
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(signs, hashes.SHA256())
    return Certificate(
        pem=certificate.public_bytes(serialization.Encoding.PEM),
        der=certificate.public_bytes(serialization.Encoding.DER),
        key_pem=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
