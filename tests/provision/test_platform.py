"""A platform as values: what is whose, what is refused, and that manifests are the only source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.core.errors import DeclarationError
from control_plane.provision.chart import known_facts, read_charts
from control_plane.provision.manifests import FOLDERS, networks_of, read
from control_plane.provision.platform import Platform, platform
from control_plane.provision.settings import Layer, Settings, StackFile
from control_plane.provision.site import DeclaredSite, read_site

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Settings(site="lab", layer=Layer.PLATFORM, image="registry.example.com/gridplane:7")
FILES = {
    path.relative_to(ROOT).as_posix(): path.read_bytes()
    for folder in FOLDERS
    for path in (ROOT / "manifests" / folder).glob("*.yaml")
}


@pytest.fixture(scope="module")
def declared() -> DeclaredSite:
    return read_site(ROOT, SETTINGS, StackFile("x", None))


@pytest.fixture(scope="module")
def plan(declared: DeclaredSite) -> Platform:
    path = ROOT / "stacks" / "charts" / "stand-in.yaml"
    charts = read_charts(path.name, path.read_bytes(), known_facts())
    return platform(declared, SETTINGS, charts, FILES)


def objects(plan: Platform) -> dict[str, dict[str, Any]]:
    return {thing.name: thing.manifest for stage in plan.stages for thing in stage.things}


def test_every_manifest_of_the_repository_is_installed_once(plan: Platform) -> None:
    written = [
        f"{one['kind'].lower()}-{one['metadata']['name']}"
        for folder in ("crds", "controller", "node-agent")
        for one in read(FILES, folder)
    ]
    found = list(objects(plan))
    assert len(found) == len(set(found))
    assert set(written) <= set(found)


def test_the_controller_has_the_site_and_the_image(plan: Platform) -> None:
    deployment = objects(plan)["deployment-gridplane-controller"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/gridplane:7"
    assert {"name": "GRIDPLANE_SITE", "value": "lab"} in container["env"]


def test_only_the_agents_are_in_another_namespace_and_roles_have_no_wildcard(
    plan: Platform,
) -> None:
    found = objects(plan).values()
    namespaces = {one["metadata"]["namespace"] for one in found if "namespace" in one["metadata"]}
    assert namespaces == {"gridplane", "gridplane-agents"}
    apart = {
        one["metadata"]["name"]
        for one in found
        if one["metadata"].get("namespace") == "gridplane-agents"
    }
    assert apart == {"gridplane-node-agent"}
    for role in (one for one in found if one["kind"] in {"Role", "ClusterRole"}):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_what_has_no_namespace_is_for_nodes_alone(plan: Platform) -> None:
    found = objects(plan)
    everywhere = {name for name, one in found.items() if one["kind"].startswith("ClusterRole")}
    assert everywhere == {
        "clusterrole-gridplane-controller-nodes",
        "clusterrolebinding-gridplane-controller-nodes",
        "clusterrole-gridplane-controller-forced-drain",
    }
    assert not [name for name in everywhere if "namespace" in found[name]["metadata"]]
    (subject,) = found["clusterrolebinding-gridplane-controller-nodes"]["subjects"]
    assert (subject["name"], subject["namespace"]) == ("gridplane-controller", "gridplane")


def test_prometheus_gets_the_files_as_they_are(plan: Platform) -> None:
    data = objects(plan)["configmap-gridplane-monitoring"]["data"]
    folder = ROOT / "manifests" / "monitoring"
    assert data == {path.name: path.read_text() for path in folder.glob("*.yaml")}


def test_making_a_platform_changes_nothing_that_it_was_made_of(declared: DeclaredSite) -> None:
    first = platform(declared, SETTINGS, (), FILES)
    assert platform(declared, SETTINGS, (), FILES) == first


def test_a_site_without_bmcs_opens_nothing_for_them(declared: DeclaredSite) -> None:
    path = "sites/lab/site.yaml"
    text = declared.files[path].replace(b"purpose: bmc", b"purpose: metering")
    text = text.replace(b"may_reach: [miners, bmc]", b"may_reach: [miners]")
    changed = msgspec.structs.replace(declared, files={**declared.files, path: text})

    def egress(of: DeclaredSite) -> list[dict[str, Any]]:
        policy = objects(platform(of, SETTINGS, (), FILES))["networkpolicy-gridplane-controller"]
        rules: list[dict[str, Any]] = policy["spec"]["egress"]
        return rules

    to_bmcs = {
        "to": [{"ipBlock": {"cidr": "10.90.3.0/24"}}],
        "ports": [{"protocol": "TCP", "port": 443}],
    }
    assert egress(declared) == [*egress(changed), to_bmcs]


def test_a_site_without_the_networks_that_the_controller_needs_is_refused(
    declared: DeclaredSite,
) -> None:
    path = "sites/lab/site.yaml"
    text = declared.files[path].replace(b"purpose: miners", b"purpose: metering")
    changed = msgspec.structs.replace(declared, files={**declared.files, path: text})
    with pytest.raises(DeclarationError) as raised:
        networks_of(changed)
    (found,) = raised.value.findings
    assert (found.code, str(found.where)) == ("E0809", f"{path}:6:1")
