"""What our command in front of Pulumi's Python language host hands it, a script standing in for the host."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from control_plane.lab.programs import BY_NAME, built
from control_plane.lab.pulumi import LANGUAGE_HOST

pytestmark = pytest.mark.lab("pulumi")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a virtual environment in it, and nothing else."""
    made = tmp_path / "checkout"
    (made / ".venv" / "bin").mkdir(parents=True)
    (made / ".venv" / "bin" / "python").touch()
    return made


def started(tmp_path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it with the one argument that the engine gives it."""
    command = tmp_path / "tools" / LANGUAGE_HOST
    host = tmp_path / "tools" / "host" / LANGUAGE_HOST
    host.parent.mkdir(parents=True)
    shutil.copy(built(BY_NAME[LANGUAGE_HOST]), command)
    host.write_text('#!/bin/sh\necho "$@"\n')
    host.chmod(0o755)
    return subprocess.run(
        [command, "127.0.0.1:1"], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("Pulumi.yaml", "name: a\nruntime: {name: python, options: {virtualenv: .venv}}\n"),
        ("Pulumi.yml", "runtime:\n  name: python\n  options:\n    virtualenv: ./.venv/\n"),
        ("Pulumi.json", '{"runtime": {"name": "python", "options": {"virtualenv": ".venv"}}}'),
    ],
)
def test_the_environment_of_the_nearest_project_goes_to_the_host(
    tmp_path: Path, folder: Path, file: str, text: str
) -> None:
    (tmp_path / "Pulumi.yaml").write_text("runtime: {options: {virtualenv: of-another}}\n")
    (folder / file).write_text(text)
    below = folder / "stacks" / "deep"
    below.mkdir(parents=True)
    done = started(tmp_path, below)
    assert done.stdout == f"-virtualenv {folder / '.venv'} 127.0.0.1:1\n", done.stderr


def test_an_absolute_path_stays(tmp_path: Path, folder: Path) -> None:
    project = tmp_path / "elsewhere"
    project.mkdir()
    text = f"runtime: {{name: python, options: {{virtualenv: {folder / '.venv'}}}}}\n"
    (project / "Pulumi.yaml").write_text(text)
    assert started(tmp_path, project).stdout == f"-virtualenv {folder / '.venv'} 127.0.0.1:1\n"


@pytest.mark.parametrize(
    "text",
    [None, "runtime: python\n", "runtime: {name: python}\n", "name: of a plugin\n"],
    ids=["no project", "a word", "no options", "no runtime"],
)
def test_without_the_option_the_host_starts_as_ever(
    tmp_path: Path, folder: Path, text: str | None
) -> None:
    if text:
        (folder / "Pulumi.yaml").write_text(text)
    assert started(tmp_path, folder).stdout == "127.0.0.1:1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("runtime: {options: {virtualenv: venv}}\n", "has no bin/python: make it first"),
        ("runtime: {options: [virtualenv]}\n", "cannot unmarshal"),
        ("runtime: {\n", "yaml: line "),
    ],
    ids=["not there", "no mapping", "no YAML"],
)
def test_a_project_that_cannot_be_followed_is_named(
    tmp_path: Path, folder: Path, text: str, words: str
) -> None:
    (folder / "Pulumi.yaml").write_text(text)
    done = started(tmp_path, folder)
    assert done.returncode == 1
    assert str(folder / "Pulumi.yaml") in done.stderr
    assert words in done.stderr
