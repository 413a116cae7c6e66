"""`gridplane remedy emergency`, `break-glass`, `end`: what sets rules aside, for a while and by name."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import click

from control_plane.cli.durations import DURATION
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.remedy_saying import are_domains, are_nodes, completing, say, says
from control_plane.cli.workplace import Workplace, declared_in
from control_plane.core import limits
from control_plane.core.gpu_domains import domains_of, gpu_devices
from control_plane.core.remedy_case import EmergencyKind


def _domains(place: Workplace) -> Iterable[str]:
    return domains_of(declared_in(place)).domains


def _nodes(place: Workplace) -> Iterable[str]:
    return (device.asset for device in gpu_devices(declared_in(place)))


def _open(place: Workplace) -> Iterable[str]:
    return (one.id for one in place.store.remedy_site().words if one.ended is None)


@click.command("emergency")
@click.argument(
    "domains", metavar="DOMAIN...", nargs=-1, required=True, shell_complete=completing(_domains)
)
@click.option(
    "--kind",
    "class_",
    type=click.Choice([kind.value for kind in EmergencyKind]),
    required=True,
    help="What it is.",
)
@click.option(
    "--for",
    "for_s",
    type=DURATION,
    default="30m",
    show_default=True,
    help="For how long: an hour at most.",
)
@says
def emergency(
    *,
    domains: tuple[str, ...],
    class_: str,
    for_s: float,
    output: str,
    by: str,
    reason: str,
    **place: Any,
) -> int:
    """Have what is in DOMAINs drained at once, whatever budgets and breakers say.

    A DOMAIN is a rack, a node of the feed tree or the cluster: rack/NAME, feed/NAME, cluster/NAME. What a
    second source calls unsafe (a BMC that reads a critical temperature) is switched off, drained or not, and
    goes on by `gridplane remedy approve` alone. Nothing outside of DOMAINs is touched; a person's hold lets
    nothing but the stop pass. It ends by itself, or by `gridplane remedy end`.

    \b
    gridplane remedy emergency rack/ga-g1-r001 --kind leak --reason "wet floor" --kubeconfig ga.kubeconfig
    """
    if for_s > limits.EMERGENCY_MAX_S:
        raise Stop("--for is an hour at most: say it anew then", Exit.USAGE)
    return say(
        "emergency", f"{class_}-{secrets.token_hex(2)}", place, by=by, reason=reason, output=output,
        check=are_domains(*domains), for_s=for_s, emergency=class_, domains=domains,
    )  # fmt: skip


@click.command("break-glass")
@click.argument(
    "nodes", metavar="NODE...", nargs=-1, required=True, shell_complete=completing(_nodes)
)
@click.option("--for", "for_s", type=DURATION, required=True, help="For how long: 4h at most.")
@says
def break_glass(
    *, nodes: tuple[str, ...], for_s: float, output: str, by: str, reason: str, **place: Any
) -> int:
    """Set budgets, breakers and incidents aside for NODEs, for a while.

    Holds, cordons of people, evidence and the caps of attempts stay. Above a megawatt, all that is in force
    counted together, another person stands behind it first: `gridplane remedy approve NAME`, with the name
    that this prints.

    \b
    gridplane remedy break-glass ga-g1-r001-n3 --for 1h --reason "customer waits" --kubeconfig ga.kubeconfig
    """
    if for_s > limits.BREAK_GLASS_MAX_S:
        raise Stop("--for is 4h at most: say it anew then", Exit.USAGE)
    return say(
        "break_glass", f"glass-{secrets.token_hex(2)}", place, by=by, reason=reason, output=output,
        check=are_nodes(*nodes), for_s=for_s, nodes=nodes,
    )  # fmt: skip


@click.command("end")
@click.argument("name", shell_complete=completing(_open))
@says
def end(*, name: str, output: str, by: str, reason: str, **place: Any) -> int:
    """End the emergency or break-glass NAME before its time.

    What it drained comes back through the return gate; what it switched off stays off until a person says
    `gridplane remedy approve`.

    \b
    gridplane remedy end leak-3f2a --reason "valve shut, floor dry" --kubeconfig ga.kubeconfig
    """
    return say("end", name, place, by=by, reason=reason, output=output)
