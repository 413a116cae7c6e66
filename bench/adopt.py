"""`gridplane controller` adopts a site of 14,000 machines: from its start until the cluster says so.

A real API server, the machines simulated in another process on loopback, and the verb as anybody starts it,
but for a task beside it on the same loop that measures how long the loop kept it waiting. *Classified*: the
`Site` counts every managed device as seen, and each of them as declared, with a write to come or with a
reason why not. The election before it, a whole Lease, is in the time: who starts alone waits for it as well.

`Miner` statuses are written at STATUS_WRITES_PER_S, after the burst: what an API server can bear for years
sets when the last of 14,000 has its own, not the controller. So that is not waited for: the note says how
many had theirs when the last object was made.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bench.figures import ROOT, Figure, cpu_s_of, memory_mib_of, run_python
from bench.serving import api_server, serving
from control_plane.core import limits

if TYPE_CHECKING:
    from control_plane.core.cluster import Object
    from control_plane.kube.cache import Cache
    from control_plane.kube.client import Client

_SITE = "s01"
_SLOTS = 14_600
"""Of these about 14,000 are declared in service."""
_NAMESPACE = "power"
_TICK_S = 0.01
_LOOK_S = 0.5
_WITHIN_S = 600.0
_CHILD = "import sys; from bench.adopt import child; sys.exit(child(sys.argv[1], sys.argv[2:]))"


class Stalls(msgspec.Struct, frozen=True, kw_only=True):
    """How long the loop kept a task waiting that wanted a turn each 10 ms."""

    longest_s: float
    over_100_ms: int
    share_late: float
    """Of all turns, those that came more than 20 ms late."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Where it stood when something had come true."""

    wall_s: float
    cpu_s: float
    told: int
    """Miners with a status of their own."""


def child(path: str, arguments: list[str]) -> int:
    """The verb, with a task beside it; what that one saw is in a file afterwards."""
    import control_plane.cli.controller as verb
    from control_plane.cli.main import main
    from control_plane.cli.workplace import run_async

    late: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_TICK_S)
            late.append(time.monotonic() - began - _TICK_S)

    def beside(work: Coroutine[Any, Any, Any]) -> Any:
        async def both() -> Any:
            ticking = asyncio.ensure_future(tick())
            try:
                return await work
            finally:
                ticking.cancel()

        return run_async(both())

    vars(verb)["run_async"] = beside
    try:
        return main(["controller", *arguments])
    finally:
        stalls = Stalls(
            longest_s=max(late),
            over_100_ms=sum(each > 0.1 for each in late),
            share_late=sum(each > 0.02 for each in late) / len(late),
        )
        Path(path).write_bytes(msgspec.json.encode(stalls))


async def _declare(client: Client, inventory: Path) -> int:
    """As Git would: the revision, and the pointer to it; how many miners it declares."""
    from control_plane.core.fleet import DeviceKind
    from control_plane.inventory.bundle import render
    from control_plane.inventory.load import load
    from control_plane.kube.kinds import FLEET_REVISION, SITE

    loaded = load(inventory, sites={_SITE})
    assert loaded.fleet is not None, loaded.findings[:3]
    for kind, body in zip(
        (FLEET_REVISION, SITE),
        render(_SITE, loaded.files[_SITE], namespace=_NAMESPACE, commit=None),
        strict=True,
    ):
        await client.apply(kind, body, manager="bench")
    return sum(d.type.kind is DeviceKind.MINER for d in loaded.fleet.sites[_SITE].devices)


