"""What every word on GPU nodes has in common: its options, where it goes, and a check of the names in it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.reading import Source, reading
from control_plane.cli.results import RemedyResult
from control_plane.cli.saying_afar import ClusterSaying, Where, saying_at
from control_plane.cli.workplace import Workplace
from control_plane.core.fleet import Site
from control_plane.core.gpu_domains import domains_of, gpu_devices

F = TypeVar("F", bound=Callable[..., object])

NO_KEEPER = (
    "GPU nodes are remedied by the controller of their cluster, and it alone hears this: --kubeconfig FILE. "
    "A site that `gridplane run` acts on has nobody who remedies GPU nodes"
)


def says(command: F) -> F:
    """The options of every word."""
    reason = click.option("--reason", required=True, help="Why; it is kept and shown.")
    for option in (reason, options.by, options.output, options.cluster, options.of_site):
        command = option(command)
    return command


def completing(
    names: Callable[[Workplace], Iterable[str]],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Completes with what the site says now; with nothing where it cannot be asked."""

    def complete(
        ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        given: dict[str, Any] = {n: ctx.params.get(n) for n in Source.__struct_fields__}
        try:
            with reading(Source(**given)) as place:
                found = sorted(names(place))
        except Exception:  # noqa: BLE001 - a shell that completes shows no errors
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]

    return complete


def say(
    kind: str,
    target: str,
    place: dict[str, Any],
    *,
    by: str,
    reason: str,
    output: str,
    check: Callable[[Site], None] = lambda _site: None,
    for_s: float | None = None,
    **more: object,
) -> int:
    """Say it to whoever leads, and print what was answered.

    Args:
        kind: of the order.
        target: of it.
        place: the options of where it goes.
        by: who says so.
        reason: why.
        output: form of the answer.
        check: refuses, by `Stop`, names that mean nothing, where the declaration is known.
        for_s: for how long it holds.
        more: other fields of the order.
    """
    kubeconfig: Path | None = place["kubeconfig"]
    if kubeconfig is None:
        raise Stop(NO_KEEPER, Exit.USAGE)
    with saying_at(Where(**place)) as saying:
        assert isinstance(saying, ClusterSaying)  # noqa: S101 - with a kubeconfig it is one
        if saying.declared is not None:
            check(saying.declared)
        done = saying.say_remedy(kind, target, by=by, reason=reason, for_s=for_s, **more)
        result = RemedyResult(site=saying.site, target=target, by=by, reason=reason, done=done)
        emit(output, result, table=f"{target}: {done}", names=[target])
    return Exit.OK


def are_nodes(*names: str) -> Callable[[Site], None]:
    """Whether each is a GPU node of the site."""

    def check(site: Site) -> None:
        _known(site, names, [device.asset for device in gpu_devices(site)], "GPU node")

    return check


def are_domains(*names: str) -> Callable[[Site], None]:
    """Whether each is a failure domain of GPU nodes."""

    def check(site: Site) -> None:
        _known(site, names, list(domains_of(site).domains), "failure domain of GPU nodes")

    return check


def _known(site: Site, names: Iterable[str], there: list[str], what: str) -> None:
    for name in names:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise Stop(f"{site.id} has no {what} '{name}'.{hint}", Exit.USAGE)
