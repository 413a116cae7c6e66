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
    from control_plane.drivers.net import StreamNet
    from control_plane.drivers.registry import make_drivers
    from control_plane.engine.firmware import counted, flash_shard, why_not
    from control_plane.engine.flash import Flasher, is_installer
    from control_plane.engine.images import images_at
    from control_plane.engine.secrets import MountedSecrets
    from control_plane.kube.client import connect, in_cluster
    from control_plane.kube.client import kubeconfig as of_file
    from control_plane.kube.grants import OperationJournal, operation_of, read_grant

    about = _read(work / "bundle.json", About)
    shard = _read(work / shard_file(index), Shard)
    clock = clock_of(network_map)
    operation, where = operation_of(job, index), namespace or own_namespace()

    def not_granted(why: object) -> int:
        _print({"operation": operation, "granted": False, "why": f"not granted: {why}"})
        return Exit.OK

    async def main() -> int:
        credentials = of_file(kubeconfig) if kubeconfig else in_cluster()
        async with connect(credentials) as cluster:
            try:
                grant = await read_grant(cluster, job, index, namespace=where)
            except ControlPlaneError as error:
                return not_granted(error)
            if grant is None:
                return not_granted(f"there is no {operation}")
            under_way = any(e.attempt and not e.is_final for e in grant.entries.values())
            why = why_not(grant, about, now_s=clock.wall_s())
            if why is not None and not (under_way and grant.digest == about.digest):
                return not_granted(why)
            driver = make_drivers(StreamNet(read_network_map(network_map)), clock).get(
                about.bundle.family
            )
            if driver is None or not is_installer(driver):
                return not_granted(f"no driver here installs firmware of {about.bundle.family}")
            _print({"operation": operation, "granted": True, "devices": len(shard.devices)})
            journal = OperationJournal(cluster, operation, grant.entries, namespace=where)
            flasher = Flasher(
                about.bundle,
                driver,
                images_at(images, cache),
                journal,
                clock,
                deadline_s=grant.deadline_s,
            )
            # The kubelet ends a pod with this, and waits for an image that leaves.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, flasher.stop)
            try:
                lines = await flash_shard(
                    shard, about, grant, flasher, secrets=MountedSecrets(passwords), say=_print
                )
            except ControlPlaneError as error:
                # The Job's controller begins this index again, which goes on where the journal says.
                raise Stop(f"{operation}: a step could not be kept: {error}", Exit.STATE) from error
            _print({"operation": operation, "ended": counted(lines), "writes": journal.writes})
            # What is under way has to be taken up: an index that fails is begun again by its Job.
            return Exit.OK if all(line.has_ended for line in lines) else Exit.STATE

    return run_async(main())


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise Stop(f"{path} is not what a firmware Job is given: {error}", Exit.USAGE) from error


def _print(value: object) -> None:
    """One line; what devices said is escaped by JSON."""
    click.echo(msgspec.json.encode(value))
