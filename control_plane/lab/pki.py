"""The lab's own certificate authority: every party of the API server shows a certificate, and checks one.

Keys are P-256 and lie in files that only their owner reads. Nothing here is meant to outlive a lab.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = dt.timedelta(days=365)
_SKEW = dt.timedelta(minutes=5)
"""Begin a little in the past: hosts of a cluster lab need not agree on the second."""


class Authority:
    """One certificate authority below one folder."""

    def __init__(self, folder: Path, name: str, now: dt.datetime) -> None:
        """Make it anew; `now` is when certificates begin to hold."""
        self._folder, self._now = folder, now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate_file = folder / f"{name}.crt"
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_KEY_CERT_SIGN, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key_file = folder / f"{name}.key"
        write_private(self.key_file, _pem(self._key))

    def issue(
        self,
        file: str,
        *,
        common_name: str,
        organizations: Sequence[str] = (),
        serves: Sequence[str] = (),
    ) -> tuple[Path, Path]:
        """A certificate and its key: (`file`.crt, `file`.key).

        Args:
            file: name below the authority's folder.
            common_name: the user name that the API server sees.
            organizations: its groups.
            serves: names and addresses that a server answers under; empty for a client.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        usages += [ExtendedKeyUsageOID.SERVER_AUTH] if serves else []
        builder = (
            self._builder(x509.Name(subject), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if serves:
            names = x509.SubjectAlternativeName([_general_name(name) for name in serves])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        paths = self._folder / f"{file}.crt", self._folder / f"{file}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        write_private(paths[1], _pem(key))
        return paths

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _SKEW)
            .not_valid_after(self._now + _LIFE)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)  # noqa: FBT003 - its position is its name there
        )


_KEY_CERT_SIGN = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def signing_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A bare key pair for service account tokens: (public key file, private key file)."""
    key = ec.generate_private_key(ec.SECP256R1())
    public, private = folder / f"{name}.pub", folder / f"{name}.key"
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    write_private(private, _pem(key))
    return public, private


def write_private(path: Path, content: bytes) -> None:
    """Write what only its owner may read; never readable in between."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
