"""`gridplane render --firmware`: the same Jobs as the stack's, for a GitOps tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from tests.cli.test_against import PROFILE
from tests.inventory.releases import catalogue


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["render", *arguments]) == Exit.OK
    return list(yaml.safe_load_all(capsys.readouterr().out))


@pytest.fixture
def with_version(home: Path) -> Path:
    text = PROFILE.read_text()
    PROFILE.write_text(
        text.replace("family: antminer_stock", "family: antminer_stock, version: '9'")
    )
    assert PROFILE.read_text() != text
    Path("inventory/firmware").mkdir()
    shared = {
        f"{folder}/{file.name}": file.read_bytes()
        for folder in ("profiles", "device-types")
        for file in Path("inventory", folder).glob("*.yaml")
    }
    for name, data in catalogue(shared).items():
        Path("inventory", name).write_bytes(data)
    with Path("inventory/sites/first-site/site.yaml").open("a") as file:
        file.write("  - {name: management, cidr: 10.9.0.0/24, purpose: management}\n")
        file.write("firmware_store: http://10.9.0.9/images\n")
    return home


@pytest.mark.usefixtures("with_version")
def test_firmware_is_printed_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert [one["kind"] for one in rendered(capsys)] == ["FleetRevision", "Site"]
    found = rendered(capsys, "--firmware", "registry.example.com/gridplane:1")
    jobs = [one for one in found if one["kind"] == "Job"]
    assert [job["spec"]["suspend"] for job in jobs] == [True] * len(jobs) != []
    for one in found:
        if one["metadata"]["name"].startswith("fw-"):
            annotations = one["metadata"]["annotations"]
            # Applied again, a Job that was opened would be suspended in the middle of its work.
            assert annotations["kustomize.toolkit.fluxcd.io/ssa"] == "IfNotPresent"
            assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false"
    (container,) = jobs[0]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/gridplane:1"


def test_without_a_firmware_there_is_nothing_more(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.exists()
    found = rendered(capsys, "--firmware", "registry.example.com/gridplane:1")
    assert [one["kind"] for one in found] == ["FleetRevision", "Site"]
