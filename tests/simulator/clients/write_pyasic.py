"""What pyasic does to the address given, one write after the other. Runs in the clients' environment."""

import asyncio
import json
import sys
import warnings

warnings.filterwarnings("ignore")
import pyasic  # type: ignore[import-not-found]  # noqa: E402 — after the filter: it warns


async def main() -> None:
    miner = await pyasic.get_miner(sys.argv[1])
    told = {
        "stop": await miner.stop_mining(),
        "asleep": (await miner.rpc.config())["CONFIG"][0]["CurtailMode"],
        "resume": await miner.resume_mining(),
        "limit": await miner.set_power_limit(3100),
        "light": await miner.fault_light_on(),
    }
    await miner.rpc.addpool("stratum+tcp://three.pool.test:3333", "acct.new", "x")
    await miner.rpc.removepool(1)
    mode = (await miner.get_config()).mining_mode
    told["presets"] = len(mode.available_presets)
    told["active_w"] = mode.active_preset.power
    # Last: the restarted program does not listen for a while.
    told["restart"] = await miner.restart_backend()
    print(json.dumps({sys.argv[1]: told}))


asyncio.run(main())
