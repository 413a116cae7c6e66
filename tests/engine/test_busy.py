"""A process that is suspended in the middle of writing to the Store: looks go on, writes wait."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from control_plane.core.errors import StoreBusy
from control_plane.core.fleet import Device
from control_plane.engine.store import Store
from tests.engine.running import ANT, Running, intending, on_site, small_site


def asleep(device: Device) -> Device:
    return intending(device, mining=False)


def test_the_engine_reads_on_writes_nothing_pages_once_and_goes_on(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        engine, slot = running.engine, running.engine.slots[ANT]
        blocker = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        longest_s, polls, ledger = 0.0, slot.polls, running.stage.site.world.ledger
        for _ in range(500):
            began = time.perf_counter()
            await asyncio.sleep(0.1)
            longest_s = max(longest_s, time.perf_counter() - began)
        assert longest_s < 2.0, "the loop stood still"
        assert slot.polls - polls >= 4
        assert not ledger.received
        assert all("is locked" in page for page in engine.journal.pages)
        assert len(engine.journal.pages) == 1
        blocker.execute("ROLLBACK")
        await running.until(lambda: bool(ledger.received))
        assert any("is locked" in event.text for _, event in running.other.events(limit=500))
        assert not any(slot.memory.stuck for slot in engine.slots.values())

    on_site(play, tmp_path, found=small_site(asleep), declared=small_site())


def test_who_only_reads_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path).transaction():
        reader = Store(path)
        reader.wait_at_most(0.0)
        assert reader.overlays() == ()
        with pytest.raises(StoreBusy) as caught, reader.transaction():
            pass
    assert f"fuser -v {path}" in str(caught.value)
