"""BMCs, kernels and firmware that are in trouble while a GPU node is remedied; in virtual time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.cluster import NODE
from control_plane.core.remedy_case import Action
from control_plane.drivers.redfish import RedfishBmc
from control_plane.engine.log import silent
from control_plane.inventory.load import load_files
from control_plane.kube.gpu_bmc import Bmcs
from control_plane.kube.gpu_view import facts_of
from control_plane.simulator.bmc_profiles import SUPERMICRO
from control_plane.simulator.gpu_host import Mends
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.network import Trouble
from tests.kube.halls import RACK, Floor, declared, on_a_floor

ONE, TWO = "lab-g1-n1", "lab-g1-n2"
LONG_S = 3_000.0
LOOKS_S = 20.0
REBOOT_S = 900.0
"""By then a node that is drained has been restarted, if it may be."""


async def _ill(floor: Floor, *, mends: Mends = Mends.REBOOT) -> None:
    await floor.serve()
    await floor.all_well()
    floor.hall[ONE].fall_off(3, mends=mends)


async def _is_mended(floor: Floor, *, resets: int = 1) -> None:
    async def is_back() -> bool:
        return bool(floor.resets(ONE)) and await floor.is_well(ONE)

    await floor.playing.until(is_back, within_s=LONG_S)
    assert len(floor.resets(ONE)) == resets


def _said(floor: Floor, words: str) -> int:
    return sum(words in text for text in floor.playing.said)


@pytest.mark.parametrize("trouble", [Trouble.BLACK_HOLE, Trouble.REFUSE])
def test_a_bmc_that_is_not_reached_is_not_off_and_restarts_nobody(
    tmp_path: Path, trouble: Trouble
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.hall.stations[ONE].trouble = trouble
        floor.hall[ONE].fall_off(3)
        await floor.pass_time(REBOOT_S)
        assert not floor.resets(ONE)
        kept = floor.store.remedy(ONE)
        assert kept is not None
        assert kept.ticket is None or "bmc" not in str(kept.ticket.evidence)
        assert _said(floor, f"BMC of {ONE}: ")

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_refused_password_is_sent_once_until_it_is_another_one(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        right = floor.hall.password
        floor.playing.secrets._password = "s3cret-of-before"  # type: ignore[attr-defined]
        floor.hall[ONE].fall_off(3)
        await floor.pass_time(REBOOT_S)
        assert floor.hall[ONE].bmc.logins == 1
        assert not floor.resets(ONE)
        floor.playing.secrets._password = right  # type: ignore[attr-defined]
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_bmc_of_another_board_restarts_nobody_and_is_named(tmp_path: Path) -> None:
    files = declared()
    files[RACK] = files[RACK].replace(b"first_bmc: 10.90.3.21", b"first_bmc: 10.90.3.22")

    async def case(floor: Floor) -> None:
        # The hall stands as the lab is declared; what is served is off by one.
        served, floor.files = floor.files, files
        assert served != files
        await _ill(floor)
        await floor.pass_time(REBOOT_S)
        assert not floor.resets(ONE)
        assert not floor.resets(TWO)
        assert _said(floor, "10.90.3.22 is of the board")
        assert _said(floor, "is `first_bmc` of its rack right?")

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


@pytest.mark.parametrize(("recorded", "outcome"), [("S-of-another", "failed"), ("", "open")])
def test_a_recorded_serial_that_the_bmc_does_not_tell_restarts_nobody(
    tmp_path: Path, recorded: str, outcome: str
) -> None:
    async def case(floor: Floor) -> None:
        fleet = load_files(floor.files, sites={"lab"}).fleet
        assert fleet is not None
        serial = recorded or floor.hall[ONE].serial
        devices = tuple(
            msgspec.structs.replace(one, serial=serial) if one.asset == ONE else one
            for one in fleet.sites["lab"].devices
        )
        site = msgspec.structs.replace(fleet.sites["lab"], devices=devices)
        device = next(one for one in devices if one.asset == ONE)
        bmcs = Bmcs(floor.playing.bmc, floor.playing.secrets, say=silent)
        facts = facts_of(floor.playing.server.get(NODE, ONE))
        done = await bmcs.act(site, device, Action.REBOOT, facts=facts, permit=lambda: None)
        assert done == outcome
        assert len(floor.resets(ONE)) == (outcome == "open")
        await bmcs.close()

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


@pytest.mark.parametrize("how", ["breaks", "mute"])
def test_a_reset_whose_answer_is_lost_is_not_asked_for_again(tmp_path: Path, how: str) -> None:
    async def case(floor: Floor) -> None:
        await _ill(floor)

        async def is_drained() -> bool:
            kept = floor.store.remedy(ONE)
            return kept is not None and any(a.outcome == "done" for a in kept.attempts)

        await floor.playing.until(is_drained)
        # Its session is open by then: what is lost is the answer to the reset alone.
        await floor.pass_time(30.0)
        setattr(floor.hall[ONE].bmc.faults, how, frozenset({"POST"}))
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_slow_answers_change_nothing(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.hall[ONE].bmc.faults.lag_s = 3.0
        floor.hall[ONE].fall_off(3)
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_reset_that_is_acknowledged_and_ignored_ends_in_a_name_for_a_person(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await _ill(floor)
        floor.hall[ONE].bmc.faults.ignores_resets = True

        async def is_named() -> bool:
            return "Stalled" in await floor.told(ONE)

        await floor.playing.until(is_named, within_s=12_000.0)
        assert len(floor.resets(ONE)) <= 4

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_kernel_that_hangs_is_restarted_by_force_and_no_power_is_cut_for_it(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.hall[ONE].hang()
        await _is_mended(floor)
        assert floor.resets(ONE) == ["ForceRestart"]

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_kernel_that_hangs_with_work_on_it_is_left_to_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DRAIN_DEADLINE_S", 600.0)

    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.put_pod("training-0", ONE)
        floor.hall[ONE].hang()
        await floor.comes_to(ONE, "DrainOverdue", within_s=1_200.0)
        assert floor.pods(ONE) == ["training-0"], "nobody saw it end"
        assert not floor.resets(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


@pytest.mark.parametrize("where", ["stuck_post", "stuck_kernel"])
def test_a_restart_that_never_ends_is_a_persons_within_bounds(tmp_path: Path, where: str) -> None:
    async def case(floor: Floor) -> None:
        await _ill(floor)
        host = floor.hall[ONE]
        if where == "stuck_post":
            host.bmc.faults.stuck_post = True
        else:
            host.stuck_kernel = True

        async def is_named() -> bool:
            return "Stalled" in await floor.told(ONE)

        await floor.playing.until(is_named, within_s=9_000.0)
        assert floor.is_held(ONE)
        assert len(floor.resets(ONE)) <= 4
        # Power is cut only where a second source saw that nothing runs there.
        assert "PowerCycle" not in floor.resets(ONE) or where == "stuck_post"

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


@pytest.mark.parametrize("is_held", [False, True])
def test_a_bmc_that_only_takes_power_is_told_to_give_it_back_and_not_under_a_person_s_hands(
    tmp_path: Path, is_held: bool
) -> None:
    """Supermicro's have no reset `PowerCycle`."""

    async def case(floor: Floor) -> None:
        playing, bmc = floor.playing, floor.hall[ONE].bmc
        await _ill(floor, mends=Mends.POWER_CYCLE)

        async def is_off() -> bool:
            return bmc.power == "Off"

        await playing.until(is_off, within_s=6_000.0)
        if is_held:
            await floor.say("h-1", ONE)
            await floor.pass_time(600.0)
            assert bmc.power == "Off"
            await floor.release("h-1")

        async def is_back() -> bool:
            return await floor.is_well(ONE)

        await playing.until(is_back, within_s=LONG_S)
        assert bmc.resets[-2:] == ["ForceOff", "On"]
        assert "PowerCycle" not in bmc.resets

    on_a_floor(tmp_path, case, profile=SUPERMICRO)


