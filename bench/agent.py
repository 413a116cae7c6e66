"""`gridplane node-agent` on a node with eight GPUs: memory, and the share of a core.

The process is the verb as a pod starts it; its GPUs are simulated in it, behind the real `pynvml`, and its
API server is the one in memory behind HTTP, in this process. What the simulation itself takes is in the
figures too; a real library takes memory of its own, which is not. After a warm-up, CPU and memory are read
from /proc over a window in which nothing happens but looks.

And the looks of a whole hall, 512 nodes of eight, in one process: what fake library and `pynvml` cost there.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import ROOT, Figure, cpu_s_of, memory_mib_of
from control_plane.api.objects import GROUP, KINDS, VERSION
from control_plane.api.v1alpha1 import API_VERSION
from control_plane.core import limits
from control_plane.core.cluster import Kind
from control_plane.drivers.nvml import NvmlLibrary
from control_plane.engine.adapters import SystemClock
from control_plane.simulator.api_http import ApiHttp
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.gpus import GpuHost
from control_plane.simulator.nvml import FakeLibrary, install

_WARM_UP_S = 15.0
_WINDOW_S = 60.0
_NODES = 512
_RSS_MAX_MIB = 40.0
_CORE_MAX_PERCENT = 0.5


def measure() -> Sequence[Figure]:
    """All figures."""
    rss_mib, percent, looks_at_least = asyncio.run(_agent())
    look_ms = _hall_ms()
    return (
        Figure(
            name="node agent, resident memory",
            value=rss_mib,
            unit="MiB",
            target=_RSS_MAX_MIB,
            note="8 simulated GPUs in the process",
        ),
        Figure(
            name=f"node agent, a look each {limits.GPU_LOOK_S:g} s",
            value=percent,
            unit="% of a core",
            target=_CORE_MAX_PERCENT,
            note=f"over {_WINDOW_S:g} s, {looks_at_least} looks, the simulation of the GPUs included",
        ),
        Figure(
            name=f"{_NODES} x 8 simulated GPUs looked at once, in one process",
            value=look_ms,
            unit="ms",
            note="each 15 s this is what a hall's looks take",
        ),
    )


async def _agent() -> tuple[float, float, int]:
    (described,) = [kind for kind in KINDS if kind.name == "GpuNode"]
    kind = Kind(group=GROUP, version=VERSION, kind=described.name, plural=described.plural)
    http = ApiHttp(ApiServer(SystemClock()), kind)
    body = {
        "apiVersion": API_VERSION,
        "kind": "GpuNode",
        "metadata": {"name": "gpu-1", "namespace": "gridplane"},
        "spec": {"site": "lab", "rack": "g1", "nodeName": "node-1", "gpus": 8, "ceilingGpuW": 500},
    }
    http.server.apply(kind, body, manager="gridplane", force=True, subresource="")
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder, "token")
        token.write_text("token", encoding="ascii")  # noqa: ASYNC240 - nobody waits for it
        async with http.serving() as port:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "control_plane.cli", "node-agent", "--node", "node-1",
                "--namespace", "gridplane", "--server", f"http://127.0.0.1:{port}",
                "--token", str(token), "--kept", str(Path(folder, "kept.json")),
                "--simulated", "h100", cwd=ROOT, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                await asyncio.sleep(_WARM_UP_S)
                if http.requests["patch"] == 0:
                    raise RuntimeError("the agent has told nothing: it does not run")
                before_s, began_s = cpu_s_of(process.pid), time.monotonic()
                await asyncio.sleep(_WINDOW_S)
                used_s = cpu_s_of(process.pid) - before_s
                window_s = time.monotonic() - began_s
                rss_mib = memory_mib_of(process.pid, "VmRSS")
            finally:
                process.terminate()
                await process.wait()
    return rss_mib, 100 * used_s / window_s, int(window_s / limits.GPU_LOOK_S)


def _hall_ms() -> float:
    """Every node once, sessions open."""
    fake = FakeLibrary()
    install(fake)
    try:
        readers = [_reader(fake, number) for number in range(_NODES)]
        for reader in readers:
            reader.look(0.0)
        began_s = time.process_time()
        for reader in readers:
            reader.look(15.0)
        return 1_000 * (time.process_time() - began_s)
    finally:
        install(None)


def _reader(fake: FakeLibrary, number: int) -> NvmlLibrary:
    host = GpuHost("b200", number=number)
    return NvmlLibrary(before=lambda: fake.turn_to(host))
