"""Play one seed: adopt the site, let things go wrong, let them be well again, and look at the end."""

from __future__ import annotations

import asyncio
import inspect
import random
import tempfile
from pathlib import Path

import msgspec

from control_plane.core.decision import Reason
from control_plane.engine.loop import Engine
from control_plane.simulator.site import pools_of
from control_plane.simulator.virtual import PastHorizon, Stalled, VirtualLoop, run_virtual
from tests.scenarios import facts
from tests.scenarios.declared import first_revision
from tests.scenarios.menu import draw
from tests.scenarios.oracle import TOLERANCE_W
from tests.scenarios.scene import Scene
from tests.scenarios.script import SAFETY_S, Script
from tests.scenarios.stage import PERSON_S, Stage, small_site_limits

LIVENESS_S = 600.0
"""Wire seconds within which a site is as declared once nothing goes wrong any more."""
HORIZON_S = SAFETY_S + LIVENESS_S + 600.0
EXCEPTIONS = {Reason.VACANT, Reason.OUT_OF_SERVICE, Reason.IN_REPAIR, Reason.NO_HEADROOM}
"""What may still be held on a site that is as declared."""


class Report(msgspec.Struct, kw_only=True):
    """What came of a seed."""

    seed: int | str
    classes: list[str]
    violations: list[str] = []
    digest: str = ""
    """Hash of the trace."""
    events: int = 0
    looks: int = 0
    intents: int = 0
    writes: int = 0
    starts: int = 0
    wire_s: float = 0.0
    lines: list[str] = []


def play(seed: int | str, *, keep: bool = False) -> Report:
    """Play a seed from its beginning to its end, or to the first violation."""
    script = draw(seed)
    report = Report(seed=seed, classes=script.classes)
    with tempfile.TemporaryDirectory(prefix="seed-") as state, small_site_limits():
        try:
            run_virtual(
                lambda loop: _play(loop, script, Path(state), report, keep=keep),
                horizon_s=HORIZON_S,
            )
        except (PastHorizon, Stalled) as error:
            report.violations.append(f"time: {error}")
    return report


async def _play(
    loop: VirtualLoop, script: Script, state: Path, report: Report, *, keep: bool
) -> None:
    revision = first_revision(random.Random(f"{script.seed}/site"))
    stage = Stage(
        loop, state, revision, seed=str(script.seed), scale=script.scale, start=script.start
    )
    if keep:
        stage.lines = report.lines
    try:
        await stage.look(revision)
        stage.accept(revision)
        await _go_wrong(stage, script)
        if not stage.oracle.violations:
            await _be_well(stage)
        if not stage.oracle.violations:
            await _second_apply(stage)
    finally:
        await stage.close()
        oracle = stage.oracle
        report.violations += oracle.violations
        report.digest = stage.digest()
        report.events = oracle.looks + oracle.intents + oracle.writes + oracle.notes
        report.looks, report.intents, report.writes = oracle.looks, oracle.intents, oracle.writes
        report.starts, report.wire_s = stage.starts, loop.time()


async def _until(stage: Stage, moment_s: float) -> bool:
    """Wait for a moment; true where a violation came first."""
    try:
        async with asyncio.timeout_at(moment_s):
            return await stage.oracle.broken.wait()
    except TimeoutError:
        return False


async def _go_wrong(stage: Stage, script: Script) -> None:
    began = stage.loop.time()
    events = [event for event in script.events if event.at_s >= 0.0]
    for event in script.events:
        if event.at_s < 0.0:
            event.act(stage)
    stage.start()
    for event in events:
        if await _until(stage, began + event.at_s):
            return
        stage.trace(f"event {event.text}")
        happening = event.act(stage)
        if inspect.isawaitable(happening):
            await happening
    await _until(stage, began + SAFETY_S)


async def _be_well(stage: Stage) -> None:
    """Nothing goes wrong any more: the site is as declared within a bound."""
    stage.faults_over()
    until = stage.loop.time() + LIVENESS_S
    calm = 0
    while calm < 2:
        if await _until(stage, stage.loop.time() + PERSON_S):
            return
        if stage.loop.time() > until:
            stage.oracle.violate(
                "liveness", f"not as declared after {LIVENESS_S:g} s: {_left(stage)}"
            )
            return
        decided = stage.help()
        quiet = not decided and is_as_declared(stage.engine)
        calm = calm + 1 if quiet else 0
    judge_truth(stage)


