"""The physics that all families share: courses over time, power, work and the ledger's direction."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.ledger import Direction, Ledger, Write
from control_plane.simulator.machine import Machine, Phase, World, mix, seed_of
from tests.simulator.making import S21, a_machine, a_world


def test_a_boot_is_silence_then_a_gap_then_watts_before_hash() -> None:
    world, clock = a_world()
    machine = a_machine(world)
    machine.reboot()
    seen = []
    for _ in range(1200):
        sample = machine.sample()
        seen.append((sample.phase, sample.drawn_w, sample.hashrate_ths))
        clock.advance(1)
    phases = [phase for phase, _ in itertools.groupby(phase for phase, _, _ in seen)]
    assert phases == [Phase.BOOTING, Phase.STARTING, Phase.HASHING]
    boot_s = sum(phase is Phase.BOOTING for phase, _, _ in seen)
    assert 40 <= boot_s <= 91
    full_w = next(i for i, (_, watts, _) in enumerate(seen) if watts > 0.98 * 3500)
    full_h = next(i for i, (_, _, rate) in enumerate(seen) if rate >= 200)
    assert full_w < full_h
    assert 300 <= full_h - boot_s <= 601


def test_no_read_changes_the_course() -> None:
    def course(every_s: float) -> list[float]:
        world, clock = a_world()
        machine = a_machine(world)
        machine.restart_mining()
        rates = []
        for moment in range(1, 601):
            clock.advance(1)
            if moment % every_s == 0:
                machine.sample()
            if moment % 60 == 0:
                rates.append(machine.sample().hashrate_ths)
        return rates

    assert course(1) == course(60)


def test_hash_and_watts_end_where_the_step_says() -> None:
    world, clock = a_world()
    machine = a_machine(world)
    low = S21.step("low")
    assert low is not None
    machine.set_step(low, restart=False)
    clock.advance(200)
    sample = machine.sample()
    assert sample.hashrate_ths == pytest.approx(150)
    assert sample.drawn_w == pytest.approx(2600, rel=0.01)


def test_reported_watts_are_biased_by_three_to_five_per_cent_either_way() -> None:
    world, _ = a_world()
    shares = []
    for number in range(400):
        sample = a_machine(world, asset=f"A-{number}").sample()
        shares.append(sample.reported_w / sample.drawn_w - 1)
    assert all(0.03 <= abs(share) <= 0.05 for share in shares)
    assert abs(sum(shares) / len(shares)) < 0.01


def test_a_dead_board_takes_its_share() -> None:
    world, clock = a_world()
    machine = a_machine(world)
    machine.kill_board(1)
    clock.advance(1200)
    sample = machine.sample()
    assert sample.hashrate_ths == pytest.approx(400 / 3)
    assert machine.board_rates(sample.hashrate_ths)[1] == 0
    machine.mend()
    clock.advance(1200)
    assert machine.sample().hashrate_ths == pytest.approx(200)


def test_a_command_given_while_booting_takes_effect_at_its_end() -> None:
    world, clock = a_world()
    machine = a_machine(world)
    machine.reboot()
    clock.advance(5)
    machine.sleep()
    clock.advance(1200)
    assert machine.sample().phase is Phase.SLEEPING


def test_without_power_nothing_is_drawn_and_settings_survive() -> None:
    world, clock = a_world()
    machine = a_machine(world, mode="low")
    machine.power_off()
    machine.reboot()
    clock.advance(100)
    assert machine.sample().drawn_w == 0
    machine.power_on()
    clock.advance(1200)
    assert machine.sample().drawn_w == pytest.approx(2600, rel=0.01)


@given(st.lists(st.sampled_from(["sleep", "wake", "reboot", "low", "normal", "wait"]), max_size=8))
def test_work_is_what_was_hashed_since_the_process_started(acts: list[str]) -> None:
    clock = ManualSimClock()
    machine = a_machine(World(clock))
    last = machine.work_ths_s()
    for act in [*acts, "wait"]:
        match act:
            case "sleep":
                machine.sleep(hold_s=60)
            case "wake":
                machine.wake()
            case "reboot":
                machine.reboot()
            case "low" | "normal":
                step = S21.step(act)
                assert step is not None
                machine.set_step(step, restart=act == "low")
            case _:
                pass
        for _ in range(40):
            clock.advance(5)
            now = machine.work_ths_s()
            assert now >= 0.0
            # Never more than the best step could have done; a restart starts the count anew.
            assert now - last <= 5 * 200.0 + 1e-6
            last = now


@given(
    st.lists(
        st.tuples(st.sampled_from(["sleep", "wake", "reboot", "off", "on"]), st.floats(0, 900))
    )
)
def test_draw_stays_between_nothing_and_the_nameplate(acts: list[tuple[str, float]]) -> None:
    clock = ManualSimClock()
    machine = a_machine(World(clock))
    commands = {
        "sleep": machine.sleep,
        "wake": machine.wake,
        "reboot": machine.reboot,
        "off": machine.power_off,
        "on": machine.power_on,
    }
    for act, wait_s in acts:
        commands[act]()
        clock.advance(wait_s)
        sample = machine.sample()
        assert 0 <= sample.drawn_w <= 3500 * 1.006
        assert 0 <= sample.hashrate_ths <= 200.0001


@pytest.mark.parametrize(
    ("asleep", "asks_w", "direction"),
    [
        (False, 25.0, Direction.LOWER),
        (False, 2600.0, Direction.LOWER),
        (False, 3500.0, Direction.NONE),
        (True, 3500.0, Direction.RAISE),
        (True, 25.0, Direction.NONE),
        (True, None, Direction.NONE),
    ],
)
def test_the_ledger_judges_a_write_against_what_is_permitted(
    *, asleep: bool, asks_w: float | None, direction: Direction
) -> None:
    world, _ = a_world()
    machine: Machine = a_machine(world, asleep=asleep)
    machine.note("x", "", asks_w=asks_w)
    (write,) = world.ledger
    assert write.direction is direction


def test_the_ledger_keeps_the_newest_and_counts_all() -> None:
    ledger = Ledger(keep=2)
    for number in range(3):
        ledger.add(
            Write(
                asset=f"A-{number}",
                rack="R",
                at_device_s=number,
                at_wire_s=number,
                wall_s=number,
                kind="x",
                summary="",
                direction=Direction.NONE,
                honoured=True,
            )
        )
    assert [w.asset for w in ledger] == ["A-1", "A-2"]
    assert (ledger.received, ledger.dropped) == (3, 1)
    assert [w.asset for w in ledger.select(since_device_s=2)] == ["A-2"]


def test_chance_depends_on_names_alone() -> None:
    assert seed_of("A-1") == 0x49F5_F9DD_0C22_5F58
    draws = [mix(seed_of(f"A-{n}"), 1) for n in range(2000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert abs(sum(draws) / len(draws) - 0.5) < 0.03
