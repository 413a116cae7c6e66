"""Which firmware family answers at an address, whatever is declared of it: by open reads, without a password.

All families of Antminers answer `version` on TCP 4028 to anybody, and their names differ there: LuxOS has
the key `LUXminer` (luxos-tooling, README), Braiins OS `BOSer` or `BOSminer`, stock firmware `BMMiner` or
`CGMiner` beside the type and the time of its build (PF#792: neither MAC nor serial). VNish names no Antminer
there (pyasic takes one that does for stock firmware); some builds name themselves, and its page `/info` does,
which is open to everybody (its swagger document). WhatsMiners have no other family that gridplane knows.
Tried on: simulated machines of all families; no live one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from control_plane.core.errors import ControlPlaneError
from control_plane.core.ports import Net
from control_plane.core.work_order import Speaks
from control_plane.drivers.driver import ask, decode_reply, text_of

_PORT: Final = 4028
_VERSION: Final = b'{"command":"version"}'
_INFO: Final = "/api/v1/info"
_OK: Final = 200


async def recognise(net: Net, address: str) -> Speaks | None:
    """The family and version of who answers; `None` where nobody answers, or nobody known.

    One connection, and a second one where the first told nothing known. Raises: nothing of the error tree.
    """
    for way in (_by_rpc, _by_page):
        try:
            found = await way(net, address)
        except ControlPlaneError:
            continue
        if found is not None:
            return found
    return None


async def _by_rpc(net: Net, address: str) -> Speaks | None:
    data = await ask(net, address, _PORT, _VERSION)
    rows = decode_reply(data, f"{address} version").get("VERSION")
    row = rows[0] if isinstance(rows, list) and rows else None
    return family_of(row) if isinstance(row, Mapping) else None


async def _by_page(net: Net, address: str) -> Speaks | None:
    from control_plane.drivers.http import HttpLine  # noqa: PLC0415 - framing is seldom needed here

    line = HttpLine(net, address)
    try:
        page = await line.ask("GET", _INFO, [("Host", address), ("Accept", "*/*")])
    finally:
        line.close()
    if page.status != _OK:
        return None
    info = decode_reply(page.body, f"{address} info")
    name = text_of(info.get("fw_name")) or ""
    return Speaks("vnish", text_of(info.get("fw_version"))) if name.lower() == "vnish" else None


def family_of(row: Mapping[str, object]) -> Speaks | None:
    """The family behind a row of `VERSION`."""
    keys = {key.casefold(): value for key, value in row.items()}
    told = text_of(row.get("Miner")) or ""
    if "luxminer" in keys:
        return Speaks("luxos", text_of(keys["luxminer"]) or None)
    if braiins := keys.get("boser", keys.get("bosminer")):
        return Speaks("braiins_os", text_of(braiins) or None)
    if "vnish" in told.casefold():
        return Speaks("vnish", told.split()[-1])
    is_stock = "bmminer" in keys or "cgminer" in keys
    built, kind = text_of(row.get("CompileTime")), text_of(row.get("Type")) or ""
    if is_stock and built and "antminer" in kind.casefold():
        return Speaks("antminer_stock", built)
    return None