def is_as_declared(engine: Engine | None) -> bool:
    """Whether nothing is left to do, for nobody."""
    if engine is None or not engine.is_quiet():
        return False
    return all(
        slot.decision is not None and {held.reason for held in slot.decision.held} <= EXCEPTIONS
        for slot in engine.slots.values()
    )


def _left(stage: Stage) -> str:
    if stage.engine is None:
        return "no engine runs"
    left = []
    for asset, slot in stage.engine.slots.items():
        if slot.decision is not None and not slot.decision.converged:
            steps = ",".join(step.kind for step in slot.decision.steps)
            reasons = ",".join(held.reason for held in slot.decision.held)
            left.append(f"{asset}: to do {steps or 'nothing'}, held {reasons or 'not'}")
    return f"{'; '.join(left)} ({stage.engine.progress()})"


def judge_truth(stage: Scene) -> None:
    """The machines themselves, not what anybody was told of them."""
    for operation in stage.store.open_operations() if stage.store else ():
        stage.oracle.violate("open", f"{operation.id} on {operation.asset} is open for ever")
    site = stage.revision.site
    for device in site.devices:
        if device.state not in facts.MANAGED:
            continue
        machine = stage.sim.machine(device.asset)
        pools = set(pools_of(stage.sim.device(device.asset)))
        owner = site.owners[device.intent.owner]
        if pools != {(p.url, p.worker) for p in device.desired().pools or ()}:
            stage.oracle.violate("truth", f"{device.asset} works for {sorted(pools)}")
        if not pools <= facts.owned(device, owner):
            stage.oracle.violate("truth", f"{device.asset} works for pools of another")
        want_w = facts.watts(device, facts.wanted(device, []))
        have_w = machine.permitted_w()
        # The way to a limit of another mode passes what that mode draws: setting it clears the limit.
        mode_w = facts.ladder_w(device, device.intent.power_mode)
        on_the_way_w = max(want_w, mode_w) if want_w > have_w else want_w
        if abs(have_w - want_w) > TOLERANCE_W and not _is_full(stage, device.asset, on_the_way_w):
            stage.oracle.violate(
                "truth", f"{device.asset} permits {have_w:.0f}, not {want_w:.0f} W"
            )


def _is_full(stage: Scene, asset: str, want_w: float) -> bool:
    """Whether a device sleeps for lack of room above it."""
    site = stage.revision.site
    devices = {device.asset: device for device in site.devices}
    have_w = {
        device.asset: stage.sim.machine(device.asset).permitted_w()
        if device.state in facts.MANAGED
        else facts.idle_w(device)
        for device in site.devices
    }
    released = stage.store.released() if stage.store else []
    have_w |= {gone.asset: gone.power_w for gone in released}
    feeds = {gone.asset: gone.feed for gone in released}
    for node in facts.feed_path(site, devices[asset]):
        total_w = sum(
            watts
            for name, watts in have_w.items()
            if (name in devices and node in facts.feed_path(site, devices[name]))
            or (
                name in feeds
                and feeds[name] in site.feeds
                and facts.is_below(site, feeds[name], node)
            )
        )
        if total_w - have_w[asset] + want_w > site.feeds[node].rating_w + TOLERANCE_W:
            return True
    return False


async def _second_apply(stage: Stage) -> None:
    """A site that is as declared: the plan has no step, and applying it writes nothing."""
    stage.supervised = False
    if stage.engine is not None:
        stage.engine.stop()
    await stage.ended()
    await stage.look(stage.revision)
    plan = stage.plan(stage.revision)
    for step in plan.steps:
        stage.oracle.violate("second plan", f"{step.kind} to {step.asset} ({step.why})")
    for held in plan.held:
        if held.reason not in EXCEPTIONS:
            stage.oracle.violate(
                "second plan", f"{held.asset} is held: {held.reason} {held.detail}"
            )
    writes = stage.oracle.writes
    stage.accept(stage.revision)
    stage.start(until=Engine.is_quiet, mode="apply")
    await stage.ended()
    if stage.oracle.writes != writes:
        stage.oracle.violate("second apply", f"{stage.oracle.writes - writes} writes")
