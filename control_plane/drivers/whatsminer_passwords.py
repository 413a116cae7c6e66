"""The administrator's password of a WhatsMiner: whether one is in force, and putting another in its place.

Looks need none. Whether a password is right is shown by whoever seals a command with it, and reads may be
sealed too (API v2.0.5 §2.1): so one that changes nothing is enough. The answer to `update_pwd` may come under
the old key or the new one; what cannot be opened says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from control_plane.core import limits
from control_plane.core.change import Failed
from control_plane.core.errors import AuthRejected, ControlPlaneError
from control_plane.drivers import whatsminer_reads as reads
from control_plane.drivers.driver import (
    Reply,
    ask,
    check_identity,
    ends_in_nul,
    maybe_written,
    not_written,
    whole_of,
)
from control_plane.drivers.whatsminer_costs import RESTART_CHECK_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from control_plane.core.change import Outcome
    from control_plane.core.observation import Identity
    from control_plane.core.ports import Net, Permit, Target
    from control_plane.core.secret import Secret
    from control_plane.drivers.whatsminer_crypto import Seal

_ACCEPT_S: Final = 30.0
"""Ours: it hashes a password, and stores it."""


async def log_in(net: Net, target: Target, port: int, seal: Seal) -> Identity:
    """Who answers a sealed `get_miner_info`.

    Raises: as `PasswordKeeper.log_in`.
    """
    what = f"{target.address} get_miner_info"
    reply = seal.open(await ask(net, target.address, port, seal.close("get_miner_info", {})), what)
    if whole_of(reply.get("Code")) in {reads.UNDECIPHERABLE, reads.NOT_BASE64}:
        raise AuthRejected(f"{target.address}: refuses the password ({reads.told(reply)})")
    return reads.read_identity(reads.body_of(reply, what))


async def set_password(
    net: Net,
    target: Target,
    port: int,
    seal: Seal,
    *,
    new: Secret,
    permit: Permit,
    told: Identity,
    verdict: Callable[[Reply], Outcome],
) -> Outcome:
    """Send `update_pwd`, once, to the pinned machine and by permit; see `PasswordKeeper.set_password`."""
    names = {"old": target.password.reveal(), "new": new.reveal()}
    payload = seal.close("update_pwd", names)
    try:
        check_identity(target, told)
        connection = await net.connect(target.address, port, deadline_s=limits.CONNECT_DEADLINE_S)
    except ControlPlaneError as error:
        return not_written(error)
    refusal = permit()
    if refusal is not None:
        connection.close()
        return Failed(refusal, retryable=True)
    try:
        data = await connection.request(
            payload,
            complete=ends_in_nul,
            deadline_s=_ACCEPT_S,
            max_bytes=limits.REPLY_MAX_BYTES,
        )
        return verdict(seal.open(data, f"{target.address} update_pwd"))
    except ControlPlaneError as error:
        return maybe_written(error, check_after_s=RESTART_CHECK_S)
    finally:
        connection.close()
