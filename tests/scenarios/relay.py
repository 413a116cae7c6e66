"""Leaders that die one after another, and how long it takes until the next one acts.

Each time a stranger changes the pools of one machine at about the moment at which the leader is killed, cut
off from the API server, or stopped for a while: bringing them back waits for nobody, and is written once.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from control_plane.engine.loop import Pace
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.ledger import Write
from control_plane.simulator.site import Target
from control_plane.simulator.virtual import PastHorizon, Stalled, run_virtual
from control_plane.simulator.whatsminer_unit import Unit as WhatsMinerUnit
from control_plane.simulator.whatsminer_unit import WriteApi
from tests.scenarios.cluster import ClusterScene
from tests.scenarios.declared import first_revision
from tests.scenarios.pods import Pod
from tests.scenarios.process import Process
from tests.scenarios.stage import small_site_limits
from tests.scenarios.suspending import SuspendingLoop

FAILOVERS = 12
"""In one run: each machine has its turn once, for one that is robbed again and again is contested."""
SCALE = 100.0
HORIZON_S = 6_000.0
WITHIN_S = 120.0
ENDS = ("killed", "killed", "refused", "silent", "stopped")


class Relay(msgspec.Struct, kw_only=True):
    """What came of one run."""

    seed: int
    looked_s: list[float] = []
    """Wire seconds from the end of a leader to the first look of the next one."""
    wrote_s: list[float] = []
    """The same, to its first write: of those ends before which the old one had not mended it."""
    failovers: int = 0
    mended: int = 0
    """Machines whose pools were changed."""
    writes: int = 0
    """Writes that arrived for it."""
    violations: list[str] = []


def run(seed: int, failovers: int = FAILOVERS) -> Relay:
    """So many leaders, one after another."""
    relay = Relay(seed=seed)
    with tempfile.TemporaryDirectory(prefix="relay-") as folder, small_site_limits():
        try:
            run_virtual(
                lambda loop: _run(loop, Path(folder), relay, failovers),
                horizon_s=HORIZON_S,
                make=SuspendingLoop,
            )
        except (PastHorizon, Stalled) as error:
            relay.violations.append(f"time: {error}")
    return relay


async def _run(loop: SuspendingLoop, folder: Path, relay: Relay, failovers: int) -> None:
    rng = random.Random(f"{relay.seed}/relay")
    revision = first_revision(random.Random(f"{relay.seed}/site"))
    scene = ClusterScene(
        loop,
        folder,
        revision,
        seed=f"{relay.seed}/relay",
        scale=SCALE,
        start="converged",
        # As it ships: on a small site all machines are looked at in the first second.
        pace=Pace(),
    )
    managed = [d.asset for d in revision.site.devices if d.is_managed and _is_open(scene, d.asset)]
    assets = rng.sample(managed, len(managed))
    with scene.watching():
        scene.declare(revision, "enforce")
        scene.start()
        scene.start()
        supervising = loop.create_task(scene.supervise())
        try:
            await _until(scene, lambda: scene.engine is not None and scene.engine.is_quiet())
            for asset in assets[:failovers]:
                await asyncio.sleep(rng.uniform(4.0, 16.0))
                if not await _until(scene, lambda: _can_follow(scene)):
                    break
                if not await _fail_over(scene, relay, rng, asset):
                    break
            relay.writes = sum(1 for w in scene.sim.world.ledger if w.pools is not None)
            if relay.writes != relay.mended and not scene.oracle.violations:
                scene.oracle.violate("twice", f"{relay.writes} writes for {relay.mended} machines")
        finally:
            supervising.cancel()
            await asyncio.gather(supervising, return_exceptions=True)
            await scene.close()
    relay.violations += scene.oracle.violations


async def _fail_over(scene: ClusterScene, relay: Relay, rng: random.Random, asset: str) -> bool:
    """One leader ends and another acts; whether that went well."""
    old = scene.leader
    assert old is not None
    moments: dict[str, float] = {}

    def looked(process: Process) -> None:
        if process.epoch == scene.oracle.epoch and process is not old:
            moments.setdefault("looked", scene.oracle.now())

    def wrote(write: Write, by: Process) -> None:
        if write.asset == asset and write.pools is not None:
            moments.setdefault("wrote", scene.oracle.now())
            moments.setdefault("by", float(by is not old))

    scene.looked, scene.arrived = looked, wrote
    relay.mended += 1
    # Up to two seconds before the end: the old one may be in the middle of mending it.
    hijack = Fault(kind=FaultKind.HIJACK, target=Target(asset=asset), seed=rng.getrandbits(16))
    inject(scene.sim, hijack)
    await asyncio.sleep(rng.choice([0.0, rng.uniform(0.0, 6.0)]))
    ended_s = scene.oracle.now()
    how = rng.choice(ENDS)
    _end(old, how)
    acted = await _until(scene, lambda: {"looked", "wrote"} <= moments.keys())
    await asyncio.sleep(rng.uniform(0.0, 5.0))
    _revive(old, how)
    if not acted:
        return False
    relay.failovers += 1
    relay.looked_s.append(moments["looked"] - ended_s)
    if moments["by"]:
        relay.wrote_s.append(moments["wrote"] - ended_s)
    return True


def _can_follow(scene: ClusterScene) -> bool:
    """Whether one leads and another one stands by: a second failure in a row is not what is measured."""
    return scene.leader is not None and any(
        pod.alive and not pod.leads and pod.controller.is_fresh for pod in scene.pods
    )


def _is_open(scene: ClusterScene, asset: str) -> bool:
    """Whether the machine takes writes at all."""
    unit = scene.sim.device(asset).unit
    return not isinstance(unit, WhatsMinerUnit) or unit.write_api is WriteApi.OPEN


def _end(pod: Pod, how: str) -> None:
    if how == "killed":
        pod.kill()
    elif how == "stopped":
        pod.stop()
    else:
        pod.line.faults.away = "refused" if how == "refused" else "silent"
        pod.line.cut()


def _revive(pod: Pod, how: str) -> None:
    pod.go_on()
    if how in {"refused", "silent"}:
        pod.line.faults.away = ""


async def _until(scene: ClusterScene, holds: Callable[[], bool]) -> bool:
    end_s = scene.oracle.now() + WITHIN_S
    while not holds():
        if scene.oracle.violations:
            return False
        if scene.oracle.now() > end_s:
            scene.oracle.violate("liveness", f"nobody acted within {WITHIN_S:g} s")
            return False
        await asyncio.sleep(0.25)
    return True
