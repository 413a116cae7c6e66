"""The platform layer as the engine is told of it: golden, counted, in order, refused where it is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest

from control_plane.provision.chart import known_facts, read_charts
from control_plane.provision.check import over_budget
from control_plane.provision.rules import GATE
from stacks.program import declare
from tests.stacks.graph import Hooks, Outputs, graph

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden")
BELOW = {"kubeconfig": "apiVersion: v1", "clusterIdentifier": "ga-macon"}

(_OPERATOR,) = [
    chart
    for chart in read_charts(
        "published.yaml", (ROOT / "stacks/charts/published.yaml").read_bytes(), known_facts()
    )
    if chart.name == "gpu-operator"
]
((_, _WANTED),) = _OPERATOR.kept()
WORKING = {"clusterpolicy-cluster-policy": _WANTED}
"""What the GPU operator's chart makes of our values."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def registered(
    monkeypatch: pytest.MonkeyPatch,
    site: str = "ga-macon",
    stacks: Outputs | None = None,
    live: Outputs = WORKING,
    config: Mapping[str, str] | None = None,
    hooks: Hooks | None = None,
) -> list[dict[str, Any]]:
    """What the program registers, on a cluster layer that stands."""
    given = {"gridplane:site": site, "gridplane:layer": "platform"}
    given |= {f"gridplane:{key}": value for key, value in (config or {}).items()}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(given))
    known = {f"{site}.cluster": BELOW} if stacks is None else stacks
    return graph(f"{site}.platform", lambda: declare(ROOT), stacks=known, live=live, hooks=hooks)


