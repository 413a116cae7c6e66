"""`gridplane restore`."""

from __future__ import annotations

from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.workplace import Workplace, run_async
from control_plane.engine.backup import RESTORED, Backup, held, into_store, read_backup


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@options.inventory
@options.state
@options.cluster
def command(
    *,
    file: Path,
    inventory: Path,
    state: Path | None,
    kubeconfig: Path | None,
    namespace: str | None,
) -> int:
    """Begin a site anew from FILE, in an empty cluster or an empty state folder.

    Nothing is written to devices: the whole site is held, since nobody knows what happened after the
    backup was made. Compare what devices do with what is declared, then release the hold `restored-SITE`.
    In a cluster the Site observes until somebody sets its mode. What was cut off may be called again.

    \b
    gridplane restore ga-macon.backup --kubeconfig new.kubeconfig --namespace power
    gridplane restore ga-macon.backup --state /var/lib/gridplane/ga-macon
    """
    backup = read_backup(file.read_bytes())
    if kubeconfig is not None:
        name = run_async(_into_cluster(backup, kubeconfig, namespace))
        click.echo(f"{backup.site} is restored with revision {name[:12]}; its Site observes")
    else:
        place = Workplace(site=backup.site, state=state, inventory=inventory, creates=True)
        if place.has_state():
            raise Stop(
                f"{place.state} has state already: a backup is restored into an empty folder only",
                Exit.REFUSED,
            )
        into_store(held(backup, place.clock.wall_s()), place.store)
        click.echo(f"{backup.site} is restored in {place.state}")
    click.echo(
        f"the whole site is held: compare, then  gridplane release {RESTORED.format(site=backup.site)}"
    )
    return Exit.OK


async def _into_cluster(backup: Backup, file: Path, namespace: str | None) -> str:
    from control_plane.engine.adapters import SystemClock
    from control_plane.kube.backup import into_cluster
    from control_plane.kube.client import connect, kubeconfig, namespace_in

    now_s = SystemClock().wall_s()
    async with connect(kubeconfig(file)) as cluster:
        return await into_cluster(
            cluster, held(backup, now_s), namespace=namespace or namespace_in(file)
        )
