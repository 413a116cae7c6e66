"""Every rule of every CRD on a real API server: once accepted, once refused, in the words of the rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from control_plane.api.objects import KINDS
from tests.lab.cluster import Cluster, Refused, thing

pytestmark = pytest.mark.lab

DIGEST, OTHER = "a" * 64, "b" * 64
TIME = "2026-11-01T10:00:00Z"
ENTRY = {"asset": "m1"}
GOOD: Mapping[str, dict[str, Any]] = {
    "FleetRevision": {"site": "t", "format": "msgpack+zlib", "data": "eNo="},
    "Site": {
        "revision": DIGEST,
        "mode": "enforce",
        "commit": "abc",
        "approvals": [{"owner": "own", "field": "pools", "by": "ann"}],
        "acknowledgements": {"removals": 3},
    },
    "Rack": {"site": "t", "feed": "pdu", "slots": 42},
    "Miner": {
        "site": "t", "rack": "r1", "slot": 1, "slotState": "in_service",
        "pin": {"mac": "02:00:00:00:00:01", "source": "placement"},
    },
    "GpuNode": {
        "site": "t", "rack": "g1", "nodeName": "g1-n1", "bmc": "10.0.0.1",
        "powerCap": {"gpuW": 600, "fence": 3, "grantedUntil": TIME},
    },
    "Rollout": {
        "site": "t", "to": DIGEST, "waves": [1, 11, 20], "wave": 1, "state": "running",
        "gates": [{"wave": 0, "at": TIME, "passed": True}],
    },
    "DeviceOperation": {
        "site": "t", "kind": "install_firmware", "digest": DIGEST, "fence": 3, "budget": 10,
        "deadline": TIME, "entries": [ENTRY, {"asset": "m2"}],
    },
    "Overlay": {
        "site": "t", "kind": "safety", "node": "r1", "owner": "ann", "reason": "hands in it",
        "since": TIME, "expires": "2026-11-01T12:00:00Z", "assets": ["m1", "m2"],
    },
    "Order": {
        "site": "t", "kind": "trust", "target": "m1", "by": "ann", "at": TIME,
        "pin": {"serial": "SN1", "source": "ann"},
    },
    "StateShard": {
        "site": "t", "fence": 3, "holder": "a-1", "sequence": 7, "version": 1, "data": "eNo=",
    },
    "PowerEvent": {
        "site": "t", "node": "grid", "kind": "curtailment", "start": TIME,
        "end": "2026-11-01T12:00:00Z", "targetW": 10_000_000, "reason": "4CP",
    },
}  # fmt: skip


def test_every_kind_has_an_example_here() -> None:
    assert {kind.name for kind in KINDS} == set(GOOD)


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_object_is_taken_as_it_is_and_a_second_apply_changes_nothing(
    cluster: Cluster, kind: str
) -> None:
    made = cluster.apply(thing(kind, "one", GOOD[kind]))
    assert {key: made["spec"][key] for key in GOOD[kind]} == GOOD[kind]
    again = cluster.apply(thing(kind, "one", GOOD[kind]))
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("FleetRevision", {"site": "Upper"}, "spec.site"),
        ("FleetRevision", {"format": "tar"}, "spec.format"),
        ("FleetRevision", {"data": "not base64!"}, "spec.data"),
        ("Site", {"revision": "short"}, "spec.revision"),
        ("Site", {"approvals": [{"owner": "own", "field": "colour", "by": "ann"}]}, "field"),
        ("Site", {"acknowledgements": {"removals": -1}}, "removals"),
        ("Site", {"revison": DIGEST}, "revison"),
        ("Site", {"mode": "act"}, "spec.mode"),
        ("Rack", {"slots": -1}, "spec.slots"),
        ("Miner", {"slot": 0}, "spec.slot"),
        ("Miner", {"slotState": "lost"}, "spec.slotState"),
        ("Miner", {"pin": {"source": "ann"}}, "a pin has a MAC, a serial, or both"),
        ("Miner", {"pin": {"mac": "02-00", "source": "ann"}}, "spec.pin.mac"),
        ("GpuNode", {"bmc": "bmc.example.com"}, "spec.bmc"),
        ("Rollout", {"state": "paused"}, "spec.state"),
        ("DeviceOperation", {"kind": "reboot"}, "spec.kind"),
        ("DeviceOperation", {"budget": 0}, "spec.budget"),
        ("DeviceOperation", {"entries": []}, "spec.entries"),
        ("DeviceOperation", {"entries": [ENTRY, ENTRY]}, "uplicate"),
        ("DeviceOperation", {"deadline": "tomorrow"}, "spec.deadline"),
        ("Overlay", {"kind": "guard"}, "spec.kind"),
        ("Order", {"kind": "start"}, "spec.kind"),
        ("StateShard", {"version": 0}, "spec.version"),
        ("PowerEvent", {"end": "2026-11-01T09:00:00Z"}, "it ends after it starts"),
        ("PowerEvent", {"targetW": -5}, "spec.targetW"),
    ],
)
def test_a_bad_object_is_refused_by_name(
    cluster: Cluster, kind: str, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        cluster.apply(thing(kind, "one", {**GOOD[kind], **change}), "--validate=strict")


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("FleetRevision", {"data": "eNs="}, "a revision never changes"),
        ("FleetRevision", {"site": "u"}, "a revision never changes"),
        ("Miner", {"site": "u"}, "it never changes"),
        ("GpuNode", {"site": "u"}, "it never changes"),
        ("Rollout", {"to": OTHER}, "it never changes"),
        ("Rollout", {"waves": [1, 21]}, "a rollout has its devices for good"),
        ("Rollout", {"waves": []}, "a rollout has its devices for good"),
        ("Rollout", {"wave": 0}, "a rollout goes forward"),
        ("DeviceOperation", {"digest": OTHER}, "it never changes"),
        ("DeviceOperation", {"kind": "bmc"}, "it never changes"),
        ("DeviceOperation", {"fence": 2}, "an older leader may not take it back"),
        ("DeviceOperation", {"entries": [ENTRY]}, "no device joins or leaves an operation"),
        ("Overlay", {"node": "r2"}, "what was said stays as it was said"),
        ("Order", {"target": "m2"}, "what was said stays as it was said"),
        ("StateShard", {"fence": 2}, "an older leader may not take it back"),
        ("StateShard", {"sequence": 6}, "it only grows"),
        ("StateShard", {"site": "u"}, "it never changes"),
        ("PowerEvent", {"kind": "pivot"}, "it never changes"),
    ],
)
def test_what_must_not_change_does_not(
    cluster: Cluster, kind: str, change: dict[str, Any], words: str
) -> None:
    cluster.apply(thing(kind, "one", GOOD[kind]))
    with pytest.raises(Refused, match=words):
        cluster.apply(thing(kind, "one", {**GOOD[kind], **change}))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Site", {"revision": OTHER, "mode": "observe"}),
        ("StateShard", {"fence": 4, "sequence": 8, "data": "eNs="}),
        ("Miner", {"slotState": "in_repair", "pin": {"serial": "SN2", "source": "ann"}}),
        ("Rollout", {"wave": 2, "state": "soaking"}),
        ("Rollout", {"waves": [1, 2, 12, 20]}),
        ("DeviceOperation", {"fence": 4, "budget": 20}),
        ("PowerEvent", {"targetW": 5}),
    ],
)  # fmt: skip
def test_what_may_change_does(cluster: Cluster, kind: str, change: dict[str, Any]) -> None:
    cluster.apply(thing(kind, "one", GOOD[kind]))
    changed = cluster.apply(thing(kind, "one", {**GOOD[kind], **change}))
    assert {key: changed["spec"][key] for key in change} == change


def test_status_is_written_apart_and_kubectl_waits_for_it(cluster: Cluster) -> None:
    cluster.apply(thing("Site", "one", GOOD["Site"]))
    ready = {
        "type": "Ready", "status": "True", "reason": "Converged", "message": "13,104 of 13,104",
        "observedGeneration": 1, "lastTransitionTime": TIME,
    }  # fmt: skip
    status = {
        "observedGeneration": 1,
        "conditions": [ready],
        "progress": "13104/13741",
        "devices": {"actionable": 0},
        "exceptions": [{"reason": "no_driver", "devices": 1237, "lostThs": 120.5}],
    }
    patch = json.dumps({"status": status})
    cluster.run("patch", "site", "one", "--subresource=status", "--type=merge", "-p", patch)
    cluster.wait("condition=Ready", "site/one")
    table = cluster.run("get", "sites", "-o", "wide")
    assert table.split()[:2] == ["NAME", "READY"]
    assert "13104/13741" in table
    assert "13,104 of 13,104" in table
    bare = cluster.apply(thing("Site", "one", GOOD["Site"]))
    assert bare["status"]["progress"] == "13104/13741", "applying the spec leaves the status alone"


def test_what_has_ended_stays_as_it_ended(cluster: Cluster) -> None:
    cluster.apply(thing("DeviceOperation", "one", GOOD["DeviceOperation"]))

    def keep(step: str) -> None:
        status = {"entries": [{"asset": "m1", "step": step}, {"asset": "m2", "step": "committing"}]}
        patch = json.dumps({"status": status})
        cluster.run(
            "patch", "deviceoperation", "one", "--subresource=status", "--type=merge", "-p", patch
        )

    keep("verifying")
    keep("done")
    with pytest.raises(Refused, match="stays as it ended"):
        keep("pending")


@pytest.mark.parametrize(
    ("kind", "selector"),
    [(k.plural, f"spec.{field}") for k in KINDS for field in k.selectable],
)
def test_objects_are_found_by_their_fields(cluster: Cluster, kind: str, selector: str) -> None:
    name = next(k.name for k in KINDS if k.plural == kind)
    cluster.apply(thing(name, "one", GOOD[name]))
    value = GOOD[name][selector.removeprefix("spec.")]
    found = cluster.json("get", kind, f"--field-selector={selector}={value}")
    assert [item["metadata"]["name"] for item in found["items"]] == ["one"]
    assert cluster.json("get", kind, f"--field-selector={selector}=nothing")["items"] == []


def test_kubectl_explains_in_our_words(cluster: Cluster) -> None:
    assert "Name of the `FleetRevision` to converge to." in cluster.run(
        "explain", "site.spec.revision"
    )
    assert "The site that it declares." in cluster.run("explain", "fleetrevision.spec")
