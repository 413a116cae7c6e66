"""From disk and from Git: only plain files are read, and what is read is what stands there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from control_plane.cli.init import FILES as STARTER
from control_plane.core.errors import DeclarationError
from control_plane.inventory.git import commit_of, files_at
from control_plane.inventory.load import load, load_files
from tests.inventory.base import FILES, files, loaded


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "inventory"
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def codes(folder: Path) -> list[str]:
    return [finding.code for finding in load(folder).findings]


def test_disk_and_memory_load_the_same(root: Path) -> None:
    result = load(root)
    assert result.findings == ()
    assert result.digests == loaded().digests
    assert result.files["lab"] == files()


def test_places_name_the_folder_as_people_know_it() -> None:
    result = load_files(files(), root=Path("my-fleet"))
    assert result.fleet is not None
    wheres = {device.where.path for device in result.fleet.sites["lab"].devices}
    assert wheres
    assert all(path.startswith("my-fleet/sites/lab/") for path in wheres)


def test_what_init_writes_is_valid() -> None:
    result = load_files({path: text.encode() for path, text in STARTER.items()})
    assert result.findings == ()
    assert result.fleet is not None


def test_only_the_wanted_site_is_read(root: Path) -> None:
    (root / "sites/broken").mkdir()
    (root / "sites/broken/site.yaml").write_text("[")
    assert load(root).fleet is None
    assert load(root, sites={"lab"}).digests == loaded().digests


def test_an_unknown_site_is_said(root: Path) -> None:
    assert [f.code for f in load(root, sites={"lap"}).findings] == ["E0301"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = load(tmp_path / "nothing")
    assert result.fleet is None
    assert (
        "does not exist" in result.findings[0].what or "does not exist" in result.findings[-1].what
    )


def test_a_link_is_refused(root: Path) -> None:
    (root / "owners/more.yaml").symlink_to("/etc/passwd")
    assert codes(root) == ["E0101"]


def test_a_linked_folder_is_refused(root: Path) -> None:
    (root / "sites/lab/racks/more").symlink_to(root / "sites")
    assert codes(root) == ["E0101"]


def test_a_pipe_is_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "owners/more.yaml")
    assert codes(root) == ["E0101"]


def test_prose_and_hidden_files_are_nobodys_business(root: Path) -> None:
    (root / "README.md").write_text("# ours")
    (root / "owners/.acme.yaml.swp").write_bytes(b"\x00")
    (root / ".git").mkdir()
    (root / ".git/config.yaml").write_text("[")
    assert codes(root) == []


def _git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main")
    command = ["git", *who, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_git_gives_the_inventory_of_a_commit(root: Path) -> None:
    repository = root.parent
    assert commit_of(root) is None
    _git(repository, "init", "-q")
    _git(repository, "add", ".")
    _git(repository, "commit", "-q", "-m", "one")
    assert files_at(root, "HEAD") == files()
    head = _git(repository, "rev-parse", "HEAD").strip()
    assert commit_of(root) == head
    (root / "owners/acme.yaml").write_text(FILES["owners/acme.yaml"].replace("3333", "3334"))
    assert commit_of(root) is None, "what is not committed has no commit"
    assert files_at(root, "main") == files()


@pytest.mark.parametrize("ref", ["no-such-branch", "--output=/tmp/x", ""])
def test_a_reference_that_git_does_not_know_is_a_finding(root: Path, ref: str) -> None:
    _git(root.parent, "init", "-q")
    with pytest.raises(DeclarationError) as caught:
        files_at(root, ref)
    assert [f.code for f in caught.value.findings] == ["E0114"]
