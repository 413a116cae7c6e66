"""Virtual time: it jumps, keeps order, refuses the outside, and gives every process the same trace."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from control_plane.core.ports import Clock, Rng
from control_plane.simulator.virtual import (
    NotVirtual,
    PastHorizon,
    Stalled,
    VirtualClock,
    VirtualLoop,
    run_virtual,
    seeded,
)

ROOT = Path(__file__).resolve().parents[2]


def test_a_day_passes_in_no_time_and_to_the_nanosecond() -> None:
    async def main(loop: VirtualLoop) -> float:
        await asyncio.sleep(86_400)
        return loop.time()

    started = time.perf_counter()
    assert run_virtual(main) == 86_400.0
    assert time.perf_counter() - started < 2.0


def test_tasks_queues_groups_and_timeouts_work_as_on_any_loop() -> None:
    async def main(loop: VirtualLoop) -> list[tuple[float, str]]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        seen: list[tuple[float, str]] = []

        async def produce(name: str, every_s: float) -> None:
            for turn in range(3):
                await asyncio.sleep(every_s)
                await queue.put(f"{name}{turn}")

        async def consume() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3.5):
                    while True:
                        item = await queue.get()
                        seen.append((loop.time(), item))

        async with asyncio.TaskGroup() as group:
            group.create_task(produce("a", 1.0))
            group.create_task(produce("b", 1.5))
            group.create_task(consume())
        return seen

    # At 3.0 both are due; b set its timer first, at 1.5.
    assert run_virtual(main) == [
        (1.0, "a0"),
        (1.5, "b0"),
        (2.0, "a1"),
        (3.0, "b1"),
        (3.0, "a2"),
    ]


def test_tasks_are_named_from_one_in_every_run() -> None:
    async def main(_: VirtualLoop) -> str:
        async def nothing() -> None: ...

        task = asyncio.create_task(nothing())
        await task
        return task.get_name()

    assert run_virtual(main) == run_virtual(main)


def test_waiting_for_what_cannot_come_is_an_error_not_a_hang() -> None:
    async def main(loop: VirtualLoop) -> None:
        await loop.create_future()

    with pytest.raises(Stalled, match="nothing is left to happen at 0"):
        run_virtual(main)


def test_a_run_without_end_stops_at_its_horizon() -> None:
    async def main(_: VirtualLoop) -> None:
        for _second in itertools.count():
            await asyncio.sleep(1)

    with pytest.raises(PastHorizon):
        run_virtual(main, horizon_s=100)


@pytest.mark.parametrize(
    "reach_out",
    [
        lambda: asyncio.open_connection("127.0.0.1", 9),
        lambda: asyncio.start_server(lambda *_: None, "127.0.0.1", 0),
        lambda: asyncio.to_thread(threading.get_ident),
        lambda: asyncio.create_subprocess_exec("true"),
    ],
    ids=["connect", "listen", "thread", "subprocess"],
)
def test_the_outside_is_refused(reach_out: object) -> None:
    async def main(_: VirtualLoop) -> None:
        await reach_out()  # type: ignore[operator]

    with pytest.raises(NotVirtual):
        run_virtual(main)


def test_the_clock_scales_policy_time_and_leaves_wire_time() -> None:
    async def main(loop: VirtualLoop) -> tuple[float, float, float, float]:
        clock = VirtualClock(loop, scale=60.0, epoch_s=1000.0)
        port: Clock = clock
        await port.sleep(600.0)
        await port.wire_sleep(1.0)
        return port.wall_s(), port.wire_s(), loop.time(), port.wire_of(120.0)

    assert run_virtual(main) == (1660.0, 11.0, 11.0, 2.0)


def test_chance_is_the_seeds() -> None:
    first: Rng = seeded("lab/7")
    assert [first.uniform(0, 1) for _ in range(3)] == [
        (again := seeded("lab/7")).uniform(0, 1),
        again.uniform(0, 1),
        again.uniform(0, 1),
    ]


TRACE = """
import asyncio, hashlib
from control_plane.simulator.virtual import run_virtual, seeded

async def main(loop):
    rng = seeded(3)
    log = []
    async def work(name):
        try:
            for _ in range(20):
                await asyncio.sleep(rng.choice([0.0, 0.5, 1.0]))
                log.append((round(loop.time(), 6), name, asyncio.current_task().get_name()))
        finally:
            log.append((round(loop.time(), 6), name, "end"))
    async def fail():
        await asyncio.sleep(6)
        raise ValueError
    try:
        async with asyncio.TaskGroup() as group:
            for n in range(60):
                group.create_task(work(n))
            group.create_task(fail())
    except* ValueError:
        pass
    # Sets of tasks: their order is what differs between processes on an ordinary loop.
    done, _ = await asyncio.wait({asyncio.create_task(asyncio.sleep(1), name=str(n)) for n in range(50)})
    log.append([task.get_name() for task in done])
    return log

print(hashlib.sha256(repr(run_virtual(main)).encode()).hexdigest())
"""


def test_two_processes_with_different_hash_seeds_give_the_same_trace() -> None:
    traces = {
        subprocess.run(
            [sys.executable, "-c", TRACE],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": str(ROOT),
                "FILLER": seed * 99,
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(traces) == 1
