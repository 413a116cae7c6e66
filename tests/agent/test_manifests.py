"""The agents' pods, what they may do, and what their tokens are held to."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from control_plane.agent.api import ACCOUNT
from control_plane.api.objects import KINDS
from control_plane.cli.node_agent import command
from control_plane.provision.rules import NODE_AGENT
from tests.stock import ROOT

FOUND: dict[str, dict[str, Any]] = {
    document["kind"]: document
    for path in sorted((ROOT / "manifests/node-agent").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}
POD = FOUND["DaemonSet"]["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
ENV = {one["name"]: one for one in CONTAINER["env"]}


def test_the_operator_can_end_it_before_it_unloads_a_driver() -> None:
    assert POD["nodeSelector"] == {"nvidia.com/gpu.deploy.client": "true"}
    assert POD["terminationGracePeriodSeconds"] <= 30


def test_it_stays_on_drained_nodes_and_sees_all_gpus() -> None:
    assert POD["tolerations"] == [{"operator": "Exists"}]
    assert POD["runtimeClassName"] == "nvidia"
    assert ENV["NVIDIA_DRIVER_CAPABILITIES"]["value"] == "utility"


def test_it_is_told_its_node_by_the_kubelet_and_takes_the_options_that_there_are() -> None:
    names = {option.envvar for option in command.params if getattr(option, "envvar", None)}
    names.remove("GRIDPLANE_NETWORK_MAP")  # for simulated GPUs alone
    assert {name for name in ENV if name.startswith("GRIDPLANE_")} == names
    assert ENV["GRIDPLANE_NODE"]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
    assert CONTAINER["args"] == ["node-agent"]


def test_the_last_grant_outlives_the_pod() -> None:
    (kept,) = [param.default for param in command.params if param.name == "kept"]
    (mount,) = CONTAINER["volumeMounts"]
    (volume,) = POD["volumes"]
    assert str(kept).startswith(mount["mountPath"] + "/")
    assert volume["hostPath"]["path"] == mount["mountPath"]


def test_nothing_is_privileged_but_the_one_capability_that_the_driver_asks_for() -> None:
    security = CONTAINER["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["SYS_ADMIN"]}
    assert security["readOnlyRootFilesystem"]
    assert not {"privileged", "hostPID", "hostIPC", "hostNetwork"} & (security.keys() | POD.keys())


def test_it_may_read_its_kind_and_write_its_status_alone() -> None:
    plurals = {kind.plural for kind in KINDS}
    rights = {
        (r, v) for rule in FOUND["Role"]["rules"] for r in rule["resources"] for v in rule["verbs"]
    }
    assert rights == {
        ("gpunodes", "get"), ("gpunodes", "list"), ("gpunodes", "watch"), ("gpunodes/status", "patch"),
    }  # fmt: skip
    assert "gpunodes" in plurals


def test_the_policy_is_about_the_account_that_the_pods_have() -> None:
    namespace = FOUND["Namespace"]["metadata"]["name"]
    account = FOUND["ServiceAccount"]["metadata"]
    assert account == {"name": NODE_AGENT, "namespace": namespace}
    assert POD["serviceAccountName"] == account["name"]
    assert FOUND["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", **account}]
    policy = FOUND["ValidatingAdmissionPolicy"]
    [condition] = policy["spec"]["matchConditions"]
    user = f"system:serviceaccount:{namespace}:{account['name']}"
    assert condition["expression"] == f'request.userInfo.username == "{user}"'
    assert policy["spec"]["failurePolicy"] == "Fail"
    binding = FOUND["ValidatingAdmissionPolicyBinding"]["spec"]
    assert binding == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


@pytest.mark.parametrize("kind", ["DaemonSet", "ServiceAccount", "NetworkPolicy"])
def test_what_is_the_agents_is_in_their_namespace(kind: str) -> None:
    assert FOUND[kind]["metadata"]["namespace"] == FOUND["Namespace"]["metadata"]["name"]


def test_the_token_is_where_the_kubelet_puts_it() -> None:
    assert str(ACCOUNT) == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert "automountServiceAccountToken" not in POD
