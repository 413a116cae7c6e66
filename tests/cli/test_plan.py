"""The last line of a plan is a command that works when it is typed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.cli.workplace import Workplace, load_declared
from control_plane.engine.accept import Proposal, accept
from control_plane.engine.records import ShownPlan

SITE = "first-site"


@pytest.fixture
def accepted(home: Path) -> Path:
    """The inventory, and its revision in force."""
    inventory = home / "inventory"
    place = Workplace(site=SITE, state=None, inventory=inventory, creates=True)
    declared = load_declared(inventory, SITE)
    shown = ShownPlan(digest="p", revision=declared.digest, at_s=0.0, expected={})
    proposal = Proposal(
        site=declared.site, digest=declared.digest, files=declared.files, plan=shown, by="ann"
    )
    accept(place.store, place.audit, place.revisions(), proposal, 0.0)
    return inventory


def last_words(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    capsys.readouterr()
    assert main(["plan", "--no-look", *options]) == Exit.OK
    line = capsys.readouterr().out.strip().splitlines()[-1]
    return shlex.split(line.removeprefix("Accept it:"), comments=True)


def replace(path: Path, was: str, now: str) -> None:
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, now))


def test_it_acknowledges_what_the_plan_says_is_removed(
    accepted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(accepted / "sites/first-site/racks/r01.yaml", "slots: 8", "slots: 4")
    words = last_words(capsys)
    assert words[:4] == ["gridplane", "apply", "--site", SITE]
    assert words[5:] == ["--acknowledge-removals", "4"]


def test_it_takes_over_from_a_declared_cluster(
    accepted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = accepted / "sites/first-site/site.yaml"
    site.write_text(site.read_text() + "clusters: [first-ai]\n")
    assert last_words(capsys)[5:] == ["--take-over"]


def test_it_repeats_the_folders_that_were_named(
    accepted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(accepted / "profiles/standard.yaml", "power_mode: normal", "power_mode: low")
    monkeypatch.chdir(accepted.parent.parent)
    there = ("--inventory", "company/inventory", "--state", "company/.gridplane/first-site")
    assert last_words(capsys, *there)[5:] == [*there]
