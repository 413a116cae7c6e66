"""What is applied to a cluster beside the objects of a site: only what the code asks for, and all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from control_plane.api.objects import KINDS
from control_plane.cli.controller import PORT
from control_plane.core import metrics
from control_plane.core.decision import Reason
from control_plane.drivers import antminer, whatsminer
from control_plane.kube.serving import application
from tests.stock import ROOT

MANIFESTS = ROOT / "manifests"
RULES = [
    rule
    for group in yaml.safe_load((MANIFESTS / "monitoring/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
METRICS = {metric.name: metric for metric in metrics.REGISTER}
OF_PROMETHEUS = {"site", "instance"}


def documents(kind: str) -> Iterator[dict[str, Any]]:
    for path in sorted((MANIFESTS / "controller").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            # `kubectl apply -f` takes the whole folder.
            assert document["kind"]
            if document["kind"] == kind:
                yield document


def container() -> dict[str, Any]:
    [deployment] = documents("Deployment")
    [one] = deployment["spec"]["template"]["spec"]["containers"]
    return dict(one)


def test_probes_ask_what_is_served_where_it_is_served() -> None:
    served = {r.resource.canonical for r in application(None).router.routes() if r.resource}  # type: ignore[arg-type]
    one = container()
    assert one["ports"][0] == {"name": "http", "containerPort": PORT}
    for probe in ("readinessProbe", "livenessProbe"):
        asked = one[probe]["httpGet"]
        assert asked["path"] in served
        assert asked["port"] == "http"


def test_the_pod_names_a_class_and_an_account_that_are_there() -> None:
    [deployment] = documents("Deployment")
    spec = deployment["spec"]["template"]["spec"]
    assert [spec["priorityClassName"]] == [
        d["metadata"]["name"] for d in documents("PriorityClass")
    ]
    assert [spec["serviceAccountName"]] == [
        d["metadata"]["name"] for d in documents("ServiceAccount")
    ]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    [service], [budget], [policy] = (
        [*documents(kind)] for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy")
    )
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert policy["spec"]["podSelector"]["matchLabels"] == labels


def test_roles_have_no_wildcard_and_name_what_there_is() -> None:
    plurals = {kind.plural for kind in KINDS}
    for role in (*documents("Role"), *documents("ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
            if rule["apiGroups"] == ["gridplane.dev"]:
                assert {name.partition("/")[0] for name in rule["resources"]} <= plurals


def test_who_reads_may_change_nothing() -> None:
    [reader] = [r for r in documents("Role") if r["metadata"]["name"] == "gridplane-reader"]
    assert {verb for rule in reader["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    # Nor read secrets, nor run anything: `pods/exec` is a `get` too.
    resources = {name for rule in reader["rules"] for name in rule["resources"]}
    assert {name for name in resources if name.startswith("pods")} == {
        "pods", "pods/log", "pods/proxy"
    }  # fmt: skip
    assert "secrets" not in resources


def test_drivers_can_reach_devices_and_nothing_else_is_open() -> None:
    [policy] = documents("NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    ports = [
        {port["port"] for port in rule["ports"] if port["protocol"] == "TCP"}
        for rule in policy["spec"]["egress"]
    ]
    assert {antminer.RPC_PORT, antminer.WEB_PORT, whatsminer.PORT} in ports
    assert {443} in ports, "of BMCs: `core.ports.BmcTarget`"
    assert all(rule["to"] and rule["ports"] for rule in policy["spec"]["egress"])
    [ingress] = policy["spec"]["ingress"]
    assert [port["port"] for port in ingress["ports"]] == [PORT]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    expr = rule["expr"]
    names = set(re.findall(r"(?:gridplane|process)_[a-z_]+", expr))
    assert names
    assert names <= set(METRICS)
    labels = {label for name in names for label in METRICS[name].labels} | OF_PROMETHEUS
    used = set(re.findall(r"([a-z_]+)=~?\"", expr)) | {
        label for group in re.findall(r"by \(([^)]*)\)", expr) for label in re.split(r",\s*", group)
    }
    shown = set(re.findall(r"\$labels\.([a-z_]+)", str(rule["annotations"])))
    assert used | shown <= labels
    for states in re.findall(r'state=~?"([^"]+)"', expr):
        assert set(states.split("|")) <= set(Reason)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "meaning", "action"}
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
