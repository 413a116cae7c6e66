"""`gridplane lab`: a real Kubernetes on this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

import control_plane
from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.progress import ProgressLine
from control_plane.cli.workplace import load_declared, pick_site
from control_plane.lab import pulumi, remains
from control_plane.lab.api import ApiLab
from control_plane.lab.cluster import ClusterLab
from control_plane.lab.labs import Lab, standing
from control_plane.lab.nodes import gpu_nodes
from control_plane.lab.programs import ProgramMissing, find, on_path
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
    gridplane lab up                        the API alone: etcd, API server, controllers, kwok; no root
    gridplane lab up --form cluster --site lab       hosts that boot, kubeadm, pods, devices; root
    gridplane lab exec -- kubectl get ns    with KUBECONFIG set, and the lab's programs on PATH
    gridplane lab down                      no process and no file is left
    """


@command.command("up")
@name
@click.option(
    "--form",
    type=click.Choice(["api", "cluster"]),
    help="api: a control plane on loopback. cluster: hosts, pods, devices.  [default: as it stands, or api]",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Of the API server; else a free one.")
@options.inventory
@click.option(
    "--site",
    shell_complete=options.complete_sites,
    help="api: its GPU nodes join, simulated by kwok. cluster: its hosts and devices.",
)
@click.option("--host", "hosts", multiple=True, help="cluster: this host alone; more than once.")
@click.option(
    "--bare",
    multiple=True,
    metavar="HOST",
    help="cluster: leave this host with sshd and nothing else; `all` for every one.",
)
def up_command(
    *,
    name: str,
    form: str | None,
    port: int | None,
    inventory: Path,
    site: str | None,
    hosts: tuple[str, ...],
    bare: tuple[str, ...],
) -> int:
    """Bring a lab up; one that is up is left alone, one that lost a program or host gets it back.

    \b
    gridplane lab up
    gridplane lab up --site lab             with its declared GPU nodes, simulated
    gridplane lab up --name second --port 6443
    sudo gridplane lab up --form cluster --site lab
    sudo gridplane lab up --form cluster --site lab --bare all      machines for `pulumi up`
    """
    stands = standing(_folder(name))
    form = form or _form_of(stands) or "api"
    if stands is not None and _form_of(stands) != form:
        raise Stop(
            f"lab {name} is of the form {_form_of(stands)}: `gridplane lab down` ends it, or take another "
            "--name",
            Exit.USAGE,
        )
    if form == "api" and (hosts or bare):
        raise Stop("only a lab of the form cluster has hosts: --form cluster", Exit.USAGE)
    began = time.monotonic()
    with ProgressLine(f"lab {name}") as line:

        def say(text: str) -> None:
            line.say(text, force=True)

        if form == "api":
            lab, started = _up_api(name, port, inventory, site, say)
        else:
            chosen = _Chosen(inventory, site, frozenset(hosts), frozenset(bare))
            lab, started = _up_cluster(name, port, chosen, say)
    if started:
        click.echo(f"ready after {time.monotonic() - began:.1f} s", err=True)
    if lab.kubeconfig.exists():
        click.echo(f"export KUBECONFIG={lab.kubeconfig}")
    return Exit.OK


def _up_api(
    name: str, port: int | None, inventory: Path, site: str | None, say: Callable[[str], None]
) -> tuple[Lab, bool]:
    lab = ApiLab(_folder(name))
    nodes = gpu_nodes(load_declared(inventory, site).site) if site else []
    started = lab.up(port=port, say=say)
    if nodes:
        lab.join(nodes)
        click.echo(f"{counted(len(nodes), 'simulated GPU node')} of {site}", err=True)
    return lab, started


class _Chosen(NamedTuple):
    """What a lab of hosts is made of."""

    inventory: Path
    site: str | None
    hosts: frozenset[str]
    bare: frozenset[str]


def _up_cluster(
    name: str, port: int | None, chosen: _Chosen, say: Callable[[str], None]
) -> tuple[Lab, bool]:
    lab = ClusterLab(_folder(name))
    record = lab.record
    if record is not None:
        # What it was made of is what it is.
        chosen = chosen._replace(inventory=Path(record.inventory), site=record.site)
    site = load_declared(chosen.inventory, pick_site(chosen.inventory, chosen.site)).site
    started = lab.up(
        site,
        chosen.inventory,
        only=chosen.hosts,
        bare=chosen.bare,
        port=port,
        checkout=_checkout(),
        say=say,
    )
    return lab, started


def _checkout() -> Path | None:
    """Where gridplane's own sources are, from which its image is built; `None` where it is installed."""
    top = Path(control_plane.__file__).resolve().parent.parent
    return top if (top / "Containerfile").is_file() else None


def _form_of(lab: Lab | None) -> str | None:
    if lab is None:
        return None
    return "api" if isinstance(lab, ApiLab) else "cluster"


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
    ready = lab.is_ready()
    rows = [
        {
            "program": program,
            "state": "running" if program in alive else "ended",
            "pid": alive[program].pid if program in alive else None,
            "rss_mib": alive[program].rss_bytes // _MIB if program in alive else None,
            "log": str(lab.log_of(program)),
        }
        for program in lab.programs()
    ]
    total_mib = sum(p.rss_bytes for p in alive.values()) // _MIB
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    emit(
        output,
        {
            "lab": name,
            "form": _form_of(lab),
            "ready": ready,
            "folder": str(lab.folder),
            "programs": rows,
        },
        table=f"{table(('PROGRAM', 'STATE', 'PID', 'RSS MIB', 'LOG'), cells)}\n"
        f"{'ready' if ready else 'not ready: `gridplane lab up`'}, {total_mib} MiB",
        names=[program for program in lab.programs() if program in alive],
    )
    return Exit.OK if ready else Exit.FAILED


@command.command("kubeconfig")
@name
def kubeconfig_command(*, name: str) -> int:
    """Print the administrator's kubeconfig; it carries its certificates and may be copied.

    \b
    gridplane lab kubeconfig > lab.kubeconfig
    """
    kubeconfig = _made(name).kubeconfig
    if not kubeconfig.exists():
        raise Stop(
            f"lab {name} has no API server: its hosts are bare, or `up` has not ended", Exit.USAGE
        )
    click.echo(kubeconfig.read_text(encoding="utf-8"))
    return Exit.OK


@command.command("exec", context_settings={"ignore_unknown_options": True})
@name
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(*, name: str, arguments: tuple[str, ...]) -> int:
    """Run a program against the lab: KUBECONFIG is set, kubectl is on PATH. Its exit code is ours.

    With hosts it runs in the lab's network, where declared addresses are hosts and devices, and
    GRIDPLANE_LAB_SSH names the SSH configuration that knows their keys. Pulumi keeps its stacks in the
    lab and fetches nothing; they are gone with the lab.

    \b
    gridplane lab exec -- kubectl get nodes
    gridplane lab exec -- pulumi stack ls
    sudo gridplane lab exec -- sh -c 'ssh -F $GRIDPLANE_LAB_SSH lab-mgmt-1 uptime'
    """
    lab = _made(name)
    environment = {**os.environ, **lab.environment()}
    environment["PATH"] = on_path({"kubectl": find("kubectl")}, environment.get("PATH", ""))
    try:
        environment = pulumi.environment(lab.folder / "pulumi", environment)
    except ProgramMissing:
        # Only those who ask for it have to build it.
        if arguments[0] == "pulumi":
            raise
    arguments = tuple(str(part) for part in lab.command(arguments))
    try:
        return subprocess.run(arguments, env=environment, check=False).returncode  # noqa: S603 - the operator's own command
    except OSError as error:
        raise Stop(f"{arguments[0]}: {error.strerror}", Exit.USAGE) from error


@command.command("power")
@name
@click.argument("host")
@click.argument("state", type=click.Choice(["off", "on", "cycle"]))
def power_command(*, name: str, host: str, state: str) -> int:
    """Take a host's power, or give it back; nothing on it gets to say goodbye.

    \b
    sudo gridplane lab power lab-g1-n1 off
    sudo gridplane lab power lab-g1-n1 on
    """
    lab = _made(name)
    if not isinstance(lab, ClusterLab):
        raise Stop(f"lab {name} is of the form api: it has no hosts", Exit.USAGE)
    lab.power(host, state)
    return Exit.OK


@command.command("down")
@name
def down_command(*, name: str) -> int:
    """End a lab and remove what it left; also after a crash, also twice.

    \b
    gridplane lab down
    """
    remains.clear(_folder(name))
    click.echo(f"lab {name} is gone", err=True)
    return Exit.OK


def _folder(name: str) -> Path:
    """Below the user's state, not the checkout: a lab is found from any folder."""
    if not name.replace("-", "").isalnum():
        raise Stop(f"a lab is named by letters, digits and '-'; not '{name}'", Exit.USAGE)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "gridplane" / "lab" / name


def _made(name: str) -> Lab:
    lab = standing(_folder(name))
    if lab is None:
        hint = "" if name == "lab" else f" --name {name}"
        raise Stop(f"there is no lab {name}: `gridplane lab up{hint}` makes one", Exit.USAGE)
    return lab
