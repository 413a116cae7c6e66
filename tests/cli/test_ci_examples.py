"""The CI files that we ship: their shell, run on a proposal; and what they may never do."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.test_against import PROFILE, git

CI = Path(__file__).resolve().parents[2] / "examples" / "ci"


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def proposal(home: Path) -> Path:
    """A repository with a base and a proposal on a branch; its own code would say so if it ran."""
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "base")
    git("tag", "base")
    git("checkout", "-q", "-b", "proposal")
    PROFILE.write_text(PROFILE.read_text().replace("power_mode: normal", "power_mode: low"))
    for name in ("Makefile", "conftest.py", "sitecustomize.py", "click.py", ".envrc"):
        Path(name).write_text("import os; os.abort()\n")
    git("add", ".")
    git("commit", "-q", "-m", "proposal")
    return home


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """What CI has on its PATH: the real gridplane; gh, curl and jq that keep what they are told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script(folder, "gridplane", f'exec {sys.executable} -P -m control_plane.cli "$@"')
    log = tmp_path / "said"
    script(
        folder,
        "gh",
        f'echo "gh $*" >> {log}; case "$*" in *--paginate*) cat {tmp_path}/found ;; esac',
    )
    script(folder, "curl", f'echo "curl $*" >> {log}')
    script(folder, "jq", f"cat > /dev/null; cat {tmp_path}/found")
    (tmp_path / "found").write_text("")
    return folder


def ran(text: str, *, cwd: Path, tools: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A step, as CI runs it: `bash -e`, with nothing in the environment but what the step names."""
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", text],  # noqa: S607 - the machine's own
        cwd=cwd,
        env={
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(tools),
            "PYTHONPATH": str(CI.parents[1]),
            **env,
        },
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def github() -> tuple[Any, dict[str, Any]]:
    workflow = yaml.safe_load((CI / "github.yml").read_text())
    return workflow, {step.get("name"): step for step in workflow["jobs"]["plan"]["steps"]}


@pytest.fixture
def runner(proposal: Path, tools: Path, tmp_path: Path) -> Path:
    """A folder as the workflow's checkouts leave it."""
    folder = tmp_path / "runner"
    (folder / "tool" / ".venv" / "bin").mkdir(parents=True)
    (folder / "tool" / ".venv" / "bin" / "gridplane").symlink_to(tools / "gridplane")
    (folder / "proposal").symlink_to(proposal)
    return folder


def test_githubs_plan_reads_the_proposal_as_data(runner: Path, tools: Path) -> None:
    _, steps = github()
    done = ran(steps["plan"]["run"], cwd=runner, tools=tools, BASE="base")
    assert done.returncode == 0, done.stderr
    comment = (runner / "comment.md").read_text()
    assert comment.startswith("<!-- gridplane-plan -->\n")
    assert "power_mode: normal -> low" in comment
    assert "::warning file=inventory/profiles/standard.yaml,line=" in done.stderr


@pytest.mark.parametrize(
    ("found", "call"),
    [
        ("", "--method POST repos/power/declaration/issues/7/comments"),
        ("41\n42\n", "--method PATCH repos/power/declaration/issues/comments/41"),
    ],
    ids=["first", "again"],
)
def test_githubs_comment_is_one(
    runner: Path, tools: Path, tmp_path: Path, found: str, call: str
) -> None:
    (tmp_path / "found").write_text(found)
    (runner / "comment.md").write_text("<!-- gridplane-plan -->\n")
    _, steps = github()
    env = {"REPOSITORY": "power/declaration", "NUMBER": "7", "GH_TOKEN": "t"}
    done = ran(steps["comment"]["run"], cwd=runner, tools=tools, **env)
    assert done.returncode == 0, done.stderr
    last = (tmp_path / "said").read_text().splitlines()[-1]
    assert last == f"gh api --silent {call} --field body=@comment.md"


def test_githubs_workflow_gives_the_proposal_neither_a_token_nor_a_shell() -> None:
    workflow, steps = github()
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["plan"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    for step in workflow["jobs"]["plan"]["steps"]:
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
        # What a stranger chose (a branch, a title) is in no script: at most in a variable.
        assert "${{" not in step.get("run", "")
    assert set(steps["plan"]["env"]) == {"BASE"}
    assert [name for name, step in steps.items() if "GH_TOKEN" in step.get("env", {})] == [
        "comment"
    ]


@pytest.mark.parametrize("found", ["", "41\n"], ids=["first", "again"])
def test_gitlabs_job(proposal: Path, tools: Path, tmp_path: Path, found: str) -> None:
    (tmp_path / "found").write_text(found)
    (job,) = [yaml.safe_load((CI / "gitlab.yml").read_text())["gridplane"]]
    (text,) = job["script"]
    env = {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": "base", "CI_API_V4_URL": "https://gitlab.example.com/api/v4",
        "CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "7",
    }  # fmt: skip
    without = ran(text, cwd=proposal, tools=tools, **env)
    assert without.returncode == 0, without.stderr
    assert "power_mode: normal -> low" in without.stdout
    assert not (tmp_path / "said").exists(), "without a token nobody is asked"
    done = ran(text, cwd=proposal, tools=tools, GRIDPLANE_NOTES_TOKEN="t", **env)
    assert done.returncode == 0, done.stderr
    last = (tmp_path / "said").read_text().splitlines()[-1]
    notes = "https://gitlab.example.com/api/v4/projects/3/merge_requests/7/notes"
    want = f"--request PUT --data-urlencode body@comment.md {notes}/41" if found else (
        f"--request POST --data-urlencode body@comment.md {notes}"
    )  # fmt: skip
    assert last.endswith(want)


def test_gitlabs_job_fails_where_the_plan_refuses(proposal: Path, tools: Path) -> None:
    PROFILE.write_text("kind: [\n")
    job = yaml.safe_load((CI / "gitlab.yml").read_text())["gridplane"]
    done = ran(job["script"][0], cwd=proposal, tools=tools, CI_MERGE_REQUEST_DIFF_BASE_SHA="base")
    assert done.returncode == 3
    assert "**Not valid**" in done.stdout


def test_flux_never_prunes_and_never_takes_a_field_from_somebody() -> None:
    documents = yaml.safe_load_all((CI.parent / "flux" / "ga-macon.yaml").read_text())
    found = {each["kind"]: each["spec"] for each in documents}
    assert (found["Kustomization"]["prune"], found["Kustomization"]["force"]) == (False, False)
    (check,) = found["Kustomization"]["healthChecks"]
    assert (check["kind"], check["name"]) == ("Site", "ga-macon")
