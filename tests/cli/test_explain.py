"""`gridplane explain` of a GPU node: what a Store keeps of its remedies, in words and as data."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.core.remedy_case import Action, Attempt, Outcome
from control_plane.core.remedy_kept import NodeKept
from control_plane.engine.store import Store
from tests.inventory.base import FILES

DONE = Attempt(action=Action.REBOOT, at_s=1_000.0, ended_s=1_240.0, outcome=Outcome.DONE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inventory whose GPU profile acts, and a Store that keeps an attempt on one node."""
    acting = FILES["profiles/gpu.yaml"].replace("gpu: {", "gpu: {remedies: act, ")
    for path, text in {**FILES, "profiles/gpu.yaml": acting}.items():
        target = tmp_path / "inventory" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    with closing(Store(tmp_path / "state" / "state.sqlite")) as store:
        store.put_remedies([NodeKept(asset="g1-n1", attempts=(DONE,))])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explain(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(("explain", *arguments, "--site", "lab", "--state", "state")) == Exit.OK
    return capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_a_gpu_node_shows_what_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    told = explain(capsys, "g1-n1")
    assert "Remedies    act (inventory/profiles/gpu.yaml:3:6)\n" in told
    assert "ago  reboot -> done, after 4 min\n" in told
    assert "reboot" not in explain(capsys, "g1-n2")
    assert "Remedies" not in explain(capsys, "m-0001")


@pytest.mark.usefixtures("place")
def test_scripts_get_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(explain(capsys, "g1-n1", "-o", "json"))["remedies"]
    assert shown["acts"] is True
    (attempt,) = shown["kept"]["attempts"]
    assert (attempt["action"], attempt["outcome"], attempt["at_s"]) == ("reboot", "done", 1_000.0)
    assert json.loads(explain(capsys, "m-0001", "-o", "json"))["remedies"] is None
