"""The cluster layer as the engine is told of it: counted, in order, protected, refused where it is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest

from control_plane.hosts.bundle import Bundle, Supply, write_bundle
from control_plane.provision.check import over_budget
from stacks.cluster import BUNDLE_VARIABLE, TYPE
from stacks.program import declare
from tests.stacks.graph import graph

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def registered(
    monkeypatch: pytest.MonkeyPatch,
    site: str,
    *,
    top: Path = ROOT,
    config: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    given = {"gridplane:site": site, "gridplane:layer": "cluster"}
    given |= {f"gridplane:{key}": value for key, value in (config or {}).items()}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(given))
    monkeypatch.delenv(BUNDLE_VARIABLE, raising=False)
    return graph(f"{site}.cluster", lambda: declare(top), stacks={}, live={})


def of(found: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in found if one["type"] == kind}


def test_the_example_site_is_its_servers_and_its_racks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registered(monkeypatch, "ga-macon")
    assert over_budget(len(found)) is None
    servers = of(found, "gridplane:k8s:Server")
    agents = of(found, "gridplane:k8s:Agents")
    assert list(servers) == ["ga-cp-1", "ga-cp-2", "ga-cp-3"]
    assert len(agents) == 129
    assert of(found, TYPE).keys() == {"ga-macon"}
    assert of(found, "gridplane:k8s:Kubeconfig").keys() == {"ga-macon"}
    # It goes first, so that nothing has gone where it may not.
    [foundation] = of(found, "gridplane:k8s:Foundation").values()
    assert set(foundation["dependsOn"]) == {*servers, *agents, "ga-macon"}
    assert "protect" not in foundation
    # etcd takes one member at a time, and nobody joins what does not stand.
    assert "dependsOn" not in servers["ga-cp-1"]
    assert servers["ga-cp-3"]["dependsOn"] == ["ga-cp-2"]
    assert set(agents["management"]["dependsOn"]) == set(servers)


@pytest.mark.parametrize(("site", "is_kept"), [("ga-macon", False), ("lab", True)])
def test_machines_that_a_deletion_would_reset_are_protected(
    monkeypatch: pytest.MonkeyPatch, site: str, is_kept: bool
) -> None:
    found = registered(monkeypatch, site)
    machines = {
        **of(found, "gridplane:k8s:Server"), **of(found, "gridplane:k8s:Agents"),
    }  # fmt: skip
    assert {bool(one.get("protect")) for one in machines.values()} == {is_kept}


def test_a_site_without_a_cluster_is_refused_with_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "stacks" / "config" / "Pulumi.wa-hosted.cluster.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("config:\n  gridplane:site: wa-hosted\n  gridplane:layer: cluster\n")
    shutil.copytree(ROOT / "inventory", tmp_path / "inventory")
    with pytest.raises(
        pulumi.RunError, match=r"Pulumi.wa-hosted.cluster.yaml:2:19: error\[E0907\]"
    ):
        registered(monkeypatch, "wa-hosted", top=tmp_path)


@pytest.mark.parametrize(
    ("kubernetes", "words"),
    [("1.35.0", "is of Kubernetes 1.35.0, and the cluster of 1.36.3"), (None, "No such file")],
)
def test_a_bundle_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kubernetes: str | None, words: str
) -> None:
    if kubernetes:
        supply = Supply(name="kubelet", file="kubelet", kind="file", sha256="ab" * 32)
        bundle = Bundle(form=1, kubernetes=kubernetes, supplies=(supply,))
        (tmp_path / "bundle.json").write_bytes(write_bundle(bundle))
    with pytest.raises(pulumi.RunError, match=rf"E0908\].*{words}"):
        registered(monkeypatch, "lab", config={"bundle": str(tmp_path)})
