"""`gridplane render`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click
import yaml

from control_plane.cli import options
from control_plane.cli.exits import Exit
from control_plane.cli.workplace import Declared, load_declared, pick_site
from control_plane.inventory.bundle import render
from control_plane.inventory.git import commit_of
from control_plane.provision.fleet import fleet_layer, once
from control_plane.provision.manifests import Manifest
from control_plane.provision.settings import Layer, Settings
from control_plane.provision.site import DeclaredSite


@click.command("render")
@click.argument("site", required=False, shell_complete=options.complete_sites)
@options.inventory
@click.option(
    "--namespace", default="gridplane", show_default=True, help="Namespace of the two objects."
)
@click.option(
    "--mode",
    type=click.Choice(["observe", "enforce"]),
    help="Whether devices are written to.  [default: not said, what stands in the Site stays]",
)
@click.option(
    "--firmware",
    metavar="IMAGE",
    help="Print the firmware bundles and Jobs too; IMAGE is what the Jobs run.",
)
def command(
    *,
    site: str | None,
    inventory: Path,
    namespace: str,
    mode: Literal["observe", "enforce"] | None,
    firmware: str | None,
) -> int:
    """Print a site's FleetRevision and Site as YAML, for `kubectl apply --server-side` or a GitOps tool.

    The FleetRevision holds the site's files as written and is named by the SHA-256 of its bytes; it
    never changes, and old ones are never deleted by who declares them. Site points to it.

    \b
    gridplane render ga-macon | kubectl apply --server-side -f -
    gridplane render lab --mode enforce > deploy/lab.yaml
    gridplane render lab --firmware registry.example.com/gridplane:1 > deploy/lab.yaml
    """
    name = pick_site(inventory, site)
    declared = load_declared(inventory, name)
    commit = commit_of(inventory)
    if firmware is None:
        objects: tuple[Manifest, ...] = render(
            name, declared.files, namespace=namespace, commit=commit, mode=mode
        )
    else:
        objects = _with_firmware(
            declared,
            Settings(site=name, layer=Layer.FLEET, namespace=namespace, mode=mode, image=firmware),
            commit,
        )
    click.echo(
        yaml.dump_all(
            objects, Dumper=yaml.CSafeDumper, sort_keys=False, explicit_start=True, width=4096
        ),
        nl=False,
    )
    return Exit.OK


def _with_firmware(
    declared: Declared, settings: Settings, commit: str | None
) -> tuple[Manifest, ...]:
    whole = DeclaredSite(site=declared.site, digest=declared.digest, files=declared.files)
    layer = fleet_layer(whole, settings, commit=commit)
    return (layer.revision, layer.site, *layer.runner, *map(once, layer.firmware))
