"""How a device with a certificate is known before anything is sent to it."""

from __future__ import annotations

import re

import msgspec

_SHA256 = re.compile(r"[0-9a-f]{64}")


class TlsPin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The one certificate that a device shows, or the authority that signs it. Exactly one of the two.

    Of a self-signed certificate (most BMCs have one) the digest is the only way to know it.
    """

    sha256: str | None = None
    """Of the certificate in DER, 64 lower-case hexadecimal digits."""
    ca_pem: str | None = None
    """Certificates of the authorities that may sign it, PEM."""
    server_name: str | None = None
    """With an authority: the name or address in the certificate; `None`: the address that is called."""

    def __post_init__(self) -> None:
        """Refuse what pins nothing.

        Raises:
            ValueError: neither digest nor authority, both, or no digest of 64 hexadecimal digits.
        """
        if (self.sha256 is None) == (self.ca_pem is None):
            raise ValueError("a TLS pin is a certificate's SHA-256 or an authority, and not both")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(
                f"{self.sha256!r} is no SHA-256: want 64 lower-case hexadecimal digits"
            )
