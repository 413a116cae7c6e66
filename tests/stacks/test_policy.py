"""The policy pack's functions, as Pulumi calls them; on the real engine they are in test_platform_up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pulumi_policy as pack
import pytest

from control_plane.provision.rules import RESOURCES_MAX
from policy.pack import object_policies, stack_in, stack_policies, table_of
from tests.provision.cases import CASES, TABLE, Case

ROOT = Path(__file__).resolve().parents[2]
NO_TIMEOUTS = pack.PolicyCustomTimeouts(0, 0, 0)
URN = "urn:pulumi:ga-macon.fleet::gridplane::kubernetes:core/v1:ConfigMap::case"


def options(*, protect: bool) -> pack.PolicyResourceOptions:
    return pack.PolicyResourceOptions(
        protect=protect, ignore_changes=[], delete_before_replace=None, aliases=[],
        custom_timeouts=NO_TIMEOUTS, additional_secret_outputs=[], parent=None,
    )  # fmt: skip


def noting(said: list[str]) -> Any:
    """What a policy reports to."""
    return lambda text, _urn=None: said.append(text)


def violations(thing: dict[str, Any], token: str = "kubernetes:any:Kind") -> dict[str, str]:  # noqa: S107
    """Rule → what it said, of one resource."""
    said: dict[str, str] = {}
    args = pack.ResourceValidationArgs(token, thing, URN, "case", options(protect=False), None)
    for policy in object_policies(lambda _: TABLE):
        assert isinstance(policy, pack.ResourceValidationPolicy)
        texts: list[str] = []
        policy.validate(args, noting(texts))
        for text in texts:
            said[policy.name] = text
    return said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_pack_finds_what_the_table_finds(case: Case) -> None:
    said = violations(case.object)
    assert said.keys() == case.breaks
    assert all(text.startswith("case: gridplane ") for text in said.values())


def test_other_providers_resources_are_no_objects() -> None:
    secret = next(case for case in CASES if case.id == "a-secret-in-a-stack")
    assert violations(secret.object, "gridplane:k8s:Kubeconfig") == {}


def resource(token: str, name: str, props: dict[str, Any], *, protect: bool) -> pack.PolicyResource:
    return pack.PolicyResource(
        token, props, URN, name, options(protect=protect), None, None, [], {}
    )


def stack_violations(resources: list[pack.PolicyResource]) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {}
    for policy in stack_policies():
        assert isinstance(policy, pack.StackValidationPolicy)
        texts = said.setdefault(policy.name, [])
        policy.validate(pack.StackValidationArgs(resources), noting(texts))
    return said


def test_a_stack_with_too_many_resources_is_refused() -> None:
    one = resource("kubernetes:core/v1:ConfigMap", "x", {}, protect=False)
    assert stack_violations([one] * RESOURCES_MAX)["resource-budget"] == []
    (said,) = stack_violations([one] * (RESOURCES_MAX + 1))["resource-budget"]
    assert "301 resources, and 300 fit" in said


def test_the_platform_as_it_is_passes_and_without_protection_does_not() -> None:
    golden = json.loads((ROOT / "tests/stacks/golden/ga-macon.platform.json").read_text())

    def platform(*, protect: bool) -> list[pack.PolicyResource]:
        return [
            resource(
                one["type"], one["name"],
                # Of what the golden file holds a digest, the rest follows from the type.
                one["inputs"]
                if isinstance(one.get("inputs"), dict)
                else {
                    "apiVersion": "apiextensions.k8s.io/v1",
                    "kind": one["type"].rpartition(":")[2],
                    "spec": {"group": "gridplane.dev"},
                },
                protect=protect and one.get("protect", False),
            )
            for one in golden
        ]  # fmt: skip

    assert stack_violations(platform(protect=True))["protected-deletes"] == []
    said = stack_violations(platform(protect=False))["protected-deletes"]
    assert len(said) == 12
    assert any("namespace-gridplane is not protected" in text for text in said)


def test_a_site_s_stacks_know_its_owners_pools() -> None:
    table = {rule.id: rule for rule in table_of(ROOT, stack_in(URN))}
    listed = "stratum+tcp://stratum.pool-one.example.com:3333"
    check = table["pool-not-listed"].check
    assert check.holds({"data": {"shard": listed}})
    assert not check.holds({"data": {"shard": listed.replace("pool-one", "pool-1")}})
    assert "gpu-operator" in table["privileged-pod"].exempt


def test_the_pools_are_those_of_the_inventory_that_the_stack_is_told(tmp_path: Path) -> None:
    for name in ("stacks", "inventory"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.move(tmp_path / "inventory", tmp_path / "proposed")
    owner = tmp_path / "proposed" / "owners" / "house.yaml"
    owner.write_text(owner.read_text().replace("stratum.pool-one.example.com", "new.example.com"))
    config = tmp_path / "stacks" / "config" / "Pulumi.ga-macon.fleet.yaml"
    config.write_text(f"{config.read_text()}  gridplane:inventory: proposed\n")
    table = {rule.id: rule for rule in table_of(tmp_path, stack_in(URN))}
    assert table["pool-not-listed"].check.holds(
        {"data": {"shard": "stratum+tcp://new.example.com:3333"}}
    )
    nothing = {rule.id: rule for rule in table_of(tmp_path, "ga-macon.platform")}
    assert not nothing["pool-not-listed"].check.holds(
        {"data": {"shard": "stratum+tcp://new.example.com:3333"}}
    )
