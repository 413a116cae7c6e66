"""`gridplane remedy`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from control_plane.cli import options
from control_plane.cli.durations import DURATION
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.reading import Source, of_reading, reading
from control_plane.cli.results import RemedyResult
from control_plane.cli.saying_afar import ClusterSaying, Where, saying_at
from control_plane.cli.workplace import Workplace, load_declared
from control_plane.core import limits
from control_plane.core.fleet import Site
from control_plane.core.gpu_domains import domains_of, gpu_devices
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.views import remedy_list

F = TypeVar("F", bound=Callable[..., object])

NO_KEEPER = (
    "GPU nodes are remedied by the controller of their cluster, and it alone hears this: --kubeconfig FILE. "
    "A site that `gridplane run` acts on has nobody who remedies GPU nodes"
)


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
    store, site = place.store, _declared(place)
    found = remedy_list.listed(
        site,
        store.remedies(),
        store.remedy_site(),
        _said(site, store),
        now_s=place.clock.wall_s(),
    )
    emit(output, found, table=remedy_list.told(found), names=[one.node for one in found.nodes])
    return Exit.OK


def _declared(place: Workplace) -> Site:
    accepted = place.store.accepted()
    if accepted is None:
        return load_declared(place.inventory, place.site).site
    return place.revisions().site(accepted.digest)


def _said(site: Site, store: Store) -> dict[str, Event]:
    last = ((device.asset, store.remedy_said(device.asset)) for device in gpu_devices(site))
    return {name: event for name, event in last if event is not None}


# --- completion --------------------------------------------------------------------------------------


def _completing(
    names: Callable[[Store, float], Iterable[str]],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Completes with what the site says now; with nothing where it cannot be asked."""

    def complete(
        ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        given: dict[str, Any] = {n: ctx.params.get(n) for n in Source.__struct_fields__}
        try:
            with reading(Source(**given)) as place:
                found = sorted(names(place.store, place.clock.wall_s()))
        except Exception:  # noqa: BLE001 - a shell that completes shows no errors
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]

    return complete


def _in_repair(store: Store, _now_s: float) -> Iterable[str]:
    return (name for name, kept in store.remedies().items() if kept.ticket is not None)


def _kept(store: Store, _now_s: float) -> Iterable[str]:
    return store.remedies()


def _open(store: Store, now_s: float) -> Iterable[str]:
    return (one.domain for one in remedy_list.open_breakers(store.remedy_site(), now_s))


# --- words -------------------------------------------------------------------------------------------


def _says(command: F) -> F:
    """The options of every word."""
    reason = click.option("--reason", required=True, help="Why; it is kept and shown.")
    for option in (reason, options.by, options.output, options.cluster, options.of_site):
        command = option(command)
    return command


@command.command("repaired")
@click.argument("node", shell_complete=_completing(_in_repair))
@_says
def repaired(*, node: str, output: str, by: str, reason: str, **place: Any) -> int:
    """Close the repair ticket of NODE: the same machine is back in its slot.

    Its hold stays until the return gate is open: all GPUs answer, the pinned driver runs, caps are in force.
    What was tried before the repair counts no more; a node that is ill still is tried on from the
    beginning, after a quarter of an hour. Another machine in the slot is declared instead.

    \b
    gridplane remedy repaired ga-g1-r001-n3 --reason "new riser" --kubeconfig ga.kubeconfig
    """
    return _say("repaired", node, place, by=by, reason=reason, output=output)


@command.command("approve")
@click.argument("node", shell_complete=_completing(_kept))
@click.option(
    "--up-to",
    type=click.Choice(["reset_gpu", "reload_driver", "reboot", "power_cycle", "repair"]),
    required=True,
    help="The rung of the ladder that it may be taken to.",
)
@click.option(
    "--for", "for_s", type=DURATION, required=True, help="For how long: 30m, 2h; a day at most."
)
@_says
def approve(
    *, node: str, up_to: str, for_s: float, output: str, by: str, reason: str, **place: Any
) -> int:
    """Let NODE be taken further than an alert that asks, or an emergency that is over, allows.

    It is of faults that are there now: what begins later asks anew. Everything else is asked as ever:
    drained first, budgets, breakers, holds, two sources before a power cycle.

    \b
    gridplane remedy approve ga-g1-r001-n3 --up-to reboot --for 2h --reason "seen" --kubeconfig ga.kubeconfig
    """
    if for_s > limits.APPROVAL_MAX_S:
        raise Stop("--for is a day at most: who looks again approves again", Exit.USAGE)
    return _say(
        "approve", node, place, by=by, reason=reason, output=output, up_to=up_to, for_s=for_s
    )


@command.command("reset")
@click.argument("domain", shell_complete=_completing(_open))
@_says
def reset(*, domain: str, output: str, by: str, reason: str, **place: Any) -> int:
    """Reset the breaker of DOMAIN: it is known why so many of its nodes failed at once.

    DOMAIN is a rack, a node of the feed tree or the cluster, as `gridplane remedy list` names it. Remedies
    go on there once it has cooled down, half an hour after it tripped. What began before counts no more.

    \b
    gridplane remedy reset rack/ga-g1-r001 --reason "bad driver, pinned" --kubeconfig ga.kubeconfig
    """
    return _say("breaker", domain, place, by=by, reason=reason, output=output)


def _say(
    kind: str,
    target: str,
    place: dict[str, Any],
    *,
    by: str,
    reason: str,
    output: str,
    up_to: str | None = None,
    for_s: float | None = None,
) -> int:
    kubeconfig: Path | None = place["kubeconfig"]
    if kubeconfig is None:
        raise Stop(NO_KEEPER, Exit.USAGE)
    with saying_at(Where(**place)) as saying:
        assert isinstance(saying, ClusterSaying)  # noqa: S101 - with a kubeconfig it is one
        if saying.declared is not None:
            _check(saying.declared, kind, target)
        done = saying.say_remedy(kind, target, by=by, reason=reason, up_to=up_to, for_s=for_s)
        result = RemedyResult(site=saying.site, target=target, by=by, reason=reason, done=done)
        emit(output, result, table=f"{target}: {done}", names=[target])
    return Exit.OK


def _check(site: Site, kind: str, target: str) -> None:
    """Refuse a name that means nothing.

    Raises:
        Stop: with the nearest names.
    """
    if kind == "breaker":
        names, what = list(domains_of(site).domains), "failure domain of GPU nodes"
    else:
        names, what = [device.asset for device in gpu_devices(site)], "GPU node"
    if target not in names:
        near = difflib.get_close_matches(target, names, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise Stop(f"{site.id} has no {what} '{target}'.{hint}", Exit.USAGE)
