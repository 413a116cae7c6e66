"""The write half of WhatsMiner's API: tokens, and the cipher that carries write commands.

Protocol (WhatsMiner API v2.0.5, "API ciphertext" and "Get token"):

* `get_token` answers `time`, `salt`, `newsalt`, three strings;
* `key = md5-crypt(password, salt)` and `sign = md5-crypt(key + time, newsalt)`, of both only the
  22 characters after the last `$`;
* a write travels as `{"enc": 1, "data": base64(AES-256-ECB(json))}`, zero bytes to the block
  size, under `sha256(key)`; the JSON inside names the `sign` as its `token`;
* 16 client addresses, 32 tokens each, 30 minutes a token.

`salt` is the salt of the stored admin password, so it stays the same until the password changes
and one AES key serves all tokens of a device. Recorded: `salt` BQ5hoXV9 with password `admin` gives
the key `RxmaDUO33TS7O26yeMHZ81`, and `time` is the last four digits of the device's Unix time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from enum import Enum, auto

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from passlib.hash import md5_crypt

MAX_CLIENTS = 16
MAX_TOKENS_PER_CLIENT = 32
TOKEN_LIFE_S = 1800.0
"""Wire seconds. All three: WhatsMiner API v2.0.5, section 2, notice 2."""

_BLOCK = 16
_SALT_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def crypt_tail(secret: str, salt: str) -> str:
    """The 22 characters that md5-crypt puts after `$1$salt$`."""
    return str(md5_crypt.using(salt=salt).hash(secret)).rsplit("$", 1)[1]


def salt_from(seed: str) -> str:
    """Eight characters of md5-crypt's alphabet, the same for the same seed."""
    digest = hashlib.sha256(seed.encode()).digest()
    return "".join(_SALT_ALPHABET[byte & 63] for byte in digest[:8])


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The admin password as the device stores it."""

    salt: str
    key: str

    @classmethod
    def of(cls, password: str, salt: str) -> Credentials:
        """Hash a password, as the device does when it is set."""
        return cls(salt=salt, key=crypt_tail(password, salt))

    def encrypt(self, plaintext: bytes) -> bytes:
        """Base64 of the ciphertext, without line breaks."""
        padded = plaintext + bytes(-len(plaintext) % _BLOCK)
        encryptor = self._cipher().encryptor()
        return base64.b64encode(encryptor.update(padded) + encryptor.finalize())

    def decrypt(self, text: str) -> bytes:
        """The plaintext without its padding; rubbish where the other side used another key.

        Raises:
            ValueError: the text is not base64 (code 137), or not of whole blocks.
        """
        try:
            # Clients break lines as base64.encodebytes does; the device takes both forms.
            raw = base64.b64decode("".join(text.split()), validate=True)
        except binascii.Error as error:
            raise ValueError(text[:40]) from error
        decryptor = self._cipher().decryptor()
        return (decryptor.update(raw) + decryptor.finalize()).rstrip(b"\0")

    def _cipher(self) -> Cipher[modes.ECB]:
        key = hashlib.sha256(self.key.encode()).digest()
        # The protocol's own mode: WhatsMiner API v2.0.5 prescribes AES-256-ECB.
        return Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - the vendor's protocol


class TokenState(Enum):
    """What the device makes of the `token` in a write."""

    VALID = auto()
    EXPIRED = auto()
    UNKNOWN = auto()


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a `get_token` reply."""

    time: str
    salt: str
    newsalt: str


class TokenTable:
    """The tokens that one device has given out and not forgotten.

    Which client a slot belongs to is its address; a write is accepted with a token of its own
    address only.
    """

    __slots__ = ("_by_peer", "_issued", "_seed")

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._issued = 0
        self._by_peer: dict[str, dict[str, float]] = {}

    def issue(
        self, credentials: Credentials, peer: str, *, unix_s: int, wire_s: float
    ) -> Challenge | None:
        """A fresh challenge, or `None` where the peer or the device has no free slot."""
        self._forget(wire_s)
        tokens = self._by_peer.get(peer)
        if tokens is None and len(self._by_peer) >= MAX_CLIENTS:
            return None
        if tokens is not None and len(tokens) >= MAX_TOKENS_PER_CLIENT:
            return None
        self._issued += 1
        challenge = Challenge(
            time=f"{unix_s % 10_000:04d}",
            salt=credentials.salt,
            newsalt=salt_from(f"{self._seed}/{self._issued}"),
        )
        sign = crypt_tail(credentials.key + challenge.time, challenge.newsalt)
        self._by_peer.setdefault(peer, {})[sign] = wire_s + TOKEN_LIFE_S
        return challenge

    def check(self, sign: str, peer: str, *, wire_s: float) -> TokenState:
        """Whether a write from this peer may use this token now."""
        expires_s = self._by_peer.get(peer, {}).get(sign)
        if expires_s is None:
            return TokenState.UNKNOWN
        return TokenState.VALID if wire_s < expires_s else TokenState.EXPIRED

    def clear(self) -> None:
        """Forget all: the device rebooted or its password changed."""
        self._by_peer.clear()

    def _forget(self, wire_s: float) -> None:
        for peer, tokens in list(self._by_peer.items()):
            for sign in [sign for sign, expires_s in tokens.items() if expires_s <= wire_s]:
                del tokens[sign]
            if not tokens:
                del self._by_peer[peer]
