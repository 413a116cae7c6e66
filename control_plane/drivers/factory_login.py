"""Whether a device still takes the password that its maker ships: one try, which changes nothing.

Never part of a look: a person asks for it (`gridplane posture --ask`), and the caller sees to it that it is
rare. Sources of the answers, by family:

- Antminer stock: 200 or 401 to a page behind digest authentication (reference/asic-devices.md §1); no
  lock-out is known.
- VNish: 200 or 403 to `/unlock`, 429 after too many (its swagger document); one try is far below that.
- WhatsMiner v2 (API v2.0.5): a write that is sealed with the key of a password is deciphered, or is not
  (code 23, 137); once deciphered, its token is looked at (135), unless the write API is off (45). The token
  that is sent is none, so that whatever the device thinks of the key, nothing is written. Writes are off
  in the factory state, and some builds say 45 to the request for a token already: then the password stays
  unknown.
- LuxOS has no password, and is not asked.

Tried on: simulated machines; no live one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from control_plane.core.errors import AuthRejected, ControlPlaneError
from control_plane.core.ports import Net, Target
from control_plane.core.posture import FACTORY, Password, WriteApi
from control_plane.core.secret import Secret
from control_plane.drivers import whatsminer_reads as whatsminer
from control_plane.drivers.driver import ask, decode_reply, whole_of

_INFO: Final = "/cgi-bin/get_system_info.cgi"
_WHATSMINER_PORT: Final = 4028
_NO_TOKEN: Final = "none"  # noqa: S105 - none at all


class Found(msgspec.Struct, frozen=True):
    """What one try told."""

    password: Password
    write_api: WriteApi
    how: str
    """In words, without a secret."""


async def try_factory_login(net: Net, target: Target, family: str) -> Found:
    """Try the shipped password of a family at a device, once.

    `target`'s own user and password are not used. Raises: nothing of the error tree.
    """
    shipped = FACTORY.get(family)
    if shipped is None:
        return Found(Password.UNKNOWN, WriteApi.UNKNOWN, "no shipped password of it is known")
    login = msgspec.structs.replace(
        target, user=shipped.user, password=Secret(shipped.password), write_enabled=None
    )
    try:
        match family:
            case "antminer_stock":
                return await _antminer(net, login)
            case "vnish":
                return await _vnish(net, login)
            case "whatsminer_v2":
                return await _whatsminer(net, login)
            case _:
                return Found(Password.UNKNOWN, shipped.write_api, "nobody knows how to try it")
    except AuthRejected:
        return Found(Password.CHANGED, shipped.write_api, "it refuses the shipped password")
    except ControlPlaneError as error:
        return Found(Password.UNKNOWN, shipped.write_api, f"no answer to it: {error}")


async def _antminer(net: Net, login: Target) -> Found:
    from control_plane.drivers.http import WebSession  # noqa: PLC0415 - loaded where it is needed

    web = WebSession(net, login)
    try:
        info = decode_reply(await web.get(_INFO), f"{login.address} system info")
    finally:
        web.close()
    if not web.was_asked or "macaddr" not in info:
        return Found(Password.UNKNOWN, WriteApi.UNKNOWN, "its page is open, or is another one")
    return Found(Password.FACTORY, WriteApi.LOGIN, "it takes the shipped password")


async def _vnish(net: Net, login: Target) -> Found:
    from control_plane.drivers.vnish_web import ApiSession, Tokens  # noqa: PLC0415 - as above

    # Tokens of its own: this session is nobody else's.
    api = ApiSession(net, login, Tokens())
    try:
        await api.unlock()
    finally:
        api.close()
    return Found(Password.FACTORY, WriteApi.LOGIN, "it takes the shipped password")


async def _whatsminer(net: Net, login: Target) -> Found:
    from control_plane.drivers.whatsminer_crypto import Seal  # noqa: PLC0415 - as above

    what = f"{login.address} get_token"
    reply = decode_reply(
        await ask(net, login.address, _WHATSMINER_PORT, b'{"cmd":"get_token"}'), what
    )
    if whole_of(reply.get("Code")) == whatsminer.NO_WRITES:
        return Found(
            Password.UNKNOWN, WriteApi.CLOSED, "its write API is off, which hides the rest"
        )
    seal = Seal(login.password, whatsminer.body_of(reply, what), what)
    payload = seal.close("set_led", {"param": "auto"}, token=_NO_TOKEN)
    what = f"{login.address} set_led"
    answer = seal.open(await ask(net, login.address, _WHATSMINER_PORT, payload), what)
    match whole_of(answer.get("Code")):
        case whatsminer.UNDECIPHERABLE | whatsminer.NOT_BASE64:
            return Found(Password.CHANGED, WriteApi.UNKNOWN, "it does not decipher what it seals")
        case whatsminer.BAD_TOKEN:
            return Found(Password.FACTORY, WriteApi.LOGIN, "it deciphers what it seals")
        case whatsminer.NO_WRITES | whatsminer.UNKNOWN_COMMAND:
            return Found(Password.FACTORY, WriteApi.CLOSED, "it deciphers what it seals")
        case code:
            return Found(Password.UNKNOWN, WriteApi.UNKNOWN, f"it answers code {code}")
