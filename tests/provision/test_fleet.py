"""What a declaration makes of the fleet layer: names that follow content, waves that follow machines."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.errors import DeclarationError
from control_plane.core.firmware import About, Shard, firmware_waves
from control_plane.core.fleet import DeviceKind, SlotState
from control_plane.inventory.bundle import render
from control_plane.provision.check import broken, over_budget
from control_plane.provision.fleet import FleetLayer, fleet_layer
from control_plane.provision.rules import pools_of, rules
from control_plane.provision.settings import Layer, Settings
from control_plane.provision.site import DeclaredSite
from tests.provision.declared import declared_of, edited, ga_macon, lab, read_files, with_firmware


def settings(site: str, **more: Any) -> Settings:
    return Settings(site=site, layer=Layer.FLEET, **more)


def layer_of(declared: DeclaredSite, **more: Any) -> FleetLayer:
    return fleet_layer(declared, settings(declared.site.id, **more), commit=None)


def names(layer: FleetLayer, *kinds: str) -> set[str]:
    return {
        thing["metadata"]["name"]
        for thing in layer.objects
        if thing["kind"] in kinds and thing["metadata"]["name"].startswith("fw-")
    }


def jobs(layer: FleetLayer) -> list[dict[str, Any]]:
    return [wave.job for bundle in layer.bundles for wave in bundle.waves]


def shards(layer: FleetLayer) -> list[list[Shard]]:
    """Those of each Job, in the order of its indexes."""
    return [
        [
            msgspec.json.decode(text, type=Shard)
            for each in wave.shards
            for _, text in sorted(each["data"].items())
        ]
        for bundle in layer.bundles
        for wave in bundle.waves
    ]


def test_a_site_without_firmware_declares_itself_and_nothing_else() -> None:
    declared = declared_of(read_files(), "ga-macon")
    layer = layer_of(declared)
    assert layer.objects == render("ga-macon", declared.files, namespace="gridplane", commit=None)
    assert "mode" not in layer.site["spec"]
    assert layer_of(declared, mode="enforce").site["spec"]["mode"] == "enforce"


def test_every_machine_is_in_one_shard_of_the_wave_that_the_shared_function_says() -> None:
    site = ga_macon().site
    layer = layer_of(ga_macon())
    miners = {
        device.asset
        for device in site.devices
        if device.type.kind is DeviceKind.MINER and device.state is not SlotState.VACANT
    }
    seen = [device.asset for job in shards(layer) for shard in job for device in shard.devices]
    assert len(seen) == len(set(seen)) == 13_640
    assert set(seen) == miners
    assert [[d.asset for shard in job for d in shard.devices] for job in shards(layer)] == [
        [device.asset for device in wave.devices] for wave in firmware_waves(site)
    ]
    for job, of_job in zip(jobs(layer), shards(layer), strict=True):
        assert job["spec"]["completions"] == len(of_job)
        assert all(1 <= len(shard.devices) <= limits.FIRMWARE_SHARD_DEVICES for shard in of_job)


def test_the_largest_site_stays_below_what_a_stack_may_hold() -> None:
    layer = layer_of(ga_macon())
    components = len(layer.bundles)
    assert len(layer.objects) + components == 119
    assert over_budget(119) is None
    assert max(len(json.dumps(thing)) for thing in layer.objects) < 1_048_576


@pytest.mark.parametrize("job", jobs(layer_of(lab())), ids=lambda job: job["metadata"]["name"])
def test_the_floor_of_every_job(job: dict[str, Any]) -> None:
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["suspend"] is True
    assert spec["completionMode"] == "Indexed"
    assert "ttlSecondsAfterFinished" not in spec
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (1, 0)
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["activeDeadlineSeconds"] >= limits.FIRMWARE_SHARD_S
    assert (pod["restartPolicy"], pod["serviceAccountName"]) == ("Never", "gridplane-firmware")
    assert pod["nodeSelector"] == {"gridplane.dev/role": "management"}
    assert [each["key"] for each in pod["tolerations"]] == [
        "gridplane.dev/role",
        "node-role.kubernetes.io/control-plane",
    ]
    (container,) = pod["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert "privileged" not in json.dumps(pod)
    assert [each["name"] for each in container["env"]] == ["GRIDPLANE_JOB"], "no password"
    (passwords,) = [each for each in pod["volumes"] if each["name"] == "passwords"]
    assert len(passwords["secret"]["items"]) == 1, "one bundle, one password"


def test_a_bundle_without_credentials_gets_none_of_them() -> None:
    (avalon,) = [b for b in layer_of(ga_macon()).bundles if b.name.startswith("avalon")]
    volumes = avalon.waves[0].job["spec"]["template"]["spec"]["volumes"]
    assert [volume["name"] for volume in volumes] == ["work", "images"]


def test_a_pod_reads_its_bundle_and_the_shards_of_its_wave() -> None:
    for bundle in layer_of(lab()).bundles:
        about = msgspec.json.decode(bundle.about["data"]["bundle.json"], type=About)
        assert about.digest == about.bundle.digest
        for wave in bundle.waves:
            (work, *_) = wave.job["spec"]["template"]["spec"]["volumes"]
            assert [each["configMap"]["name"] for each in work["projected"]["sources"]] == [
                thing["metadata"]["name"] for thing in (bundle.about, *wave.shards)
            ]


def test_the_rule_table_finds_nothing_wrong() -> None:
    table = rules(privileged=(), pools=pools_of(ga_macon().site))
    found = layer_of(ga_macon()).objects
    assert [(rule.id, thing["kind"]) for thing in found for rule in broken(table, thing)] == []
    (job, *_) = jobs(layer_of(lab()))
    del job["spec"]["activeDeadlineSeconds"]
    assert [rule.id for rule in broken(table, job)] == ["job-deadline"], "and it does look"


def test_names_fit_where_kubernetes_puts_them() -> None:
    for job in jobs(layer_of(ga_macon())):
        host = f"{job['metadata']['name']}-{job['spec']['completions']}"
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", host)


def test_the_network_policy_lets_them_to_miners_and_the_api_server() -> None:
    (policy,) = [each for each in layer_of(lab()).runner if each["kind"] == "NetworkPolicy"]
    blocks = [
        peer["ipBlock"]["cidr"]
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    # The last is the store of images.
    assert blocks == ["10.90.1.0/24", "10.90.0.0/24", "10.90.1.9/32"]
    assert policy["spec"]["egress"][-1]["ports"] == [{"protocol": "TCP", "port": 8090}]


def test_firmware_without_a_store_is_refused_at_its_line() -> None:
    files = edited(read_files(), with_firmware())
    path = "sites/lab/site.yaml"
    files[path] = re.sub(rb"firmware_store: .*\n", b"", files[path])
    with pytest.raises(DeclarationError) as raised:
        layer_of(declared_of(files, "lab"))
    (finding,) = raised.value.findings
    assert (finding.code, finding.where.path) == ("E0811", path)


# --- what changes a name, and what does not ------------------------------------------------------


def renamed_profile(path: str, data: bytes) -> bytes:
    return data.replace(b"profile: antminer-normal", b"profile: antminer-plain")


def test_renaming_in_the_inventory_renames_no_job() -> None:
    files = edited(read_files(), with_firmware())
    before = layer_of(declared_of(files, "lab"))
    renamed = {
        path.replace("antminer-normal", "antminer-plain"): renamed_profile(path, data)
        for path, data in files.items()
    }
    after = layer_of(declared_of(renamed, "lab"))
    assert after.revision != before.revision
    assert after.bundles == before.bundles


def test_a_pool_that_changes_renames_no_job() -> None:
    """Waves follow the firmware, not the site: one that is under way goes on."""
    files = edited(read_files(), with_firmware())

    def other_pool(path: str, data: bytes) -> bytes:
        return data.replace(b"port: 3333", b"port: 3334") if path.startswith("owners/") else data

    before, after = declared_of(files, "lab"), declared_of(edited(files, other_pool), "lab")
    assert before.digest != after.digest
    assert layer_of(before).bundles == layer_of(after).bundles


def test_a_slot_in_repair_changes_no_membership() -> None:
    declared = ga_macon()
    site = declared.site
    repaired = msgspec.structs.replace(
        site,
        devices=tuple(
            msgspec.structs.replace(d, state=SlotState.IN_REPAIR)
            if d.state is SlotState.IN_SERVICE
            else d
            for d in site.devices
        ),
    )
    assert (
        layer_of(declared).bundles
        == layer_of(msgspec.structs.replace(declared, site=repaired)).bundles
    )


def test_another_version_makes_other_jobs_beside_the_old() -> None:
    before, after = layer_of(lab("2026.1")), layer_of(lab("2026.2"))
    assert not names(before, "Job") & names(after, "Job")
    assert not {b.name for b in before.bundles} & {b.name for b in after.bundles}


def test_another_image_makes_other_jobs_that_read_the_same_shards() -> None:
    before, after = layer_of(lab()), layer_of(lab(), image="gridplane:2")
    assert not names(before, "Job") & names(after, "Job")
    assert [b.name for b in before.bundles] == [b.name for b in after.bundles]
    assert [w.shards for b in before.bundles for w in b.waves] == [
        w.shards for b in after.bundles for w in b.waves
    ]


def test_a_machine_that_moves_renames_the_jobs_that_it_is_in_alone() -> None:
    declared = lab()
    moved = firmware_waves(declared.site)[0].devices[0].asset
    site = msgspec.structs.replace(
        declared.site,
        devices=tuple(
            msgspec.structs.replace(d, address="10.90.0.250") if d.asset == moved else d
            for d in declared.site.devices
        ),
    )
    before = layer_of(declared)
    after = layer_of(msgspec.structs.replace(declared, site=site))
    assert len(names(before, "Job") - names(after, "Job")) == 1
    assert [b.name for b in before.bundles] == [b.name for b in after.bundles]
