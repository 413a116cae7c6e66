"""One API server for the whole run; a namespace of its own for each test that asks for one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.lab.api import PROGRAMS, ApiLab
from control_plane.lab.commands import which
from control_plane.lab.programs import ProgramMissing, find_all
from tests.conftest import NOT_RUN
from tests.lab.cluster import Cluster

CRDS = Path(__file__).resolve().parents[2] / "manifests" / "crds"
_numbers = itertools.count(1)


def missing_programs() -> str | None:
    """Why the tests marked `lab` cannot run on this machine."""
    try:
        find_all((*PROGRAMS, "kubectl", "pause"))
    except ProgramMissing as error:
        return str(error)
    return None


def missing_rights() -> str | None:
    """Why the tests marked `root` cannot run on this machine."""
    if os.geteuid():
        return "they make Debian trees and enter them, which needs root"
    if which("mmdebstrap") is None:
        return "mmdebstrap is not on this machine: `apt-get install mmdebstrap`"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What cannot run here is skipped; the run says so at its end, and fails in CI."""
    lines = []
    for marker, missing in (("lab", missing_programs), ("root", missing_rights)):
        wanting = [item for item in items if item.get_closest_marker(marker)]
        why = missing() if wanting else None
        if why is None:
            continue
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason=why))
        lines.append(f"{len(wanting)} tests marked `{marker}` did not run: {why}")
    if lines:
        config.stash[NOT_RUN] = "\n".join(lines)


@pytest.fixture(scope="session")
def api_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiLab]:
    """A lab of the `api` form, with our CRDs."""
    lab = ApiLab(tmp_path_factory.mktemp("lab") / "api")
    lab.up()
    cluster = Cluster(lab.kubeconfig)
    cluster.run("apply", "--server-side", "-f", str(CRDS))
    cluster.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture
def cluster(api_lab: ApiLab) -> Iterator[Cluster]:
    """kubectl, in a namespace that nobody else uses."""
    namespace = f"test-{next(_numbers)}"
    Cluster(api_lab.kubeconfig).run("create", "namespace", namespace)
    yield Cluster(api_lab.kubeconfig, namespace)
    Cluster(api_lab.kubeconfig).run("delete", "namespace", namespace, "--wait=false")
