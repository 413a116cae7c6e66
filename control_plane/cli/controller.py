"""`gridplane controller`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.exits import Exit
from control_plane.cli.pod import is_pod, own_namespace
from control_plane.cli.workplace import Workplace, keep_what_is, run_async
from control_plane.engine.loop import Pace
from control_plane.views.log import Form, LogWriter

PORT = 8080
Address = tuple[str | None, int] | None
"""Host (`None`: all of this one) and port; `None` for nowhere."""


class _Listen(click.ParamType[Address]):
    name = "ADDRESS:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        text = str(value)
        if text == "off":
            return None
        host, _, port = text.rpartition(":")
        if not port.isascii() or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - TCP's
            self.fail(f"{text!r} is no ADDRESS:PORT, such as :8080 or 127.0.0.1:8080, nor 'off'")
        return host.strip("[]") or None, int(port)


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
@click.option(
    "--listen",
    type=_Listen(),
    default=lambda: f":{PORT}" if is_pod() else "off",
    show_default=f":{PORT} in a pod, elsewhere off",
    help="Where /healthz, /readyz, /metrics and /store are served; `off` for nowhere.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default=lambda: "json" if is_pod() else "text",
    show_default="json in a pod, elsewhere text",
    help="Form of the lines on stderr.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of this host where `gridplane hold --journal` writes with the API server away.",
)
@click.option(
    "--node",
    envvar="GRIDPLANE_NODE",
    default=socket.gethostname,
    show_default="the host name; in a pod, set it to spec.nodeName",
    help="Name of this host, by which the others know its journal.",
)
@options.network_map
@options.interval
def command(
    *,
    site: str,
    namespace: str | None,
    kubeconfig: Path | None,
    state: Path,
    listen: Address,
    log_format: Form,
    journal: Path | None,
    node: str,
    network_map: Path | None,
    interval_s: float,
) -> int:
    """Serve a site from its cluster: the revision that `Site` names, shown in its objects.

    It accepts revisions, looks at devices, and shows in `Site`, `Rack` and `Miner` where they stand. With
    `Site.spec.mode: enforce` it brings them to their declaration, wave by wave; with `observe`, the
    default, it shows what enforcing would change. Any number of processes may run; one leads, by a Lease.

    \b
    gridplane controller --site ga-macon
    gridplane controller --site lab --kubeconfig lab.kubeconfig --namespace power --state /tmp/lab
    """
    from control_plane.kube.client import connect, in_cluster
    from control_plane.kube.client import kubeconfig as of_file
    from control_plane.kube.controller import Controller
    from control_plane.kube.serving import serving

    place = Workplace(
        site=site, state=state, inventory=state, network_map=network_map, creates=True
    )

    say = LogWriter(
        log_format,
        site=site,
        write=lambda line: click.echo(line, err=True),
        wall_s=place.clock.wall_s,
    )

    async def main() -> None:
        keep_what_is()
        credentials = of_file(kubeconfig) if kubeconfig else in_cluster()
        async with connect(credentials) as cluster:
            controller = Controller(
                cluster,
                site=site,
                namespace=namespace or own_namespace(),
                identity=f"{socket.gethostname()}-{secrets.token_hex(3)}",
                folder=state,
                edges=place.edges(),
                pace=Pace(interval_s=interval_s),
                say=say,
                keep=keep_what_is,
                journal=journal,
                node=node,
            )
            async with contextlib.AsyncExitStack() as stack:
                if listen is not None:
                    port = await stack.enter_async_context(serving(controller.facts, *listen))
                    say(f"listens on {listen[0] or '*'}:{port}", kind="http", port=port)
                await _until_told(controller.run)
            await controller.elector.release()

    run_async(main())
    return Exit.OK


async def _until_told(run: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run until somebody ends the process."""
    running = asyncio.ensure_future(run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
