"""One try of a maker's password at simulated machines: what it tells, and that it changes nothing."""

from __future__ import annotations

import pytest

from control_plane.core.ports import Target
from control_plane.core.posture import Password, WriteApi
from control_plane.core.secret import Secret
from control_plane.drivers.factory_login import Found, try_factory_login
from control_plane.drivers.registry import FAMILIES
from control_plane.simulator.network import Trouble
from control_plane.simulator.stage import Stage, set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.whatsminer import WhatsMiner
from control_plane.simulator.whatsminer_unit import WriteApi as Simulated
from tests.simulator.floors import a_site

ASSET = "M-000-000"
MINE = "not-the-makers"


def tried(
    family: str,
    *,
    password: str | None = None,
    trouble: Trouble | None = None,
    write_api: Simulated | None = None,
    times: int = 1,
) -> tuple[Found, Stage]:
    """What the try tells of a machine with this password (its maker's where none is given)."""

    async def main(loop: VirtualLoop) -> tuple[Found, Stage]:
        site = a_site(racks=1, slots=1, odd_slots=False, families=(family,))
        stage = set_stage(
            site, loop, seed=5, passwords=None if password is None else {family: password}
        )
        station = stage.site.stations[ASSET]
        station.trouble = trouble
        if write_api is not None:
            device = stage.site.device(ASSET)
            assert isinstance(device, WhatsMiner)
            device.unit.write_api = write_api
        before = stage.site.truth(ASSET)
        target = Target(asset=ASSET, address=station.address, user="ours", password=Secret("ours"))
        for _ in range(times - 1):
            await try_factory_login(stage.net, target, family)
        found = await try_factory_login(stage.net, target, family)
        after = stage.site.truth(ASSET)
        assert (after.mining, after.mode, after.pools, after.boots) == (
            before.mining, before.mode, before.pools, before.boots,
        )  # fmt: skip
        assert not [w for w in stage.site.world.ledger.select(asset=ASSET) if w.honoured]
        return found, stage

    return run_virtual(main, horizon_s=200.0)


@pytest.mark.parametrize("family", ["antminer_stock", "vnish", "whatsminer_v2"])
def test_a_machine_as_its_maker_ships_it_takes_the_password(family: str) -> None:
    open_api = Simulated.OPEN if family == "whatsminer_v2" else None
    found, _ = tried(family, write_api=open_api)
    assert (found.password, found.write_api) == (Password.FACTORY, WriteApi.LOGIN)


@pytest.mark.parametrize("family", ["antminer_stock", "vnish", "whatsminer_v2"])
def test_a_machine_with_a_password_of_its_own_refuses_it(family: str) -> None:
    found, _ = tried(family, password=MINE)
    assert found.password is Password.CHANGED
    assert MINE not in found.how


@pytest.mark.parametrize("state", [Simulated.DISABLED, Simulated.REMOVED])
def test_a_write_api_that_is_off_is_found_beside_the_password(state: Simulated) -> None:
    found, _ = tried("whatsminer_v2", write_api=state)
    assert (found.password, found.write_api) == (Password.FACTORY, WriteApi.CLOSED)


def test_luxos_is_not_asked() -> None:
    found, stage = tried("luxos")
    assert found.password is Password.UNKNOWN
    assert stage.net.connections == 0


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "luxos"])
@pytest.mark.parametrize("trouble", Trouble)
def test_whoever_does_not_answer_sensibly_stays_unknown(family: str, trouble: Trouble) -> None:
    found, _ = tried(family, trouble=trouble)
    assert found.password is Password.UNKNOWN


def test_one_try_is_one_failed_login_and_no_lock_out() -> None:
    found, stage = tried("vnish", password=MINE)
    assert found.password is Password.CHANGED
    device = stage.site.device(ASSET)
    assert isinstance(device, Vnish)
    assert len(device.unit.sessions._failures) == 1


def test_a_machine_that_is_locked_out_by_others_is_not_taken_for_one_that_refuses() -> None:
    found, _ = tried("vnish", password=MINE, times=6)
    assert found.password is Password.UNKNOWN
    assert "takes no passwords for a while" in found.how
