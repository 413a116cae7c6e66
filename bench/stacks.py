"""A site's stacks on the real engine: `ga-macon` with a firmware for each miner, on an API server of the lab.

Beside each stands the same verb on a program that declares nothing, in the same environment: what Pulumi
itself takes (engine, language host, interpreter). The cluster layer is not here: its time is that of hosts.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench.figures import ROOT, Figure
from control_plane.lab import pulumi
from control_plane.lab.api import ApiLab
from control_plane.lab.nodes import FAKE
from control_plane.lab.programs import find

SITE = "ga-macon"
_COPIED = ("stacks", "manifests", "examples", "policy")
_PREVIEW_S, _UP_S, _AGAIN_S = 30.0, 90.0, 30.0
_LABELS = {"gridplane.dev/role": "management", "kubernetes.io/hostname": "bench"}
_UP = ("up", "--yes", "--skip-preview")
_EMPTY = "name: empty\nruntime: {name: python, options: {virtualenv: .venv}}\n"


def measure() -> list[Figure]:
    """Wall seconds of preview, first `up` and the next one."""
    with tempfile.TemporaryDirectory(prefix="gridplane-bench-") as made:
        folder = Path(made)
        lab = ApiLab(folder / "api")
        lab.up()
        try:
            return _measure(folder, lab.kubeconfig)
        finally:
            lab.down()


def _measure(folder: Path, kubeconfig: Path) -> list[Figure]:
    environment = {**pulumi.environment(folder / "pulumi"), "KUBECONFIG": str(kubeconfig)}
    _make_host(kubeconfig)
    empty = _Project(_empty(folder / "empty"), environment, "dev")
    ours = {layer: _of(folder, layer, kubeconfig, environment) for layer in ("platform", "fleet")}
    beside = "the same verb on an empty program"
    nothing = {"preview": empty.timed("preview"), "up": empty.timed(*_UP)}
    figures, first = [], []
    for layer, project in ours.items():
        took = project.timed("preview")
        figures.append(
            Figure(
                name=f"pulumi preview {SITE}.{layer}, nothing there yet",
                value=took.wall_s, unit="s", target=_PREVIEW_S,
                peer=beside, peer_value=nothing["preview"].wall_s, note=took.note,
            )
        )  # fmt: skip
        first.append(project.timed(*_UP))
    counts = ", ".join(f"{layer} {project.resources()}" for layer, project in ours.items())
    whole = Took(sum(took.wall_s for took in first), sum(took.cpu_s for took in first))
    figures.append(
        Figure(
            name=f"first pulumi up of {SITE}.platform and {SITE}.fleet",
            value=whole.wall_s, unit="s", target=_UP_S, peer=f"twice {beside}",
            peer_value=2 * nothing["up"].wall_s, note=f"{whole.note}; resources: {counts}",
        )
    )  # fmt: skip
    for layer, project in ours.items():
        took = project.timed(*_UP, "--expect-no-changes")
        figures.append(
            Figure(
                name=f"pulumi up {SITE}.{layer}, nothing to do",
                value=took.wall_s, unit="s", target=_AGAIN_S,
                peer=beside, peer_value=nothing["up"].wall_s, note=took.note,
            )
        )  # fmt: skip
    return figures


class Took(NamedTuple):
    """Of one run of the engine."""

    wall_s: float
    cpu_s: float

    @property
    def note(self) -> str:
        """Beside the wall time, which other work on the same cores lengthens."""
        return f"{self.cpu_s:.1f} s CPU"


class _Project:
    """A folder with a Pulumi.yaml, and one stack of it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], stack: str) -> None:
        self._folder, self._environment, self._stack = folder, environment, stack
        self.run("stack", "init", stack)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [find("pulumi"), "--non-interactive", *arguments],
            cwd=self._folder, env=dict(self._environment), check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stdout)
        return done.stdout

    def timed(self, *arguments: str) -> Took:
        """What a verb takes, its engine, program and provider included."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        self.run(*arguments, "--stack", self._stack)
        wall_s = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Took(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    def resources(self) -> int:
        """How many the stack holds."""
        state = json.loads(self.run("stack", "export", "--stack", self._stack))
        return len(state["deployment"].get("resources") or ())


def _empty(folder: Path) -> Path:
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text(_EMPTY)
    (folder / "__main__.py").write_text("")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def _of(folder: Path, layer: str, kubeconfig: Path, environment: Mapping[str, str]) -> _Project:
    top = folder / "checkout"
    if not top.exists():
        _checkout(top)
    stack = f"{SITE}.{layer}"
    project = _Project(top, environment, stack)
    if layer == "platform":
        told = {"kubeconfig": str(kubeconfig), "charts": "stacks/charts/stand-in.yaml"}
        values = [f"--plaintext=gridplane:{key}={value}" for key, value in told.items()]
        project.run("config", "set-all", "--stack", stack, *values)
    return project


def _checkout(top: Path) -> None:
    """As a clone has it, with a firmware for each miner: as large as the layer gets."""
    top.mkdir()
    shutil.copy(ROOT / "Pulumi.yaml", top)
    for name in _COPIED:
        shutil.copytree(ROOT / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "inventory", top / "inventory")
    (top / ".venv").symlink_to(sys.prefix)
    for path in (top / "inventory" / "profiles").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if "kind: miner" in text:
            text = re.sub(
                r"firmware: \{family: (\w+)\}", r'firmware: {family: \1, version: "1"}', text
            )
            path.write_text(text, encoding="utf-8")


def _make_host(kubeconfig: Path) -> None:
    """Where hooks of charts run: kwok says that they are done."""
    capacity = {"cpu": "32", "memory": "256Gi", "pods": "110"}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "bench", "annotations": FAKE, "labels": _LABELS},
        "status": {"capacity": capacity, "allocatable": capacity},
    }
    subprocess.run(
        [find("kubectl"), f"--kubeconfig={kubeconfig}", "create", "-f", "-"],
        input=json.dumps(node), text=True, check=True, capture_output=True,
    )  # fmt: skip
