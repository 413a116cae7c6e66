"""Options that several verbs share, once."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., object])

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


def complete_sites(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The sites of the inventory, for a shell that completes."""
    folder = Path(ctx.params.get("inventory") or "inventory") / "sites"
    names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def user() -> str:
    """The login name; whose word it is, unless another is named."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


inventory = click.option(
    "--inventory",
    type=_DIRECTORY,
    default=Path("inventory"),
    envvar="GRIDPLANE_INVENTORY",
    show_default=True,
    help="Folder that holds fleet.yaml.",
)
site = click.option(
    "--site",
    envvar="GRIDPLANE_SITE",
    shell_complete=complete_sites,
    help="Site; may be left out where there is only one.  [env: GRIDPLANE_SITE]",
)
state = click.option(
    "--state",
    type=_DIRECTORY,
    envvar="GRIDPLANE_STATE",
    help="Folder of the site's durable state.  [default: .gridplane/<site> beside the inventory]",
)
network_map = click.option(
    "--network-map",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    envvar="GRIDPLANE_NETWORK_MAP",
    help="Where declared addresses answer in a simulation (gridplane simulate writes one).",
)
interval = click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(1.0, 60.0),
    default=10.0,
    show_default=True,
    help="Seconds between looks at a device.",
)
output = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "name"]),
    default="table",
    show_default=True,
    help="Form of the output; everything but the table is stable for scripts.",
)
by = click.option(
    "--by",
    default=user,
    show_default="the login name",
    help="Who says so; it is kept and shown.",
)
approve = click.option(
    "--approve",
    "approve",
    multiple=True,
    metavar="OWNER:FIELD",
    help="The owner's approval of a field; --by is one whom the owner named. May be repeated.",
)
yes = click.option("--yes", is_flag=True, help="Do not ask.")


kubeconfig = click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Of the site's cluster, where a controller serves it.",
)
namespace = click.option(
    "--namespace", help="Of the site in its cluster.  [default: the kubeconfig's, or default]"
)


journal = click.option(
    "--journal",
    type=_DIRECTORY,
    help="Write it into the journal of this management host instead, with the API server away.",
)


def cluster(command: F) -> F:
    """The options of verbs that work with a site's cluster as well as with a state folder."""
    return kubeconfig(namespace(command))


def of_site(command: F) -> F:
    """The options of every verb that works on one site."""
    for option in (network_map, state, site, inventory):
        command = option(command)
    return command
