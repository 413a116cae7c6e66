"""What becomes of pyasic's writes at the addresses given: one JSON object. In the clients' environment."""

import asyncio
import json
import sys
import warnings
from collections.abc import Awaitable

warnings.filterwarnings("ignore")
import pyasic  # type: ignore[import-not-found]  # noqa: E402 — after the filter: it warns
from pyasic.config import MinerConfig  # type: ignore[import-not-found]  # noqa: E402
from pyasic.config.pools import PoolConfig  # type: ignore[import-not-found]  # noqa: E402

POOLS = PoolConfig.simple(
    [{"url": "stratum+tcp://new.pool.test:3333", "user": "n", "password": "x"}]
)


async def said(call: Awaitable[object]) -> object:
    """What it returned, or the name of its error."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 — a client's own errors are what is looked at
        return type(error).__name__


async def write(ip: str) -> dict[str, object]:
    miner = await pyasic.get_miner(ip)
    # Its own power limit finds no presets, whatever the device (asic-devices §6): one layer below.
    told: dict[str, object] = {"limit": await said(miner.set_power_limit(2400))}
    told["preset"] = await said(miner.web.set_power_limit(2350))
    pools = MinerConfig(pools=POOLS).pools.as_vnish()
    told["pools"] = await said(miner.web.post_settings({"miner": pools}))
    told["off ladder"] = await said(miner.web.set_power_limit(900))
    told["stop"] = await said(miner.stop_mining())
    return told


async def main() -> None:
    print(json.dumps({ip: await write(ip) for ip in sys.argv[1:]}))


asyncio.run(main())
