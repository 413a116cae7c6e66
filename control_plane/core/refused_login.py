"""A login that a BMC refused, as whoever leads next has to know it: sent again it locks the account. Pure.

What is kept tells the very credential again and nobody what it is: a slow hash over the address and the user,
cut so short that millions of passwords share it. Two that share it cost a person a word, and no account.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from control_plane.core.secret import Secret

_MARK_BYTES: Final = 3
_COST: Final = 1 << 12
"""Of scrypt (RFC 7914): some milliseconds, and asked only where something was refused."""


class RefusedLogin(msgspec.Struct, frozen=True, kw_only=True):
    """Which credential, where, and when."""

    address: str
    user: str
    mark: str
    """Of the password, as `mark_of` makes it."""
    at_s: float


class BmcLogin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of the BMC of one node."""

    refused: RefusedLogin | None = None
    tries: int = 0
    """How often a person said that what was refused may be tried again."""


def mark_of(*, address: str, user: str, password: Secret) -> str:
    """By which a credential is known again."""
    salt = f"{address}/{user}".encode()
    words = password.reveal().encode()
    return hashlib.scrypt(words, salt=salt, n=_COST, r=8, p=1, dklen=_MARK_BYTES).hex()


def is_same_login(refused: RefusedLogin, *, address: str, user: str, password: Secret) -> bool:
    """Whether it is the credential that was refused there."""
    if (refused.address, refused.user) != (address, user):
        return False
    return refused.mark == mark_of(address=address, user=user, password=password)
