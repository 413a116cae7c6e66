"""What becomes of pyasic-rs's writes at the addresses given: one JSON object. In the clients' environment."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable

from pyasic_rs import (  # type: ignore[import-not-found]  # lives in the other one
    MinerFactory,
    Pool,
    PoolGroup,
)


async def said(call: Awaitable[object]) -> object:
    """What it returned, or the name of its error."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 — a client's own errors are what is looked at
        return type(error).__name__


async def write(ip: str) -> dict[str, object]:
    miner = await MinerFactory().get_miner(ip)
    presets = await miner.get_presets()
    told: dict[str, object] = {"presets": [preset.name for preset in presets]}
    told["limit"] = await said(miner.set_power_limit(2400))
    pool = Pool(url="stratum+tcp://new.pool.test:3333", username="n", password="x")
    group = PoolGroup(name="", quota=1, pools=[pool])
    told["pools"] = await said(miner.set_pools_config([group]))
    told["throttle"] = await said(miner.set_tuning_percent(60))
    told["stop"] = await said(miner.pause())
    return told


async def main() -> None:
    print(json.dumps({ip: await write(ip) for ip in sys.argv[1:]}, default=str), flush=True)


asyncio.run(main())
# Its runtime aborts the process now and then after the last await (asic-devices §6).
os._exit(0)
