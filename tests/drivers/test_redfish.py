"""Our Redfish client against simulated BMCs of every maker, on real HTTPS sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from control_plane.core.bmc import (
    EVERYTHING,
    BmcChange,
    BootOnce,
    BootProgress,
    BootTarget,
    EjectMedia,
    Health,
    InsertMedia,
    Locate,
    Part,
    Power,
    PowerCap,
    PowerCycle,
    PowerOff,
    PowerOn,
    Restart,
    SensorKind,
    SetBios,
    SetPowerCap,
    TaskState,
    UpdateFirmware,
    has_version,
    is_pending,
    shows,
)
from control_plane.core.bmc_quirks import Maker
from control_plane.core.change import Applied, Failed, InProgress, RefusedByDevice
from control_plane.core.errors import (
    AuthRejected,
    UnexpectedReply,
    Unreachable,
    WrongIdentity,
)
from control_plane.core.tls import TlsPin
from control_plane.simulator.bmc_chassis import BareChassis
from control_plane.simulator.bmc_parts import BmcFaults
from control_plane.simulator.bmc_profiles import (
    DELL,
    HPE,
    LENOVO,
    NVIDIA,
    PLAIN,
    PROFILES,
    SUPERMICRO,
    Profile,
)
from control_plane.simulator.clock import RealSimClock
from tests.bmcs import SERIAL, Bench, a_bmc, yes

Play = Callable[[Bench], Awaitable[None]]
IMAGE = "http://images.test/fw"
MAKERS = {
    "supermicro": Maker.SUPERMICRO,
    "dell": Maker.DELL,
    "hpe": Maker.HPE,
    "lenovo": Maker.LENOVO,
    "nvidia": Maker.NVIDIA,
    "plain": Maker.OTHER,
}
NOTHING: frozenset[Part] = frozenset()


def named(profile: Profile) -> str:
    return profile.name


def played(play: Play, profile: Profile = SUPERMICRO, **how: object) -> None:
    async def main() -> None:
        async with a_bmc(profile, **how) as bench:  # type: ignore[arg-type]
            await play(bench)

    asyncio.run(main())


# -- one look ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_a_look_tells_what_is_so(name: str) -> None:
    profile = PROFILES[name]

    async def play(bench: Bench) -> None:
        seen = await bench.driver.look(bench.target, EVERYTHING)
        assert seen.unread == ()
        assert (seen.maker, seen.serial, seen.model) == (MAKERS[name], SERIAL, profile.model)
        assert (seen.power, seen.health) == (Power.ON, Health.OK)
        assert seen.progress is BootProgress.OS_RUNNING
        assert seen.bios == dict(profile.bios)
        assert seen.bios_pending == {}
        assert seen.firmware is not None
        assert {row.id: row.version for row in seen.firmware} == dict(profile.firmware)
        assert seen.bmc_version == profile.firmware[profile.bmc_firmware]
        assert seen.bios_version == profile.firmware[profile.bios_firmware]
        assert seen.power_w == 2_000.0
        assert seen.has_cap is (profile is not PLAIN)
        assert seen.cap is None or seen.cap.watts is None
        assert seen.resets == (None if profile is PLAIN else frozenset(profile.resets))
        assert seen.sensors is not None
        kinds = {sensor.kind for sensor in seen.sensors}
        assert {SensorKind.TEMPERATURE_C, SensorKind.FAN_RPM} <= kinds
        assert seen.media is not None
        assert seen.media.inserted is False
        assert seen.locate is False
        assert seen.log == ()

    played(play, profile)


def test_parts_that_are_not_asked_cost_nothing_and_tell_nothing() -> None:
    async def play(bench: Bench) -> None:
        await bench.driver.look(bench.target, NOTHING)
        bench.device.asked.clear()
        seen = await bench.driver.look(bench.target, NOTHING)
        assert bench.device.asked == ["GET /redfish/v1/Systems/1"]
        parts = (seen.bios, seen.firmware, seen.power_w, seen.sensors, seen.log, seen.media)
        assert parts == (None,) * 6

    played(play)


def test_where_resets_cannot_be_read_the_makers_are_taken() -> None:
    async def play(bench: Bench) -> None:
        bench.bmc.faults.garbage = frozenset({"/ResetActionInfo"})
        assert (await bench.driver.look(bench.target, NOTHING)).resets is None
        sent = await bench.driver.apply(bench.target, PowerCycle(), yes)
        assert isinstance(sent.outcome, Applied)
        assert bench.bmc.resets == ["PowerCycle"]

    played(play, NVIDIA)


def test_the_host_is_told_from_the_board_below_it() -> None:
    async def play(bench: Bench) -> None:
        identity = await bench.driver.identify(bench.target)
        assert (identity.serial, identity.model) == (SERIAL, "DGXH100")

    played(play, NVIDIA)


def test_of_a_part_that_cannot_be_understood_it_is_said_so() -> None:
    async def play(bench: Bench) -> None:
        bench.bmc.faults.garbage = frozenset({"/Bios"})
        bench.bmc.faults.missing = frozenset({"/FirmwareInventory"})
        seen = await bench.driver.look(bench.target, EVERYTHING)
        assert (seen.bios, seen.firmware) == (None, None)
        assert [note.partition(":")[0] for note in seen.unread] == ["FirmwareInventory", "Bios"]
        assert seen.power is Power.ON

    played(play)


def test_a_service_that_tells_noise_of_its_host_is_not_understood() -> None:
    async def play(bench: Bench) -> None:
        bench.bmc.faults.garbage = frozenset({"/Systems/1"})
        with pytest.raises(UnexpectedReply):
            await bench.driver.look(bench.target, NOTHING)

    played(play)


def test_a_bmc_that_does_not_answer_is_not_a_host_that_is_off() -> None:
    async def play(bench: Bench) -> None:
        await bench.driver.look(bench.target, NOTHING)
        bench.bmc.away_until_s = 5_000.0
        with pytest.raises(Unreachable):
            await bench.driver.look(bench.target, NOTHING)
        sent = await bench.driver.apply(bench.target, PowerOff(forced=True), yes)
        assert isinstance(sent.outcome, Failed)
        bench.later(5_000.0)
        assert (await bench.driver.look(bench.target, NOTHING)).power is Power.ON

    played(play)


# -- who may ask -------------------------------------------------------------------------------------


def test_one_session_serves_many_calls_and_is_ended() -> None:
    async def play(bench: Bench) -> None:
        looks = [bench.driver.look(bench.target, EVERYTHING) for _ in range(5)]
        await asyncio.gather(*looks)
        assert bench.bmc.logins == 1
        assert bench.server.connections == 1, "one command at a time, on one connection"
        assert len(bench.bmc.sessions) == 1
        await bench.driver.close()
        assert bench.bmc.sessions == {}

    played(play)


def test_after_a_refused_password_none_is_sent_until_it_is_another_one() -> None:
    async def play(bench: Bench) -> None:
        wrong = bench.as_user("gridplane", "of-last-year")
        for _ in range(3):
            with pytest.raises(AuthRejected):
                await bench.driver.look(wrong, NOTHING)
            sent = await bench.driver.apply(wrong, PowerCycle(), yes)
            assert isinstance(sent.outcome, Failed)
            assert not sent.outcome.retryable
        assert bench.bmc.logins == 1
        assert (await bench.driver.look(bench.target, NOTHING)).power is Power.ON
        assert bench.bmc.logins == 2

    played(play)


def test_a_refusal_that_was_remembered_elsewhere_counts() -> None:
    async def play(bench: Bench) -> None:
        with pytest.raises(AuthRejected, match="before"):
            await bench.driver.look(msgspec.structs.replace(bench.target, is_refused=True), NOTHING)
        assert bench.server.connections == 0

    played(play)


def test_a_lapsed_session_is_no_refused_password() -> None:
    async def play(bench: Bench) -> None:
        await bench.driver.look(bench.target, NOTHING)
        bench.later(400.0)
        assert (await bench.driver.look(bench.target, NOTHING)).power is Power.ON
        assert bench.bmc.logins == 2

    played(play)


def test_a_password_that_was_changed_meanwhile_is_sent_once() -> None:
    async def play(bench: Bench) -> None:
        await bench.driver.look(bench.target, NOTHING)
        bench.bmc.password = "another"
        bench.bmc.sessions.clear()
        for _ in range(3):
            with pytest.raises(AuthRejected):
                await bench.driver.look(bench.target, NOTHING)
        assert bench.bmc.logins == 2

    played(play)


@pytest.mark.parametrize(
    ("user", "password"),
    [("ADMIN", "ADMIN"), ("root", "calvin"), ("USERID", "PASSW0RD"), ("root", "0penBmc")],
)
def test_what_every_maker_ships_is_not_even_tried(user: str, password: str) -> None:
    async def play(bench: Bench) -> None:
        bench.bmc.user, bench.bmc.password = user, password
        with pytest.raises(AuthRejected, match="default"):
            await bench.driver.look(bench.as_user(user, password), NOTHING)
        assert bench.server.connections == 0

    played(play)


def test_without_a_pinned_certificate_nothing_is_sent() -> None:
    async def play(bench: Bench) -> None:
        bare = msgspec.structs.replace(bench.target, tls=None)
        with pytest.raises(UnexpectedReply, match="pinned"):
            await bench.driver.look(bare, NOTHING)
        assert bench.server.connections == 0

    played(play)


def test_to_another_certificate_nothing_is_said() -> None:
    async def play(bench: Bench) -> None:
        other = msgspec.structs.replace(bench.target, tls=TlsPin(sha256="0" * 64))
        with pytest.raises(WrongIdentity):
            await bench.driver.look(other, NOTHING)
        assert bench.device.asked == []

    played(play)


# -- writes ------------------------------------------------------------------------------------------


def test_power_is_taken_and_given_and_a_look_is_the_evidence() -> None:
    async def play(bench: Bench) -> None:
        for change, seconds in ((PowerOff(forced=True), 5.0), (PowerOn(), 5.0), (PowerOff(), 50.0)):
            sent = await bench.driver.apply(bench.target, change, yes)
            assert isinstance(sent.outcome, Applied)
            before = await bench.driver.look(bench.target, NOTHING)
            assert shows(before, change) is False
            bench.later(seconds)
            if isinstance(change, PowerOn):
                bench.later(300.0)
            assert shows(await bench.driver.look(bench.target, NOTHING), change) is True

    played(play)


RESETS: dict[str, tuple[Profile, BmcChange, str | None]] = {
    "on": (SUPERMICRO, PowerOn(), "On"),
    "off": (SUPERMICRO, PowerOff(), "GracefulShutdown"),
    "forced off": (SUPERMICRO, PowerOff(forced=True), "ForceOff"),
    "restart": (SUPERMICRO, Restart(), "GracefulRestart"),
    "forced restart": (SUPERMICRO, Restart(forced=True), "ForceRestart"),
    "a cycle where there is none": (SUPERMICRO, PowerCycle(), None),
    "a cycle": (DELL, PowerCycle(), "PowerCycle"),
    "a cycle, told by action info": (NVIDIA, PowerCycle(), "PowerCycle"),
    "a forced restart that hangs hosts": (LENOVO, Restart(forced=True), None),
    "where nothing is told it is asked": (PLAIN, Restart(forced=True), "ForceRestart"),
}


@pytest.mark.parametrize("case", RESETS)
def test_each_change_is_one_reset_or_none(case: str) -> None:
    profile, change, kind = RESETS[case]

    async def play(bench: Bench) -> None:
        sent = await bench.driver.apply(bench.target, change, yes)
        assert bench.bmc.resets == ([] if kind is None else [kind])
        assert isinstance(sent.outcome, Failed if kind is None else Applied)

    played(play, profile)


def test_what_a_bmc_refuses_is_told_in_its_words() -> None:
    async def play(bench: Bench) -> None:
        sent = await bench.driver.apply(bench.target, PowerCycle(), yes)
        assert isinstance(sent.outcome, RefusedByDevice)
        assert "ResetType PowerCycle" in sent.outcome.reason

    played(play, PLAIN)


UNSENT: dict[str, Callable[[Bench], None]] = {
    "another host": lambda bench: setattr(bench.bmc.faults, "serial", "SOMEBODY-ELSES"),
    "no pin": lambda bench: setattr(
        bench, "target", msgspec.structs.replace(bench.target, pin=None)
    ),
}


@pytest.mark.parametrize("case", UNSENT)
def test_to_a_host_that_is_not_the_pinned_one_nothing_is_written(case: str) -> None:
    async def play(bench: Bench) -> None:
        UNSENT[case](bench)
        for change in (PowerOff(forced=True), SetPowerCap(watts=5_000), Locate(lit=True)):
            sent = await bench.driver.apply(bench.target, change, yes)
            assert isinstance(sent.outcome, Failed)
        assert bench.wrote() == []

    played(play)


def test_a_permit_that_is_gone_stops_a_write_at_the_last_moment() -> None:
    async def play(bench: Bench) -> None:
        sent = await bench.driver.apply(bench.target, PowerOff(), lambda: "a person holds it")
        assert sent.outcome == Failed("a person holds it", retryable=True)
        assert bench.wrote() == []

    played(play)


def test_a_write_whose_answer_is_lost_is_sent_once_and_its_fate_unknown() -> None:
    async def play(bench: Bench) -> None:
        await bench.driver.look(bench.target, NOTHING)
        bench.bmc.faults.breaks = frozenset({"POST"})
        sent = await bench.driver.apply(bench.target, PowerOff(forced=True), yes)
        assert isinstance(sent.outcome, InProgress)
        assert bench.bmc.resets == ["ForceOff"]

    played(play)


@pytest.mark.parametrize("profile", [SUPERMICRO, DELL, HPE, LENOVO, NVIDIA, PLAIN], ids=named)
def test_bios_settings_wait_for_a_reset(profile: Profile) -> None:
    name, value = next(iter(profile.bios.items()))
    wanted = SetBios(attributes={name: f"not {value}" if isinstance(value, str) else not value})

    async def play(bench: Bench) -> None:
        sent = await bench.driver.apply(bench.target, wanted, yes)
        assert isinstance(sent.outcome, Applied)
        assert sent.pending
        seen = await bench.driver.look(bench.target, frozenset({Part.BIOS}))
        assert (shows(seen, wanted), is_pending(seen, wanted)) == (False, True)
        bench.bmc.reset("ForceRestart")
        bench.later(10.0)
        seen = await bench.driver.look(bench.target, frozenset({Part.BIOS}))
        assert (shows(seen, wanted), is_pending(seen, wanted)) == (True, False)

    played(play, profile)


def test_an_attribute_that_is_none_is_refused_in_the_bmcs_words() -> None:
    async def play(bench: Bench) -> None:
        sent = await bench.driver.apply(bench.target, SetBios(attributes={"Nonsense": 1}), yes)
        assert isinstance(sent.outcome, RefusedByDevice)
        assert "Nonsense has no such value" in sent.outcome.reason

    played(play)


@pytest.mark.parametrize("profile", [SUPERMICRO, DELL, NVIDIA], ids=named)
def test_a_cap_is_set_holds_the_draw_and_is_taken_away(profile: Profile) -> None:
    async def play(bench: Bench) -> None:
        draw = frozenset({Part.DRAW})
        sent = await bench.driver.apply(bench.target, SetPowerCap(watts=1_500), yes)
        assert isinstance(sent.outcome, Applied)
        seen = await bench.driver.look(bench.target, draw)
        assert seen.cap is not None
        assert (seen.cap.watts, seen.power_w) == (1_500.0, 1_500.0)
        await bench.driver.apply(bench.target, SetPowerCap(watts=None), yes)
        seen = await bench.driver.look(bench.target, draw)
        assert seen.cap is not None
        assert (seen.cap.watts, seen.power_w) == (None, 2_000.0)

    played(play, profile)


def test_where_there_is_no_cap_none_is_written() -> None:
    async def play(bench: Bench) -> None:
        sent = await bench.driver.apply(bench.target, SetPowerCap(watts=5_000), yes)
        assert sent.outcome == Failed("this BMC has no power cap", retryable=False)
        seen = await bench.driver.look(bench.target, frozenset({Part.DRAW}))
        assert (seen.has_cap, seen.cap) == (False, None)
        assert bench.wrote() == []

    played(play, PLAIN)


@pytest.mark.parametrize("profile", [SUPERMICRO, NVIDIA, PLAIN], ids=named)
def test_media_boot_and_light_read_as_written(profile: Profile) -> None:
    changes: tuple[BmcChange, ...] = (
        InsertMedia(image_uri=f"{IMAGE}/installer.iso"),
        BootOnce(target=BootTarget.CD),
        Locate(lit=True),
    )

    async def play(bench: Bench) -> None:
        media = frozenset({Part.MEDIA})
        for change in changes:
            assert shows(await bench.driver.look(bench.target, media), change) is False
            sent = await bench.driver.apply(bench.target, change, yes)
            assert isinstance(sent.outcome, Applied)
            assert shows(await bench.driver.look(bench.target, media), change) is True
        bench.bmc.reset("ForceRestart")
        bench.later(10.0)
        assert bench.bmc.boot_log == ["Cd"]
        assert shows(await bench.driver.look(bench.target, media), changes[1]) is False, "once"
        await bench.driver.apply(bench.target, EjectMedia(), yes)
        assert shows(await bench.driver.look(bench.target, media), EjectMedia()) is True

    played(play, profile)


# -- firmware ----------------------------------------------------------------------------------------


def fast(play: Play, profile: Profile = SUPERMICRO) -> None:
    """Device and policy time a thousand times as fast as the wire's."""
    played(play, profile, clock=RealSimClock(1000.0), scale=1000.0)