def test_a_refused_password_is_not_sent_by_the_next_leader_until_a_person_says_so(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        right = floor.hall.password
        bmc = floor.hall[ONE].bmc
        floor.playing.secrets._password = "s3cret-of-before"  # type: ignore[attr-defined]
        floor.hall[ONE].fall_off(3)
        await floor.pass_time(90.0)
        assert bmc.logins == 1
        floor.die("one")
        # Another process: its driver remembers nothing.
        floor.playing.bmc = RedfishBmc(MemoryNet(floor.hall.network), floor.playing.stage.clock)
        floor.join("two")
        await floor.pass_time(150.0)
        assert bmc.logins == 1, "three more would lock it"
        kept = floor.store.remedy(ONE)
        assert kept is not None
        assert kept.login is not None
        assert kept.login.refused is not None
        assert (kept.login.refused.address, kept.login.refused.user) == ("10.90.3.21", "gridplane")
        assert "s3cret" not in str(kept)
        await floor.order("again", "login", ONE, reason="account unlocked")
        assert "once more" in await floor.obeyed("again")
        await floor.pass_time(90.0)
        assert bmc.logins == 2, "once, for it is wrong still"
        # Another password needs nobody's word.
        floor.playing.secrets._password = right  # type: ignore[attr-defined]
        await _is_mended(floor)
        kept = floor.store.remedy(ONE)
        assert kept is not None
        assert kept.login is not None
        assert kept.login.refused is None

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)
