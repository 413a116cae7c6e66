"""When a site is at rest: writes count, the looks that never end do not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from control_plane.core.fleet import Device
from tests.engine.running import ANT, Running, intending, on_site, small_site


def asleep(device: Device) -> Device:
    return intending(device, mining=False)


def test_a_site_is_at_rest_while_it_is_looked_at(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        engine = running.engine
        await running.until(engine.is_quiet)
        looks = 0
        for _ in range(3_000):
            await asyncio.sleep(0.01)
            looks += any(slot.busy for slot in engine.slots.values())
            assert engine.is_quiet()
        assert looks > 30, "no look was under way at any of these moments"

    on_site(play, tmp_path, found=small_site(), declared=small_site())


def test_it_is_not_while_a_write_is_under_way_or_waits_for_its_evidence(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        engine, slot = running.engine, running.engine.slots[ANT]
        moments = 0
        while not engine.is_quiet():
            await asyncio.sleep(0.1)
            if slot.sending or slot.op is not None:
                moments += 1
                assert not engine.is_quiet()
        assert moments > 0
        assert running.writes(ANT)

    on_site(play, tmp_path, found=small_site(asleep), declared=small_site())