def test_an_update_is_followed_to_its_end_and_the_inventory_is_the_evidence() -> None:
    async def play(bench: Bench) -> None:
        update = UpdateFirmware(image_uri=f"{IMAGE}/CPLD_Motherboard_F1.00.99.bin")
        sent = await bench.driver.apply(bench.target, update, yes)
        assert isinstance(sent.outcome, InProgress)
        assert sent.task is not None
        end = await bench.driver.follow(bench.target, sent.task, within_s=1_000.0)
        assert (end.state, end.percent) == (TaskState.DONE, 100)
        seen = await bench.driver.look(bench.target, frozenset({Part.FIRMWARE}))
        assert has_version(seen, "CPLD_Motherboard", "F1.00.99") is True

    fast(play)


@pytest.mark.parametrize("profile", [SUPERMICRO, DELL], ids=named)
def test_a_bmc_that_updates_itself_goes_away_and_comes_back(profile: Profile) -> None:
    id_ = profile.bmc_firmware

    async def play(bench: Bench) -> None:
        update = UpdateFirmware(image_uri=f"{IMAGE}/bmc_9.9.bin", targets=(id_,))
        sent = await bench.driver.apply(bench.target, update, yes)
        assert sent.task is not None
        end = await bench.driver.follow(bench.target, sent.task, within_s=5_000.0)
        # Some forget their tasks with the restart: then it is the inventory that tells.
        assert end.state is (TaskState.DONE if profile.tasks_survive else TaskState.GONE)
        seen = await bench.driver.look(bench.target, frozenset({Part.FIRMWARE}))
        assert has_version(seen, id_, "9.9") is True
        assert seen.power is Power.ON

    fast(play, profile)


