"""`gridplane plan`."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from control_plane.cli import options
from control_plane.cli.approving import read_approvals
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.looking import seen_world
from control_plane.cli.workplace import Workplace, load_declared, pick_site, refuse_unknown
from control_plane.core.against import compare, shrunk
from control_plane.core.digest import short
from control_plane.core.errors import DeclarationError
from control_plane.core.fleet import Site
from control_plane.core.observation import Observation, Settings
from control_plane.core.plan import Plan, make_plan
from control_plane.core.world import World
from control_plane.engine.accept import NotAccepted, check_drivers
from control_plane.engine.records import Approval, ShownPlan
from control_plane.inventory.git import files_at
from control_plane.inventory.load import load_files
from control_plane.views.comparison import render_comparison
from control_plane.views.plan import render_plan


@click.command("plan")
@options.of_site
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "name", "github", "stacks"]),
    default="table",
    show_default=True,
    help="Form of the output; `github` and `stacks` are for CI, with --against.",
)
@options.approve
@options.by
@click.option(
    "--against", metavar="REF", help="Compare with the inventory of a Git commit instead."
)
@click.option(
    "--acknowledge-removals",
    type=click.IntRange(0),
    help="With -o github: that exactly so many devices leave the declaration is meant.",
)
@click.option("--no-look", is_flag=True, help="Plan from what is remembered; ask no device.")
@click.option("--exit-code", is_flag=True, help="End with 4 if there are steps to take.")
def command(
    *,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    output: str,
    approve: tuple[str, ...],
    by: str,
    against: str | None,
    acknowledge_removals: int | None,
    no_look: bool,
    exit_code: bool,
) -> int:
    """Show what would be done to the hardware; physical effect first. Writes to no device.

    With --against, `-o github` prints a comment on every site that changes, and on stderr a note for each
    line that does something; `-o stacks` prints the stacks that the change is about, one a line.

    \b
    gridplane plan --site ga-macon
    gridplane plan --site ga-macon --against origin/main     what a pull request changes
    gridplane plan --site ga-macon -o json | jq .effect
    gridplane plan --against origin/main -o github > comment.md    every site that changes
    """
    if output in _FOR_CI:
        return _reviewed(inventory, site, against, output, acknowledge_removals)
    name = pick_site(inventory, site)
    if against is not None:
        return _against(inventory, name, against, output, exit_code=exit_code)

    declared = load_declared(inventory, name)
    place = Workplace(
        site=name, state=state, inventory=inventory, network_map=network_map, creates=True
    )
    approvals = read_approvals(declared.site, approve, by)
    world = seen_world(place, declared, look=not no_look, approvals=approvals)
    plan = make_plan(declared.site, declared.digest, world)
    if plan.accepted:
        try:
            check_drivers(place.revisions().site(plan.accepted), declared.site, place.store)
        except NotAccepted as error:
            raise Stop(str(error), Exit.REFUSED) from error
    place.store.put_shown_plan(shown(plan, world, approvals))
    how = _accepting(place, declared.site, plan)
    emit(output, plan, table=render_plan(plan, command=how), names=[plan.digest])
    return Exit.ACTIONABLE if exit_code and plan.actionable else Exit.OK


_FOR_CI = frozenset({"github", "stacks"})


def _reviewed(
    inventory: Path, site: str | None, against: str | None, output: str, acknowledged: int | None
) -> int:
    from control_plane.cli.reviewing import review
    from control_plane.views.review import notes_of, render_comment, render_notes

    if against is None:
        raise Stop(f"-o {output} compares two commits: say --against REF", Exit.USAGE)
    if site is not None:
        refuse_unknown(inventory, site)
    found = review(inventory, against, site=site, acknowledged=acknowledged)
    if output == "stacks":
        for stack in found.stacks:
            click.echo(stack)
    else:
        click.echo(render_comment(found))
        if notes := notes_of(found):
            click.echo(render_notes(notes), err=True)
    if not found.is_valid:
        return Exit.INVALID
    return Exit.REFUSED if found.refused else Exit.OK


def _accepting(place: Workplace, site: Site, plan: Plan) -> str:
    """The command that accepts a plan, as it has to be typed here."""
    words = [f"gridplane apply --site {site.id} {short(plan.digest)}"]
    context = click.get_current_context()
    words += [
        f"--{name.replace('_', '-')} {context.params[name]}"
        for name in ("inventory", "state", "network_map")
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    leaving = {*plan.removed, *plan.retired}
    if plan.accepted and shrunk(place.revisions().site(plan.accepted), leaving):
        words.append(f"--acknowledge-removals {len(leaving)}")
    if site.clusters:
        clusters = ", ".join(site.clusters)
        words.append(f"--take-over  # once the controller in {clusters} is stopped")
    return " ".join(words)


def shown(plan: Plan, world: World, approvals: tuple[Approval, ...] = ()) -> ShownPlan:
    """The record by which `apply` knows the plan again.

    What a device had when the plan was shown is kept of those that it writes to and of those that it
    holds: whoever moves one of them later is noticed.
    """
    expected: dict[str, Settings] = {}
    for step in plan.steps:
        expected.setdefault(step.asset, step.before)
    for held in plan.held:
        sighting = world.sightings.get(held.asset)
        if isinstance(sighting, Observation):
            expected.setdefault(held.asset, sighting.settings)
    return ShownPlan(
        digest=plan.digest,
        revision=plan.revision,
        at_s=plan.at_s,
        expected=expected,
        approvals=approvals,
    )


def _against(inventory: Path, site: str, ref: str, output: str, *, exit_code: bool) -> int:

    declared = load_declared(inventory, site)
    files = files_at(inventory, ref)
    before = None
    if any(path.startswith(f"sites/{site}/") for path in files):
        loaded = load_files(files, sites={site})
        if loaded.fleet is None:
            raise DeclarationError(loaded.findings)
        before = loaded.fleet.sites[site]
    comparison = compare(before, declared.site)
    text = render_comparison(comparison, reference=ref)
    emit(output, comparison, table=text, names=sorted({c.asset for c in comparison.changes}))
    changed = bool(comparison.subjects or comparison.removed or comparison.retired)
    if comparison.steps_back:
        return Exit.REFUSED
    return Exit.ACTIONABLE if exit_code and changed else Exit.OK
