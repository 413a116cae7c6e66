"""Previews without a credential of a site: on the real engine, with neither state, cluster nor machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.lab.engine import Engine, Failed, Project
from tests.stacks.site import ROOT, checkout

pytestmark = [pytest.mark.lab("pulumi"), pytest.mark.slow]

OFFLINE = ("--config", "gridplane:offline=true")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    engine = Engine(tmp_path / "pulumi", tmp_path / "no-kubeconfig")
    inventory = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventory", inventory)
    return checkout(tmp_path / "checkout", engine, inventory)


def previewed(project: Project, stack: str) -> dict[str, dict[str, Any]]:
    """Resource → its inputs, of all that would be made."""
    said = project.run("preview", "--json", "--stack", stack, *OFFLINE, "--policy-pack", "policy")
    steps = json.loads(said[said.index("{") :])["steps"]
    assert {step["op"] for step in steps} <= {"create", "read"}
    return {
        step["urn"].partition("::gridplane::")[2]: step["newState"].get("inputs", {})
        for step in steps
    }


@pytest.mark.parametrize(
    ("layer", "holds"),
    [
        ("cluster", {"Server": 3, "Agents": 129, "Kubeconfig": 1, "Foundation": 1}),
        ("platform", {"Release": 3, "Deployment": 1}),
        ("fleet", {"FleetRevision": 1, "Site": 1}),
    ],
)
def test_a_layer_is_shown_with_the_policy_asked(
    project: Project, layer: str, holds: dict[str, int]
) -> None:
    stack = f"ga-macon.{layer}"
    project.run("stack", "init", stack)
    found = previewed(project, stack)
    kinds = [name.partition("::")[0].rpartition(":")[2] for name in found]
    assert {kind: kinds.count(kind) for kind in holds} == holds

    with pytest.raises(Failed, match=r"error\[E0812\] gridplane:offline is for previews"):
        project.run("up", "--yes", "--skip-preview", "--stack", stack)
    state = json.loads(project.run("stack", "export"))["deployment"].get("resources", [])
    assert {each["type"] for each in state} <= {"pulumi:pulumi:Stack"}, "nothing was made"


def test_what_a_proposal_changes_is_the_difference_of_two(project: Project) -> None:
    project.run("stack", "init", "ga-macon.fleet")
    before = previewed(project, "ga-macon.fleet")
    path = project.folder / "inventory" / "profiles" / "antminer-normal.yaml"
    path.write_text(path.read_text().replace("power_mode: normal", "power_mode: low"))
    after = previewed(project, "ga-macon.fleet")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert {name.rpartition(":")[2] for name in changed} == {"revision", "site"}


def test_a_proposal_that_a_rule_forbids_ends_there(project: Project) -> None:
    project.run("stack", "init", "ga-macon.platform")
    charts = project.folder / "stacks" / "charts" / "published.yaml"
    charts.write_text(charts.read_text().replace("kernelModuleType: open", "kernelModuleTyp: open"))
    with pytest.raises(Failed, match=r"published\.yaml:\d+:9: error\[E0803\]"):
        previewed(project, "ga-macon.platform")