@pytest.fixture(scope="module")
def example() -> list[dict[str, Any]]:
    """The example site's platform."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return registered(monkeypatch)


def test_the_platform_of_the_example_site_is_as_it_was(example: list[dict[str, Any]]) -> None:
    found = example
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    golden = GOLDEN / "ga-macon.platform.json"
    if os.environ.get("GRIDPLANE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert golden.read_text() == text, "wanted? GRIDPLANE_GOLDEN=1 writes it anew"
    assert over_budget(len(found)) is None


def test_everything_goes_through_the_one_provider(example: list[dict[str, Any]]) -> None:
    found = example
    (provider,) = [one for one in found if one["type"] == "pulumi:providers:kubernetes"]
    assert provider["inputs"]["clusterIdentifier"] == "ga-macon"
    objects = [one for one in found if one["type"].startswith("kubernetes:") and "read" not in one]
    assert {one["provider"] for one in objects} == {"cluster"}


def test_definitions_stand_first_and_the_gate_goes_first(example: list[dict[str, Any]]) -> None:
    found = {one["name"]: one for one in example if "dependsOn" in one}

    def below(name: str) -> set[str]:
        names = set(found[name]["dependsOn"]) if name in found else set()
        return names.union(*(below(one) for one in names))

    definition = "customresourcedefinition-sites.gridplane.dev"
    policy = "validatingadmissionpolicybinding-gridplane-keep-platform"
    everything = {name for name, one in found.items() if one["type"].startswith("kubernetes:")}
    gate = f"configmap-{GATE}"
    assert definition in below(policy)
    assert {definition, policy, "role-gridplane-controller"} <= below("gpu-operator")
    assert {"network-operator"} <= below("gpu-operator") <= below("kueue")
    assert everything - {gate} <= below(gate)


def test_what_holds_a_site_s_state_is_protected_and_stays(example: list[dict[str, Any]]) -> None:
    kept = {one["name"] for one in example if one.get("retainOnDelete")}
    protected = {one["name"] for one in example if one.get("protect")}
    crds = {path.name.removesuffix(".yaml") for path in (ROOT / "manifests" / "crds").glob("*")}
    assert protected == kept | {f"configmap-{GATE}"}
    assert kept == {"namespace-gridplane", *(f"customresourcedefinition-{n}" for n in crds)}


def test_the_controller_is_the_site_s(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        one["name"]: one
        for one in registered(monkeypatch, "lab", config={"image": "registry/gp:1"})
    }
    policy = found["networkpolicy-gridplane-controller"]["inputs"]["spec"]
    blocks = {p["ipBlock"]["cidr"] for r in policy["egress"] for p in r["to"] if "ipBlock" in p}
    assert blocks == {"10.90.0.0/24", "10.90.1.0/24", "10.90.3.0/24"}
    binding = found["rolebinding-gridplane-controller"]["inputs"]
    assert binding["metadata"]["namespace"] == binding["subjects"][0]["namespace"] == "gridplane"


def test_no_name_comes_from_the_inventory_but_the_site_s(example: list[dict[str, Any]]) -> None:
    names = {one["name"] for one in example} - {"ga-macon"}
    assert not [name for name in names if name.startswith("ga-") and "." not in name]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"site": "lab"},
            r"2:19: error\[E0801\] stack 'ga-macon.platform' is configured as 'lab.platf",
        ),
        ({"layer": "fleets"}, r"3:20: error\[E0204\].*did you mean 'fleet'"),
        ({"layr": "x"}, r" error\[E0201\].*did you mean 'layer'"),
        ({"charts": "stacks/charts/none.yaml"}, r" error\[E0802\].*No such file"),
        ({"kubeconfig": "/nowhere"}, r" error\[E0802\].*No such file"),
        ({"inventory": "nowhere"}, r" error\[E0301\].*no site"),
        ({"namespace": ""}, r" error\[E0207\].*empty"),
    ],
    ids=["another stack's", "layer", "key", "charts", "kubeconfig", "inventory", "empty"],
)
def test_wrong_configuration_ends_with_findings_and_registers_nothing(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, str], words: str
) -> None:
    file = r"stacks/config/Pulumi\.ga-macon\.platform\.yaml:"
    with pytest.raises(pulumi.RunError, match=file + words):
        registered(monkeypatch, config=config)


def test_a_layer_below_that_was_never_brought_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pulumi.RunError, match=r"pulumi up --stack ga-macon\.cluster"):
        registered(monkeypatch, stacks={"ga-macon.cluster": {}})


def test_a_layer_below_that_is_not_there_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = r"ga-macon\.platform\.yaml:3:20: error\[E0810\] stack ga-macon\.cluster cannot be read"
    with pytest.raises(pulumi.RunError, match=words) as raised:
        registered(monkeypatch, stacks={})
    assert "pulumi up --stack ga-macon.cluster; or name a cluster that exists" in str(raised.value)


def test_a_release_line_that_is_skipped_is_refused_before_helm_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hooks = Hooks()
    registered(monkeypatch, hooks=hooks)
    upgrade = hooks["no-skips-gpu-operator"]
    assert upgrade.opts is not None
    assert upgrade.opts.on_dry_run, "a preview says it too"

    def before(version: str) -> pulumi.ResourceHookArgs:
        old = {"version": version}
        return pulumi.ResourceHookArgs(urn="", id="", name="", type="", old_inputs=old)

    upgrade(before("v26.3.3"))
    with pytest.raises(pulumi.RunError, match=r"published\.yaml:\d+:14: error\[E0806\]"):
        upgrade(before("v25.10.1"))


@pytest.mark.parametrize(
    ("name", "live", "lost"),
    [
        ("clusterpolicy-cluster-policy", {"spec": {"driver": {}}}, r"spec\.driver\.version"),
        (
            "configmap-gridplane-platform",
            {"data": {"site": "other"}},
            r"keeps data\.site otherwise",
        ),
    ],
    ids=["of a chart", "of ours"],
)
def test_what_the_api_server_drops_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, live: dict[str, Any], lost: str
) -> None:
    with pytest.raises(pulumi.RunError, match=lost):
        registered(monkeypatch, live={**WORKING, name: live})
