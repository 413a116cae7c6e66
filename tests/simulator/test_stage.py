"""A whole site in virtual time: polled, written to and disturbed, with one trace per seed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.core.errors import Unreachable
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.network import Trouble
from control_plane.simulator.site import Target
from control_plane.simulator.stage import Stage, set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.simulator.floors import a_site

ROOT = Path(__file__).resolve().parents[2]
KINDS = (FaultKind.HIJACK, FaultKind.REBOOT, FaultKind.LOWER, FaultKind.RESHUFFLE)


async def poll(stage: Stage, trace: list[str], *, rounds: int) -> None:
    """Ask everybody, over and over; write what came into the trace."""

    async def one(asset: str) -> None:
        station = stage.site.stations[asset]
        await stage.clock.wire_sleep(stage.rng.uniform(0.0, 1.0))
        try:
            connection = await stage.net.connect(station.address, 4028, deadline_s=3.0)
            reply = await connection.request(
                b'{"command":"summary"}',
                complete=lambda b, eof: eof,
                deadline_s=5.0,
                max_bytes=65_536,
            )
            told = hashlib.sha256(reply).hexdigest()[:8]
        except Unreachable as error:
            told = str(error)
        trace.append(f"{stage.clock.wall_s():.6f} {asset} {told}")

    for turn in range(rounds):
        fault = Fault(kind=KINDS[turn % len(KINDS)], target=Target(share=3, seed=turn), seed=turn)
        trace.append(f"{fault.kind} {inject(stage.site, fault)}")
        async with asyncio.TaskGroup() as group:
            for asset in stage.site.stations:
                group.create_task(one(asset))
        await stage.clock.sleep(600)


def trace_of(seed: int) -> list[str]:
    async def main(loop: VirtualLoop) -> list[str]:
        stage = set_stage(a_site(), loop, seed=seed, scale=60.0, start="stock")
        trace: list[str] = []
        await poll(stage, trace, rounds=8)
        return trace

    return run_virtual(main, horizon_s=600)


def test_a_seed_replays_exactly_and_another_does_not() -> None:
    assert trace_of(1) == trace_of(1)
    assert trace_of(1) != trace_of(2)


def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    script = (
        "import hashlib\nfrom tests.simulator.test_stage import trace_of\n"
        "print(hashlib.sha256(repr(trace_of(7)).encode()).hexdigest())"
    )
    traces = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "77")
    }
    assert traces == {hashlib.sha256(repr(trace_of(7)).encode()).hexdigest() + "\n"}


def test_device_and_policy_time_share_one_factor_and_wire_time_has_none() -> None:
    async def main(loop: VirtualLoop) -> None:
        stage = set_stage(a_site(), loop, scale=60.0)
        asset = "M-000-005"
        inject(stage.site, Fault(kind=FaultKind.REBOOT, target=Target(asset=asset)))
        await stage.clock.sleep(1200)  # policy seconds: 20 on the wire
        assert loop.time() == 20.0
        assert stage.site.truth(asset).hashrate_ths == pytest.approx(200)
        assert stage.site.world.wall_s() == pytest.approx(stage.clock.wall_s())
        stage.site.stations[asset].trouble = Trouble.BLACK_HOLE
        before = loop.time()
        with pytest.raises(Unreachable):
            await stage.net.connect("10.40.0.15", 4028, deadline_s=3.0)
        assert loop.time() - before == pytest.approx(3.0)

    run_virtual(main)
