"""An apply beside a running engine ends when that engine is done with what was accepted, not before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from control_plane.cli import apply
from control_plane.cli.exits import Exit
from control_plane.cli.workplace import Workplace
from control_plane.engine.records import EngineStatus, RevisionRecord

RECORD = RevisionRecord(
    digest="aa", seq=1, commit=None, accepted_at_s=100.0, accepted_by="ann", plan_digest="p"
)


def test_it_waits_until_the_engine_has_taken_the_revision_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Workplace(site="first-site", state=home / "state", creates=True)
    place.store.put_revision(RECORD, {})
    before = EngineStatus(
        pid=os.getpid(),
        epoch=1,
        mode="run",
        started_at_s=0.0,
        at_s=0.0,
        real_at_s=time.time(),
        taken_up_s=50.0,
    )
    states = [
        before,
        msgspec.structs.replace(before, taken_up_s=100.0, waiting=1),
        msgspec.structs.replace(before, taken_up_s=100.0, actionable=1),
        msgspec.structs.replace(before, taken_up_s=100.0),
    ]
    left = iter(states)
    monkeypatch.setattr(
        "control_plane.cli.apply.time.sleep", lambda _s: place.store.put_status(next(left))
    )
    place.store.put_status(before)
    assert apply._follow(place, RECORD, wait=True) == Exit.OK
    assert list(left) == []
