"""What every driver owes to its port, whatever the family. A new family is tested by being registered."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.change import (
    Applied,
    Change,
    ChangeKind,
    Disturbance,
    Failed,
    InProgress,
    Outcome,
    Reboot,
    RestartMining,
    SetPools,
    SetPowerLimit,
    SetPowerMode,
    StartMining,
    StopMining,
    kind_of,
)
from control_plane.core.errors import (
    AuthRejected,
    ControlPlaneError,
    OversizedReply,
    UnexpectedReply,
    Unreachable,
)
from control_plane.core.observation import FIELDS, Activity, Depth, Field, Observation
from control_plane.drivers.registry import FAMILIES, all_capabilities, capabilities_of
from control_plane.simulator.network import Trouble
from tests.drivers.making import (
    NEW_POOLS,
    USERS,
    Bench,
    always,
    on_bench,
    spoken,
    step_of,
)

EVERY: tuple[Change, ...] = (
    SetPools(NEW_POOLS),
    SetPowerMode("low"),
    SetPowerLimit(3000),
    StopMining(),
    StartMining("normal"),
    RestartMining(),
    Reboot(),
)
HONEST = (Unreachable, AuthRejected, UnexpectedReply, OversizedReply)
"""All that a look may raise."""

each_family = pytest.mark.parametrize("family", FAMILIES)
OPEN = frozenset(
    name for name, told in all_capabilities().items() if Field.POOLS in told.open_writes
)
"""Families that ask nobody for a password."""


@each_family
def test_capabilities_are_whole_and_plausible(family: str) -> None:
    told = capabilities_of(family)
    assert told is not None
    assert told == all_capabilities()[family]
    assert told.family == family
    assert told.reads <= set(FIELDS)
    assert {ChangeKind.SET_POOLS, ChangeKind.STOP_MINING, ChangeKind.START_MINING} <= set(
        told.writes
    )
    for kind, cost in told.writes.items():
        assert cost.accept_s > limits.REPLY_DEADLINE_S, kind
        assert 0 < cost.readback_s <= cost.effect_s, kind
        assert cost.lost_s >= 0, kind
        assert (cost.disturbance is Disturbance.HOT) <= (cost.lost_s == 0), kind


def test_capabilities_cost_neither_framing_nor_ciphers() -> None:
    """A plan asks for them at its start."""
    code = (
        "import sys\n"
        "from control_plane.drivers.registry import all_capabilities\n"
        "assert all_capabilities()\n"
        "print(sorted({'h11', 'cryptography', 'asyncio'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_family_has_no_capabilities() -> None:
    assert capabilities_of("nvidia") is None


@each_family
def test_identify_tells_who_answers(family: str) -> None:
    async def play(bench: Bench) -> None:
        machine = bench.stage.site.machine(bench.target.asset)
        told = await bench.driver.identify(bench.target)
        assert told.mac == machine.mac
        assert told.serial in {None, machine.serial}
        assert told.family == family

    on_bench(family, play)


@each_family
@pytest.mark.parametrize("depth", Depth)
def test_a_look_tells_what_is_declared(family: str, depth: Depth) -> None:
    async def play(bench: Bench) -> Observation:
        seen = await bench.driver.observe(bench.target, depth)
        assert seen.at_s <= bench.stage.clock.wall_s()
        machine = bench.stage.site.machine(bench.target.asset)
        assert seen.telemetry.hashrate_ths == pytest.approx(machine.sample().hashrate_ths, rel=0.05)
        return seen

    seen = on_bench(family, play)
    assert (seen.asset, seen.depth) == (seen.asset, depth)
    assert seen.telemetry.activity is Activity.HASHING
    assert seen.telemetry.boards
    assert not seen.unreadable()
    if depth is not Depth.TELEMETRY:
        assert seen.settings.pools
    if depth is Depth.FULL:
        told = capabilities_of(family)
        assert told is not None
        assert seen.asked == told.reads
        assert seen.identity is not None
        assert seen.settings.mining is True
        assert seen.settings.power_mode == step_of(family, "normal")


@each_family
def test_the_hot_path_is_one_connection(family: str) -> None:
    async def play(bench: Bench) -> int:
        await bench.driver.observe(bench.target, Depth.TELEMETRY)
        return bench.line.connections

    assert on_bench(family, play) == 1


@each_family
def test_one_driver_serves_many_looks_at_once(family: str) -> None:
    async def play(bench: Bench) -> None:
        looks = [bench.driver.observe(bench.target, depth) for depth in Depth for _ in range(20)]
        for seen in await asyncio.gather(*looks):
            assert seen.telemetry.hashrate_ths

    on_bench(family, play)


@each_family
@pytest.mark.parametrize("trouble", Trouble)
def test_no_line_makes_a_look_fail_otherwise_than_it_may(family: str, trouble: Trouble) -> None:
    async def play(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        bench.station.trouble = trouble
        for depth in Depth:
            began = loop.time()
            with pytest.raises(HONEST):
                await bench.driver.observe(bench.target, depth)
            assert loop.time() - began < 10.0
        with pytest.raises(HONEST):
            await bench.driver.identify(bench.target)
        assert not bench.writes()

    on_bench(family, play)


@each_family
@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("change", EVERY, ids=lambda change: kind_of(change).value)
def test_a_write_leaves_at_most_once_and_nothing_written_is_called_failed(
    family: str, trouble: Trouble, change: Change
) -> None:
    """Trouble may begin before any request of the call; the last round has none.

    A write may take several commands (LuxOS walks from pool to pool), but none of them twice.
    """
    change = spoken(family, change)

    async def play(bench: Bench, before: int) -> tuple[int, Outcome]:
        bench.line.trouble, bench.line.before_request = trouble, before
        outcome = await bench.driver.apply(bench.target, change, always)
        arrived = bench.writes()
        assert len({(write.kind, write.summary) for write in arrived}) == len(arrived)
        if any(write.honoured for write in arrived):
            assert not isinstance(outcome, Failed)
        return bench.line.requests, outcome

    before = 1
    while True:
        requests, outcome = on_bench(family, lambda bench, n=before: play(bench, n))  # type: ignore[misc]
        if requests < before:
            break
        before += 1
    told = capabilities_of(family)
    assert told is not None
    supported = kind_of(change) in told.writes
    assert isinstance(outcome, Applied | InProgress if supported else Failed)
    assert before <= 12


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - OPEN))
def test_a_write_with_a_wrong_password_waits_for_a_person(family: str) -> None:
    async def play(bench: Bench) -> None:
        for change in (SetPools(NEW_POOLS), StopMining()):
            outcome = await bench.driver.apply(bench.target, change, always)
            assert isinstance(outcome, Failed) <= (not getattr(outcome, "retryable", False))
            assert not isinstance(outcome, Applied | InProgress)
        assert not any(write.honoured for write in bench.writes())

    on_bench(family, play, password="not it")


@pytest.mark.parametrize("family", sorted(OPEN))
def test_where_no_password_guards_writes_capabilities_say_so(family: str) -> None:
    async def play(bench: Bench) -> None:
        for change in (SetPools(NEW_POOLS), StopMining()):
            outcome = await bench.driver.apply(bench.target, change, always)
            assert isinstance(outcome, Applied | InProgress)
        assert all(write.honoured for write in bench.writes())

    on_bench(family, play, password="not it")


@each_family
@pytest.mark.parametrize("user", ["", "a\nb", 'q"uote', "ö", "x" * 5000])
def test_an_odd_user_name_harms_nothing(family: str, user: str) -> None:
    async def play(bench: Bench) -> None:
        target = msgspec.structs.replace(bench.target, user=user)
        for depth in Depth:
            try:
                await bench.driver.observe(target, depth)
            except ControlPlaneError as error:
                assert isinstance(error, HONEST)  # noqa: PT017

    assert user not in USERS.values() or not user
    on_bench(family, play)


@each_family
def test_zero_pools_are_refused_before_anything_is_sent(family: str) -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.driver.apply(bench.target, SetPools(()), always)
        assert isinstance(outcome, Failed)
        assert not outcome.retryable
        assert bench.line.connections == 0

    on_bench(family, play)


@each_family
def test_more_pools_than_slots_are_refused(family: str) -> None:
    async def play(bench: Bench) -> None:
        outcome = await bench.driver.apply(bench.target, SetPools(NEW_POOLS * 2), always)
        assert isinstance(outcome, Failed)
        assert not outcome.retryable
        assert not bench.writes()

    on_bench(family, play)


@each_family
def test_pools_sleep_and_waking_read_back_and_show(family: str) -> None:
    async def play(bench: Bench) -> None:
        told = bench.driver.capabilities

        async def do(change: Change) -> Observation:
            outcome = await bench.driver.apply(bench.target, change, always)
            assert isinstance(outcome, Applied | InProgress)
            await bench.stage.clock.sleep(told.writes[kind_of(change)].effect_s)
            return await bench.driver.observe(bench.target, Depth.FULL)

        seen = await do(SetPools(NEW_POOLS))
        assert seen.settings.pools == NEW_POOLS
        assert seen.telemetry.activity is Activity.HASHING
        seen = await do(StopMining())
        assert seen.settings.mining is False
        assert seen.settings.pools == NEW_POOLS
        assert seen.telemetry.hashrate_ths == 0.0
        assert seen.telemetry.activity is Activity.SLEEPING
        seen = await do(StartMining(step_of(family, "normal")))
        assert seen.settings.mining is True
        assert seen.settings.power_mode == step_of(family, "normal")
        assert seen.telemetry.activity is Activity.HASHING

    on_bench(family, play)


def honest_requests(family: str, change: Change) -> tuple[int, list[int]]:
    """How many requests a write takes, and which of them (from 1) its permit was asked for."""

    change = spoken(family, change)

    async def play(bench: Bench) -> tuple[int, list[int]]:
        asked: list[int] = []

        def permit() -> None:
            asked.append(bench.line.requests + 1)

        before = await prepare(bench, change)
        await bench.driver.apply(bench.target, change, permit)
        assert len(asked) == len(bench.writes()) - before
        return bench.line.requests, asked

    return on_bench(family, play)


async def prepare(bench: Bench, change: Change) -> int:
    """Waking starts from sleep, so that it is written in all its parts; how many writes that took."""
    if isinstance(change, StartMining):
        await bench.driver.apply(bench.target, StopMining(), always)
        await bench.stage.clock.sleep(600)
        bench.line.requests = 0
    return len(bench.writes())


each_change = pytest.mark.parametrize(
    "change", [*EVERY, StartMining("low")], ids=lambda change: kind_of(change).value
)


@each_family
@each_change
def test_a_write_leaves_only_by_permit_and_each_part_of_it_by_its_own(
    family: str, change: Change
) -> None:
    """A hold is taken while the driver works: whatever has not left by then does not leave."""
    change = spoken(family, change)
    _, asked = honest_requests(family, change)

    async def play(bench: Bench, granted: int) -> tuple[int, Outcome]:
        answers = iter([None] * granted)
        before = await prepare(bench, change)
        outcome = await bench.driver.apply(
            bench.target, change, lambda: next(answers, "safety hold of ann")
        )
        return len(bench.writes()) - before, outcome

    for granted in range(len(asked)):
        sent, outcome = on_bench(family, lambda bench, n=granted: play(bench, n))  # type: ignore[misc]
        assert sent == granted
        assert "safety hold of ann" in str(outcome)
        if granted:
            assert isinstance(outcome, InProgress)
        else:
            assert isinstance(outcome, Failed)
            assert outcome.retryable


@each_family
@each_change
def test_a_machine_that_took_the_address_meanwhile_is_not_written_to(
    family: str, change: Change
) -> None:
    """Another one answers from any request on; only the very bytes of a write can be too late for it."""
    change = spoken(family, change)
    requests, asked = honest_requests(family, change)

    async def play(bench: Bench, before: int) -> tuple[int, Outcome]:
        sent = 0

        def exchange() -> None:
            nonlocal sent
            machine, sent = bench.stage.site.machine(bench.target.asset), len(bench.writes())
            machine.mac, machine.serial = "02:99:00:00:00:99", "OTHER"

        await prepare(bench, change)
        bench.line.happening, bench.line.before_request = exchange, before
        outcome = await bench.driver.apply(bench.target, change, always)
        return len(bench.writes()) - sent, outcome

    for before in range(1, requests + 1):
        written, outcome = on_bench(family, lambda bench, n=before: play(bench, n))  # type: ignore[misc]
        assert written == (before in asked), before
        if asked and before < min(asked):
            assert isinstance(outcome, Failed)
            assert "02:99:00:00:00:99 answers" in outcome.reason


@each_family
@each_change
def test_without_a_pin_nothing_is_written(family: str, change: Change) -> None:
    change = spoken(family, change)

    async def play(bench: Bench) -> None:
        before = await prepare(bench, change)
        target = msgspec.structs.replace(bench.target, pin=None)
        assert isinstance(await bench.driver.apply(target, change, always), Failed)
        assert len(bench.writes()) == before

    on_bench(family, play)
