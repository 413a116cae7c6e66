"""A curtailment comes and goes: machines are lowered, and run again as they are declared."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from control_plane.core.observation import Settings
from control_plane.core.overlay import Overlay, OverlayKind
from tests.engine.running import ANT, WHATS, Running, on_site, small_site


def curtailment(fields: Settings, *assets: str) -> Overlay:
    return Overlay(
        id="curtail-peak-stop", kind=OverlayKind.CURTAILMENT, node="curtail/peak", owner="ann",
        reason="peak", since_s=0.0, assets=frozenset(assets), fields=fields,
    )  # fmt: skip


@pytest.mark.parametrize("waits_s", [0.0, 2.0, 900.0])
@pytest.mark.parametrize("fields", [Settings(mining=False), Settings(power_mode="low")])
def test_what_was_curtailed_runs_again_whenever_it_ends(
    tmp_path: Path, fields: Settings, waits_s: float
) -> None:
    """Also where it ends before the write of it was seen to have worked: no hand was at the machine."""

    async def play(running: Running) -> None:
        machines = {a: running.stage.site.machine(a) for a in (ANT, WHATS)}
        full_w = {a: m.sample().drawn_w for a, m in machines.items()}

        def drawn(share: float) -> bool:
            return all(m.sample().drawn_w >= full_w[a] * share for a, m in machines.items())

        def is_low() -> bool:
            return all(m.sample().drawn_w <= full_w[a] * 0.8 for a, m in machines.items())

        running.other.put_overlay(curtailment(fields, ANT, WHATS))
        await running.until(is_low)
        if waits_s:
            await asyncio.sleep(waits_s)
        running.other.drop_overlay("curtail-peak-stop")
        await running.until(lambda: drawn(0.95))

    site = small_site()
    on_site(play, tmp_path, found=site, declared=site)
