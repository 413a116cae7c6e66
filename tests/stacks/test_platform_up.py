"""The platform layer on the real engine and API server: it comes up, stays, and does not go by accident."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from control_plane.lab.api import ApiLab
from tests.lab.cluster import Cluster, Refused, thing
from tests.lab.engine import Engine, Failed, Project
from tests.stacks.moody import moody
from tests.stacks.site import NODE, platform
from tests.stacks.waiting import eventually, kill_session

pytestmark = [pytest.mark.lab("pulumi"), pytest.mark.slow]

UP = ("up", "--yes", "--skip-preview")
REVISION = {"revision": "0" * 64}


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """An API server of its own: a platform is cluster-wide."""
    lab = ApiLab(tmp_path / "lab")
    lab.up()
    lab.join([NODE])
    try:
        yield Cluster(lab.kubeconfig, "gridplane")
    finally:
        lab.down()


@pytest.fixture
def project(own_cluster: Cluster, tmp_path: Path) -> Project:
    return platform(
        tmp_path / "checkout", Engine(tmp_path / "pulumi", own_cluster.kubeconfig), own_cluster
    )


def names(cluster: Cluster, kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in cluster.json("get", kind)["items"]}


def test_a_platform_comes_up_stays_as_it_is_and_does_not_go_by_accident(
    project: Project, own_cluster: Cluster
) -> None:
    cluster = own_cluster
    project.run(*UP, "--policy-pack", "policy")
    assert project.outputs()["namespace"] == "gridplane"
    assert project.outputs()["charts"]["gpu-operator"] == "26.7.0"
    levels = {
        one["metadata"]["name"]: one["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
        for one in cluster.json("get", "namespaces")["items"]
    }
    assert levels["gridplane"] == "restricted"
    assert levels["gpu-operator"] == levels["nvidia-network-operator"] == "privileged"
    driver = cluster.json("get", "clusterpolicy", "cluster-policy")["spec"]["driver"]
    assert driver["upgradePolicy"]["podDeletion"]["timeoutSeconds"] == 300
    assert driver["version"] == "595.91.07"
    environment = cluster.json("get", "deployment", "gridplane-controller")["spec"]["template"][
        "spec"
    ]
    assert {"name": "GRIDPLANE_SITE", "value": "lab"} in environment["containers"][0]["env"]

    project.run("preview", "--expect-no-changes")
    project.run("refresh", "--yes", "--skip-preview")
    project.run("preview", "--expect-no-changes")

    charts = project.folder / "stacks" / "charts" / "stand-in.yaml"
    wanted = charts.read_text()
    charts.write_text(wanted.replace("version: 26.7.0", "version: 27.4.0"))
    about = project.folder / "examples" / "charts" / "gpu-operator" / "Chart.yaml"
    stands = about.read_text()
    about.write_text(stands.replace("version: 26.7.0", "version: 27.4.0"))
    for command in (("preview",), UP):
        with pytest.raises(
            Failed, match=r"stand-in\.yaml:\d+:14: error\[E0806\] release line 27\.4"
        ):
            project.run(*command)
    charts.write_text(wanted)
    about.write_text(stands)

    cluster.apply(thing("Site", "lab", REVISION))
    with pytest.raises(Failed, match=r"cannot be deleted\s+because it is protected"):
        project.run("destroy", "--yes", "--skip-preview")
    assert names(cluster, "deployments") == {"gridplane-controller"}, "nothing has gone"
    project.run("state", "unprotect", "--all", "--yes")
    with pytest.raises(Failed, match="delete the Site first"):
        project.run("destroy", "--yes", "--skip-preview")
    assert names(cluster, "deployments") == {"gridplane-controller"}, "nothing has gone"
    assert cluster.json("get", "clusterpolicy", "cluster-policy")

    cluster.run("delete", "site", "lab")
    project.run("destroy", "--yes", "--skip-preview")
    assert "gpu-operator" not in names(cluster, "namespaces")
    assert {"gridplane"} <= names(cluster, "namespaces")
    assert "sites.gridplane.dev" in names(cluster, "crds"), "what holds a site's state stays"


def test_a_definition_that_is_too_old_for_what_is_sent_is_told(
    project: Project, own_cluster: Cluster
) -> None:
    chart = project.folder / "examples" / "charts" / "gpu-operator"
    definition = chart / "crds" / "clusterpolicies.yaml"
    old = yaml.safe_load(definition.read_text())
    spec = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["driver"]["properties"]["upgradePolicy"]["properties"]["podDeletion"]
    # Helm installs the definitions of a chart once, and never looks at them again.
    own_cluster.run("apply", "--server-side", "-f", "-", stdin=json.dumps(old))
    lost = r"spec\.driver\.upgradePolicy\.podDeletion\.timeoutSeconds otherwise than it was sent"
    with pytest.raises(Failed, match=lost):
        project.run(*UP)
    with pytest.raises(Failed, match=lost):
        project.run(*UP)
    own_cluster.run("apply", "--server-side", "--force-conflicts", "-f", str(definition))
    # Helm sends an object again only where its values change.
    fixed = {"spec": {"driver": {"upgradePolicy": {"podDeletion": {"timeoutSeconds": 300}}}}}
    own_cluster.run(
        "patch", "clusterpolicy", "cluster-policy", "--type=merge", "-p", json.dumps(fixed)
    )
    project.run(*UP)
    project.run("preview", "--expect-no-changes")


def test_what_is_wrong_is_told_and_nothing_is_made(project: Project, own_cluster: Cluster) -> None:
    charts = project.folder / "stacks" / "charts" / "stand-in.yaml"
    charts.write_text(charts.read_text().replace("kernelModuleType: open", "kernelModuleTyp: open"))
    with pytest.raises(Failed, match=r"stand-in\.yaml:\d+:9: error\[E0803\]") as told:
        project.run(*UP)
    assert "did you mean 'driver.kernelModuleType'" in str(told.value)
    assert "Traceback" not in str(told.value)
    project.run("config", "set", "charst", "x")
    with pytest.raises(Failed, match=r"Pulumi\.lab\.platform\.yaml:\d+:3: error\[E0201\]"):
        project.run("preview")
    project.run("config", "rm", "charst")
    project.run("config", "rm", "kubeconfig")
    charts.write_text(charts.read_text().replace("kernelModuleTyp: open", "kernelModuleType: open"))
    with pytest.raises(Failed, match=r"lab\.cluster"):
        project.run(*UP)
    assert "gridplane" not in names(own_cluster, "namespaces")


def test_an_update_that_was_killed_is_taken_up_where_it_was(
    project: Project, own_cluster: Cluster
) -> None:
    log = project.folder / "up.log"
    with log.open("w") as out, subprocess.Popen(
        ["pulumi", "--non-interactive", *UP],  # noqa: S607 - PATH is the lab's
        cwd=project.folder, env=project.environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
    ) as going:  # fmt: skip
        eventually(
            lambda: "sites.gridplane.dev" in names(own_cluster, "crds"), "half of it is made", 120
        )
        # While it is under way nobody else gets in.
        with pytest.raises(Failed, match="locked"):
            project.run(*UP)
        kill_session(going.pid)
    with pytest.raises(Refused, match="NotFound"):
        own_cluster.json("get", "configmap", "gridplane-platform")
    project.run("cancel", "--yes")
    project.run(*UP)
    assert own_cluster.json("get", "configmap", "gridplane-platform")
    project.run("preview", "--expect-no-changes")


def test_an_api_server_that_throttles_is_waited_for(project: Project, own_cluster: Cluster) -> None:
    with moody(own_cluster.kubeconfig, project.folder, [429] * 12) as (server, kubeconfig):
        project.run("config", "set", "kubeconfig", str(kubeconfig))
        project.run(*UP)
        assert server.is_calm, server.refused
    project.run("config", "set", "kubeconfig", str(own_cluster.kubeconfig))
    # Another way to the same cluster: the provider learns of it, and no object is replaced.
    said = project.run("preview")
    assert "1 to update" in said
    assert "replace" not in said


def test_an_api_server_that_fails_ends_the_update_and_the_next_goes_on(
    project: Project, own_cluster: Cluster
) -> None:
    with moody(own_cluster.kubeconfig, project.folder, [500], every=9) as (server, kubeconfig):
        project.run("config", "set", "kubeconfig", str(kubeconfig))
        with pytest.raises(Failed, match="not in the mood"):
            project.run(*UP)
        assert server.is_calm
        with pytest.raises(Refused, match="NotFound"):
            own_cluster.json("get", "configmap", "gridplane-platform")
        project.run(*UP)
        assert own_cluster.json("get", "configmap", "gridplane-platform")
        project.run("preview", "--expect-no-changes")


def test_a_cluster_that_was_set_up_by_hand_is_adopted(
    project: Project, own_cluster: Cluster
) -> None:
    manifests = project.folder / "manifests"
    Cluster(own_cluster.kubeconfig).run("create", "namespace", "gridplane")
    own_cluster.run("apply", "--server-side", "-f", str(manifests / "crds"))
    own_cluster.run("create", "serviceaccount", "gridplane-controller")
    own_cluster.apply(thing("Site", "lab", REVISION))

    def uids() -> dict[str, str]:
        kinds = ("namespace", "crds", "serviceaccounts", "sites")
        found = (one for kind in kinds for one in own_cluster.json("get", kind)["items"])
        return {f"{one['kind']} {one['metadata']['name']}": one["metadata"]["uid"] for one in found}

    before = uids()
    project.run(*UP)
    after = uids()
    assert {name: after[name] for name in before} == before, "nothing was made anew"
    project.run("preview", "--expect-no-changes")