def test_an_image_that_fits_nothing_fails_in_the_bmcs_words() -> None:
    async def play(bench: Bench) -> None:
        update = UpdateFirmware(image_uri=f"{IMAGE}/unheard_1.bin")
        sent = await bench.driver.apply(bench.target, update, yes)
        assert sent.task is not None
        end = await bench.driver.follow(bench.target, sent.task, within_s=1_000.0)
        assert end.state is TaskState.FAILED
        assert end.messages == ("The image does not fit a component of this system.",)

    fast(play)


def test_a_task_that_does_not_end_is_stuck_where_it_was() -> None:
    async def play(bench: Bench) -> None:
        bench.bmc.faults.task_stuck_at = 90
        update = UpdateFirmware(image_uri=f"{IMAGE}/CPLD_Motherboard_2.bin")
        sent = await bench.driver.apply(bench.target, update, yes)
        assert sent.task is not None
        end = await bench.driver.follow(bench.target, sent.task, within_s=600.0)
        assert (end.state, end.percent) == (TaskState.STUCK, 90)

    fast(play)


@pytest.mark.parametrize("state", ["PoweringOn", "PoweringOff", "Sometimes", ""])
def test_no_image_is_sent_while_power_is_unknown_or_moving(state: str) -> None:
    async def play(bench: Bench) -> None:
        bench.bmc.faults.shows_power = state or "Bogus"
        update = UpdateFirmware(image_uri=f"{IMAGE}/BIOS_3.bin")
        sent = await bench.driver.apply(bench.target, update, yes)
        assert isinstance(sent.outcome, Failed)
        assert sent.outcome.retryable
        assert bench.wrote() == []

    played(play)


