"""One writes at a time, whatever happens to processes, clocks and the line; and soon another does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import pytest

from control_plane.core import limits
from control_plane.core.cluster import ClusterAway
from control_plane.kube.elector import Elector
from control_plane.kube.lease import LEASE, LeaseSpec, SeenLease, body_of
from control_plane.simulator.api_client import ApiFaults, Call
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual, seeded
from tests.conftest import PROFILE
from tests.kube.candidates import LEASE_KEY, NAME, NAMESPACE, Process, World
from tests.kube.running import beside

TIGHT = (0.001, 0.006)
"""Wire seconds one way in a healthy cluster."""
CRASHES = 1_000
FAILOVER_P99_S = 15.0
SEEDS = range(200) if PROFILE == "campaign" else range(6)
TROUBLES = 120
"""Of each seed."""
ABLATION_SEEDS = 40
"""Without a safeguard one of so many worlds goes wrong."""


def in_world(case: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = World(loop, VirtualClock(loop))
        async with beside(world.watch_over()):
            try:
                await case(world)
            finally:
                await world.end()
        assert not world.violations

    run_virtual(main, horizon_s=1_000_000)


def test_the_first_one_waits_a_lease_before_it_writes() -> None:
    """Somebody may have held one that was deleted, and not know it yet."""

    async def case(world: World) -> None:
        process = world.start("a")
        await asyncio.sleep(limits.LEASE_DURATION_S - 0.1)
        assert not world.live()
        assert world.lease_holder() == "a"
        await world.until_live(within_s=0.3)
        ((at_s, *tenure),) = world.tenures
        assert tenure == ["a", 1]
        assert at_s == pytest.approx(limits.LEASE_DURATION_S, abs=0.1)
        assert process.elector.tenures == 1

    in_world(case)


def test_a_holder_renews_and_stays() -> None:
    async def case(world: World) -> None:
        holder = world.start("a")
        await world.until_live()
        other = world.start("b")
        await asyncio.sleep(1_000)
        assert world.live() == [holder]
        assert (other.elector.holder, other.elector.fence, holder.elector.fence) == ("a", None, 1)
        renewals = holder.line.client.calls["replace", "Lease"]
        assert renewals == pytest.approx(1_000 / limits.LEASE_RETRY_S, rel=0.05)
        assert other.line.client.calls["replace", "Lease"] == 0
        assert other.line.client.calls["get", "Lease"] <= 1, "who waits asks nothing: it watches"

    in_world(case)


def test_who_stands_by_on_a_watch_that_hangs_is_as_soon() -> None:
    """A connection may be dead for a minute before anybody knows: who hears nothing asks."""

    async def case(world: World) -> None:
        rng = random.Random(6)
        holder = world.start("a")
        await world.until_live()
        other = world.start("b")
        await asyncio.sleep(5)
        other.line.client.faults = ApiFaults(silent=True)
        await asyncio.sleep(rng.uniform(20, 50))
        asked = other.line.client.calls["get", "Lease"]
        assert 10 < asked < 60, "once a second, while the watch tells nothing"
        await world.crash(holder)
        await world.until_live(within_s=limits.LEASE_DURATION_S + 2 * limits.LEASE_RETRY_S / 2)
        assert world.live() == [other]

    in_world(case)


def test_a_clean_stop_hands_over_at_once() -> None:
    async def case(world: World) -> None:
        first = world.start("a")
        await world.until_live()
        world.start("b")
        await asyncio.sleep(5)
        await world.stop(first)
        assert first.lost == ["released"]
        await world.until_live(within_s=0.2)
        assert [(who, fence) for _, who, fence in world.tenures] == [("a", 1), ("b", 2)]
        assert world.fence_on_server() == 2

    in_world(case)


def test_who_was_never_live_leaves_its_name_to_run_out() -> None:
    async def case(world: World) -> None:
        first = world.start("a")
        await asyncio.sleep(5)
        world.start("b")
        await asyncio.sleep(1)
        await world.stop(first)
        assert world.lease_holder() == "a"
        await asyncio.sleep(10)
        assert not world.live()
        await world.until_live(within_s=10)

    in_world(case)


def test_an_outage_ends_the_tenure_and_not_the_process() -> None:
    async def case(world: World) -> None:
        holder = world.start("a")
        await world.until_live()
        world.start("b")
        await asyncio.sleep(7)
        for process in world.processes:
            process.line.client.faults = ApiFaults(away="refused")
        await asyncio.sleep(limits.LEASE_RENEW_S + 0.1)
        assert not world.live()
        assert holder.lost[0].startswith("not renewed within 7 s")
        await asyncio.sleep(100)
        assert not world.live()
        for process in world.processes:
            process.line.client.faults = ApiFaults()
        await world.until_live(within_s=40)
        assert world.tenures[-1][2] == 2

    in_world(case)


def test_a_restart_of_the_api_server_costs_no_tenure() -> None:
    """Whenever it begins; also where the server says nothing at all at first."""

    async def case(world: World) -> None:
        holder = world.start("a")
        await world.until_live()
        rng = random.Random(4)
        for _ in range(300):
            await asyncio.sleep(rng.uniform(4, 8))
            faults = holder.line.client.faults
            faults.away = "silent"
            await asyncio.sleep(rng.uniform(0, 0.5))
            faults.away = "refused"
            await asyncio.sleep(3.5)
            faults.away = ""
        assert (holder.elector.fence, holder.lost) == (1, [])

    in_world(case)


def test_who_is_stopped_and_wakes_is_not_live_for_an_instant() -> None:
    async def case(world: World) -> None:
        holder = world.start("a")
        await world.until_live()
        world.start("b")
        await asyncio.sleep(5)
        holder.clock.runs.clear()
        await asyncio.sleep(60)
        assert [each.identity for each in world.live()] == ["b"]
        holder.clock.runs.set()
        assert not holder.elector.is_live()
        await asyncio.sleep(10)
        assert len(holder.lost) == 1
        assert [each.identity for each in world.live()] == ["b"]

    in_world(case)


def test_another_name_in_the_lease_ends_the_tenure_at_once() -> None:
    async def case(world: World) -> None:
        holder = world.start("a")
        await world.until_live()
        lease = world.server.get(LEASE, LEASE_KEY)
        meta = {"name": NAME, "namespace": NAMESPACE,
                "resourceVersion": lease.metadata.resource_version}  # fmt: skip
        taken = LeaseSpec(holder_identity="somebody", lease_transitions=7)
        world.server.replace(LEASE, body_of(taken, meta), manager="kubectl", subresource="")
        await asyncio.sleep(0.01)
        assert not holder.elector.is_live()
        assert holder.lost == ["somebody holds the Lease"]
        await world.until_live(within_s=16)
        assert world.tenures[-1][2] == 8

    in_world(case)


def test_a_deleted_lease_makes_no_two_and_no_lower_fence() -> None:
    async def case(world: World) -> None:
        holder = world.start("a")
        await world.until_live()
        world.start("b")
        await asyncio.sleep(5)
        holder.line.client.faults = ApiFaults(away="silent")  # It does not get to know.
        world.server.delete(LEASE, LEASE_KEY)
        await asyncio.sleep(1)
        assert holder.elector.is_live()
        await asyncio.sleep(limits.LEASE_RENEW_S + 2)
        assert not world.live()
        assert (await world.until_live(within_s=5)).identity == "b"
        assert world.tenures[-1][2] == 2

    in_world(case)


def test_a_renewal_whose_reply_is_lost_costs_no_tenure() -> None:
    async def case(world: World) -> None:
        holder = world.start("a")
        await world.until_live()
        rng = seeded(5)

        def lose(call: Call) -> None:
            if call.verb == "replace" and rng.random() < 0.2:
                raise ClusterAway("the reply was lost")

        holder.line.client.faults = ApiFaults(after=lose)
        await asyncio.sleep(300)
        assert (holder.elector.fence, holder.lost) == (1, [])
        assert holder.elector.errors > 20

    in_world(case)


def test_a_renewal_whose_reply_never_comes_costs_no_tenure() -> None:
    async def case(world: World) -> None:
        holder = world.start("a")
        await world.until_live()
        faults = holder.line.client.faults = ApiFaults()

        def hang(call: Call) -> None:
            if call.verb == "replace":
                faults.away, faults.after = "silent", None
                world.loop.call_later(1.0, setattr, faults, "away", "")

        for _ in range(50):
            faults.after = hang
            await asyncio.sleep(20)
        assert (holder.elector.fence, holder.lost) == (1, [])
        assert holder.elector.errors == 50

    in_world(case)


def test_the_round_trips_of_a_claim_are_over_when_the_lease_is() -> None:
    async def case(world: World) -> None:
        first = world.start("a")
        await world.until_live()
        world.start("b").line.client.faults = ApiFaults(latency_s=(0.4, 0.4))
        await asyncio.sleep(10)
        crashed_s = world.loop.time()
        await world.crash(first)
        await world.until_live()
        assert world.tenures[-1][0] - crashed_s <= limits.LEASE_DURATION_S + 0.4

    in_world(case)


def test_two_of_the_same_name_are_two() -> None:
    async def case(world: World) -> None:
        first = world.start("a")
        await world.until_live()
        second = world.start("a")
        await asyncio.sleep(60)
        assert world.live() == [first]
        first.line.client.faults = ApiFaults(away="refused")
        await asyncio.sleep(30)
        assert world.live() == [second]
        first.line.client.faults = ApiFaults()
        await asyncio.sleep(60)
        assert world.live() == [second]
        assert (second.elector.fence, world.fence_on_server()) == (2, 2)

    in_world(case)


def test_a_bug_does_not_end_the_election() -> None:
    async def case(world: World) -> None:
        bugs: list[str] = []
        process = world.start("a")
        process.elector._bug = lambda _whose, words: bugs.append(words)

        def broken(*_process: Process) -> None:
            raise KeyError("x")

        world.on_gained = broken
        await asyncio.sleep(100)
        assert process.elector.is_live()
        assert len(bugs) == 1
        process.elector._renew = broken  # type: ignore[assignment,method-assign]
        await asyncio.sleep(limits.LEASE_RENEW_S)
        del process.elector._renew
        assert process.lost[0].startswith("not renewed")
        await world.until_live(within_s=limits.LEASE_DURATION_S)
        assert len(bugs) > 1

    in_world(case)


def test_failover_after_a_crash(capsys: pytest.CaptureFixture[str]) -> None:
    """Crash to first action, in a healthy cluster: what the lease leaves, and no round trip on top."""
    took_s: list[float] = []

    async def case(world: World) -> None:
        rng = random.Random(11)

        def start(number: int) -> None:
            process = world.start(
                f"p{number}", ahead_s=rng.uniform(0, 1e6), pace=rng.uniform(0.9995, 1.0005)
            )
            process.line.client.faults = ApiFaults(latency_s=TIGHT)

        for number in range(2):
            start(number)
        acted = asyncio.Event()
        world.on_gained = lambda _process: acted.set()
        for number in range(2, CRASHES + 2):
            leader = await world.until_live()
            await asyncio.sleep(rng.uniform(5, 15))
            acted.clear()
            crashed_s = world.loop.time()
            await world.crash(leader)
            start(number)
            await acted.wait()
            took_s.append(world.loop.time() - crashed_s)
        assert len(world.tenures) == CRASHES + 1

    in_world(case)
    took_s.sort()
    p50, p99 = took_s[len(took_s) // 2], took_s[int(len(took_s) * 0.99)]
    with capsys.disabled():
        print(
            f"\n{len(took_s)} crashes of a leader, to first action of the next: "
            f"p50 {p50:.2f} s, p99 {p99:.2f} s, longest {took_s[-1]:.2f} s"
        )
    assert p99 <= FAILOVER_P99_S


async def trouble(world: World, rng: random.Random, numbers: Counter[str]) -> None:
    """One thing that happens to one of them, or to all."""
    what = rng.choice(
        ["crash", "stop", "sigstop", "line", "outage", "slow", "lost", "delete", "edit"]
    )
    numbers[what] += 1
    process = rng.choice(world.live() or world.processes) if rng.random() < 0.7 else rng.choice(
        world.processes
    )  # fmt: skip
    faults = process.line.client.faults
    for_s = rng.choice([1.0, 5.0, 12.0, 20.0, 45.0]) * rng.uniform(0.5, 1.5)
    match what:
        case "crash" | "stop":
            await (world.crash(process) if what == "crash" else world.stop(process))
            await asyncio.sleep(rng.uniform(0, 3))
            fresh(world, rng)
        case "sigstop":
            process.clock.runs.clear()
            await asyncio.sleep(for_s)
            process.clock.runs.set()
        case "line":
            faults.away = rng.choice(["refused", "silent"])
            await asyncio.sleep(for_s)
            faults.away = ""
        case "outage":
            for each in world.processes:
                each.line.client.faults.away = rng.choice(["refused", "silent"])
            await asyncio.sleep(for_s)
            for each in world.processes:
                each.line.client.faults.away = ""
        case "slow":
            faults.latency_s = (0.0, rng.choice([0.5, 2.0, 8.0]))
            await asyncio.sleep(for_s)
            faults.latency_s = TIGHT
        case "lost":
            faults.after = lambda call: losing(call, rng)
            await asyncio.sleep(for_s)
            faults.after = None
        case "delete" if any(True for _ in world.server.snapshot()[1].get(LEASE, ())):
            world.server.delete(LEASE, LEASE_KEY)
        case _:
            edit(world)


def losing(call: Call, rng: random.Random) -> None:
    if call.writes and rng.random() < 0.5:
        raise ClusterAway("the reply was lost")


def edit(world: World) -> None:
    """A person writes an annotation: nobody's tenure ends."""
    if LEASE_KEY in world.server.snapshot()[1].get(LEASE, {}):
        body = {"apiVersion": LEASE.api_version, "kind": "Lease",
                "metadata": {"name": NAME, "namespace": NAMESPACE,
                             "annotations": {"note": f"{world.loop.time()}"}}}  # fmt: skip
        world.server.apply(LEASE, body, manager="kubectl", force=True, subresource="")


