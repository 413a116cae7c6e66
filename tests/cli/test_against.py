"""`plan --against REF`: two commits compared, with no device, no network map and no state."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main

GIT = shutil.which("git") or "git"
PROFILE = Path("inventory/profiles/standard.yaml")


def git(*arguments: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    subprocess.run([GIT, *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def committed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits of an inventory, and no way out of this process."""
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    git("tag", "one")
    PROFILE.write_text(PROFILE.read_text().replace("power_mode: normal", "power_mode: low"))

    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.delenv("GRIDPLANE_ANTMINER_PASSWORD", raising=False)
    return home


@pytest.mark.usefixtures("committed")
def test_what_a_change_does_to_the_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["plan", "--against", "one"]) == Exit.OK
    text = capsys.readouterr().out
    assert "Power       28.0 kW -> 20.5 kW declared" in text
    assert "       8  power_mode: normal -> low" in text
    assert "no device was asked" in text
    assert not Path(".gridplane").exists(), "and nothing is kept"


@pytest.mark.usefixtures("committed")
def test_two_commits(capsys: pytest.CaptureFixture[str]) -> None:
    git("commit", "-q", "-am", "two")
    capsys.readouterr()
    assert main(["plan", "--against", "HEAD~1", "--exit-code"]) == Exit.ACTIONABLE
    assert main(["plan", "--against", "HEAD", "--exit-code"]) == Exit.OK
    capsys.readouterr()
    assert main(["plan", "--against", "one", "-o", "json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["subjects"], len(told["changes"]), told["danger"]) == (8, 8, "D3")
    assert main(["plan", "--against", "one", "-o", "name"]) == Exit.OK
    assert capsys.readouterr().out.split() == [f"r01-s{n}" for n in range(1, 9)]


@pytest.mark.usefixtures("committed")
def test_a_commit_whose_inventory_was_broken_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    good = PROFILE.read_text()
    PROFILE.write_text("kind: [\n")
    git("commit", "-q", "-am", "broken")
    PROFILE.write_text(good)
    capsys.readouterr()
    assert main(["plan", "--against", "HEAD"]) == Exit.INVALID
    assert "inventory/profiles/standard.yaml:2:1: error[E0106]" in capsys.readouterr().err


@pytest.mark.usefixtures("committed")
def test_a_site_that_the_commit_has_not_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("inventory/sites/first-site", "inventory/sites/second-site")
    for path in Path("inventory/sites/second-site").rglob("*.yaml"):
        path.write_text(path.read_text().replace("r01", "r02").replace("10.0.0.", "10.0.7."))
    capsys.readouterr()
    code = main(["plan", "--against", "one", "--site", "second-site"])
    told = capsys.readouterr()
    assert code == Exit.OK, told.err
    assert "8 added, 0 removed" in told.out
