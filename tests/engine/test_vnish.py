"""A machine under VNish is brought to what is declared, by the engine that knows nothing of presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control_plane.core.fleet import Credentials, OwnedPool, Site
from control_plane.core.verify import Stage
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.vnish_unit import Unit
from tests.engine.running import Running, on_site
from tests.simulator.floors import POOLS, S19_VNISH, a_rack_of

OLD = (OwnedPool(name="old", url="stratum+tcp://old.pool:3333", worker="acme.{asset}"),)
ASSET = "M-000-000"


def one(**intent: Any) -> Site:
    """A rack of one, of the build whose pools want a restart."""
    credentials = Credentials(user="admin", secret_ref="env:vnish")
    wanted = {"credentials": credentials, "pools": POOLS, "firmware": "1.3.4", **intent}
    return a_rack_of(S19_VNISH, slots=1, **wanted)


def unit_of(running: Running) -> Unit:
    device = running.stage.site.device(ASSET)
    assert isinstance(device, Vnish)
    return device.unit


def test_pools_and_preset_become_as_declared_and_are_confirmed_by_evidence(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        unit = unit_of(running)
        unit.tuned = {"2350", "2950"}

        def is_done() -> bool:
            urls = [pool.url for pool in unit.pools_in_force]
            declared = unit.conf.preset == "2950" and urls == ["a.pool:3333", "b.pool:3333"]
            return declared and not running.other.open_operations()

        await running.until(is_done)
        assert unit.machine.sample().drawn_w > 2800
        operations = running.other.operations(ASSET)
        assert [operation.stage for operation in operations] == [Stage.CONFIRMED] * 2
        assert all(write.honoured for write in running.writes(ASSET))

    on_site(play, tmp_path, found=one(power_mode="2350", pools=OLD), declared=one())


def test_it_is_put_to_sleep_and_stays_asleep(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        machine = unit_of(running).machine
        await running.until(lambda: machine.asleep and not running.other.open_operations())
        assert machine.sample().drawn_w < 30
        assert [write.kind for write in running.writes(ASSET)] == ["mining/stop"]

    on_site(play, tmp_path, found=one(), declared=one(mining=False))