def fresh(world: World, rng: random.Random) -> None:
    process = world.start(
        f"{rng.getrandbits(40):x}",
        ahead_s=rng.uniform(0, 1e7), pace=rng.uniform(0.99, 1.01),
        wall_s=rng.choice([0.0, 1.0e9, 1.79e9, 4.0e9]),
    )  # fmt: skip
    process.line.client.faults = ApiFaults(latency_s=TIGHT)


async def troubled(world: World, *, seed: int) -> None:
    rng, numbers = random.Random(seed), Counter[str]()
    for _ in range(3):
        fresh(world, rng)
    for _ in range(TROUBLES):
        if world.violations:
            return
        if rng.random() < 0.7:
            await world.until_live(within_s=90)
        await asyncio.sleep(rng.uniform(0, 6))
        at_once = [trouble(world, rng, numbers) for _ in range(rng.choice([1, 1, 2]))]
        await asyncio.gather(*at_once)
    await world.until_live(within_s=90)
    assert len(world.tenures) >= TROUBLES * 0.4, numbers


@pytest.mark.parametrize("seed", SEEDS)
def test_never_two_at_once(seed: int) -> None:
    in_world(partial(troubled, seed=seed))


def impatient(seen: SeenLease) -> float:
    return seen.since_s + (4.0 if seen.holder else 0.0)


def stubborn(elector: Elector) -> bool:
    return elector._fence is not None and elector._from_s <= elector._clock.wire_s()


CREATE = Elector._create


async def trusting(elector: Elector) -> None:
    """A Lease made anew is free, as other elections have it."""
    await CREATE(elector)
    elector._from_s = 0.0


ABLATIONS: dict[str, tuple[type, str, object]] = {
    "patience": (SeenLease, "ends_s", property(impatient)),
    "deadline": (Elector, "is_live", stubborn),
    "a lease made anew": (Elector, "_create", trusting),
}


@pytest.mark.parametrize("safeguard", ABLATIONS)
def test_without_a_safeguard_two_are_live(safeguard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*ABLATIONS[safeguard])
    worlds = (partial(in_world, partial(troubled, seed=seed)) for seed in range(ABLATION_SEEDS))
    with pytest.raises(AssertionError, match="are live at"):
        run_all(worlds)


def run_all(runs: Iterable[Callable[[], None]]) -> None:
    for run in runs:
        run()
