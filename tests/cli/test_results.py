"""What the verbs that change something tell scripts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main

HOLD = ("hold", "r01", "--kind", "safety", "--by", "ann", "--reason", "hands in the rack")
FREEZE = ("freeze", "--by", "ann", "--reason", "storm", "--ttl", "6h")


@pytest.fixture(autouse=True)
def _planned(home: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--no-look"]) == Exit.OK
    capsys.readouterr()


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "-o", "json"]) == Exit.OK
    return json.loads(capsys.readouterr().out)


def test_hold_tells_what_is_in_force_and_how_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    result = told(capsys, *HOLD)
    overlay = result["overlay"]
    assert (result["site"], overlay["id"], overlay["node"]) == ("first-site", "h0001", "r01")
    assert (overlay["kind"], overlay["owner"]) == ("safety", "ann")
    assert overlay["assets"] == [f"r01-s{n}" for n in range(1, 9)]
    assert result["under_way"] == []
    assert main(result["release"].split()[1:]) == Exit.OK


def test_freeze_tells_the_same_with_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    overlay = told(capsys, *FREEZE)["overlay"]
    assert (overlay["kind"], overlay["node"]) == ("freeze", "first-site")
    assert overlay["expires_s"] - overlay["since_s"] == 6 * 3600


def test_release_tells_what_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, *HOLD)
    result = told(capsys, "release", "r01", "--by", "ann")
    assert result == {
        "site": "first-site", "target": "r01", "done": "h0001: safety on r01 released",
    }  # fmt: skip


def test_names_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*HOLD, "-o", "name"]) == Exit.OK
    assert capsys.readouterr().out == "h0001\n"
