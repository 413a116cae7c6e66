"""What pyasic says about the addresses given: one JSON object. Runs in the clients' environment."""

import asyncio
import json
import sys
import warnings

warnings.filterwarnings("ignore")
import pyasic  # type: ignore[import-not-found]  # noqa: E402 — after the filter: it warns


async def read(ip: str) -> dict[str, object]:
    miner = await pyasic.get_miner(ip)
    if miner is None:
        return {}
    data = await miner.get_data()
    return {
        "class": type(miner).__name__,
        "make": data.make,
        "model": data.model,
        "firmware": data.firmware,
        "fw_ver": data.fw_ver,
        "mac": data.mac,
        "hashrate_ths": float(data.hashrate) if data.hashrate is not None else None,
        "expected_ths": float(data.expected_hashrate) if data.expected_hashrate else None,
        "watts": data.wattage,
        "limit_w": data.wattage_limit,
        "boards": [
            {
                "slot": b.slot,
                "ths": float(b.hashrate) if b.hashrate is not None else None,
                "chips": b.chips,
                "missing": b.missing,
                "temp_c": b.chip_temp,
            }
            for b in data.hashboards
        ],
        "fans": [f.speed for f in data.fans],
        "pools": [[str(p.url), p.user] for p in data.pools if p.url is not None and p.url.host],
        "is_mining": data.is_mining,
        "uptime_s": data.uptime,
        "errors": [str(e) for e in data.errors],
    }


async def main() -> None:
    print(json.dumps({ip: await read(ip) for ip in sys.argv[1:]}))


asyncio.run(main())
