"""The client's half of WhatsMiner's write API: from a password and a challenge to a sealed command.

WhatsMiner API v2.0.5, "API ciphertext": `key = md5crypt(password, salt)` and
`sign = md5crypt(key + time, newsalt)`, of both the part after the last `$`; commands travel in
base64(AES-256-ECB(JSON, zero bytes to the block)) under sha256(key), and name the sign as `token`.
Whoever hears a challenge and a write can try passwords offline: the vendor's protocol, not ours.

Loaded with the first write only (see `registry`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from passlib.hash import md5_crypt

from control_plane.core.errors import UnexpectedReply
from control_plane.core.secret import Secret
from control_plane.drivers.driver import Reply, decode_reply

_BLOCK = 16


class Seal:
    """One token and the cipher that goes with it: good for one write."""

    __slots__ = ("_cipher", "_token")

    def __init__(self, password: Secret, challenge: Reply, what: str) -> None:
        """Answer the `Msg` of a `get_token` reply.

        Raises:
            UnexpectedReply: a part of the challenge is missing or cannot be a salt.
        """
        parts = [challenge.get(name) for name in ("time", "salt", "newsalt")]
        time, salt, newsalt = (part if isinstance(part, str) else "" for part in parts)
        try:
            key = crypt_tail(password.reveal(), salt)
            self._token = crypt_tail(key + time[:32], newsalt)
        except (TypeError, ValueError):
            # Not chained: what passlib raises may quote what it was given.
            raise UnexpectedReply(f"{what}: not a token challenge") from None
        digest = hashlib.sha256(key.encode()).digest()
        self._cipher = Cipher(algorithms.AES(digest), modes.ECB())  # noqa: S305 — the vendor's protocol

    def close(
        self, command: str, arguments: Mapping[str, str], *, token: str | None = None
    ) -> bytes:
        """What to send for a write; `token` in place of the true one is for asking without effect."""
        token = self._token if token is None else token
        plain = msgspec.json.encode({"cmd": command, "token": token, **arguments})
        padded = plain + bytes(-len(plain) % _BLOCK)
        cipher = self._cipher.encryptor()
        data = base64.b64encode(cipher.update(padded) + cipher.finalize()).decode()
        return msgspec.json.encode({"enc": 1, "data": data})

    def open(self, data: bytes, what: str) -> Reply:
        """The answer to a write; devices send early refusals in the clear.

        Raises:
            UnexpectedReply, OversizedReply: as `decode_reply`, or sealed with another key.
        """
        reply = decode_reply(data, what)
        sealed = reply.get("enc")
        if not isinstance(sealed, str):
            return reply
        try:
            raw = base64.b64decode("".join(sealed.split()), validate=True)
            cipher = self._cipher.decryptor()
            plain = cipher.update(raw) + cipher.finalize()
        except (binascii.Error, ValueError):
            raise UnexpectedReply(f"{what}: the sealed answer is no whole ciphertext") from None
        try:
            return decode_reply(plain, what)
        except UnexpectedReply:
            raise UnexpectedReply(f"{what}: the answer is sealed with another key") from None


def crypt_tail(secret: str, salt: str) -> str:
    """The 22 characters of md5-crypt after `$1$salt$`.

    Raises:
        ValueError, TypeError: md5-crypt takes no such salt or secret.
    """
    if not salt:
        raise ValueError("an empty salt")  # passlib would draw one.
    return str(md5_crypt.using(salt=salt).hash(secret)).rsplit("$", 1)[1]
