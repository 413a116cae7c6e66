"""`gridplane demo`: a simulated 50 MW site, converged, attacked and proven within a minute."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.converging import text_of
from control_plane.cli.demo_proof import Proof, Stage, prove
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.looking import look_at
from control_plane.cli.plan import shown
from control_plane.cli.progress import ProgressLine
from control_plane.cli.workplace import Declared, Workplace, keep_what_is, load_declared, run_async
from control_plane.core.plan import Plan, make_plan
from control_plane.core.rollout import RolloutState
from control_plane.engine.accept import Proposal, accept
from control_plane.engine.loop import Engine
from control_plane.engine.records import ShownPlan
from control_plane.engine.standing import Progress
from control_plane.inventory.git import commit_of
from control_plane.simulator.control import SOCKET, ControlClient
from control_plane.simulator.serve import MAP
from control_plane.views.plan import render_plan

SITE = "ga-macon"
SCALE = 800.0
"""Device and policy seconds per second. Below it, eight soaks of twenty minutes would not fit a minute."""
SECRETS = {"GRIDPLANE_ANTMINER_PASSWORD": "root", "GRIDPLANE_WHATSMINER_PASSWORD": "admin"}
"""The simulated machines' factory passwords."""

HIJACKED, LOWERED, HELD, REBOOTED = "ga-a1-r05", "ga-a4-r07", "ga-a3-r09", "ga-a1"
_START_S = 20.0
_SETTLE_S = 60.0
"""Wire seconds that the site has to come to rest after the attacks; longer is a failure."""


@click.command("demo")
@options.inventory
@click.option(
    "--floor",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("examples/floor/ga-macon.yaml"),
    show_default=True,
    help="What stands on the floor otherwise than recorded.",
)
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), help="Keep the state here."
)
def command(*, inventory: Path, floor: Path, state: Path | None) -> int:
    """Converge a simulated 50 MW site to its declaration, attack it, and prove what held.

    Everything is real but the machines: their protocols on loopback sockets, the Store, the gate, the
    audit. Exit code 8 if anything that is claimed at the end did not hold.

    \b
    gridplane demo
    """
    began = time.monotonic()
    if not inventory.is_dir() or not floor.is_file():
        raise Stop("the demo needs the example inventory: run it in the repository", Exit.USAGE)
    os.environ.update({name: os.environ.get(name, value) for name, value in SECRETS.items()})
    with contextlib.ExitStack() as stack:
        folder = state or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="gridplane-"))
        )
        declared = load_declared(inventory, SITE)
        _say(began, f"{SITE}: {len(declared.site.devices):,} slots declared and valid")
        control = stack.enter_context(_simulator(inventory, floor, folder / "sim"))
        status = control.request({"do": "status"})
        _say(
            began,
            f"{status['machines']:,} simulated machines answer on loopback; device and policy time run "
            f"{SCALE:.0f} times faster, the wire does not, so no latency is quoted below",
        )
        place = Workplace(
            site=SITE, state=folder / "state", network_map=folder / "sim" / MAP, creates=True
        )
        plan, record = _first_plan(place, declared)
        _say(began, "the plan, before anything is written:")
        click.echo(_indented(render_plan(plan)))
        stage = run_async(_converge(place, declared, record, control, inventory, began))
        _say(began, "at rest; a second plan, from what was read back:")
        after = make_plan(
            declared.site, declared.digest, place.world(declared.site, declared.digest)
        )
        click.echo(_indented(render_plan(after)))
        proofs = prove(stage, declared.site, place, control, after)
    return _summary(proofs, time.monotonic() - began)


def _say(began: float, text: str) -> None:
    click.echo(f"[{time.monotonic() - began:4.0f} s] {text}")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


@contextlib.contextmanager
def _simulator(inventory: Path, floor: Path, folder: Path) -> Iterator[ControlClient]:
    """The simulated site, in a process of its own."""
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [
        "--inventory", str(inventory), "--site", SITE, "--simulation", str(folder),
        "--floor", str(floor), "--time-scale", str(SCALE),
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-m", "control_plane.cli", "simulate", "serve", *arguments],
            stdout=out,
            stderr=out,
        )
        try:
            until = time.monotonic() + _START_S
            while not (folder / MAP).exists():
                if process.poll() is not None or time.monotonic() > until:
                    said = log.read_text(encoding="utf-8", errors="replace").strip()
                    raise Stop(f"the simulator did not start: {said or 'no word'}", Exit.FAILED)
                time.sleep(0.05)
            yield ControlClient(folder / SOCKET)
        finally:
            process.terminate()
            process.wait()


def _first_plan(place: Workplace, declared: Declared) -> tuple[Plan, ShownPlan]:
    look_at(place, declared.site)
    world = place.world(declared.site, declared.digest)
    plan = make_plan(declared.site, declared.digest, world)
    return plan, shown(plan, world)


