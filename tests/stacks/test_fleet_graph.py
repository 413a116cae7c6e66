"""The fleet layer as the engine is told of it: golden, counted, kept, and never of another namespace."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest

from control_plane.provision.check import over_budget
from control_plane.provision.fleet import fleet_layer
from control_plane.provision.settings import Layer, Settings
from stacks.program import declare
from tests.provision.declared import declared_of, edited, read_files, with_firmware
from tests.stacks.graph import graph

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Found = list[dict[str, Any]]


def checkout(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A top with an inventory of its own, in no repository: so that no commit is told."""
    for path, data in files.items():
        target = folder / "inventory" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def registered(
    top: Path, monkeypatch: pytest.MonkeyPatch, config: Mapping[str, str] | None = None,
    namespace: str = "gridplane", site: str = "ga-macon", own: Mapping[str, Any] | None = None,
) -> Found:  # fmt: skip
    """What the program registers, on a platform layer that stands."""
    given = {"gridplane:site": site, "gridplane:layer": "fleet"}
    given |= {f"gridplane:{key}": value for key, value in (config or {}).items()}
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(given))
    below = {
        "kubeconfig": "apiVersion: v1",
        "clusterIdentifier": site,
        "namespace": namespace,
        "charts": {},
    }
    stacks = {f"{site}.platform": below, f"{site}.fleet": own or {}}
    return graph(f"{site}.fleet", lambda: declare(top), stacks=stacks, live={})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The example site with a firmware for every miner: as large as the layer gets."""
    top = checkout(tmp_path_factory.mktemp("top"), edited(read_files(), with_firmware()))
    with pytest.MonkeyPatch.context() as monkeypatch:
        return registered(top, monkeypatch)


def objects(found: Found) -> Found:
    return [one for one in found if one["type"].startswith("kubernetes:")]


def portable(found: Found) -> Found:
    """Without the name of the revision: another build of zlib packs the same files otherwise."""
    text = json.dumps(found)
    (site,) = [one for one in found if one["name"] == "site"]
    made: Found = json.loads(text.replace(site["inputs"]["spec"]["revision"], "<revision>"))
    for one in made:
        if one["name"] == "revision":
            one["inputs"] = "<data>"
    return made


def test_the_fleet_of_the_example_site_is_as_it_was(whole: Found) -> None:
    text = json.dumps(portable(whole), indent=1, sort_keys=True) + "\n"
    golden = GOLDEN / "ga-macon.fleet.json"
    if os.environ.get("GRIDPLANE_GOLDEN"):
        golden.write_text(text)
    assert golden.read_text() == text, "wanted? GRIDPLANE_GOLDEN=1 writes it anew"


def test_the_stack_of_the_largest_site_is_counted(whole: Found) -> None:
    # 111 objects, 8 bundles, the layer, the provider and the layer below; and the stack itself.
    assert len(whole) == 122
    assert over_budget(len(whole) + 1) is None


def test_nothing_is_deleted_awaited_or_sent_elsewhere(whole: Found) -> None:
    (provider,) = [one for one in whole if one["type"] == "pulumi:providers:kubernetes"]
    assert provider["inputs"]["clusterIdentifier"] == "ga-macon"
    assert provider["inputs"]["enableServerSideApply"] == "true"
    assert provider["inputs"]["upsertExistingObjects"] == "true"
    for one in objects(whole):
        assert one["retainOnDelete"] is True
        assert one["provider"] == "cluster"
        if isinstance(one["inputs"], dict):
            annotations = one["inputs"]["metadata"]["annotations"]
            assert annotations["pulumi.com/skipAwait"] == "true"
            assert annotations["pulumi.com/patchFieldManager"] == "gridplane-stacks"
    jobs = [one for one in whole if one["type"] == "kubernetes:batch/v1:Job"]
    assert len(jobs) == 48
    for job in jobs:
        assert job["ignoreChanges"] == ["spec.suspend"]
        assert {"runner-rolebinding", "runner-serviceaccount"} <= set(job["dependsOn"])


def test_the_pointer_moves_after_what_it_points_to(whole: Found) -> None:
    (site,) = [one for one in whole if one["name"] == "site"]
    assert site["dependsOn"] == ["revision"]
    assert "mode" not in site["inputs"]["spec"], "what stands in the Site stays"


def test_without_a_firmware_the_layer_is_the_declaration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = checkout(tmp_path, read_files())
    found = registered(top, monkeypatch, {"mode": "enforce"})
    assert [one["name"] for one in objects(found)] == ["revision", "site"]
    (site,) = [one for one in found if one["name"] == "site"]
    assert site["inputs"]["spec"]["mode"] == "enforce"


def test_renaming_in_the_inventory_keeps_where_everything_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Found
) -> None:
    """No alias is needed: no name of a resource is made from a name of the inventory."""
    files = {
        path.replace("antminer-normal", "plain").replace("antminer-s21", "s21"): data.replace(
            b"antminer-normal", b"plain"
        ).replace(b"antminer-s21", b"s21")
        for path, data in edited(read_files(), with_firmware()).items()
    }
    found = registered(checkout(tmp_path, files), monkeypatch)
    changed = [old["name"] for old, new in zip(whole, found, strict=True) if old != new]
    assert [one["name"] for one in found] == [one["name"] for one in whole]
    assert sorted(changed) == ["revision", "site"]


def test_a_job_that_is_declared_again_is_not_suspended_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there already, and may be at work; one that is declared still, or for the first time, is."""
    top = checkout(tmp_path, edited(read_files(), with_firmware()))

    def suspended(own: Mapping[str, Any]) -> dict[str, bool]:
        found = registered(top, monkeypatch, own=own, site="lab")
        return {
            one["name"]: one["inputs"]["spec"].get("suspend", False)
            for one in found
            if one["type"] == "kubernetes:batch/v1:Job"
        }

    monkeypatch.setattr("tests.stacks.graph._LONG", 100_000)
    names = layer_names("lab")
    assert set(suspended({}).values()) == {True}
    assert set(suspended({"jobs": names}).values()) == {True}
    again = suspended({"jobs": ["fw-other"], "pastJobs": names[:1]})
    assert list(again.values()).count(False) == 1


def layer_names(site: str) -> list[str]:
    declared = declared_of(edited(read_files(), with_firmware()), site)
    settings = Settings(site=site, layer=Layer.FLEET)
    return list(fleet_layer(declared, settings, commit=None).job_names)


def test_a_platform_in_another_namespace_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = checkout(tmp_path, read_files())
    with pytest.raises(pulumi.RunError, match="the platform is in 'power'") as said:
        registered(top, monkeypatch, namespace="power")
    assert "pulumi config set gridplane:namespace power --stack ga-macon.fleet" in str(said.value)


def test_a_mode_that_there_is_not_is_refused_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = checkout(tmp_path, read_files())
    with pytest.raises(pulumi.RunError, match="expected one of observe, enforce"):
        registered(top, monkeypatch, {"mode": "enforced"})
