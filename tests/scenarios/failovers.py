"""Every side effect of a controller, and a process that dies right before or right after it.

As `crashes.py`, for processes that keep everything in the API server. Three courses of events: the first
leader brings a site to its declaration; the second does, after the first died between two writes; the first
again, while a person sets a hold, changes the declaration and observes for a while. Whatever the moment,
the site ends as it would have, and each machine was written to as often as without the crash.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from control_plane.core.overlay import OverlayKind
from control_plane.simulator.ledger import Write
from control_plane.simulator.site import pools_of
from control_plane.simulator.virtual import PastHorizon, Stalled, run_virtual
from tests.scenarios.cluster import ClusterScene
from tests.scenarios.crashes import ASSETS, REBOOTED, REBOOTING, SCALE, Point
from tests.scenarios.declared import calm_revisions, turned
from tests.scenarios.play import is_as_declared, judge_truth
from tests.scenarios.pods import Pod
from tests.scenarios.stage import small_site_limits
from tests.scenarios.suspending import SuspendingLoop

HORIZON_S = 2_000.0
LIVENESS_S = 500.0
"""Wire seconds within which a site is as declared, take-overs included."""
LOOK_S = 2.0
FIRST_DIES_S = 32.0
"""In the middle of the second wave."""


class Ended(msgspec.Struct, kw_only=True):
    """What came of one run."""

    course: str
    point: Point
    effects: list[str] = []
    """Side effects of the process that is to die, in order."""
    state: dict[str, tuple[object, ...]] = {}
    """Of the machines, at the end."""
    arrived: dict[str, int] = {}
    """How often which write arrived at which machine."""
    violations: list[str] = []


async def _alone(scene: ClusterScene) -> None:
    """Nothing else happens."""


async def _first_dies(scene: ClusterScene) -> None:
    await asyncio.sleep(FIRST_DIES_S)
    scene.pods[0].kill()


async def _people(scene: ClusterScene) -> None:
    """A hold in the middle of a wave, observing for a while, and another declaration."""
    await asyncio.sleep(20.0)
    hold = scene.set_overlay(OverlayKind.SAFETY_HOLD, "r1")
    await asyncio.sleep(16.0)
    scene.point(scene.revision.digest, "observe")
    await asyncio.sleep(8.0)
    scene.drop_overlay(hold.id)
    scene.declare(turned(scene.revision), "enforce")


COURSES: dict[str, tuple[Callable[[ClusterScene], Awaitable[None]], int]] = {
    "first leader": (_alone, 0),
    "second leader": (_first_dies, 1),
    "people": (_people, 0),
}
"""What happens besides, and which process is to die."""


def run(course: str, point: Point) -> Ended:
    """One course, with a process that dies at a point and others that follow."""
    ended = Ended(course=course, point=point)
    with tempfile.TemporaryDirectory(prefix="failover-") as folder, small_site_limits():
        try:
            run_virtual(
                lambda loop: _run(loop, Path(folder), ended),
                horizon_s=HORIZON_S,
                make=SuspendingLoop,
            )
        except (PastHorizon, Stalled) as error:
            ended.violations.append(f"time: {error}")
    return ended


async def _run(loop: SuspendingLoop, folder: Path, ended: Ended) -> None:
    found, declared = calm_revisions(ASSETS)
    scene = ClusterScene(
        loop, folder, declared, seed="crash", scale=SCALE, start="converged", found=found.site
    )
    happens, number = COURSES[ended.course]

    def configure(pod: Pod) -> None:
        if len(scene.pods) == number + 1:
            pod.kill_at = (ended.point.number, ended.point.after)

    scene.configure = configure
    with scene.watching():
        scene.declare(declared, "enforce")
        scene.start()
        await asyncio.sleep(0.5)
        scene.start()
        tasks = [loop.create_task(scene.supervise()), loop.create_task(_as_task(happens(scene)))]
        try:
            await be_as_declared(scene, tasks[1])
            judge_truth(scene)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await scene.close()
    _note(scene, ended, scene.pods[number])


async def _as_task(doing: Awaitable[None]) -> None:
    await doing


async def be_as_declared(scene: ClusterScene, people: asyncio.Task[None]) -> None:
    """Until nothing is left to do, for nobody."""
    calm = 0
    while calm < 2 and not scene.oracle.violations:
        await asyncio.sleep(LOOK_S)
        if scene.oracle.now() > LIVENESS_S:
            scene.oracle.violate("liveness", f"not as declared after {LIVENESS_S:g} s")
            return
        is_quiet = people.done() and not scene.help() and is_as_declared(scene.engine)
        calm = calm + 1 if is_quiet and scene.leader is not None else 0
    if people.done():
        people.result()


def _note(scene: ClusterScene, ended: Ended, died: Pod) -> None:
    ended.effects = died.effects
    ended.violations += scene.oracle.violations
    counts = Counter((write.asset, write.kind) for write in scene.sim.world.ledger)
    ended.arrived = {f"{kind} {asset}": n for (asset, kind), n in sorted(counts.items())}
    ended.violations += twice(scene.sim.world.ledger)
    for asset in REBOOTED:
        if counts[asset, REBOOTING] != 1:
            ended.violations.append(
                f"{asset} was rebooted by {counts[asset, REBOOTING]} writes of its limit"
            )
    for asset in ASSETS:
        machine = scene.sim.machine(asset)
        ended.state[asset] = (
            machine.asleep,
            machine.step.name,
            round(machine.permitted_w()),
            *pools_of(scene.sim.device(asset)),
        )


def twice(ledger: Iterable[Write]) -> list[str]:
    """Writes that asked of a machine what the one before had set."""
    found: list[str] = []
    last: dict[str, Write] = {}
    for write in ledger:
        before = last.get(write.asset)
        if before is not None and (before.kind, before.summary) == (write.kind, write.summary):
            found.append(f"{write.asset} got {write.kind} {write.summary} twice")
        last[write.asset] = write
    return found


def judge(ended: Ended, reference: Ended) -> str | None:
    """What is wrong with how a run ended; `None` where nothing is."""
    if ended.violations:
        return ended.violations[0]
    if ended.state != reference.state:
        return f"another end: {ended.state} instead of {reference.state}"
    if ended.arrived != reference.arrived and ended.course != "people":
        # With people it depends on what a write was overtaken by; `twice` holds there too.
        return f"other writes: {ended.arrived} instead of {reference.arrived}"
    return None


def reference_of(course: str) -> Ended:
    """The course without a crash."""
    return run(course, Point(0))


def points_of(reference: Ended) -> list[Point]:
    """Every moment at which the process can die."""
    numbers = range(1, len(reference.effects) + 1)
    return [Point(number, after) for number in numbers for after in (False, True)]
