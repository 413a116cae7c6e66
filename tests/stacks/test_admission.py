"""The rule table on a real API server: what it refuses is what the table finds, and what is kept stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from control_plane.lab.api import ApiLab
from control_plane.provision.admission import policies
from control_plane.provision.rules import ALLOW_DELETE, CONTROLLER, GATE
from tests.lab.cluster import Cluster, Refused, thing
from tests.provision.cases import CASES, TABLE, Case
from tests.stacks.waiting import eventually

pytestmark = pytest.mark.lab

NAMESPACE = "admission"


def refuses(call: Callable[[], object]) -> bool:
    try:
        call()
    except Refused as error:
        return "gridplane" in str(error)
    return False


@pytest.fixture(scope="module")
def guarded(api_lab: ApiLab) -> Iterator[Cluster]:
    """A namespace that the policies are about, once all of them are in force."""
    Cluster(api_lab.kubeconfig).run("create", "namespace", NAMESPACE)
    cluster = Cluster(api_lab.kubeconfig, NAMESPACE)
    made = policies(TABLE, namespace=NAMESPACE)
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(made)})
    cluster.run("apply", "--server-side", "-f", "-", stdin=everything)
    cluster.run("create", "configmap", GATE)
    cluster.apply(thing("Site", "here", {"revision": "0" * 64}))
    probe = {**thing("StateShard", "probe", SHARD), "metadata": {"name": "probe"}}
    cluster.apply(probe)
    foreign = next(case for case in CASES if case.id == "a-pod-that-is-told-of-another-pool")
    eventually(
        lambda: (
            refuses(lambda: cluster.run("delete", "stateshard", "probe", "--dry-run=server"))
            and refuses(lambda: cluster.run("delete", "configmap", GATE, "--dry-run=server"))
            and refuses(lambda: cluster.apply(foreign.object, "--dry-run=server"))
        ),
        "the policies are in force",
    )
    try:
        yield cluster
    finally:
        cluster.run("delete", "-f", "-", "--ignore-not-found", stdin=everything)
        cluster.run("delete", "sites", "--all")
        cluster.run("delete", "namespace", NAMESPACE, "--wait=false")


SHARD = {
    "site": "here", "fence": 1, "holder": "somebody", "sequence": 1, "version": 1, "data": "AA==",
}  # fmt: skip


def test_no_policy_has_an_expression_that_the_server_warns_of(guarded: Cluster) -> None:
    listed = guarded.json("get", "validatingadmissionpolicies")["items"]
    ours = {
        one["metadata"]["name"]: one for one in listed if "gridplane" in one["metadata"]["name"]
    }
    wanted = {one["metadata"]["name"] for one in policies(TABLE, namespace=NAMESPACE)}
    assert ours.keys() == wanted
    warnings = {
        name: one["status"]["typeChecking"]["expressionWarnings"]
        for name, one in ours.items()
        if one.get("status", {}).get("typeChecking", {}).get("expressionWarnings")
    }
    assert warnings == {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_server_refuses_what_the_table_finds(guarded: Cluster, case: Case) -> None:
    in_cluster = {rule.id: rule for rule in TABLE if rule.in_cluster}
    wanted = case.breaks & in_cluster.keys()
    if not wanted:
        guarded.apply(case.object, "--dry-run=server")
        return
    with pytest.raises(Refused) as refused:
        guarded.apply(case.object, "--dry-run=server")
    (rule,) = wanted
    assert in_cluster[rule].message in str(refused.value)


def test_a_namespace_of_an_operator_may_have_privileged_pods(guarded: Cluster) -> None:
    root = next(case for case in CASES if case.id == "a-pod-that-is-root")
    Cluster(guarded.kubeconfig).run("create", "namespace", "gpu-operator")
    try:
        Cluster(guarded.kubeconfig, "gpu-operator").apply(root.object, "--dry-run=server")
        with pytest.raises(Refused, match="privileged-pod"):
            Cluster(guarded.kubeconfig, "default").apply(root.object, "--dry-run=server")
    finally:
        Cluster(guarded.kubeconfig).run("delete", "namespace", "gpu-operator", "--wait=false")


def delete(cluster: Cluster, kind: str, *what: str) -> str:
    return cluster.run("delete", kind, *what, "--dry-run=server")


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("crd", "miners.gridplane.dev", "every object of its kind is deleted"),
        ("stateshard", "probe", "a site's memory"),
        ("configmap", GATE, "delete the Site first"),
        ("namespace", NAMESPACE, "delete the Site first"),
    ],
)
def test_what_is_kept_is_not_deleted(guarded: Cluster, kind: str, name: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        delete(guarded, kind, name)


def test_what_is_kept_is_not_deleted_in_bulk_either(guarded: Cluster) -> None:
    with pytest.raises(Refused, match="a site's memory"):
        guarded.run(
            "delete", "--raw", f"/apis/gridplane.dev/v1alpha1/namespaces/{NAMESPACE}/stateshards"
        )
    with pytest.raises(Refused, match="delete the Site first"):
        guarded.run("delete", "--raw", f"/api/v1/namespaces/{NAMESPACE}/configmaps")
    assert guarded.json("get", "stateshards")["items"]


def test_the_controller_collects_what_nothing_refers_to(guarded: Cluster) -> None:
    user = f"--as=system:serviceaccount:{NAMESPACE}:{CONTROLLER}"
    role = ["--verb=delete,get,list", "--resource=stateshards.gridplane.dev"]
    guarded.run("create", "role", "collector", *role)
    guarded.run("create", "rolebinding", "collector", "--role=collector",
                f"--serviceaccount={NAMESPACE}:{CONTROLLER}")  # fmt: skip
    eventually(lambda: "yes" in _can(guarded, user), "the role is in force")
    assert "deleted" in delete(guarded, "stateshard", "probe", user)


def _can(cluster: Cluster, user: str) -> str:
    try:
        return cluster.run("auth", "can-i", "delete", "stateshards.gridplane.dev", user)
    except Refused as error:
        return str(error)


def test_whoever_names_the_object_twice_means_it(guarded: Cluster) -> None:
    guarded.apply({**thing("StateShard", "meant", SHARD)})
    with pytest.raises(Refused, match=r"gridplane\.dev/allow-delete"):
        guarded.run("delete", "stateshard", "meant")
    guarded.run("annotate", "stateshard", "meant", f"{ALLOW_DELETE}=meant")
    guarded.run("delete", "stateshard", "meant")


def test_another_s_objects_go_as_ever(guarded: Cluster) -> None:
    guarded.run("create", "configmap", "other")
    guarded.run("delete", "configmap", "other")
    with_default = Cluster(guarded.kubeconfig, "default")
    with_default.apply(thing("StateShard", "elsewhere", SHARD))
    with_default.run("delete", "stateshard", "elsewhere")


def test_a_job_at_work_stays_and_an_idle_one_goes(guarded: Cluster) -> None:
    job = next(case for case in CASES if case.id == "a-job-with-a-deadline").object
    # Of another controller's, so that the Job controller does not count its pods.
    guarded.apply({**job, "spec": {**job["spec"], "managedBy": "example.com/nobody"}})
    status: dict[str, Any] = {"status": {"active": 1}}
    patch = ["--subresource=status", "--type=merge", "-p", json.dumps(status)]
    guarded.run("patch", "job", "case", *patch)
    with pytest.raises(Refused, match="at work"):
        guarded.run("delete", "job", "case")
    patch[-1] = json.dumps({"status": {"active": 0}})
    guarded.run("patch", "job", "case", *patch)
    guarded.run("delete", "job", "case")


def test_without_a_site_the_platform_may_go(guarded: Cluster) -> None:
    guarded.run("delete", "site", "here")
    try:
        eventually(
            lambda: not refuses(lambda: delete(guarded, "configmap", GATE)), "the gate is open"
        )
    finally:
        guarded.apply(thing("Site", "here", {"revision": "0" * 64}))
        eventually(lambda: refuses(lambda: delete(guarded, "configmap", GATE)), "it is shut")
