"""`gridplane firmware-job`."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.pod import own_namespace
from control_plane.cli.workplace import clock_of, read_network_map, run_async

T = TypeVar("T")


@click.command("firmware-job")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder with bundle.json and the shards.",
)
@click.option(
    "--passwords",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/etc/gridplane/passwords"),
    show_default=True,
    help="Folder where `env:NAME` is the file NAME.",
)
@click.option(
    "--images",
    default="/var/lib/gridplane/images",
    show_default=True,
    help="Folder or http:// URL with the images of the catalogue, by their names.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/cache/gridplane"),
    show_default=True,
    help="Folder that images of a URL are brought to.",
)
@click.option("--job", envvar="GRIDPLANE_JOB", required=True, help="Name of the Job.")
@click.option(
    "--index",
    type=click.IntRange(0),
    envvar="JOB_COMPLETION_INDEX",
    required=True,
    help="Which shard is ours.  [env: JOB_COMPLETION_INDEX]",
)
@click.option("--namespace", help="Of the Job.  [default: the pod's own, or default]")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For a process outside of the cluster.  [default: the pod's service account]",
)
@options.network_map
def command(
    *,
    work: Path,
    passwords: Path,
    images: str,
    cache: Path,
    job: str,
    index: int,
    namespace: str | None,
    kubeconfig: Path | None,
    network_map: Path | None,
) -> int:
    """Bring the machines of one shard of a firmware Job to its firmware; a line of JSON for each.

    It needs a grant: the DeviceOperation JOB-INDEX, which whoever opens the wave makes first. Without
    one, or after its deadline, no machine is asked anything and the pod ends well: what was left is swept
    up later. A machine that runs the version already is left alone, and none is ever sent an image twice
    under one grant: run again after a kill, it goes on where the grant's journal says.

    \b
    Examples:
      gridplane firmware-job --work /etc/gridplane/firmware --images http://10.21.0.10:8090/images
      gridplane firmware-job --work ./shard --passwords ./passwords --images ./images \\
        --job fw-s21-w0-1a2b --index 0 --kubeconfig ~/.kube/config
    """
    from control_plane.core.errors import ControlPlaneError
    from control_plane.core.firmware import About, Shard, shard_file
    from control_plane.core.firmware_job import BUNDLE_FILE
    from control_plane.drivers.net import StreamNet
    from control_plane.drivers.registry import make_drivers
    from control_plane.engine.flash import Flasher
    from control_plane.engine.images import images_at
    from control_plane.engine.secrets import MountedSecrets
    from control_plane.kube.client import connect, in_cluster
    from control_plane.kube.client import kubeconfig as of_file
    from control_plane.kube.firmware_runner import Index, run_index
    from control_plane.kube.grants import operation_of

    given = Index(
        operation=operation_of(job, index),
        namespace=namespace or own_namespace(),
        about=_read(work / BUNDLE_FILE, About),
        shard=_read(work / shard_file(index), Shard),
    )
    clock = clock_of(network_map)

    def began(flasher: Flasher) -> None:
        # The kubelet ends a pod with this, and waits for an image that leaves.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, flasher.stop)

    async def main() -> int:
        async with connect(of_file(kubeconfig) if kubeconfig else in_cluster()) as cluster:
            try:
                is_done = await run_index(
                    given,
                    cluster,
                    clock=clock,
                    drivers=make_drivers(StreamNet(read_network_map(network_map)), clock),
                    images=images_at(images, cache),
                    secrets=MountedSecrets(passwords),
                    tell=_print,
                    began=began,
                )
            except ControlPlaneError as error:
                # The Job's controller begins this index again, which goes on where the journal says.
                raise Stop(
                    f"{given.operation}: a step could not be kept: {error}", Exit.STATE
                ) from error
            # What is under way has to be taken up: an index that fails is begun again by its Job.
            return Exit.OK if is_done else Exit.STATE

    return run_async(main())


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise Stop(f"{path} is not what a firmware Job is given: {error}", Exit.USAGE) from error


def _print(value: object) -> None:
    """One line; what devices said is escaped by JSON."""
    click.echo(msgspec.json.encode(value))
