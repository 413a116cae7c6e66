"""Play one seed of a site under controllers: let things go wrong, let them be well, look at the end."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Collection
from pathlib import Path

from control_plane.simulator.virtual import PastHorizon, Stalled, run_virtual
from tests.scenarios.cluster import ClusterScene
from tests.scenarios.declared import first_revision
from tests.scenarios.outages import OUTAGES
from tests.scenarios.play import HORIZON_S, LIVENESS_S, Report, is_as_declared, judge_truth
from tests.scenarios.script import SAFETY_S, Script
from tests.scenarios.stage import PERSON_S, small_site_limits
from tests.scenarios.suspending import SuspendingLoop
from tests.scenarios.troubles import TROUBLES

BEGIN_S = 14.0
"""Wire seconds after which somebody leads: nothing can go wrong before."""
_CHANCE = {
    "state_deleted": 0.15,
    "objects_deleted": 0.2,
    "revision_deleted": 0.2,
    "stop": 0.5,
    "kill": 0.5,
    "die": 0.5,
}


def draw(seed: int | str, always: Collection[str] = ()) -> Script:
    """All that happens in a seed: half of it to processes and the API server, some to machines."""
    script = Script(f"{seed}/reign")
    script.classes = [
        name for name in OUTAGES if script.rng.random() < _CHANCE.get(name, 0.35) or name in always
    ] + [name for name in TROUBLES if script.rng.random() < 0.2]
    for name in script.classes:
        (OUTAGES.get(name) or TROUBLES[name])(script)
    script.events.sort(key=lambda event: event.at_s)
    return script


def play(seed: int | str, *, keep: bool = False, always: Collection[str] = ()) -> Report:
    """Play a seed from its beginning to its end, or to the first violation.

    Args:
        seed: any.
        keep: whether the report has the trace.
        always: classes of outage that happen whatever the seed draws.
    """
    script = draw(seed, always)
    report = Report(seed=seed, classes=script.classes)
    with tempfile.TemporaryDirectory(prefix="reign-") as folder, small_site_limits():
        try:
            run_virtual(
                lambda loop: _play(loop, script, Path(folder), report, keep=keep),
                horizon_s=HORIZON_S,
                make=SuspendingLoop,
            )
        except (PastHorizon, Stalled) as error:
            report.violations.append(f"time: {error}")
    return report


async def _play(
    loop: SuspendingLoop, script: Script, folder: Path, report: Report, *, keep: bool
) -> None:
    revision = first_revision(random.Random(f"{script.seed}/site"))
    scene = ClusterScene(
        loop, folder, revision, seed=str(script.seed), scale=script.scale, start=script.start
    )
    scene.says_again = "stale" in script.classes
    if keep:
        scene.lines = report.lines
    with scene.watching():
        try:
            await _go_wrong(scene, script)
            if not scene.oracle.violations:
                await _be_well(scene)
        finally:
            await scene.close()
            oracle = scene.oracle
            report.violations += oracle.violations
            report.digest = scene.digest()
            report.events = oracle.looks + oracle.intents + oracle.writes
            report.looks, report.intents, report.writes = (
                oracle.looks,
                oracle.intents,
                oracle.writes,
            )
            report.starts, report.wire_s = scene.starts, loop.time()


async def _until(scene: ClusterScene, moment_s: float) -> bool:
    """Wait for a moment; true where a violation came first."""
    try:
        async with asyncio.timeout_at(moment_s):
            return await scene.oracle.broken.wait()
    except TimeoutError:
        return False


async def _go_wrong(scene: ClusterScene, script: Script) -> None:
    for event in script.events:
        if event.at_s < 0.0:
            event.act(scene)
    scene.declare(scene.revision, "enforce")
    scene.start()
    scene.start()
    scene.supervised = scene.loop.create_task(scene.supervise())
    for event in script.events:
        if event.at_s < 0.0:
            continue
        if await _until(scene, BEGIN_S + event.at_s):
            return
        scene.trace(f"event {event.text}")
        event.act(scene)
    await _until(scene, BEGIN_S + SAFETY_S)


async def _be_well(scene: ClusterScene) -> None:
    """Nothing goes wrong any more: the site is as declared within a bound."""
    scene.faults_over()
    until = scene.loop.time() + LIVENESS_S
    calm = 0
    while calm < 2:
        if await _until(scene, scene.loop.time() + PERSON_S):
            return
        if scene.loop.time() > until:
            scene.oracle.violate(
                "liveness", f"not as declared after {LIVENESS_S:g} s: {_left(scene)}"
            )
            return
        quiet = not scene.help() and scene.is_in_force() and is_as_declared(scene.engine)
        calm = calm + 1 if quiet else 0
    judge_truth(scene)


def _left(scene: ClusterScene) -> str:
    pod = scene.leader
    if pod is None:
        return f"nobody leads: {[p.said[-1:] for p in scene.pods if p.alive]}"
    running = pod.controller.tenure
    if running is None or running.engine is None:
        return f"no engine runs: {pod.said[-3:]}"
    left = [
        f"{asset}: to do {','.join(step.kind for step in slot.decision.steps) or 'nothing'}, "
        f"held {','.join(held.reason for held in slot.decision.held) or 'not'}"
        for asset, slot in running.engine.slots.items()
        if slot.decision is not None and not slot.decision.converged
    ]
    return f"{'; '.join(left)} ({running.engine.progress()}; {running.refusal})"
