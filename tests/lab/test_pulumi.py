"""A small program on the real engine, through the CLI and the Automation API, no environment being active."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s
import pytest
from pulumi import automation

from control_plane.lab.api import ApiLab
from tests.lab.cluster import Cluster
from tests.lab.engine import Engine, Failed, Project

PROGRAM = Path(__file__).with_name("program")

pytestmark = pytest.mark.lab("pulumi")


@pytest.fixture
def project(engine: Engine, cluster: Cluster, tmp_path: Path) -> Project:
    made = engine.project(PROGRAM, tmp_path / "checkout")
    made.stack("dev", namespace=cluster.namespace)
    return made


def names(cluster: Cluster, kind: str) -> list[str]:
    found = cluster.json("get", kind)["items"]
    return [
        thing["metadata"]["name"]
        for thing in found
        if "kube-root-ca" not in thing["metadata"]["name"]
    ]


def test_up_makes_what_is_declared_a_second_changes_nothing_destroy_takes_it_away(
    project: Project, cluster: Cluster
) -> None:
    assert "4 to create" in project.run("preview")
    assert names(cluster, "configmaps,jobs") == []

    project.run("up", "--yes", "--skip-preview")
    assert cluster.json("get", "configmap", "settings")["data"] == {"message": "hello"}
    assert cluster.json("get", "job", "wave")["spec"]["suspend"] is True
    assert project.outputs() == {"job": "wave", "python": str(project.folder / ".venv")}

    project.run("preview", "--expect-no-changes")
    cluster.run("patch", "job", "wave", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    # What a controller decides stays.
    project.run("preview", "--expect-no-changes")
    project.run("config", "set", "message", "other")
    with pytest.raises(Failed, match="no changes were expected"):
        project.run("preview", "--expect-no-changes")

    project.run("destroy", "--yes", "--skip-preview")
    assert names(cluster, "configmaps,jobs") == []


def test_an_environment_that_is_not_there_is_named(project: Project) -> None:
    (project.folder / ".venv").unlink()
    with pytest.raises(Failed, match="which has no bin/python: make it first") as said:
        project.run("preview")
    assert str(project.folder / ".venv") in str(said.value)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("raise SystemExit('there is no site mars')", "there is no site mars"),
        ("raise ValueError('no site mars')", r"line 1, in <module>(.|\n)*ValueError: no site mars"),
        ("import siet", "No module named 'siet'"),
    ],
    ids=["refuses", "raises", "cannot be imported"],
)
def test_what_a_program_that_fails_says_is_shown(
    project: Project, statement: str, words: str
) -> None:
    (project.folder / "stacks" / "__main__.py").write_text(statement)
    with pytest.raises(Failed, match=words):
        project.run("preview")


def small(namespace: str, kubeconfig: Path, message: str) -> Callable[[], None]:
    """A program as a function."""

    def program() -> None:
        provider = k8s.Provider(
            "lab", kubeconfig=str(kubeconfig), cluster_identifier="lab", namespace=namespace
        )
        made = k8s.core.v1.ConfigMap(
            "settings",
            metadata={"name": "settings"},
            data={"message": message},
            opts=pulumi.ResourceOptions(provider=provider),
        )
        pulumi.export("name", made.metadata["name"])

    return program


@pytest.mark.usefixtures("engine")
def test_automation_runs_a_function(cluster: Cluster) -> None:
    def stack(message: str) -> automation.Stack:
        return automation.create_or_select_stack(
            stack_name="dev",
            project_name="inline",
            program=small(cluster.namespace, cluster.kubeconfig, message),
        )

    first = stack("hello").up()
    assert first.outputs["name"].value == "settings"
    assert first.summary.resource_changes == {"create": 3}
    assert cluster.json("get", "configmap", "settings")["data"] == {"message": "hello"}
    assert stack("hello").up().summary.resource_changes == {"same": 3}
    changed = stack("other").preview()
    assert changed.change_summary[automation.OpType.REPLACE] == 1
    stack("other").destroy()
    assert names(cluster, "configmaps") == []


def test_automation_runs_a_project(project: Project, cluster: Cluster) -> None:
    stack = automation.select_stack(stack_name="dev", work_dir=str(project.folder))
    assert stack.up().outputs["python"].value == str(project.folder / ".venv")
    assert names(cluster, "configmaps,jobs") == ["settings", "wave"]
    stack.preview(expect_no_changes=True)
    stack.destroy()
    assert names(cluster, "configmaps,jobs") == []


@pytest.mark.usefixtures("engine")
def test_automation_hands_on_what_the_program_raised(cluster: Cluster) -> None:
    def program() -> None:
        raise ValueError("no site mars")

    stack = automation.create_or_select_stack("dev", "inline", program)
    with pytest.raises(automation.errors.InlineSourceRuntimeError, match="no site mars"):
        stack.up()


def test_secrets_in_a_checkout_are_opened_in_the_next_lab(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    project.run("config", "set", "--secret", "key", "hidden")
    assert "hidden" not in (project.folder / "Pulumi.dev.yaml").read_text()
    later = Project(project.folder, Engine(tmp_path / "later", cluster.kubeconfig).environment)
    later.run("stack", "init", "dev")
    assert "hidden" in later.run("config", "get", "key")


def test_exec_keeps_the_stacks_in_the_lab(
    api_lab: ApiLab, project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    labs = tmp_path / "gridplane" / "lab"
    labs.mkdir(parents=True)
    (labs / "lab").symlink_to(api_lab.folder)

    def inside(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "control_plane.cli", "lab", "exec", "--", "pulumi", *arguments],
            cwd=project.folder,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    inside("stack", "init", "exec")
    assert "4 to create" in inside("preview", "--config", f"namespace={cluster.namespace}")
    assert "exec" in inside("stack", "ls")
    assert list((api_lab.folder / "pulumi" / "state").rglob("exec.json"))
    assert "exec" not in project.run("stack", "ls"), "the backend of the test is another"


def test_an_api_server_that_is_down_fails_cleanly_and_a_retry_works(
    tmp_path: Path,
) -> None:
    lab = ApiLab(tmp_path / "own")
    lab.up()
    try:
        Cluster(lab.kubeconfig).run("create", "namespace", "own")
        cluster = Cluster(lab.kubeconfig, "own")
        project = Engine(tmp_path / "pulumi", lab.kubeconfig).project(
            PROGRAM, tmp_path / "checkout"
        )
        project.stack("dev", namespace="own")
        end(lab.running()["kube-apiserver"].pid)
        with pytest.raises(Failed, match=r"unreachable|connection refused"):
            project.run("up", "--yes", "--skip-preview")
        lab.up()
        project.run("up", "--yes", "--skip-preview")
        assert names(cluster, "configmaps,jobs") == ["settings", "wave"]
        project.run("preview", "--expect-no-changes")
    finally:
        lab.down()


def end(pid: int) -> None:
    """Kill a process, and wait until it is gone."""
    watched = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([watched], [], [])
    os.close(watched)
