"""A Store that tells which rows changed: each once, whatever statement changed it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from control_plane.core.memory import Memory
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import Rollout
from control_plane.engine.kept import KeptStore, Row
from control_plane.engine.records import AuditMark
from control_plane.engine.store import Store

ROLLOUT = Rollout(id="000001-aaaa", to="a" * 64, origin=None, waves=(1, 4))
HOLD = Overlay(
    id="h1", kind=OverlayKind.SAFETY_HOLD, node="r1", owner="ann", reason="hands", since_s=1.0
)


def test_a_row_that_changed_many_times_is_told_once_as_it_is_now() -> None:
    store = KeptStore(None)
    for wave in range(3):
        store.put_rollout(msgspec.structs.replace(ROLLOUT, wave=wave % 2))
        store.put_memories([Memory(asset="m1", above_w=float(wave))])
    told = store.take_changed()
    assert told.keys() == {Row("rollout", ROLLOUT.id), Row("memory", "m1")}
    assert msgspec.json.decode(told[Row("memory", "m1")] or b"", type=Memory).above_w == 2.0
    assert store.take_changed() == {}


def test_a_row_that_is_gone_is_told_as_gone() -> None:
    store = KeptStore(None)
    store.put_overlay(HOLD)
    store.take_changed()
    store.drop_overlay("h1")
    assert store.take_changed() == {Row("overlay", "h1"): None}


def test_what_was_rolled_back_has_not_changed() -> None:
    store = KeptStore(None)

    def put_and_fail() -> None:
        with store.transaction():
            store.put_overlay(HOLD)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        put_and_fail()
    assert store.take_changed() == {}


def test_another_connection_to_the_file_is_noticed_too(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store, other = KeptStore(path), Store(path)
    other.put_overlay(HOLD)
    assert store.take_changed().keys() == {Row("overlay", "h1")}


def test_series_go_on_and_this_process_own_marks_stay_here() -> None:
    store = KeptStore(None)
    with store.transaction():
        store.next_number("overlay")
        store.next_number("overlay")
    store.take_over(7)
    store.put_audit_mark(AuditMark(size=1, head="x"))
    assert store.take_changed() == {Row("meta", "number.overlay"): b"2"}
    other = KeptStore(None)
    other.fill({"meta": {"number.overlay": b"2"}}, {})
    with other.transaction():
        assert other.next_number("overlay") == 3
