"""A checkout of its own for the real engine: configuration that a test changes is not the repository's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pulumi
from pulumi import automation

from tests.lab.cluster import Cluster
from tests.lab.engine import Engine, Project

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("stacks", "manifests", "examples", "policy")
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "lab-worker",
        "annotations": {"kwok.x-k8s.io/node": "fake"},
        "labels": {"gridplane.dev/role": "management", "kubernetes.io/hostname": "lab-worker"},
    },
    "status": {
        "capacity": {"cpu": "32", "memory": "256Gi", "pods": "110", "ephemeral-storage": "1Ti"},
        "allocatable": {"cpu": "32", "memory": "256Gi", "pods": "110", "ephemeral-storage": "1Ti"},
    },
}
"""A host of kwok's: pods of charts and hooks are marked as running, or as done, on it."""


def checkout(folder: Path, engine: Engine, inventory: Path = ROOT / "inventory") -> Project:
    """The project as a clone has it; the virtual environment and the inventory are this one's."""
    folder.mkdir()
    shutil.copy(ROOT / "Pulumi.yaml", folder)
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "inventory").symlink_to(inventory)
    (folder / ".venv").symlink_to(sys.prefix)
    return Project(folder, engine.environment)


def platform(folder: Path, engine: Engine, cluster: Cluster, site: str = "lab") -> Project:
    """The platform stack of a site, on a cluster that stands already, with stand-in charts."""
    project = checkout(folder, engine)
    stack = f"{site}.platform"
    project.run("stack", "init", stack)
    told = {"kubeconfig": str(cluster.kubeconfig), "charts": "stacks/charts/stand-in.yaml"}
    values = [f"--plaintext={key}={value}" for key, value in told.items()]
    project.run("config", "set-all", "--stack", stack, *values)
    return project


def below(cluster: Cluster, kubeconfig: Path | None = None) -> None:
    """A platform layer that says what ours does, and holds nothing."""
    config = (kubeconfig or cluster.kubeconfig).read_text()

    def program() -> None:
        pulumi.export("kubeconfig", pulumi.Output.secret(config))
        pulumi.export("clusterIdentifier", "lab")
        pulumi.export("namespace", cluster.namespace)
        pulumi.export("charts", {})

    automation.create_or_select_stack("lab.platform", "gridplane", program).up()
