"""The simulated BMC as a state machine: what happens when, and what goes wrong."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.simulator.bmc import COLD_S, LATENCY_S, STANDBY_W, Bmc
from control_plane.simulator.bmc_chassis import BareChassis
from control_plane.simulator.bmc_profiles import DELL, SUPERMICRO, Profile
from control_plane.simulator.bmc_pulse import Pulse
from control_plane.simulator.bmc_web import BmcDevice
from control_plane.simulator.clock import LoopSimClock, ManualSimClock
from control_plane.simulator.virtual import VirtualLoop, run_virtual


class Host:
    """One BMC, its host and its time."""

    def __init__(self, profile: Profile = SUPERMICRO, *, is_on: bool = True) -> None:
        self.clock = ManualSimClock(100.0)
        self.chassis = BareChassis("S1")
        self.bmc = Bmc(profile, self.chassis, self.clock, is_on=is_on)

    def now(self) -> tuple[str, str, float, bool]:
        return self.bmc.power, self.bmc.progress, self.bmc.draw_w(), self.chassis.is_on

    def after(self, seconds: float) -> Bmc:
        self.clock.advance(seconds)
        self.bmc.settle()
        return self.bmc


def test_a_host_boots_in_steps_and_draws_accordingly() -> None:
    host = Host(is_on=False)
    assert host.now() == ("Off", "None", STANDBY_W, False)
    host.bmc.reset("On")
    assert host.now() == ("PoweringOn", "None", STANDBY_W, False)
    host.after(LATENCY_S)
    assert host.now() == ("On", "MemoryInitializationStarted", 1_000.0, False)
    host.after(SUPERMICRO.post_s)
    assert host.now() == ("On", "OSBootStarted", 1_000.0, False)
    host.after(SUPERMICRO.os_s)
    assert host.now() == ("On", "OSRunning", 2_000.0, True)


def test_a_cycle_takes_the_power_for_a_while_and_boots_anew() -> None:
    host = Host(DELL)
    before = host.chassis.boot_id
    host.bmc.reset("PowerCycle")
    host.after(LATENCY_S)
    assert host.now() == ("Off", "None", STANDBY_W, False)
    assert host.after(COLD_S).power == "On"
    host.after(DELL.post_s + DELL.os_s)
    assert host.now() == ("On", "OSRunning", 2_000.0, True)
    assert host.chassis.boot_id != before


def test_a_boot_that_was_cut_never_ends() -> None:
    host = Host()
    host.bmc.reset("ForceRestart")
    host.after(LATENCY_S + 10.0)
    host.bmc.reset("ForceOff")
    host.after(10_000.0)
    assert (host.bmc.power, host.bmc.progress, host.chassis.is_on) == ("Off", "None", False)


def test_a_hung_system_hears_no_button_and_loses_its_power_all_the_same() -> None:
    host = Host()
    host.chassis.hears_button = False
    host.bmc.reset("GracefulShutdown")
    assert host.after(1_000.0).power == "On"
    assert host.bmc.log[-1].message == "The operating system did not answer the power button."
    host.bmc.reset("ForceOff")
    assert host.after(LATENCY_S).power == "Off"


@pytest.mark.parametrize(
    ("asked", "then", "power"),
    [
        ("GracefulRestart", "ForceOff", "Off"),
        ("GracefulShutdown", "ForceRestart", "On"),
        ("ForceRestart", "ForceOff", "Off"),
    ],
)
def test_what_a_system_was_asked_for_ends_with_it(asked: str, then: str, power: str) -> None:
    host = Host()
    host.bmc.reset(asked)
    host.after(LATENCY_S / 2)
    host.bmc.reset(then)
    host.after(10_000.0)
    assert (host.bmc.power, host.chassis.is_on) == (power, power == "On")


def test_a_host_that_runs_is_not_switched_on_again() -> None:
    host = Host(DELL)
    host.bmc.reset("PowerCycle")
    host.after(LATENCY_S)
    host.bmc.reset("On")
    host.after(LATENCY_S + 1.0)
    assert host.bmc.power == "On"
    host.after(10_000.0)
    assert (host.chassis.boots, host.bmc.boot_log) == (2, ["None"])


def test_a_feed_that_comes_back_brings_its_host_where_it_was_on() -> None:
    host = Host()
    host.bmc.lose_feed()
    assert host.now() == ("Off", "None", 0.0, False)
    assert not host.after(100.0).answers()
    host.bmc.regain_feed()
    assert not host.bmc.answers(), "the BMC takes a while, too"
    assert host.after(10_000.0).answers()
    assert host.now() == ("On", "OSRunning", 2_000.0, True)
    host.bmc.reset("ForceOff")
    host.after(10.0).lose_feed()
    host.bmc.regain_feed()
    host.after(10_000.0)
    assert host.now() == ("Off", "None", STANDBY_W, False)


def test_memory_training_that_hangs_keeps_the_host_from_its_system() -> None:
    host = Host()
    host.bmc.faults.stuck_post = True
    host.bmc.reset("ForceRestart")
    bmc = host.after(10_000.0)
    assert (bmc.power, bmc.progress, host.chassis.is_on) == (
        "On",
        "MemoryInitializationStarted",
        False,
    )
    bmc.faults.stuck_post = False
    bmc.reset("ForceRestart")
    host.after(1_000.0)
    assert host.chassis.is_on


def test_wrong_passwords_lock_out_the_right_one_for_a_while() -> None:
    host = Host()
    bmc = host.bmc
    for _ in range(SUPERMICRO.lockout_after):
        assert bmc.log_in(bmc.user, "wrong") is None
    assert bmc.log_in(bmc.user, bmc.password) is None
    host.after(SUPERMICRO.lockout_s + 1.0)
    assert bmc.log_in(bmc.user, bmc.password) is not None


def test_a_session_that_nobody_uses_lapses() -> None:
    host = Host()
    session = host.bmc.log_in(host.bmc.user, host.bmc.password)
    assert session is not None
    host.clock.advance(SUPERMICRO.idle_limit_s - 1.0)
    assert host.bmc.session_of(session.token) is session
    host.clock.advance(SUPERMICRO.idle_limit_s + 1.0)
    assert host.bmc.session_of(session.token) is None


def test_dell_keeps_bios_settings_pending_without_a_time_to_apply_them() -> None:
    host = Host(DELL)
    host.bmc.set_bios({"Cores": 16}, scheduled=False)
    host.bmc.reset("ForceRestart")
    assert host.after(10.0).bios["Cores"] == 32
    host.bmc.set_bios({"Cores": 16}, scheduled=True)
    host.bmc.reset("ForceRestart")
    assert host.after(10.0).bios["Cores"] == 16


def test_its_own_update_takes_it_away_and_leaves_the_host_alone() -> None:
    host = Host()
    task = host.bmc.update("http://images.test/BMC_2.bin", [])
    bmc = host.after(SUPERMICRO.task_s)
    assert (task.state, bmc.firmware["BMC"]) == ("Completed", "2")
    assert not bmc.answers()
    assert BmcDevice(bmc).accept(443, "10.0.0.1") is None
    assert host.chassis.is_on
    host.after(SUPERMICRO.bmc_reset_s)
    assert bmc.answers()


@pytest.mark.parametrize(("at", "percent"), [(90, 90), (0, 0)])
def test_a_task_may_stop_on_its_way(at: int, percent: int) -> None:
    host = Host()
    host.bmc.faults.task_stuck_at = at
    task = host.bmc.update("http://images.test/BIOS_2.bin", [])
    host.after(10_000.0)
    assert (task.state, task.percent) == ("Running", percent)


def test_a_cap_holds_the_draw_of_a_host_that_is_on() -> None:
    host = Host()
    host.bmc.cap_w = 1_200.0
    assert host.bmc.draw_w() == 1_200.0
    host.bmc.reset("ForceOff")
    assert host.after(5.0).draw_w() == STANDBY_W
    host.bmc.faults.no_power = True
    assert host.bmc.draw_w() == 0.0


def test_a_host_goes_dark_and_boots_by_itself_although_nobody_asks() -> None:
    async def main(loop: VirtualLoop) -> list[bool]:
        chassis = BareChassis("S1")
        bmc = Bmc(DELL, chassis, LoopSimClock(loop, time_scale=10.0))
        pulse = Pulse(bmc, loop)
        seen = []
        bmc.reset("PowerCycle")
        for wire_s in (0.1, 0.2, 20.0, 10.0):
            await asyncio.sleep(wire_s)
            seen.append(chassis.is_on)
        pulse.stop()
        bmc.reset("ForceOff")
        await asyncio.sleep(100.0)
        seen.append(chassis.is_on)
        return seen

    assert run_virtual(main) == [True, False, False, True, True]
