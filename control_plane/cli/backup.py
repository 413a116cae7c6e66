"""`gridplane backup`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from control_plane import __version__
from control_plane.cli import options
from control_plane.cli.exits import Exit
from control_plane.cli.workplace import Workplace, pick_site, run_async
from control_plane.engine.backup import Backup, packed_backup, rows_of


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@options.of_site
@options.cluster
def command(
    *,
    file: Path,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    kubeconfig: Path | None,
    namespace: str | None,
) -> int:
    """Write what must not be lost of a site to FILE; whoever acts on the site may go on meanwhile.

    Accepted revisions, rollouts, holds, open writes, pins and what is remembered of each device. It holds
    no secret. `gridplane restore` takes it, into an empty cluster or an empty state folder.

    \b
    gridplane backup ga-macon.backup --site ga-macon
    gridplane backup ga-macon.backup --site ga-macon --kubeconfig ga.kubeconfig --namespace power
    """
    name = site or pick_site(inventory, None)
    if kubeconfig is not None:
        backup = run_async(_of_cluster(name, kubeconfig, namespace))
    else:
        place = Workplace(site=name, state=state, inventory=inventory, network_map=network_map)
        with place.store.transaction():
            rows, revisions = rows_of(place.store)
        backup = Backup(
            site=name,
            made_at_s=time.time(),
            release=__version__,
            rows=rows,
            revisions=revisions,
        )
    data = packed_backup(backup)
    _write(file, data)
    click.echo(
        f"{file}: {len(backup.rows.get('memory', {})):,} devices, {len(backup.revisions):,} revisions, "
        f"{len(backup.rows.get('overlay', {})):,} holds, {len(data):,} bytes"
    )
    return Exit.OK


async def _of_cluster(site: str, file: Path, namespace: str | None) -> Backup:
    from control_plane.kube.backup import from_cluster
    from control_plane.kube.client import connect, kubeconfig, namespace_in

    async with connect(kubeconfig(file)) as cluster:
        return await from_cluster(
            cluster,
            site=site,
            namespace=namespace or namespace_in(file),
            release=__version__,
            now_s=time.time(),
        )


def _write(file: Path, data: bytes) -> None:
    """All of it, or what was there before."""
    with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}-", delete=False) as draft:
        draft.write(data)
        draft.flush()
        os.fsync(draft.fileno())
    Path(draft.name).replace(file)
