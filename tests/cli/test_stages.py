"""What can be asked of a site at each of its stages: planned only, with an engine, with one that is gone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.get import _KINDS
from control_plane.cli.main import main
from control_plane.engine.fence import pid_space
from control_plane.engine.records import EngineStatus
from control_plane.engine.store import Store


@pytest.fixture
def planned(home: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The Store of a site that was planned and never applied."""
    assert main(["plan", "--no-look"]) == Exit.OK
    capsys.readouterr()
    return home / ".gridplane" / "first-site" / "state.sqlite"


@pytest.mark.usefixtures("planned")
def test_before_anything_is_accepted_all_can_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == Exit.OK
    assert "none accepted yet" in capsys.readouterr().out
    assert main(["explain", "r01-s3"]) == Exit.OK
    text = capsys.readouterr().out
    assert "compared with the inventory as it is" in text
    assert re.search(r"^pools .* inventory/profiles/standard\.yaml:\d+:\d+$", text, re.MULTILINE)
    assert "Observed    never" in text
    for kind in _KINDS:
        assert main(["get", kind]) == Exit.OK, kind
        assert capsys.readouterr().out
    assert main(["run"]) == Exit.REFUSED
    assert "run `gridplane apply`" in capsys.readouterr().err


def _ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("ago_s", "pid", "space", "runs"),
    [
        (1.0, os.getpid(), pid_space(), True),
        (60.0, os.getpid(), pid_space(), False),
        (1.0, None, pid_space(), False),
        (1.0, None, "pid:[elsewhere]", True),
        (60.0, None, "pid:[elsewhere]", False),
    ],
    ids=["alive", "hangs", "killed", "in another container", "gone from another container"],
)
def test_an_engine_runs_that_beats_and_has_not_ended(
    planned: Path, ago_s: float, pid: int | None, space: str, *, runs: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    beat = EngineStatus(
        pid=_ended_pid() if pid is None else pid, pid_space=space, epoch=1, mode="run",
        started_at_s=time.time() - 600, at_s=time.time() - ago_s, real_at_s=time.time() - ago_s,
    )  # fmt: skip
    with closing(Store(planned)) as store:
        store.put_status(beat)
    assert main(["status"]) == Exit.OK
    assert ("not running" not in capsys.readouterr().out) is runs