def test_a_target_that_the_inventory_has_not_is_not_written() -> None:
    async def play(bench: Bench) -> None:
        update = UpdateFirmware(image_uri=f"{IMAGE}/x_3.bin", targets=("Unheard",))
        sent = await bench.driver.apply(bench.target, update, yes)
        assert sent.outcome == Failed("its firmware inventory has no Unheard", retryable=False)
        assert bench.wrote() == []

    played(play)


def test_a_bios_image_takes_effect_with_the_next_boot() -> None:
    async def play(bench: Bench) -> None:
        update = UpdateFirmware(image_uri=f"{IMAGE}/BIOS_3.3.bin")
        await bench.driver.apply(bench.target, update, yes)
        bench.later(300.0)
        firmware = frozenset({Part.FIRMWARE})
        assert has_version(await bench.driver.look(bench.target, firmware), "BIOS", "3.3") is False
        bench.bmc.reset("ForceRestart")
        bench.later(10.0)
        assert has_version(await bench.driver.look(bench.target, firmware), "BIOS", "3.3") is True

    played(play)


def test_a_lying_bmc_is_told_by_its_log_and_its_draw_and_not_by_its_word() -> None:
    async def play(bench: Bench) -> None:
        bench.bmc.faults = BmcFaults(shows_power="On")
        await bench.driver.apply(bench.target, PowerOff(forced=True), yes)
        bench.later(5.0)
        seen = await bench.driver.look(bench.target, frozenset({Part.DRAW, Part.LOG}))
        assert seen.power is Power.ON
        assert seen.power_w == 25.0
        assert seen.log is not None
        assert seen.log[0].message == "Power is off."

    played(play, chassis=BareChassis(SERIAL))


def test_values_of_a_cap_are_what_the_bmc_tells() -> None:
    async def play(bench: Bench) -> None:
        bench.bmc.cap_w = 7_000.0
        seen = await bench.driver.look(bench.target, frozenset({Part.DRAW}))
        assert seen.cap == PowerCap(watts=7_000.0, min_w=2_000.0, max_w=10_200.0)

    played(play, NVIDIA)
