"""`get events` and `get operations` of a node tell of all below it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.cli.workplace import Workplace
from control_plane.core.change import Disturbance, SettingClass, StopMining
from control_plane.core.observation import Settings
from control_plane.core.verify import Operation, Stage
from control_plane.engine.records import Event


@pytest.fixture(autouse=True)
def _history(home: Path) -> None:
    store = Workplace(site="first-site", state=None, creates=True).store
    store.put_events(
        [
            Event(at_s=1.0, kind="intent", text="one", asset="r01-s1"),
            Event(at_s=2.0, kind="incident", text="two", node="r01"),
            Event(at_s=3.0, kind="intent", text="three", asset="r01-s2"),
            Event(at_s=4.0, kind="incident", text="four", node="grid"),
        ]
    )
    store.put_operations(
        Operation(
            id=f"000001-{n:09d}",
            asset=f"r01-s{n}",
            change=StopMining(),
            before=Settings(),
            after=Settings(mining=False),
            sent_at_s=float(n),
            cost=SettingClass(disturbance=Disturbance.HOT, persistent=False, lost_s=0.0),
            stage=Stage.CONFIRMED,
        )
        for n in (1, 2)
    )


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[Any]:
    capsys.readouterr()
    assert main(["get", *words, "-o", "json"]) == Exit.OK
    data: list[Any] = json.loads(capsys.readouterr().out)
    return data


@pytest.mark.parametrize(
    ("node", "texts"),
    [
        ("r01-s1", ["one"]),
        ("r01", ["three", "two", "one"]),
        ("pdu-1", ["three", "two", "one"]),
        ("grid", ["four", "three", "two", "one"]),
        ("first-site", ["four", "three", "two", "one"]),
    ],
)
def test_events_of_a_node_are_those_of_all_below(
    node: str, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [event["text"] for event in listed(capsys, "events", node)] == texts


def test_no_more_are_listed_than_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert [e["text"] for e in listed(capsys, "events", "r01", "--limit", "2")] == ["three", "two"]


def test_operations_of_a_rack_are_those_of_its_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert [o["asset"] for o in listed(capsys, "operations", "pdu-1")] == ["r01-s2", "r01-s1"]
    assert [o["asset"] for o in listed(capsys, "operations", "r01-s1")] == ["r01-s1"]
