"""`hold` says what it stops, and what had left before it came."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.cli.workplace import Workplace
from control_plane.core.change import ChangeKind, StartMining
from control_plane.core.observation import Settings
from control_plane.core.verify import Operation, Stage
from tests.core.builders import WRITES

DEVICE, OTHER = "r01-s1", "r01-s2"


def left(home: Path, asset: str, ago_s: float, stage: Stage = Stage.SENT) -> None:
    """Some process sent a raise."""
    place = Workplace(site="first-site", state=None)
    operation = Operation(
        id=f"000001-{asset}",
        asset=asset,
        change=StartMining("low"),
        before=Settings(mining=False),
        after=Settings(mining=True, power_mode="low"),
        sent_at_s=place.clock.wall_s() - ago_s,
        cost=WRITES[ChangeKind.START_MINING],
        stage=stage,
    )
    place.store.put_operations([operation])


def hold(node: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    words = ("hold", node, "--kind", "safety", "--by", "ann", "--reason", "hands in it")
    assert main(words) == Exit.OK
    return capsys.readouterr().out.splitlines()


def test_what_cannot_be_called_back_is_told_to_whoever_stands_at_the_rack(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--no-look"]) == Exit.OK
    left(home, DEVICE, 4.0)
    left(home, OTHER, 90.0, Stage.READ_BACK)
    left(home, "r01-s3", 10.0, Stage.CONFIRMED)
    [_, first, second, _] = hold("r01", capsys)
    assert first == f"start mining low, sent 4 s ago to {DEVICE}: not called back"
    assert second == f"start mining low, sent 90 s ago to {OTHER}: not called back"


def test_a_hold_on_one_device_tells_of_that_one(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--no-look"]) == Exit.OK
    left(home, OTHER, 4.0)
    assert not any("sent" in line for line in hold(DEVICE, capsys))


def test_many_are_cut_short_and_counted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--no-look"]) == Exit.OK
    for number in range(1, 4):
        left(home, f"r01-s{number}", 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("control_plane.cli.saying._LINES", 2)
        told = hold("r01", capsys)
    assert told[3] == "and 1 more: see `gridplane get operations`"


@pytest.fixture
def blocker(home: Path, monkeypatch: pytest.MonkeyPatch) -> sqlite3.Connection:
    """Another process in the middle of a transaction; `hold` loses patience in a tenth of a second."""
    assert main(["plan", "--no-look"]) == Exit.OK
    monkeypatch.setattr("control_plane.core.limits.HOLD_EFFECT_S", 0.1)
    file = Workplace(site="first-site", state=None).state / "state.sqlite"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


HOLD = ("hold", DEVICE, "--kind", "safety", "--by", "ann", "--reason", "hands in it")


def test_a_hold_waits_for_who_is_writing_and_says_that_it_is_not_in_force_yet(
    blocker: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Timer(0.4, blocker.execute, ("ROLLBACK",))
    release.start()
    assert main(HOLD) == Exit.OK
    told = capsys.readouterr()
    assert "NOT YET DONE" in told.err
    assert "fuser -v" in told.err
    assert "in force now" in told.out
    release.join()


def test_a_hold_that_never_got_its_turn_is_a_failure_and_not_in_force(
    blocker: sqlite3.Connection,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("control_plane.cli.saying._TRIES", 2)
    assert main(HOLD) == Exit.STATE
    told = capsys.readouterr()
    assert "is locked" in told.err
    assert "in force" not in told.out
    blocker.execute("ROLLBACK")
    assert Workplace(site="first-site", state=None).store.overlays() == ()
