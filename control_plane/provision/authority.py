"""Which cluster a node is of: told by the public key of the cluster's authority."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from control_plane.core.errors import UnexpectedReply


def pin_of(certificate: str) -> str:
    """SHA-256 (hex) of the public key of the first certificate: how kubeadm pins an authority.

    Raises:
        UnexpectedReply: there is none.
    """
    try:
        key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    except ValueError as error:
        raise UnexpectedReply("the cluster's authority is no PEM certificate") from error
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()
