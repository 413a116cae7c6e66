"""`gridplane run` on a converged site of 14,000 machines, polled every 10 s: cores and memory.

The machines are simulated in another process, on loopback; the client is the verb as anybody starts
it, with its Store, audit and heartbeat. After `apply` and a warm-up its CPU and memory are read from
/proc over a window. The simulator counts the connections of the same window, so that a poll that was
not made cannot pass for a cheap one.

Beside it, in the same run: the same questions to the same machines by asyncio streams and json, read
and forgotten, which is what a client in Python pays before it knows anything. And `get_data` of
pyasic-rs on a machine of each family, times the rate: an extrapolation from 60 reads of each.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.figures import ROOT, Figure, cpu_s_of, memory_mib_of, run_python
from bench.serving import PEERS, Serving, peer_us, serving

_SITE = "s01"
_SLOTS = 14_600
"""Of these about 14,000 are declared in service."""
_INTERVAL_S = 10.0
_WARM_UP_S = 30.0
_WINDOW_S = 60.0
_EVERY_S = 2.0
_CONCURRENCY = 500
_FLOOR = """
import sys
from bench.soak import floor
floor(*sys.argv[1:])
"""
_QUESTIONS = {
    "antminer_stock": (b'{"command":"stats","new_api":true}', b'{"command":"pools"}'),
    "whatsminer_v2": (b'{"cmd":"summary+devs+pools"}',),
}


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What a process took while it was watched."""

    cores: float
    resident_mib: float
    """The largest reading in the window."""
    peak_mib: float
    """The largest since it started: loading the declaration included."""
    connections_per_s: float


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of bare reads took."""

    machines: int
    connections: int
    cpu_s: float
    first: tuple[str, ...]
    """Where the first machine of each family answers."""


def floor(map_path: str, inventory: str) -> None:
    """Ask every machine once what a poll asks; print what it took."""
    import asyncio
    import json

    from control_plane.cli.workplace import load_declared, run_async
    from control_plane.drivers.net import NetworkMap

    network = NetworkMap.load(Path(map_path))
    machines = [
        (network.actual(device.address, 4028), _QUESTIONS[device.intent.family])
        for device in load_declared(Path(inventory), _SITE).site.devices
        if device.is_managed and device.address is not None
    ]
    first = {questions: where[0] for where, questions in reversed(machines)}
    made = 0

    async def main() -> float:
        queue = iter(machines)

        async def work() -> None:
            nonlocal made
            for where, questions in queue:
                for question in questions:
                    reader, writer = await asyncio.open_connection(*where)
                    writer.write(question)
                    json.loads((await reader.read()).rstrip(b"\0"))
                    writer.close()
                    made += 1

        began = time.process_time()
        await asyncio.gather(*(work() for _ in range(_CONCURRENCY)))
        return time.process_time() - began

    cpu_s = run_async(main())
    told = Floor(machines=len(machines), connections=made, cpu_s=cpu_s, first=tuple(first.values()))
    sys.stdout.write(msgspec.json.encode(told).decode())


def measure() -> list[Figure]:
    """The cores and the memory of `gridplane run`."""
    with tempfile.TemporaryDirectory(prefix="gridplane-bench-") as name:
        folder = Path(name)
        inventory = folder / "inventory"
        run_python(
            ["-m", "tools.fleetgen", "--devices", str(_SLOTS), "--seed", "1", "--out", str(inventory)]
        )  # fmt: skip
        with serving(inventory, _SITE) as running:
            bare = msgspec.json.decode(
                run_python(["-c", _FLOOR, str(running.map_path), str(inventory)]).stdout, type=Floor
            )
            arguments = [
                "--inventory", str(inventory), "--site", _SITE, "--state", str(folder / "state"),
                "--network-map", str(running.map_path),
            ]  # fmt: skip
            run_python(["-m", "control_plane.cli", "apply", "--yes", "--by", "bench", *arguments])
            window = _watched(arguments, running)
            known = {peer: _mean_us(peer, bare.first) for peer in PEERS}
    expected = bare.connections / _INTERVAL_S
    assert window.connections_per_s > 0.97 * expected, (window, expected)
    rate = bare.machines / _INTERVAL_S
    what = f"gridplane run, {bare.machines:,} machines each {_INTERVAL_S:.0f} s"
    others = ", ".join(
        f"{peer} {us / 1e6 * rate:,.2f} cores" for peer, us in known.items() if us is not None
    )
    asked = f"{window.connections_per_s:,.0f} connections/s, mean over {_WINDOW_S:.0f} s"
    return [
        Figure(
            name=what,
            value=window.cores,
            unit="cores",
            target=0.3,
            peer="asyncio streams + json, the same questions",
            peer_value=bare.cpu_s / _INTERVAL_S,
            note=f"{asked}; get_data so often, extrapolated: {others or 'no peer installed'}",
        ),
        Figure(
            name="memory of the same process",
            value=window.resident_mib,
            unit="MiB",
            target=150.0,
            note=f"{window.peak_mib:.0f} MiB at most since its start",
        ),
    ]


def _mean_us(peer: str, addresses: Sequence[str]) -> float | None:
    """CPU of a peer's read: the mean over a machine of each family."""
    told = [peer_us(peer, address) for address in addresses]
    known = [us for us in told if us is not None]
    return sum(known) / len(known) if len(known) == len(told) else None


def _watched(arguments: Sequence[str], running: Serving) -> Window:
    """Start `gridplane run`, watch it for the window, stop it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "control_plane.cli", "run", *arguments], cwd=ROOT
    )
    try:
        time.sleep(_WARM_UP_S)
        resident = [memory_mib_of(process.pid, "VmRSS")]
        cpu_s, made, began = cpu_s_of(process.pid), _connections(running), time.monotonic()
        while time.monotonic() - began < _WINDOW_S:
            time.sleep(_EVERY_S)
            resident.append(memory_mib_of(process.pid, "VmRSS"))
        wall_s = time.monotonic() - began
        return Window(
            cores=(cpu_s_of(process.pid) - cpu_s) / wall_s,
            resident_mib=max(resident),
            peak_mib=memory_mib_of(process.pid, "VmHWM"),
            connections_per_s=(_connections(running) - made) / wall_s,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _connections(running: Serving) -> int:
    return int(running.control.request({"do": "status"})["connections"])
