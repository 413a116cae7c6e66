"""`gridplane apply`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.approving import read_approvals
from control_plane.cli.converging import converge, refuse_second_raiser
from control_plane.cli.emit import emit, say
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.looking import seen_world
from control_plane.cli.plan import shown
from control_plane.cli.progress import ProgressLine
from control_plane.cli.results import ApplyResult
from control_plane.cli.workplace import Declared, Workplace, confirm, load_declared, pick_site
from control_plane.core.digest import short
from control_plane.core.plan import make_plan
from control_plane.core.rollout import RolloutState
from control_plane.engine.accept import Proposal, accept
from control_plane.engine.loop import Engine, Pace
from control_plane.engine.records import Approval, RevisionRecord, ShownPlan
from control_plane.engine.standing import Progress
from control_plane.inventory.git import commit_of
from control_plane.views.plan import render_plan

_FOLLOW_EVERY_S = 0.5


@click.command("apply")
@click.argument("digest", required=False)
@options.of_site
@options.output
@options.by
@options.yes
@options.approve
@click.option(
    "--acknowledge-removals",
    type=int,
    metavar="N",
    help="That exactly so many devices leave the declaration, or are managed no more, is meant.",
)
@click.option("--take-over", is_flag=True, help="Act although the site declares a cluster.")
@click.option(
    "--no-wait",
    is_flag=True,
    help="Where another process acts on the site: leave the revision to it, do not follow.",
)
@options.interval
def command(
    *,
    digest: str | None,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    output: str,
    by: str,
    yes: bool,
    approve: tuple[str, ...],
    acknowledge_removals: int | None,
    take_over: bool,
    no_wait: bool,
    interval_s: float,
) -> int:
    """Accept the inventory of a site, and converge the site to it wave by wave.

    DIGEST is the first letters of a plan that was shown. Without it the plan is made and shown now,
    and accepted on a yes. A device that moved since its plan was shown is held; the rest goes on.
    Where `gridplane run` acts on the site already, the revision is left to it and followed.

    \b
    gridplane apply --site ga-macon 3f9a2c1b04de
    gridplane apply --site lab --yes
    """
    name = pick_site(inventory, site)
    declared = load_declared(inventory, name)
    refuse_second_raiser(declared.site, take_over=take_over)
    place = Workplace(
        site=name, state=state, inventory=inventory, network_map=network_map, creates=True
    )
    approvals = read_approvals(declared.site, approve, by)
    is_table = output == "table"
    plan = _plan_of(place, declared, digest, approvals, yes=yes, aside=not is_table)
    fence = place.fence()
    record = accept(
        place.store,
        place.audit,
        place.revisions(),
        Proposal(
            site=declared.site,
            digest=declared.digest,
            files=declared.files,
            plan=plan,
            by=by,
            commit=commit_of(inventory),
            acknowledged_removals=acknowledge_removals,
        ),
        place.clock.wall_s(),
    )
    click.echo(f"accepted revision {short(record.digest)} as number {record.seq}", err=True)
    after = None
    if fence is not None:
        ended, stopped = converge(
            place, fence, mode="apply", until=Engine.is_quiet, pace=Pace(interval_s=interval_s)
        )
        code = _code_of(ended, stopped=stopped)
    else:
        code = _follow(place, record, wait=not no_wait)
    if fence is not None or not no_wait:
        world = place.world(declared.site, declared.digest)
        after = make_plan(declared.site, declared.digest, world)
    result = ApplyResult(
        site=name,
        revision=record.digest,
        number=record.seq,
        plan=record.plan_digest,
        by=record.accepted_by,
        end=_END[code] if after else "accepted",
        after=after,
    )
    if after is not None or not is_table:
        emit(output, result, table=render_plan(after) if after else "", names=[record.digest])
    return code


_END: Mapping[Exit, str] = {
    Exit.OK: "converged",
    Exit.ACTIONABLE: "steps_left",
    Exit.HALTED: "halted",
    Exit.INTERRUPTED: "interrupted",
}


def _code_of(ended: Progress, *, stopped: bool) -> Exit:
    if stopped:
        return Exit.INTERRUPTED
    if ended.rollout == RolloutState.HALTED or ended.incidents:
        return Exit.HALTED
    return Exit.ACTIONABLE if ended.actionable else Exit.OK


def _plan_of(
    place: Workplace,
    declared: Declared,
    digest: str | None,
    approvals: tuple[Approval, ...],
    *,
    yes: bool,
    aside: bool,
) -> ShownPlan:
    """The plan that is accepted: one that was shown, or one that is shown now, on stderr if `aside`."""
    if digest is not None:
        found = place.store.shown_plans(digest)
        if not found:
            raise Stop(
                f"no plan that was shown here begins with {digest}: run `gridplane plan` again",
                Exit.REFUSED,
            )
        if len(found) > 1:
            raise Stop(
                f"{len(found)} shown plans begin with {digest}: give more letters", Exit.USAGE
            )
        if not set(approvals) <= set(found[0].approvals):
            raise Stop(
                f"plan {short(found[0].digest)} was shown without that approval: "
                "run `gridplane plan` with the same --approve, and apply what it shows",
                Exit.REFUSED,
            )
        return found[0]
    world = seen_world(place, declared, look=True, approvals=approvals)
    plan = make_plan(declared.site, declared.digest, world)
    record = shown(plan, world, approvals)
    place.store.put_shown_plan(record)
    say(render_plan(plan), err=aside)
    if plan.actionable or plan.accepted != plan.revision:
        confirm(f"Apply plan {short(plan.digest)} to {declared.site.id}?", yes=yes)
    return record


def _follow(place: Workplace, record: RevisionRecord, *, wait: bool) -> Exit:
    """Another process acts: show how far it is."""
    status = place.engine_status()
    who = f"process {status.pid} ({status.mode})" if status else "another process"
    click.echo(f"{who} acts on {place.site} and takes the revision over", err=True)
    if not wait:
        return Exit.OK
    with ProgressLine(f"following {place.site}") as line:
        while True:
            time.sleep(_FOLLOW_EVERY_S)
            status = place.engine_status()
            if status is None:
                raise Stop(
                    f"the process that acts on {place.site} has gone; the revision is accepted: "
                    "start `gridplane run`, or `gridplane apply` again",
                    Exit.REFUSED,
                )
            rollout = place.store.rollout_to(record.digest)
            wave = (
                f"wave {rollout.wave + 1} of {len(rollout.waves)} {rollout.state}, "
                if rollout
                else ""
            )
            line.say(f"{wave}{status.actionable:,} to do, {status.in_flight:,} in flight")
            if rollout is not None and rollout.state is RolloutState.HALTED:
                return Exit.HALTED
            done = rollout is None or rollout.state is RolloutState.DONE
            left = status.actionable + status.in_flight + status.waiting
            if done and not left and status.taken_up_s >= record.accepted_at_s:
                return Exit.OK
