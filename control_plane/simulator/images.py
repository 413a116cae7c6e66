"""Firmware images that simulated machines take: what a maker's has, and what it does once it runs.

Real images are signed by their makers, so that none can be made here. Machines check of these what they
check of those: that it is whole, for their family, model and control board (stock Antminer: a hash of the
model and digests over all parts, checked before anything is written; hashsource_antminer_S21x, FR-1.1).
The form is ours.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

_MAGIC = b"gridplane simulated firmware 1\n"
_DIGEST_BYTES = 32


class Conduct(StrEnum):
    """What a machine does once it runs an image."""

    GOOD = "good"
    BRICKS = "bricks"
    """It never answers again."""
    IDLE = "idle"
    """It tells the new version, draws what it should, and hashes nothing."""
    WEAK = "weak"
    """It hashes a third less."""


class SimImage(msgspec.Struct, frozen=True, kw_only=True):
    """What is in an image."""

    family: str
    models: tuple[str, ...]
    """As machines print them, in lower case."""
    version: str
    control_board: str | None = None
    conduct: Conduct = Conduct.GOOD


def make_image(image: SimImage, *, size_bytes: int = 100_000) -> bytes:
    """The bytes of an image: a head, filling, and a digest over both."""
    head = _MAGIC + msgspec.json.encode(image) + b"\n"
    filling = hashlib.blake2b(head).digest()
    room = max(0, size_bytes - len(head) - _DIGEST_BYTES)
    body = head + (filling * (room // len(filling) + 1))[:room]
    return body + hashlib.sha256(body).digest()


def read_image(data: bytes) -> SimImage | None:
    """What is in the bytes; `None` where they are no image, or not a whole one."""
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if not body.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        return None
    line = body[len(_MAGIC) :].partition(b"\n")[0]
    return msgspec.json.decode(line, type=SimImage)
