"""Bring a site up from the bottom: `make up SITE=lab`, one `pulumi up` for each layer.

Pulumi is used as it is set up here: its login, its stacks. For the site `lab` it is the lab's, whose stacks
go with it; where no cluster is named, the lab boots bare hosts first. With a cluster that exists already
(`make up SITE=lab KUBECONFIG=FILE`) the platform layer is the first.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from control_plane.core.errors import ControlPlaneError
from control_plane.lab import images, pulumi
from control_plane.lab.pki import write_private
from control_plane.provision.settings import NAMESPACE, Layer, stack_of

TOP = Path(__file__).resolve().parent.parent
LAB_SITE = "lab"
CONTROLLER = "deployment/gridplane-controller"
_READY_S = 180
"""From a fresh cluster to two controllers that answer."""


class Failed(Exception):
    """A step ended with an error; what it said is on the terminal already."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make up", description=__doc__)
    parser.add_argument("--site", required=True, metavar="SITE", help="a folder of inventory/sites")
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="a cluster that exists; no cluster layer then",
    )
    parser.add_argument(
        "--until", type=Layer, choices=tuple(Layer), default=Layer.FLEET, help="the last layer"
    )
    asked = parser.parse_args(arguments)
    try:
        up(
            asked.site,
            asked.kubeconfig.expanduser().resolve() if asked.kubeconfig else None,
            asked.until,
        )
    except (ControlPlaneError, Failed) as error:
        print(f"make up: {error}", file=sys.stderr)
        return 1
    return 0


def up(site: str, kubeconfig: Path | None, until: Layer = Layer.FLEET) -> None:
    """Each layer in its turn; a layer that fails ends it.

    Raises:
        Failed: a step did not work, or a file is not there.
        ProgramMissing: the lab's programs are not built yet.
    """
    if kubeconfig is not None and not kubeconfig.is_file():
        raise Failed(f"{kubeconfig} is no file: `gridplane lab kubeconfig` prints the lab's")
    if site == LAB_SITE and kubeconfig is None:
        _run(["gridplane", "lab", "up", "--form", "cluster", "--site", site, "--bare", "all"], {})
    inside, environment = _engine(site, kubeconfig)
    first = Layer.CLUSTER if kubeconfig is None else Layer.PLATFORM
    everything = tuple(Layer)
    layers = everything[everything.index(first) : everything.index(until) + 1]
    for number, layer in enumerate(layers, 1):
        stack = stack_of(site, layer)
        print(f"[{number}/{len(layers)}] {stack}", file=sys.stderr, flush=True)
        began = time.monotonic()
        _run([*inside, "pulumi", "stack", "select", "--create", stack], environment)
        _run([*inside, "pulumi", "up", "--yes", "--skip-preview", "--stack", stack], environment)
        print(
            f"[{number}/{len(layers)}] {stack}: {time.monotonic() - began:.0f} s", file=sys.stderr
        )
    _run([*inside, "pulumi", "stack", "output", "--stack", stack_of(site, until)], environment)
    if kubeconfig is None:
        kept = _keep_kubeconfig(site, inside, environment)
        kubectl = [*inside, "kubectl", f"--kubeconfig={kept}"]
        _run([*kubectl, "get", "nodes", "--output=wide"], environment)
        if until is not Layer.CLUSTER:
            ours = [*kubectl, f"--namespace={NAMESPACE}"]
            _run([*ours, "rollout", "status", CONTROLLER, f"--timeout={_READY_S}s"], environment)
            _run([*ours, "get", "sites,deployments,pods"], environment)
        print(f"this cluster: {shlex.join(kubectl)} get pods --all-namespaces", file=sys.stderr)


def _keep_kubeconfig(site: str, inside: list[str], environment: Mapping[str, str]) -> Path:
    """The administrator's, in a file that nobody else reads."""
    stack = stack_of(site, Layer.CLUSTER)
    command = [*inside, "pulumi", "stack", "output", "kubeconfig", "--show-secrets"]
    text = _run([*command, "--stack", stack], environment, keep=True)
    path = TOP / ".gridplane" / "up" / f"{site}.kubeconfig"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, text)
    return path


def _engine(site: str, kubeconfig: Path | None) -> tuple[list[str], dict[str, str]]:
    """How `pulumi` is reached, and the variables that it needs beside ours."""
    told = {"GRIDPLANE_KUBECONFIG": str(kubeconfig)} if kubeconfig is not None else {}
    if site != LAB_SITE:
        return [], told
    if kubeconfig is None:
        # Its hosts have the image of this checkout, by a name that tells it from every other.
        told["GRIDPLANE_IMAGE"] = images.reference(TOP)
        # They are in a network of their own.
        return ["gridplane", "lab", "exec", "--"], told
    # A lab that is made anew is another cluster: stacks of the one before say nothing of it.
    cluster = hashlib.sha256(kubeconfig.read_bytes()).hexdigest()[:8]
    return [], {**pulumi.environment(TOP / ".gridplane" / "up" / f"{site}-{cluster}"), **told}


def _run(command: Sequence[str], environment: Mapping[str, str], *, keep: bool = False) -> bytes:
    """Run a step; what it printed, where that is kept.

    Raises:
        Failed: it ended with an error, or the program is not there.
    """
    variables = {**os.environ, **environment}
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])
    if shutil.which(command[0], path=variables["PATH"]) is None:
        raise Failed(f"this machine lacks {command[0]}: `make tools PROGRAMS=pulumi` builds it")
    out = subprocess.PIPE if keep else None
    done = subprocess.run(list(command), cwd=TOP, env=variables, stdout=out, check=False)
    if done.returncode:
        raise Failed(
            f"`{' '.join(command)}` ended with {done.returncode}; nothing above it was begun"
        )
    return done.stdout or b""


if __name__ == "__main__":
    sys.exit(main())
