"""CPU of one telemetry poll on the client, beside pyasic and pyasic-rs on the same simulated machines.

The machines answer in a process of their own; only the client's CPU is counted. Ours is the real code
path of the engine's poller, on uvloop where that is installed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import ROOT, Figure, run_python

_LOOKS = 4_000
_PEER_LOOKS = 60
_CLIENTS = ROOT / ".venv-clients" / "bin" / "python"

_OURS = """
import sys
from bench.poll import child
child(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
"""
_PYASIC = """
import asyncio, sys, time, warnings
warnings.filterwarnings("ignore")
import pyasic
async def main():
    miner = await pyasic.get_miner(sys.argv[1])
    await miner.get_data()
    began = time.process_time()
    for _ in range(int(sys.argv[2])):
        await miner.get_data()
    print((time.process_time() - began) / int(sys.argv[2]))
asyncio.run(main())
"""
_PYASIC_RS = """
import asyncio, os, sys, time
from pyasic_rs import MinerFactory
async def main():
    miner = await MinerFactory().get_miner(sys.argv[1])
    await miner.get_data()
    began = time.process_time()
    for _ in range(int(sys.argv[2])):
        await miner.get_data()
    print((time.process_time() - began) / int(sys.argv[2]), flush=True)
    os._exit(0)
asyncio.run(main())
"""


def child(map_path: str, rack: str, depth: str, looks: int) -> None:
    """Look so many times at the machines of a rack, eight at once; print CPU seconds per look."""
    import asyncio

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


@contextlib.contextmanager
def _lab() -> Iterator[Path]:
    """The simulated lab; the path of its network map."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "control_plane.cli", "simulate", "serve", "--site", "lab",
             "--true-ports", "--simulation", folder],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            path = Path(folder) / "network-map.json"
            until = time.monotonic() + 20
            while not path.exists() and time.monotonic() < until:
                time.sleep(0.05)
            yield path
        finally:
            process.terminate()
            process.wait()


def _peer_us(code: str, address: str) -> float | None:
    """Microseconds of CPU per `get_data` of a peer; `None` where it is not installed or fails."""
    if not _CLIENTS.exists():
        return None
    try:
        said = run_python(["-c", code, address, str(_PEER_LOOKS)], python=str(_CLIENTS)).stdout
        return float(said.split()[-1]) * 1e6
    except (subprocess.CalledProcessError, ValueError, IndexError):
        return None


def measure() -> list[Figure]:
    """Both families at both depths of the hot path."""
    from control_plane.drivers.net import NetworkMap

    figures = []
    with _lab() as path:
        network = NetworkMap.load(path)
        for rack, first, family in (
            ("lab-r1", "10.90.0.11", "Antminer"),
            ("lab-r2", "10.90.0.31", "WhatsMiner"),
        ):
            where = network.actual(first, 4028)
            assert where is not None
            peers = {"pyasic get_data": _PYASIC, "pyasic-rs get_data": _PYASIC_RS}
            told = {name: _peer_us(code, where[0]) for name, code in peers.items()}
            for depth in ("telemetry", "pools"):
                used = run_python(["-c", _OURS, str(path), rack, depth, str(_LOOKS)]).stdout
                figures += [
                    Figure(
                        name=f"{family}, one poll, {depth}",
                        value=float(used) * 1e6,
                        unit="µs CPU",
                        target=200.0,
                        peer=name,
                        peer_value=value,
                    )
                    for name, value in told.items()
                ]
    return figures
