"""`gridplane controller`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.exits import Exit
from control_plane.cli.workplace import Workplace, run_async
from control_plane.engine.loop import Pace

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@click.command("controller")
@click.option("--site", required=True, envvar="GRIDPLANE_SITE", help="Also the name of its `Site`.")
@click.option("--namespace", help="Of its objects.  [default: the pod's own, or default]")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For a process outside of the cluster.  [default: the pod's service account]",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/gridplane/state"),
    show_default=True,
    help="Folder that it works in; nothing in it has to survive.",
)
@options.network_map
@options.interval
def command(
    *,
    site: str,
    namespace: str | None,
    kubeconfig: Path | None,
    state: Path,
    network_map: Path | None,
    interval_s: float,
) -> int:
    """Serve a site from its cluster: the revision that `Site` names, shown in its objects.

    This release observes only: it accepts revisions, looks at devices, and shows in `Site`, `Rack` and
    `Miner` what enforcing would change. Any number of processes may run; one leads, by a Lease.

    \b
    gridplane controller --site ga-macon
    gridplane controller --site lab --kubeconfig lab.kubeconfig --namespace power --state /tmp/lab
    """
    from control_plane.kube.client import connect, in_cluster
    from control_plane.kube.client import kubeconfig as of_file
    from control_plane.kube.controller import Controller

    place = Workplace(
        site=site, state=state, inventory=state, network_map=network_map, creates=True
    )

    async def main() -> None:
        credentials = of_file(kubeconfig) if kubeconfig else in_cluster()
        async with connect(credentials) as cluster:
            controller = Controller(
                cluster,
                site=site,
                namespace=namespace or _namespace(),
                identity=f"{socket.gethostname()}-{secrets.token_hex(3)}",
                folder=state,
                edges=place.edges(),
                pace=Pace(interval_s=interval_s),
                say=lambda text: click.echo(f"controller: {text}", err=True),
            )
            serving = asyncio.ensure_future(controller.run())
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, serving.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            await controller.elector.release()

    run_async(main())
    return Exit.OK


def _namespace() -> str:
    try:
        return _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return "default"
