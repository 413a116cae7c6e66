"""What a person orders about a device."""

from __future__ import annotations

from pathlib import Path

from control_plane.core.decision import Reason
from control_plane.engine.records import Order, OrderKind
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.site import Target
from tests.engine.running import WHATS, Running, on_site, small_site

SITE = small_site()


def reasons(running: Running) -> set[Reason]:
    decision = running.engine.slots[WHATS].decision
    return {held.reason for held in decision.held} if decision else set()


def test_an_override_that_is_ended_brings_the_device_back(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: running.engine.slots[WHATS].memory.expected is not None)
        inject(running.stage.site, Fault(kind=FaultKind.LOWER, target=Target(asset=WHATS)))
        await running.until(lambda: Reason.MANUAL_OVERRIDE in reasons(running))
        running.other.put_order(Order(kind=OrderKind.OVERRIDE, target=WHATS, by="ann", at_s=0.0))
        await running.until(lambda: bool(running.writes(WHATS)))

    on_site(play, tmp_path, found=SITE, declared=SITE)
