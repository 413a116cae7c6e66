"""The lab, for the tests of every area: one API server for the whole run, a namespace for each test.

`pytest.mark.lab` marks what needs the API server, `pytest.mark.lab("pulumi")` what needs the engine too,
`"kueue"` Kueue's controller and `"operator"` NVIDIA's upgrade manager, and
`pytest.mark.root` what makes Debian trees. `pytest.mark.cluster` marks what boots hosts (`machines.py`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from control_plane.lab import probe, pulumi
from control_plane.lab.api import PROGRAMS, ApiLab
from control_plane.lab.commands import which
from control_plane.lab.hosts import NODE_PROGRAMS
from control_plane.lab.programs import ProgramMissing, find_all
from tests.conftest import CANNOT_RUN
from tests.lab.cluster import Cluster, a_namespace
from tests.lab.engine import Engine

IMAGE_PROGRAMS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "pause",
)  # fmt: skip
CRDS = Path(__file__).resolve().parents[2] / "manifests" / "crds"


def missing_programs(find_them: Callable[[], object]) -> str | None:
    """Why this machine cannot run tests that start them."""
    try:
        find_them()
    except ProgramMissing as error:
        return str(error)
    return None


def missing_rights() -> str | None:
    """Why this machine cannot run tests that make Debian trees and enter them."""
    if os.geteuid():
        return "they make Debian trees and enter them, which needs root"
    if which("mmdebstrap") is None:
        return "mmdebstrap is not on this machine: `apt-get install mmdebstrap`"
    return None


def missing_for_hosts() -> str | None:
    """Why this machine cannot boot hosts and make a cluster of them."""
    lacking = [*probe.missing()]
    unbuilt = missing_programs(partial(find_all, (*NODE_PROGRAMS, *IMAGE_PROGRAMS)))
    return "; ".join([*lacking, *([unbuilt] if unbuilt else [])]) or None


NEEDS: Mapping[str, Callable[[], str | None]] = {
    "api": partial(missing_programs, partial(find_all, (*PROGRAMS, "kubectl", "pause"))),
    "pulumi": partial(missing_programs, pulumi.programs),
    "kueue": partial(missing_programs, partial(find_all, ("kueue",))),
    "operator": partial(missing_programs, partial(find_all, ("gpu-driver-upgrades",))),
    "root": missing_rights,
    "cluster": missing_for_hosts,
}
"""What a mark asks for → why this machine does not have it; nothing where it does."""


@functools.cache
def missing(need: str) -> str | None:
    return NEEDS[need]()


def needs_of(item: pytest.Item) -> set[str]:
    needs = {need for mark in item.iter_markers("lab") for need in ("api", *mark.args)}
    return needs | {mark.name for mark in item.iter_markers() if mark.name in {"root", "cluster"}}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run; the run says so at its end, and fails in CI. What `-m` left out is not asked."""
    for item in items:
        why = " ".join(filter(None, map(missing, sorted(needs_of(item)))))
        if why:
            item.add_marker(pytest.mark.skip(reason=f"{CANNOT_RUN}{why}"))


@pytest.fixture(scope="session")
def api_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiLab]:
    """A lab of the `api` form, with our CRDs."""
    lab = ApiLab(tmp_path_factory.mktemp("lab") / "api")
    lab.up()
    cluster = Cluster(lab.kubeconfig)
    cluster.run("apply", "--server-side", "-f", str(CRDS))
    cluster.wait("condition=Established", "crd", "--all")
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture
def cluster(api_lab: ApiLab) -> Iterator[Cluster]:
    """kubectl, in a namespace that nobody else uses."""
    with a_namespace(api_lab.kubeconfig) as made:
        yield made


@pytest.fixture
def engine(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Pulumi on a backend of its own, towards the API server of `cluster`; for the Automation API as well."""
    made = Engine(tmp_path / "pulumi", cluster.kubeconfig)
    made.into(monkeypatch)
    return made
