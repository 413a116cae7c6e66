"""Whatever is wrong with the line, a write leaves at most once, and its fate is never guessed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from control_plane.core.bmc import EVERYTHING, Power, PowerOff, SetBios, TaskState, UpdateFirmware
from control_plane.core.change import Applied, Failed, InProgress
from control_plane.core.errors import ControlPlaneError
from control_plane.core.memory import Pin
from control_plane.core.ports import BmcTarget
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.drivers.redfish import RedfishBmc
from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_chassis import BareChassis
from control_plane.simulator.bmc_profiles import SUPERMICRO
from control_plane.simulator.bmc_server import station_of
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.network import Network, Station, Trouble
from control_plane.simulator.tls import make_certificate
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual
from tests.bmcs import PASSWORD, SERIAL, USER, yes

ADDRESS = "10.8.0.9"
CERTIFICATE = make_certificate(ADDRESS)
TARGET = BmcTarget(
    asset="gpu-1",
    address=ADDRESS,
    user=USER,
    password=Secret(PASSWORD),
    tls=TlsPin(sha256=CERTIFICATE.sha256),
    pin=Pin(mac=None, serial=SERIAL, source="placement"),
)
Play = Callable[[RedfishBmc, Bmc, Station, VirtualLoop], Awaitable[None]]


def played(play: Play) -> None:
    async def main(loop: VirtualLoop) -> None:
        bmc = Bmc(SUPERMICRO, BareChassis(SERIAL), LoopSimClock(loop), user=USER, password=PASSWORD)
        network = Network()
        station = station_of(bmc, "gpu-1", ADDRESS, CERTIFICATE)
        network.add(station)
        driver = RedfishBmc(MemoryNet(network), VirtualClock(loop))
        await play(driver, bmc, station, loop)
        station.trouble = None
        await driver.close()

    run_virtual(main)


@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("is_known", [False, True], ids=["at first sight", "in a session"])
def test_a_look_over_a_bad_line_ends_in_the_error_tree_and_not_in_a_host_that_is_off(
    trouble: Trouble, *, is_known: bool
) -> None:
    async def play(driver: RedfishBmc, bmc: Bmc, station: Station, _: VirtualLoop) -> None:
        if is_known:
            await driver.look(TARGET, frozenset())
        station.trouble = trouble
        # Twenty seconds are not too slow, and a connection that stands is not refused any more.
        if trouble is Trouble.SLOW or (is_known and trouble is Trouble.REFUSE):
            assert (await driver.look(TARGET, frozenset())).power is Power.ON
            return
        with pytest.raises(ControlPlaneError):
            await driver.look(TARGET, EVERYTHING)
        sent = await driver.apply(TARGET, PowerOff(forced=True), yes)
        assert isinstance(sent.outcome, Failed)
        assert bmc.resets == []

    played(play)


@pytest.mark.parametrize("trouble", [t for t in Trouble if t is not Trouble.SLOW])
def test_a_line_that_goes_bad_under_a_write_leaves_its_fate_open(trouble: Trouble) -> None:
    async def play(driver: RedfishBmc, bmc: Bmc, station: Station, _: VirtualLoop) -> None:
        def breaks() -> str | None:
            station.trouble = trouble
            return None

        sent = await driver.apply(TARGET, PowerOff(forced=True), breaks)
        # A page that says 200 is an answer; whether it was the BMC's, the next look tells.
        assert isinstance(
            sent.outcome, Applied if trouble is Trouble.HTML else InProgress | Applied
        )
        if trouble not in {Trouble.HTML, Trouble.TRUNCATE, Trouble.REFUSE}:
            assert isinstance(sent.outcome, InProgress)
        assert len(bmc.resets) <= 1

    played(play)


def test_a_bmc_that_comes_back_after_its_own_update_is_followed_through() -> None:
    async def play(driver: RedfishBmc, bmc: Bmc, station: Station, loop: VirtualLoop) -> None:
        update = UpdateFirmware(image_uri="http://images.test/BMC_9.bin")
        sent = await driver.apply(TARGET, update, yes)
        assert sent.task is not None
        end = await driver.follow(TARGET, sent.task, within_s=3_600.0)
        assert end.state is TaskState.GONE
        assert SUPERMICRO.task_s + SUPERMICRO.bmc_reset_s < loop.time() < 900.0
        assert bmc.logins == 2, "one before, one after its restart"

    played(play)


def test_an_unanswered_bios_write_is_pending_and_open_until_a_look() -> None:
    async def play(driver: RedfishBmc, bmc: Bmc, station: Station, _: VirtualLoop) -> None:
        await driver.look(TARGET, frozenset())
        bmc.faults.mute = frozenset({"PATCH"})
        sent = await driver.apply(TARGET, SetBios(attributes={"QuietBoot": False}), yes)
        assert isinstance(sent.outcome, InProgress)
        assert sent.pending
        seen = await driver.look(TARGET, EVERYTHING)
        assert seen.bios_pending == {"QuietBoot": False}

    played(play)
