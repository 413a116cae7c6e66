"""`gridplane simulate serve` of the whole example site: time until it answers, and memory.

The process is the verb as anybody starts it. Then every BMC is looked at once by our own driver, in this
process, from a certificate that is new to both sides: what TLS and sessions of a hall take is in the second
figure of memory, and the CPU of the simulation alone in the last one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from bench.figures import ROOT, Figure, cpu_s_of, memory_mib_of
from bench.serving import Serving, serving
from control_plane.core.bmc import Part
from control_plane.core.fleet import Site
from control_plane.core.ports import BmcTarget
from control_plane.core.secret import Secret
from control_plane.drivers.net import NetworkMap, StreamNet
from control_plane.drivers.redfish import RedfishBmc
from control_plane.engine.adapters import SystemClock
from control_plane.engine.bmcs import bmcs_of, target_of
from control_plane.inventory.load import load
from control_plane.simulator.gpu_hall import PASSWORD

_SITE = "ga-macon"
_AT_ONCE = 32


class _Own:
    """The port `Secrets`: the simulation's own password."""

    def resolve(self, ref: str) -> Secret:
        del ref
        return Secret(PASSWORD)


def measure() -> Sequence[Figure]:
    """All figures."""
    fleet = load(ROOT / "inventory", sites={_SITE}).fleet
    assert fleet is not None
    began_s = time.monotonic()
    with serving(ROOT / "inventory", _SITE, ()) as served:
        ready_s = time.monotonic() - began_s
        resident_mib = memory_mib_of(served.pid, "VmRSS")
        status = served.control.request({"do": "status"})
        cpu_s, looks_s = asyncio.run(_look(fleet.sites[_SITE], served))
        after_mib = memory_mib_of(served.pid, "VmRSS")
    what = f"{status['machines']:,} miners, {status['nodes']:,} BMCs with their hosts"
    return (
        Figure(
            name=f"{_SITE} served: from the command to answers", value=ready_s, unit="s", note=what
        ),
        Figure(name="resident memory then", value=resident_mib, unit="MiB"),
        Figure(
            name="resident memory, every BMC looked at once",
            value=after_mib,
            unit="MiB",
            note=f"{_AT_ONCE} at once, {looks_s:.1f} s",
        ),
        Figure(
            name="one look at a BMC: CPU of the simulation",
            value=1_000 * cpu_s / status["nodes"],
            unit="ms CPU",
            note="handshake, login, system, draw, logout",
        ),
    )


async def _look(site: Site, served: Serving) -> tuple[float, float]:
    """CPU of the simulation and seconds of the wall for a look at every BMC.

    Raises:
        ControlPlaneError: one does not answer.
    """
    assert site.bmc is not None
    access, room = site.bmc, asyncio.Semaphore(_AT_ONCE)
    driver = RedfishBmc(StreamNet(NetworkMap.load(served.map_path)), SystemClock())

    async def one(target: BmcTarget) -> None:
        async with room:
            await driver.look(target, frozenset({Part.DRAW}))

    targets = [target_of(access, place, _Own()) for place in bmcs_of(site)]
    before_s, began_s = cpu_s_of(served.pid), time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(one(target))
    finally:
        await driver.close()
    return cpu_s_of(served.pid) - before_s, time.monotonic() - began_s
