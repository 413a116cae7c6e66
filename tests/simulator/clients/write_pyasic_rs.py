"""What pyasic-rs does to the address given, one write after the other. Runs in the clients' environment."""

import asyncio
import json
import os
import sys

from pyasic_rs import MinerFactory, Pool, PoolGroup  # type: ignore[import-not-found]  # lives in the other one

URL = "stratum+tcp://three.pool.test:3333"


async def main() -> None:
    miner = await MinerFactory().get_miner(sys.argv[1])
    group = PoolGroup(name="one", quota=1, pools=[Pool(url=URL, username="acct.new", password="x")])
    told = {
        "pools": await miner.set_pools_config([group]),
        "stop": await miner.pause(),
        "resume": await miner.resume(),
        "light": await miner.set_fault_light(True),
        # Last: the board boots.
        "restart": await miner.restart(),
    }
    print(json.dumps({sys.argv[1]: told}), flush=True)


asyncio.run(main())
# Its runtime aborts the process now and then after the last await (asic-devices §6).
os._exit(0)
