"""Which pods go, stay or block: a table, and what holds for every pod there may be."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.cluster import Object
from control_plane.core.node_pods import Blocks, DrainPolicy, Pod, Stays, pod_in, sort_pods

POD = Pod(namespace="jobs", name="p1", uid="u1", phase="Running", controller="ReplicaSet")
KEY = "jobs/p1"


def a_pod(**more: object) -> Pod:
    return msgspec.structs.replace(POD, **more)


@pytest.mark.parametrize(
    ("pod", "policy", "want"),
    [
        (POD, {}, "go"),
        (a_pod(phase="Pending"), {}, "go"),
        (a_pod(phase=""), {}, "go"),
        (a_pod(phase="Unknown"), {}, "go"),
        (a_pod(controller="Job"), {}, "go"),
        (a_pod(controller="DaemonSet"), {}, Stays.DAEMON_SET),
        (a_pod(controller="DaemonSet", has_empty_dir=True), {}, Stays.DAEMON_SET),
        (a_pod(controller="", is_mirror=True), {}, Stays.MIRROR),
        (a_pod(phase="Succeeded", controller=""), {}, Stays.ENDED),
        (a_pod(phase="Failed", has_empty_dir=True), {}, Stays.ENDED),
        (a_pod(controller=""), {}, Blocks.UNMANAGED),
        (a_pod(controller=""), {"force": True}, "go"),
        (a_pod(controller="", is_ending=True), {}, "go"),
        (a_pod(has_empty_dir=True), {}, Blocks.EMPTY_DIR),
        (a_pod(has_empty_dir=True), {"force": True}, Blocks.EMPTY_DIR),
        (a_pod(has_empty_dir=True), {"delete_emptydir_data": True}, "go"),
        (a_pod(controller="", has_empty_dir=True), {"force": True}, Blocks.EMPTY_DIR),
    ],
)
def test_what_becomes_of_a_pod(pod: Pod, policy: dict[str, bool], want: object) -> None:
    there = sort_pods([pod], DrainPolicy(**policy))
    got = there.stay.get(KEY) or there.block.get(KEY) or "go"
    assert got == want
    assert [each.key for each in there.go] == ([KEY] if want == "go" else [])


pods = st.lists(
    st.builds(
        Pod,
        namespace=st.sampled_from(["a", "b"]),
        name=st.text("xyz", min_size=1, max_size=3),
        uid=st.uuids().map(str),
        phase=st.sampled_from(["", "Pending", "Running", "Succeeded", "Failed", "Unknown"]),
        controller=st.sampled_from(["", "DaemonSet", "ReplicaSet", "Job"]),
        is_mirror=st.booleans(),
        has_empty_dir=st.booleans(),
        is_ending=st.booleans(),
    ),
    unique_by=lambda pod: pod.key,
)
policies = st.builds(
    DrainPolicy,
    force=st.booleans(),
    delete_emptydir_data=st.booleans(),
    disable_eviction_when_unsafe=st.booleans(),
)


@settings(max_examples=40)
@given(pods, policies)
def test_every_pod_is_in_one_place(there: list[Pod], policy: DrainPolicy) -> None:
    got = sort_pods(there, policy)
    keys = [*(pod.key for pod in got.go), *got.stay, *got.block]
    assert sorted(keys) == sorted(pod.key for pod in there)


@settings(max_examples=40)
@given(pods, policies)
def test_a_clear_node_runs_nothing_that_could_be_ended(
    there: list[Pod], policy: DrainPolicy
) -> None:
    runs = [
        pod
        for pod in there
        if pod.phase not in {"Succeeded", "Failed"}
        and pod.controller != "DaemonSet"
        and not pod.is_mirror
    ]
    assert sort_pods(there, policy).is_clear == (not runs)


@settings(max_examples=40)
@given(pods, policies)
def test_a_wider_policy_never_blocks_more(there: list[Pod], policy: DrainPolicy) -> None:
    wide = DrainPolicy(force=True, delete_emptydir_data=True)
    assert not sort_pods(there, wide).block
    assert sort_pods(there, policy).stay == sort_pods(there, wide).stay


def test_a_pod_is_read_as_the_server_has_it() -> None:
    thing = msgspec.json.decode(
        b"""{"metadata": {"namespace": "jobs", "name": "p1", "uid": "u1",
        "ownerReferences": [
          {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "x"},
          {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "y", "controller": true}]},
        "spec": {"volumes": [{"name": "a", "emptyDir": {"medium": "Memory"}}]},
        "status": {"phase": "Running"}}""",
        type=Object,
    )
    assert pod_in(thing) == a_pod(controller="Job", has_empty_dir=True)
    bare = Object(metadata=thing.metadata)
    assert pod_in(bare) == a_pod(controller="Job", phase="")
