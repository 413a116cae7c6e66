"""A copy of the project, run by the real engine in the network of a lab of bare hosts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from control_plane.lab.cluster import ClusterLab
from control_plane.lab.commands import CommandFailed
from tests.lab.engine import Engine
from tests.lab.machines import ROOT, SITE, host

STACK = "lab.cluster"
GPU = Path("inventory") / "sites" / SITE / "gpu" / "lab.yaml"
_UNTIL_IT_JOINS = "for i in $(seq 100); do pidof kubeadm && break; sleep 0.05; done; true"
UP_S = 900
"""A machine that is busy with other things takes its time."""


class Checkout:
    """The folder, and how the stack `lab.cluster` is run in it."""

    def __init__(self, folder: Path, lab: ClusterLab, offline: Path) -> None:
        self.folder, self.lab = folder, lab
        for name in ("inventory", "policy", "stacks"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "Pulumi.yaml", folder)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / "control_plane").symlink_to(ROOT / "control_plane")
        engine = Engine(folder.parent / "pulumi", lab.kubeconfig_inside)
        self._environment = {
            **engine.environment,
            **lab.environment(),
            "PATH": f"{Path(sys.executable).parent}:{engine.environment['PATH']}",
            "GRIDPLANE_BUNDLE": str(offline),
        }

    def pulumi(self, *words: str) -> tuple[int, str]:
        """How it ended, and all that it said."""
        done = self.start(*words)
        said, _ = done.communicate(timeout=UP_S)
        return done.returncode, said

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = ["pulumi", "--non-interactive", "--color=never", *words]
        return subprocess.Popen(
            [str(part) for part in self.lab.command(command)],
            cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def up(self) -> str:
        code, said = self.pulumi("up", "--yes", "--skip-preview", "--stack", STACK)
        assert code == 0, said
        return said

    def declare(self, old: str, new: str) -> None:
        """Change the rack of GPU nodes."""
        path = self.folder / GPU
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def nodes(self) -> Mapping[str, Any]:
        """Name → node, as an administrator with the stack's kubeconfig sees them."""
        path = self.folder.parent / "kubeconfig"
        if not path.exists():
            code, config = self.pulumi(
                "stack", "output", "kubeconfig", "--show-secrets", "--stack", STACK
            )
            assert code == 0, config
            path.write_text(config)
        plain = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        told = subprocess.run(
            [str(p) for p in self.lab.command(["kubectl", f"--kubeconfig={path}", "get", "nodes", "-ojson"])],
            env={**plain, "PATH": self._environment["PATH"]}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        return {node["metadata"]["name"]: node for node in json.loads(told)["items"]}


def is_ready(node: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])


def soon_ready(checkout: Checkout, name: str, *, ready: bool = True) -> None:
    """Wait until a node is ready, or is not; an API server that goes or comes back may refuse meanwhile."""

    def holds() -> bool:
        try:
            return is_ready(checkout.nodes()[name]) is ready
        except subprocess.CalledProcessError:
            return False

    soon(holds)


def nothing_changes(checkout: Checkout) -> None:
    code, said = checkout.pulumi("preview", "--expect-no-changes", "--stack", STACK)
    assert code == 0, said


def cut_while_joining(checkout: Checkout, lab: ClusterLab, name: str) -> tuple[int, str]:
    """Run an `up`, and cut a host's power once kubeadm is at work on it."""
    machine, running = (
        host(lab, name),
        checkout.start("up", "--yes", "--skip-preview", "--stack", STACK),
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(running.communicate(timeout=UP_S)[0]))
    reader.start()

    def joins() -> bool:
        if running.poll() is not None:
            reader.join()
            pytest.fail(f"it ended before its host was cut:\n{said}")
        try:
            # Watched from there: a join may be over before one can log in anew.
            return lab.hosts.run(machine, _UNTIL_IT_JOINS).strip() != ""
        except CommandFailed:
            return False

    soon(joins)
    lab.power(name, "off")
    reader.join()
    return running.returncode, said[0]


def soon(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + UP_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)
