"""A write on its way: what may still stop it between the gate and the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from control_plane.core import limits
from control_plane.core.change import Change, Outcome
from control_plane.core.errors import FenceLost
from control_plane.core.fleet import Device
from control_plane.core.ports import Driver, Permit, Target
from control_plane.core.verify import Stage
from tests.engine.running import WHATS, Running, intending, on_site, small_site


def asleep(device: Device) -> Device:
    return intending(device, mining=False)


def awake_and_low(device: Device) -> Device:
    """Waking to another mode takes a WhatsMiner two commands, ten seconds apart."""
    return intending(device, power_mode="low") if device.asset == WHATS else asleep(device)


FOUND, DECLARED = small_site(asleep), small_site(awake_and_low)


def kinds(running: Running) -> list[str]:
    return [write.kind for write in running.writes(WHATS)]


def test_without_a_hold_both_halves_of_waking_leave(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: kinds(running) == ["set_low_power", "power_on"])

    on_site(play, tmp_path, found=FOUND, declared=DECLARED)


@pytest.mark.parametrize("node", [WHATS, "r-001", "grid"])
def test_no_raise_leaves_after_a_hold_though_its_first_half_did(tmp_path: Path, node: str) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: kinds(running) == ["set_low_power"])
        running.hold(node)
        await running.until(lambda: not running.engine.slots[WHATS].busy)
        assert kinds(running) == ["set_low_power"]
        await asyncio.sleep(1.0)
        # Half of it left: it is neither done nor undone, and looked at.
        [operation] = running.other.open_operations()
        assert (operation.asset, operation.stage) == (WHATS, Stage.SENT)

    on_site(play, tmp_path, found=FOUND, declared=DECLARED)


def test_a_process_that_was_fenced_off_sends_no_second_half(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: kinds(running) == ["set_low_power"])
        running.other.take_over()
        await running.until(lambda: not running.engine.slots[WHATS].busy)

    with pytest.raises(FenceLost):
        on_site(play, tmp_path, found=FOUND, declared=DECLARED)


class Late:
    """A driver whose way to the first byte of a write is long."""

    def __init__(self, driver: Driver, wire_s: float) -> None:
        self._driver, self._wire_s = driver, wire_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def apply(self, target: Target, change: Change, permit: Permit) -> Outcome:
        await asyncio.sleep(self._wire_s)
        return await self._driver.apply(target, change, permit)


def test_a_write_that_was_decided_from_an_old_look_does_not_leave(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        slot = running.engine.slots[WHATS]
        await running.until(lambda: slot.sending)
        await running.until(lambda: not slot.busy)
        await asyncio.sleep(1.0)
        assert kinds(running) == []
        [operation] = running.other.operations(WHATS)
        assert operation.stage is Stage.NOT_APPLIED
        assert "is 31 s old" in operation.detail

    on_site(
        play,
        tmp_path,
        found=FOUND,
        declared=DECLARED,
        wrap=lambda _, driver: Late(driver, limits.WRITE_READ_TTL_S + 0.5),
    )
