"""What the vendor's own client reads and does at the address given. Runs in the clients' environment."""

import asyncio
import json
import sys
from typing import Any

from luxos import asyncops, exceptions  # type: ignore[import-not-found]  # lives in the other one

PORT = 4028


async def main() -> None:
    ip = sys.argv[1]

    async def ask(command: str, parameters: Any = None) -> Any:
        return await asyncops.rexec(ip, PORT, command, parameters)

    def only(reply: Any, section: str) -> Any:
        return asyncops.validate_message(ip, PORT, reply, section)[section][0]

    told: dict[str, Any] = {
        "version": only(await ask("version"), "VERSION"),
        "config": only(await ask("config"), "CONFIG"),
        "groups": only(await ask("groups"), "GROUPS"),
        "chips": len((await ask("healthchipget", "0"))["CHIPS"]),
    }
    told["profile"] = only(await ask("profileset", "3000W"), "PROFILE")["Profile"]
    async with asyncops.with_atm(ip, PORT, enabled=True):
        told["atm"] = only(await ask("atm"), "ATM")["Enabled"]
    told["atm after"] = only(await ask("atm"), "ATM")["Enabled"]
    session = await asyncops.logon(ip, PORT)
    try:
        await asyncops.logon(ip, PORT)
    except exceptions.MinerCommandSessionAlreadyActive:
        told["second logon"] = "refused"
    await asyncops.logoff(ip, PORT, session)
    told["sleep"] = only(await ask("curtail", "sleep"), "CURTAIL")["Action"]
    told["switch"] = (await ask("switchpool", "1"))["STATUS"][0]["Code"]
    # Last: the board boots, asleep.
    told["reboot"] = (
        await asyncops.roundtrip(
            ip, PORT, {"command": "rebootdevice", "parameter": await asyncops.logon(ip, PORT)}
        )
    )["STATUS"][0]["STATUS"]
    print(json.dumps({ip: told}))


asyncio.run(main())