async def _converge(  # noqa: PLR0917 - one caller, each once
    place: Workplace,
    declared: Declared,
    plan: ShownPlan,
    control: ControlClient,
    inventory: Path,
    began: float,
) -> Stage:
    """Apply the plan, attack the site under way, and wait until it is at rest."""
    fence = place.fence()
    if fence is None:
        raise Stop("another process acts in this state folder", Exit.REFUSED)
    proposal = Proposal(
        site=declared.site,
        digest=declared.digest,
        files=declared.files,
        plan=plan,
        by="demo",
        commit=commit_of(inventory),
    )
    accept(place.store, place.audit, place.revisions(), proposal, place.clock.wall_s())
    engine = Engine(
        site=SITE,
        store=place.store,
        audit=place.audit,
        epoch=fence.epoch,
        edges=place.edges(),
        revisions=place.revisions(),
        mode="demo",
    )
    engine.remember(place.store.sightings())
    keep_what_is()
    _say(began, "applying: wave by wave, each write read back, a gate after each wave")
    stage: Stage | None = None
    with ProgressLine("apply") as line:
        canaries_passed = asyncio.Event()

        def report(progress: Progress) -> None:
            line.say(text_of(progress))
            if _nearly_there(progress):
                canaries_passed.set()

        acting = asyncio.create_task(
            engine.run(until=lambda one: _is_over(one, stage), report=report)
        )
        await asyncio.wait(
            {acting, asyncio.create_task(canaries_passed.wait())}, return_when="FIRST_COMPLETED"
        )
        if not acting.done():
            stage = _attack(place, control, began)
        try:
            await acting
        finally:
            fence.release()
    if stage is None:
        raise Stop("the engine ended before the site was converged", Exit.UNPROVEN)
    return stage


def _nearly_there(progress: Progress) -> bool:
    """Whether all canaries have passed their gates and the two large waves are left."""
    if progress.rollout == RolloutState.DONE:
        return True
    return bool(progress.waves) and progress.wave >= progress.waves - 1


def _attack(place: Workplace, control: ControlClient, began: float) -> Stage:
    """A thief, a brown-out, a technician, and hands in a machine: all at once."""
    _say(
        began,
        f"the canaries have passed. Somebody points racks {HELD} and {HIJACKED} at his own pool;",
    )
    _hold(place)
    since_s = float(control.request({"do": "status"})["device_s"])

    def fault(kind: str, **target: object) -> tuple[str, ...]:
        return tuple(control.request({"do": "fault", "kind": kind, "target": target})["assets"])

    stage = Stage(
        since_device_s=since_s,
        wire_s=time.monotonic(),
        held=fault("hijack", rack=HELD),
        hijacked=fault("hijack", rack=HIJACKED),
        lowered=tuple(
            asset for asset in _awake(control, LOWERED) for _ in fault("lower", asset=asset)
        ),
        rebooted=fault("reboot", node=REBOOTED, share=20, seed=7),
    )
    _say(
        began,
        f"a technician lowers rack {LOWERED} and, hands in the machines, holds rack {HELD}; "
        f"{len(stage.rebooted)} machines of {REBOOTED} reboot",
    )
    return stage


def _awake(control: ControlClient, rack: str) -> list[str]:
    """Who hashes in a rack: lowering a sleeping Antminer would wake it, as both are one setting."""
    machines = control.request({"do": "truth", "target": {"rack": rack}})["machines"]
    return [m["asset"] for m in machines if m["mining"] and m["hashrate_ths"] > 0]


def _hold(place: Workplace) -> None:
    """As a technician does it: with the verb, from another process."""
    arguments = [
        "hold", HELD, "--kind", "safety", "--by", "technician", "--reason", "hands in the rack",
        "--site", SITE, "--state", str(place.state), "--network-map", str(place.network_map),
    ]  # fmt: skip
    subprocess.run(  # noqa: S603 - this program itself
        [sys.executable, "-m", "control_plane.cli", *arguments], check=True, capture_output=True
    )


def _is_over(engine: Engine, stage: Stage | None) -> bool:
    """At rest after the attack: each attacked device was looked at since, and nothing is left to do."""
    if stage is None:
        return False
    if time.monotonic() - stage.wire_s > _SETTLE_S:
        return True
    return engine.is_quiet() and stage.is_known_to(engine)


def _summary(proofs: list[Proof], seconds: float) -> int:
    click.echo("")
    for proof in proofs:
        click.echo(f"  {'held   ' if proof.held else 'NOT SO '} {proof.claim}: {proof.figure}")
    good = all(proof.held for proof in proofs)
    held = sum(proof.held for proof in proofs)
    click.echo(
        f"\n{held} of {len(proofs)} claims held, computed from the machines' own state and ledger, "
        f"the audit and what was read back; {seconds:.0f} s."
    )
    return Exit.OK if good else Exit.UNPROVEN
