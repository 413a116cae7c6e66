"""The administrator's password of a WhatsMiner: whether one is in force.

Looks need none. Whether a password is right is shown by whoever seals a command with it, and reads may be
sealed too (API v2.0.5 §2.1): so one that changes nothing is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.core.errors import AuthRejected
from control_plane.drivers import whatsminer_reads as reads
from control_plane.drivers.driver import ask, whole_of

if TYPE_CHECKING:
    from control_plane.core.observation import Identity
    from control_plane.core.ports import Net, Target
    from control_plane.drivers.whatsminer_crypto import Seal


async def log_in(net: Net, target: Target, port: int, seal: Seal) -> Identity:
    """Who answers a sealed `get_miner_info`.

    Raises: as `PasswordKeeper.log_in`.
    """
    what = f"{target.address} get_miner_info"
    reply = seal.open(await ask(net, target.address, port, seal.close("get_miner_info", {})), what)
    if whole_of(reply.get("Code")) in {reads.UNDECIPHERABLE, reads.NOT_BASE64}:
        raise AuthRejected(f"{target.address}: refuses the password ({reads.told(reply)})")
    return reads.read_identity(reads.body_of(reply, what))
