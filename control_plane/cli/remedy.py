"""`gridplane remedy`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from control_plane.cli import options
from control_plane.cli.durations import DURATION
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.reading import of_reading
from control_plane.cli.remedy_machine import accept, in_repair, rma
from control_plane.cli.remedy_saying import (
    NO_KEEPER,
    are_domains,
    are_nodes,
    completing,
    say,
    says,
)
from control_plane.cli.remedy_urgent import break_glass, emergency, end
from control_plane.cli.workplace import Workplace, declared_in
from control_plane.core import limits
from control_plane.core.fleet import Site
from control_plane.core.gpu_domains import gpu_devices
from control_plane.core.remedy_urgent import persons_missing
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.views import remedy_list

BMC = "bmc/"
"""Before the name of a node: its BMC."""


class _ListedFirst(click.Group):
    """Lists where no other word is said."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with `list` put before what is no command."""
        is_help = bool(args) and args[0] in ctx.help_option_names
        if not ctx.resilient_parsing and not is_help and (not args or args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("remedy", cls=_ListedFirst)
def command() -> None:
    """What is done to GPU nodes that fail, and what a person says to it. Alone it lists.

    \b
    gridplane remedy --kubeconfig ga.kubeconfig
    gridplane remedy repaired ga-g1-r001-n3 --reason "new riser" --kubeconfig ga.kubeconfig
    gridplane remedy approve ga-g1-r001-n3 --up-to reboot --for 2h --reason "seen" --kubeconfig ga.kubeconfig
    gridplane remedy reset rack/ga-g1-r001 --reason "bad driver, pinned" --kubeconfig ga.kubeconfig
    gridplane remedy emergency rack/ga-g1-r001 --kind leak --reason "wet floor" --kubeconfig ga.kubeconfig
    """


@command.command("list")
@of_reading
@options.output
def list_(*, place: Workplace, output: str) -> int:
    """List GPU nodes that are not well, open incidents and breakers.

    Of each node what is done to it or why nothing is, since when, its repair ticket, and the attempts
    at a cure within a day.

    \b
    gridplane remedy list --kubeconfig ga.kubeconfig
    gridplane remedy --server http://10.128.0.7:8080 -o json
    """
    if place.is_own:
        click.echo(f"gridplane: {NO_KEEPER}", err=True)
    store, site = place.store, declared_in(place)
    found = remedy_list.listed(
        site,
        store.remedies(),
        store.remedy_site(),
        _said(site, store),
        now_s=place.clock.wall_s(),
    )
    emit(output, found, table=remedy_list.told(found), names=[one.node for one in found.nodes])
    return Exit.OK


def _said(site: Site, store: Store) -> dict[str, Event]:
    last = ((device.asset, store.remedy_said(device.asset)) for device in gpu_devices(site))
    return {name: event for name, event in last if event is not None}


# --- completion --------------------------------------------------------------------------------------


def _approvable(place: Workplace) -> Iterable[str]:
    site = place.store.remedy_site()
    waiting = (one.id for one in site.glass if one.ended is None and persons_missing(one))
    return [*place.store.remedies(), *waiting]


def _open(place: Workplace) -> Iterable[str]:
    site = place.store.remedy_site()
    breakers = remedy_list.open_breakers(site, place.clock.wall_s())
    refused = remedy_list.refused_logins(place.store.remedies())
    return [*(one.domain for one in breakers), *(f"{BMC}{one.node}" for one in refused)]


# --- words -------------------------------------------------------------------------------------------


@command.command("repaired")
@click.argument("node", shell_complete=completing(in_repair))
@says
def repaired(*, node: str, output: str, by: str, reason: str, **place: Any) -> int:
    """Close the repair ticket of NODE: the same machine is back in its slot.

    Its hold stays until the return gate is open: all GPUs answer, the pinned driver runs, caps are in force.
    What was tried before the repair counts no more; a node that is ill still is tried on from the
    beginning, after a quarter of an hour. Where another machine is to come: `gridplane remedy rma`.

    \b
    gridplane remedy repaired ga-g1-r001-n3 --reason "new riser" --kubeconfig ga.kubeconfig
    """
    return say("repaired", node, place, by=by, reason=reason, output=output, check=are_nodes(node))


@command.command("approve")
@click.argument("name", metavar="NODE|GLASS", shell_complete=completing(_approvable))
@click.option(
    "--up-to",
    type=click.Choice(["reset_gpu", "reload_driver", "reboot", "power_cycle", "repair"]),
    help="The rung of the ladder that a node may be taken to.",
)
@click.option("--for", "for_s", type=DURATION, help="For how long: 30m, 2h; a day at most.")
@says
def approve(
    *,
    name: str,
    up_to: str | None,
    for_s: float | None,
    output: str,
    by: str,
    reason: str,
    **place: Any,
) -> int:
    """Let NODE be taken further than an alert that asks, or an emergency that is over, allows.

    It is of faults that are there now: what begins later asks anew. Everything else is asked as ever:
    drained first, budgets, breakers, holds, two sources before a power cycle.

    With the name of a break-glass that waits for a second person: be that person. --up-to and --for are not
    said then.

    \b
    gridplane remedy approve ga-g1-r001-n3 --up-to reboot --for 2h --reason "seen" --kubeconfig ga.kubeconfig
    gridplane remedy approve glass-3f2a --reason "agreed" --kubeconfig ga.kubeconfig
    """
    if (up_to is None) is not (for_s is None):
        raise Stop("of a node --up-to and --for are said together", Exit.USAGE)
    if for_s is not None and for_s > limits.APPROVAL_MAX_S:
        raise Stop("--for is a day at most: who looks again approves again", Exit.USAGE)

    def check(site: Site) -> None:
        if up_to is not None:
            are_nodes(name)(site)
        elif any(device.asset == name for device in gpu_devices(site)):
            raise Stop(f"{name} is a GPU node: say --up-to and --for", Exit.USAGE)

    return say(
        "approve", name, place, by=by, reason=reason, output=output, check=check,
        for_s=for_s, up_to=up_to,
    )  # fmt: skip


@command.command("reset")
@click.argument("domain", metavar="DOMAIN|bmc/NODE", shell_complete=completing(_open))
@says
def reset(*, domain: str, output: str, by: str, reason: str, **place: Any) -> int:
    """Reset the breaker of DOMAIN: it is known why so many of its nodes failed at once.

    With bmc/NODE: send its BMC once more the login that it refused, for somebody unlocked the account.
    Another password needs no word.

    DOMAIN is a rack, a node of the feed tree or the cluster, as `gridplane remedy list` names it. Remedies
    go on there once it has cooled down, half an hour after it tripped. What began before counts no more.

    \b
    gridplane remedy reset rack/ga-g1-r001 --reason "bad driver, pinned" --kubeconfig ga.kubeconfig
    """
    if domain.startswith(BMC):
        node = domain.removeprefix(BMC)
        return say("login", node, place, by=by, reason=reason, output=output, check=are_nodes(node))
    return say(
        "breaker", domain, place, by=by, reason=reason, output=output, check=are_domains(domain)
    )


for word in (rma, accept, emergency, break_glass, end):
    command.add_command(word)