@contextlib.asynccontextmanager
async def _following(client: Client) -> AsyncIterator[tuple[Cache, Cache]]:
    """What anybody sees who watches: sites, and miners."""
    import random

    from control_plane.engine.adapters import SystemClock
    from control_plane.kube.cache import Cache
    from control_plane.kube.kinds import MINER, SITE
    from control_plane.kube.reflector import Reflector

    def no_bug(whose: str, words: str) -> None:
        raise AssertionError(f"{whose}: {words}")

    caches = (Cache(SITE, bug=no_bug), Cache(MINER, bug=no_bug))
    tasks = [
        asyncio.ensure_future(
            Reflector(
                client, cache, clock=SystemClock(), rng=random.Random(), bug=no_bug,
                namespace=_NAMESPACE,
            ).run()
        )
        for cache in caches
    ]  # fmt: skip
    try:
        yield caches
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_classified(sites: Cache) -> bool:
    for site in sites:
        status = msgspec.json.decode(site.status) or {}
        devices = status.get("devices", {})
        managed = devices.get("managed", 0)
        left = sum(each["devices"] for each in status.get("exceptions", ()))
        known = devices.get("converged", 0) + devices.get("actionable", 0) + left
        return bool(managed and devices.get("seen", 0) == managed <= known)
    return False


def _is_told(miner: Object) -> bool:
    status = msgspec.json.decode(miner.status) or {}
    return any(
        each["type"] == "Ready" and each["status"] != "Unknown"
        for each in status.get("conditions", ())
    )


async def _adopted(
    kubeconfig: Path, inventory: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> tuple[Moment, Moment, float]:
    """When the site was classified, and when every object was there; MiB at their peak."""
    from control_plane.kube.client import connect
    from control_plane.kube.client import kubeconfig as of_file

    told: set[str] = set()
    async with connect(of_file(kubeconfig)) as client, _following(client) as (sites, miners):
        declared = await _declare(client, inventory)
        miners.tell(lambda _old, new: told.add(new.key) if new and _is_told(new) else None)
        process, began = start(), time.monotonic()

        async def once(holds: Callable[[], bool]) -> Moment:
            while not holds():
                assert process.poll() is None, "the controller ended"
                assert time.monotonic() - began < _WITHIN_S, (len(miners), len(told))
                await asyncio.sleep(_LOOK_S)
            wall_s = time.monotonic() - began
            return Moment(wall_s=wall_s, cpu_s=cpu_s_of(process.pid), told=len(told))

        try:
            classified = await once(lambda: _is_classified(sites))
            made = await once(lambda: len(miners) == declared)
            return classified, made, memory_mib_of(process.pid, "VmHWM")
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait)


def measure() -> list[Figure]:
    """Wall seconds, CPU and memory of an adoption."""
    with tempfile.TemporaryDirectory(prefix="gridplane-bench-") as name:
        folder = Path(name)
        inventory, stalls = folder / "inventory", folder / "stalls"
        run_python(
            ["-m", "tools.fleetgen", "--devices", str(_SLOTS), "--seed", "1", "--out", str(inventory)]
        )  # fmt: skip
        with serving(inventory, _SITE) as running, api_server(namespace=_NAMESPACE) as kubeconfig:

            def start() -> subprocess.Popen[bytes]:
                arguments = [
                    "--site", _SITE, "--namespace", _NAMESPACE, "--kubeconfig", str(kubeconfig),
                    "--state", str(folder / "state"), "--network-map", str(running.map_path),
                ]  # fmt: skip
                return subprocess.Popen(
                    [sys.executable, "-c", _CHILD, str(stalls), *arguments], cwd=ROOT
                )

            classified, made, peak_mib = asyncio.run(_adopted(kubeconfig, inventory, start))
        stalled = msgspec.json.decode(stalls.read_bytes(), type=Stalls)
    return [
        Figure(
            name="gridplane controller, 14,000 machines seen and classified in the Site",
            value=classified.wall_s, unit="s", target=300.0,
            note=f"{classified.cpu_s:.0f} s of CPU",
        ),
        Figure(
            name="until each of 14,600 slots has its Miner object", value=made.wall_s, unit="s",
            note=f"{made.cpu_s:.0f} s of CPU; {made.told:,} had their status by then, the others follow"
            f" at {limits.STATUS_WRITES_PER_S} a second",
        ),
        Figure(name="memory of the same process, at its peak", value=peak_mib, unit="MiB"),
        Figure(
            name="its loop kept a task waiting, at most", value=stalled.longest_s * 1_000, unit="ms",
            note=f"{stalled.over_100_ms} times over 100 ms; {stalled.share_late:.1%} of turns over 20 ms",
        ),
    ]  # fmt: skip
