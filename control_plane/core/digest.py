"""Digests over a canonical form: equal content, equal digest, on every machine and in every process."""

from __future__ import annotations

import hashlib

import msgspec

_encoder = msgspec.json.Encoder(order="deterministic")


def digest_of(*parts: object) -> str:
    """SHA-256 (hex) over the canonical JSON of the parts, in order.

    The parts are msgspec-encodable values. Secrets are not encodable, so they cannot get in.
    """
    sha = hashlib.sha256()
    for part in parts:
        sha.update(_encoder.encode(part))
        sha.update(b"\n")
    return sha.hexdigest()


def short(digest: str) -> str:
    """Twelve characters, for people."""
    return digest[:12]
