"""`gridplane lab`: a real Kubernetes API on this machine."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.progress import ProgressLine
from control_plane.cli.workplace import load_declared
from control_plane.lab.api import PROGRAMS, ApiLab
from control_plane.lab.nodes import gpu_nodes
from control_plane.lab.programs import find
from control_plane.views.table import counted, table

name = click.option(
    "--name",
    default="lab",
    show_default=True,
    envvar="GRIDPLANE_LAB_NAME",
    help="Several labs stand side by side under names of their own.",
)
_MIB = 1024**2


@click.group("lab")
def command() -> None:
    """Run a real Kubernetes on this machine, from programs that `make tools` built.

    \b
    gridplane lab up                        etcd, API server, controllers, scheduler, kwok
    gridplane lab exec -- kubectl get ns    with KUBECONFIG set, and the lab's programs on PATH
    gridplane lab down                      no process and no file is left
    """


@command.command("up")
@name
@click.option("--port", type=click.IntRange(1, 65535), help="Of the API server; else a free one.")
@options.inventory
@click.option(
    "--site",
    shell_complete=options.complete_sites,
    help="Let the GPU nodes that this site declares join, simulated by kwok.",
)
def up_command(*, name: str, port: int | None, inventory: Path, site: str | None) -> int:
    """Bring a lab up; one that is up is left alone, one that lost a program gets it back.

    \b
    gridplane lab up
    gridplane lab up --site lab             with its declared GPU nodes, simulated
    gridplane lab up --name second --port 6443
    """
    lab = ApiLab(_folder(name))
    nodes = gpu_nodes(load_declared(inventory, site).site) if site else []
    began = time.monotonic()
    with ProgressLine(f"lab {name}") as line:
        started = lab.up(port=port, say=lambda text: line.say(text, force=True))
    if started:
        click.echo(f"ready after {time.monotonic() - began:.1f} s", err=True)
    if nodes:
        lab.join(nodes)
        click.echo(f"{counted(len(nodes), 'simulated GPU node')} of {site}", err=True)
    click.echo(f"export KUBECONFIG={lab.kubeconfig}")
    return Exit.OK


@command.command("status")
@name
@options.output
def status_command(*, name: str, output: str) -> int:
    """Say what runs, what it takes, and where its log is. Exit code 1 unless the lab is ready.

    \b
    gridplane lab status
    gridplane lab status -o json
    """
    lab = _made(name)
    alive = lab.running()
    ready = all(program in alive for program in PROGRAMS) and lab.is_ready()
    rows = [
        {
            "program": program,
            "state": "running" if program in alive else "ended",
            "pid": alive[program].pid if program in alive else None,
            "rss_mib": alive[program].rss_bytes // _MIB if program in alive else None,
            "log": str(lab.log_of(program)),
        }
        for program in PROGRAMS
    ]
    total_mib = sum(p.rss_bytes for p in alive.values()) // _MIB
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    emit(
        output,
        {"lab": name, "ready": ready, "folder": str(lab.folder), "programs": rows},
        table=f"{table(('PROGRAM', 'STATE', 'PID', 'RSS MIB', 'LOG'), cells)}\n"
        f"{'ready' if ready else 'not ready: `gridplane lab up`'}, {total_mib} MiB",
        names=[program for program in PROGRAMS if program in alive],
    )
    return Exit.OK if ready else Exit.FAILED


@command.command("kubeconfig")
@name
def kubeconfig_command(*, name: str) -> int:
    """Print the administrator's kubeconfig; it carries its certificates and may be copied.

    \b
    gridplane lab kubeconfig > lab.kubeconfig
    """
    click.echo(_made(name).kubeconfig.read_text(encoding="utf-8"))
    return Exit.OK


@command.command("exec", context_settings={"ignore_unknown_options": True})
@name
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(*, name: str, arguments: tuple[str, ...]) -> int:
    """Run a program against the lab: KUBECONFIG is set, kubectl is on PATH. Its exit code is ours.

    \b
    gridplane lab exec -- kubectl get nodes
    """
    lab = _made(name)
    tools = os.pathsep.join(sorted({str(find(tool).parent) for tool in ("kubectl",)}))
    environment = {
        **os.environ,
        "KUBECONFIG": str(lab.kubeconfig),
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    try:
        return subprocess.run(arguments, env=environment, check=False).returncode  # noqa: S603 - the operator's own command
    except OSError as error:
        raise Stop(f"{arguments[0]}: {error.strerror}", Exit.USAGE) from error


@command.command("down")
@name
def down_command(*, name: str) -> int:
    """End a lab and remove what it left; also after a crash, also twice.

    \b
    gridplane lab down
    """
    ApiLab(_folder(name)).down()
    click.echo(f"lab {name} is gone", err=True)
    return Exit.OK


def _folder(name: str) -> Path:
    """Below the user's state, not the checkout: a lab is found from any folder."""
    if not name.replace("-", "").isalnum():
        raise Stop(f"a lab is named by letters, digits and '-'; not '{name}'", Exit.USAGE)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "gridplane" / "lab" / name


def _made(name: str) -> ApiLab:
    lab = ApiLab(_folder(name))
    if lab.record is None:
        hint = "" if name == "lab" else f" --name {name}"
        raise Stop(f"there is no lab {name}: `gridplane lab up{hint}` makes one", Exit.USAGE)
    return lab
