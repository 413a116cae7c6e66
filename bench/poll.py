"""CPU of one poll on the client, beside pyasic and pyasic-rs on the same simulated machines.

The machines answer in a process of their own; only the client's CPU is counted, user and system.
Ours is the engine's own look at a device, on uvloop where that is installed. *Telemetry* reads hash,
watts, boards, fans and the work mode; *pools* also the pools in use, and is what `gridplane run` does
each 10 s. A stock Antminer takes one question a connection, so that its pools cost a second one. LuxOS joins
questions, and is looked at in a rack that is added to the lab for this alone.
The peers' `get_data` is the nearest that they have: it reads the same and more (version, network,
errors, hashboard details), over more connections.

VNish is looked at in a rack that is added to the lab for this alone. Its *full* look is what its figure
is about: it has one page for each thing, and `get_data` reads as many.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.figures import ROOT, Figure, run_python
from bench.serving import peer_us, serving

_LOOKS = 6_000
_OURS = """
import sys
from bench.poll import child
child(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
"""
_VNISH_RACK = """\
racks:
  - id: lab-r4
    feed: lab-hall-p3
    slots: 3
    owner: house
    type: antminer-s19-vnish
    profile: vnish-2950
    addressing: {static_by_slot: 10.90.0.61}
    placement: by_slot
"""
_LUXOS_RACK = """\
racks:
  - id: lab-r3
    feed: lab-hall-p1
    slots: 3
    owner: house
    type: antminer-s21-luxos
    profile: luxos-normal
    addressing: {static_by_slot: 10.90.0.51}
    placement: by_slot
"""


class Rack(NamedTuple):
    """Machines of one family, and the looks at them that have a figure."""

    id: str
    first: str
    family: str
    looks: tuple[tuple[str, float, str], ...]
    """Depth, target in µs, peer."""


_HOT = (("telemetry", 200.0, "pyasic"), ("pools", 200.0, "pyasic-rs"))
_RACKS = (
    Rack("lab-r1", "10.90.0.11", "Antminer", _HOT),
    Rack("lab-r2", "10.90.0.31", "WhatsMiner", _HOT),
    Rack("lab-r3", "10.90.0.51", "LuxOS", _HOT),
    Rack(
        "lab-r4",
        "10.90.0.61",
        "VNish",
        (("telemetry", 600.0, "pyasic"), ("pools", 600.0, "pyasic"), ("full", 600.0, "pyasic-rs")),
    ),
)


@contextlib.contextmanager
def inventory() -> Iterator[Path]:
    """The example inventory, with racks in the lab of what stands nowhere else."""
    with tempfile.TemporaryDirectory(prefix="gridplane-bench-") as name:
        folder = Path(name) / "inventory"
        shutil.copytree(ROOT / "inventory", folder)
        racks = folder / "sites" / "lab" / "racks"
        (racks / "vnish.yaml").write_text(_VNISH_RACK, encoding="utf-8")
        (racks / "luxos.yaml").write_text(_LUXOS_RACK, encoding="utf-8")
        yield folder


def child(declared: str, map_path: str, rack: str, depth: str, looks: int) -> None:
    """Look so many times at the machines of a rack, eight at once; print CPU seconds per look."""
    import asyncio
    import time

    from control_plane.cli.workplace import Workplace, load_declared, run_async
    from control_plane.core.observation import Depth, Observation
    from control_plane.engine.poller import look
    from control_plane.engine.sweep import slots_of

    async def main() -> float:
        edges = Workplace(site="lab", state=None, network_map=Path(map_path)).edges()
        site = load_declared(Path(declared), "lab").site
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
    """Each family at the depths of its figures, and what the peers pay."""
    figures = []
    with inventory() as declared, serving(declared, "lab") as running:
        for rack in _RACKS:
            address = running.loopback(rack.first)
            peers = sorted({peer for _, _, peer in rack.looks})
            told = {peer: peer_us(peer, address) for peer in peers}
            for depth, target, peer in rack.looks:
                arguments = [str(declared), str(running.map_path), rack.id, depth, str(_LOOKS)]
                used = run_python(["-c", _OURS, *arguments]).stdout
                figures.append(
                    Figure(
                        name=f"{rack.family}, one poll, {depth}",
                        value=float(used) * 1e6,
                        unit="µs CPU",
                        target=target,
                        peer=f"{peer} get_data",
                        peer_value=told[peer],
                    )
                )
    return figures
