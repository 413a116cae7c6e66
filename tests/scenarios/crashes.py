"""Every side effect of one apply, and a process that dies right before or right after it.

The site is small and calm: what is under test is the order of intent, write and record. Whatever the
moment, the next process ends in the same state, and no write goes out twice for one intent (the oracle
watches that; the limits of WhatsMiners here reboot when they are written).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from control_plane.engine.loop import Engine
from control_plane.simulator.site import pools_of
from control_plane.simulator.virtual import PastHorizon, Stalled, VirtualLoop, run_virtual
from tests.scenarios.declared import calm_revisions
from tests.scenarios.play import judge_truth
from tests.scenarios.process import EngineProcess
from tests.scenarios.stage import Stage, small_site_limits

HORIZON_S = 2_000.0
SCALE = 100.0
ASSETS = ("r1-s1", "r1-s2", "r2-s1", "r4-s1", "r4-s2")
"""Both families, a DHCP device, and two with a limit of their own."""
REBOOTED, REBOOTING = ("r4-s1", "r4-s2"), "adjust_power_limit"


class Point(msgspec.Struct, frozen=True):
    """Where a process dies."""

    number: int
    """Of the side effect, from 1; 0 is nowhere."""
    after: bool = False


class Outcome(msgspec.Struct, kw_only=True):
    """What came of one run."""

    point: Point
    effects: list[str] = []
    """Side effects of the first process, in order: `commit`, `send` of a look, `write` of a change."""
    state: dict[str, tuple[object, ...]] = {}
    """Of the machines, at the end."""
    writes: int = 0
    violations: list[str] = []


def run(point: Point) -> Outcome:
    """Adopt the site, with a process that dies at a point and another that takes over."""
    outcome = Outcome(point=point)
    with tempfile.TemporaryDirectory(prefix="crash-") as state, small_site_limits():
        try:
            run_virtual(lambda loop: _run(loop, Path(state), outcome), horizon_s=HORIZON_S)
        except (PastHorizon, Stalled) as error:
            outcome.violations.append(f"time: {error}")
    return outcome


async def _run(loop: VirtualLoop, state: Path, outcome: Outcome) -> None:
    found, declared = calm_revisions(ASSETS)
    stage = Stage(
        loop, state, declared, seed="crash", scale=SCALE, start="converged", found=found.site
    )
    first: list[EngineProcess] = []

    def configure(process: EngineProcess) -> None:
        if not first:
            first.append(process)
            process.kill_at = (outcome.point.number, outcome.point.after)

    stage.configure = configure
    try:
        await stage.look(stage.revision)
        stage.accept(stage.revision)
        stage.start(until=Engine.is_quiet, mode="apply")
        await stage.ended()
        outcome.effects = first[0].effects
        if outcome.point.number:
            stage.start(until=Engine.is_quiet, mode="apply")
            await stage.ended()
        judge_truth(stage)
    finally:
        await stage.close()
        outcome.violations += stage.oracle.violations
        outcome.writes = stage.oracle.writes
        arrived = [(write.asset, write.kind) for write in stage.sim.world.ledger]
        for asset in REBOOTED:
            count = arrived.count((asset, REBOOTING))
            if count != 1:
                outcome.violations.append(f"{asset} was rebooted by {count} writes of its limit")
        for asset in ASSETS:
            machine = stage.sim.machine(asset)
            outcome.state[asset] = (
                machine.asleep,
                machine.step.name,
                round(machine.permitted_w()),
                *pools_of(stage.sim.device(asset)),
            )


def judge(outcome: Outcome, reference: Outcome) -> str | None:
    """What is wrong with an outcome; `None` where nothing is."""
    if outcome.violations:
        return outcome.violations[0]
    if outcome.state != reference.state:
        return f"another end: {outcome.state} instead of {reference.state}"
    return None


def points(reference: Outcome) -> list[Point]:
    """Every moment at which the process can die."""
    numbers = range(1, len(reference.effects) + 1)
    return [Point(number, after) for number in numbers for after in (False, True)]
