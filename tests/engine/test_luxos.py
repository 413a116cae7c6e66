"""The engine on a rack of LuxOS: many commands a write, no password, and a controller of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from control_plane.core.fleet import Device, OwnedPool, Site, Strategy
from control_plane.core.verify import Stage
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.luxos_unit import Pool
from tests.engine.running import Running, intending, on_site
from tests.simulator.floors import a_site

ONE = "M-000-001"
OLD = (
    OwnedPool(name="a", url="stratum+tcp://old.pool:3333", worker="acme.{asset}"),
    OwnedPool(name="b", url="stratum+tcp://b.pool:3333", worker="acme.{asset}"),
)


def a_rack(**intent: object) -> Site:
    """Two machines with LuxOS, to which nobody has to log in."""

    def meant(device: Device) -> Device:
        return intending(device, credentials=None, **intent)

    site = a_site(racks=1, slots=2, odd_slots=False, families=("luxos",))
    at_once = Strategy(cohorts=(2,), max_new_failure_share=0.02)
    devices = tuple(map(meant, site.devices))
    return msgspec.structs.replace(site, devices=devices, strategy=at_once)


def unit_of(running: Running) -> LuxOs:
    device = running.stage.site.device(ONE)
    assert isinstance(device, LuxOs)
    return device


def settled(running: Running) -> bool:
    """Whether both are as declared, and every operation on them is confirmed."""
    site = running.stage.site
    wanted = {d.asset: d.desired() for d in running.engine.site.devices if d.asset in site.stations}
    as_declared = all(
        truth.mining is want.mining
        and truth.mode == want.power_mode
        and tuple(url for url, _ in truth.pools) == tuple(p.url for p in want.pools or ())
        for asset, want in wanted.items()
        for truth in (site.truth(asset),)
    )
    return as_declared and not running.other.open_operations()


@pytest.mark.slow
def test_a_rack_as_it_was_found_is_brought_to_its_declaration(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        for _ in range(1_500):  # A look every ten seconds is enough.
            if settled(running):
                break
            await asyncio.sleep(10.0)
        assert settled(running)
        operations = running.other.operations(ONE)
        assert {operation.stage for operation in operations} == {Stage.CONFIRMED}
        kinds = [write.kind for write in running.writes(ONE)]
        assert kinds.count("addpool") == 1
        assert all(write.honoured and write.pools != () for write in running.writes(ONE))

    found = a_rack(power_mode="under-4", pools=OLD)
    on_site(play, tmp_path, found=found, declared=a_rack())


def test_a_thief_who_needs_no_password_is_put_out_again(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: settled(running))
        unit = unit_of(running).unit
        ours = unit.pools
        unit.set_pools((Pool("stratum+tcp://thief:1", "thief"), *ours))
        await running.until(lambda: unit.pools[0].worker != "thief", within_s=60.0)
        await running.until(lambda: settled(running), within_s=600.0)
        assert [(p.url, p.worker) for p in unit.pools] == [(p.url, p.worker) for p in ours]

    on_site(play, tmp_path, found=a_rack(), declared=a_rack())
