"""CPU of one poll on the client, beside pyasic and pyasic-rs on the same simulated machines.

The machines answer in a process of their own; only the client's CPU is counted, user and system.
Ours is the engine's own look at a device, on uvloop where that is installed. *Telemetry* reads hash,
watts, boards, fans and the work mode; *pools* also the pools in use, and is what `gridplane run` does
each 10 s. A stock Antminer takes one question a connection, so that its pools cost a second one.
The peers' `get_data` is the nearest that they have: it reads the same and more (version, network,
errors, hashboard details), over more connections.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.figures import ROOT, Figure, run_python
from bench.serving import PEERS, peer_us, serving

_LOOKS = 6_000
_OURS = """
import sys
from bench.poll import child
child(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
"""


def child(map_path: str, rack: str, depth: str, looks: int) -> None:
    """Look so many times at the machines of a rack, eight at once; print CPU seconds per look."""
    import asyncio
    import time

    from control_plane.cli.workplace import Workplace, load_declared, run_async
    from control_plane.core.observation import Depth, Observation
    from control_plane.engine.poller import look
    from control_plane.engine.sweep import slots_of

    async def main() -> float:
        edges = Workplace(site="lab", state=None, network_map=Path(map_path)).edges()
        site = load_declared(ROOT / "inventory", "lab").site
        slots = [slot for slot in slots_of(site, {}, edges) if slot.device.rack == rack]
        left = iter(range(looks))

        async def work(number: int) -> None:
            for turn in left:
                slot = slots[(number + turn) % len(slots)]
                seen = await look(slot, Depth(depth), secrets=edges.secrets, clock=edges.clock)
                assert isinstance(seen, Observation), seen

        for slot in slots:
            await look(slot, Depth.FULL, secrets=edges.secrets, clock=edges.clock)
        began = time.process_time()
        await asyncio.gather(*(work(number) for number in range(8)))
        return (time.process_time() - began) / looks

    sys.stdout.write(str(run_async(main())))


def measure() -> list[Figure]:
    """Both families at both depths of the hot path, and what the peers pay."""
    figures = []
    with serving(ROOT / "inventory", "lab") as running:
        for rack, first, family in (
            ("lab-r1", "10.90.0.11", "Antminer"),
            ("lab-r2", "10.90.0.31", "WhatsMiner"),
        ):
            address = running.loopback(first)
            told = {peer: peer_us(peer, address) for peer in PEERS}
            for depth, peer in zip(("telemetry", "pools"), PEERS, strict=True):
                arguments = [str(running.map_path), rack, depth, str(_LOOKS)]
                used = run_python(["-c", _OURS, *arguments]).stdout
                figures.append(
                    Figure(
                        name=f"{family}, one poll, {depth}",
                        value=float(used) * 1e6,
                        unit="µs CPU",
                        target=200.0,
                        peer=f"{peer} get_data",
                        peer_value=told[peer],
                    )
                )
    return figures
