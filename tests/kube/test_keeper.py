"""GPU nodes that fail, walked through by the real controller and the real agents; in virtual time."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from control_plane.core import limits
from control_plane.engine.store import Store
from control_plane.kube.kinds import GPU_NODE
from control_plane.kube.takeover import STORE
from control_plane.simulator.gpu_host import Mends
from tests.kube.halls import Floor, declared, on_a_floor

ONE, TWO = "lab-g1-n1", "lab-g1-n2"


def test_an_xid_leads_to_an_empty_node_within_thirty_seconds_and_a_reboot_brings_it_back(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        playing = floor.playing
        await floor.serve()
        await floor.all_well()
        floor.put_pod("training-0", ONE)
        boot, other = floor.hall[ONE].boot_id, floor.hall[TWO].boot_id
        began_s = playing.loop.time()
        floor.hall[ONE].fall_off(3, mends=Mends.REBOOT)

        async def is_empty() -> bool:
            return floor.is_held(ONE) and not floor.pods(ONE)

        await playing.until(is_empty)
        assert playing.loop.time() - began_s <= 30.0
        assert floor.hall[ONE].boot_id == boot, "it is not touched before it is drained"

        async def boots() -> bool:
            return floor.hall[ONE].boot_id != boot

        await playing.until(boots, within_s=900.0)

        async def is_back() -> bool:
            return await floor.is_well(ONE)

        await playing.until(is_back, within_s=3_000.0)
        assert floor.hall[TWO].boot_id == other, "nobody touched the other one"

    on_a_floor(tmp_path, case)


def test_what_nothing_mends_ends_in_repair_with_a_ticket(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.hall[ONE].fall_off(3, mends=Mends.NEVER)

        await floor.playing.until(floor.in_repair(ONE), within_s=12_000.0)
        assert floor.is_held(ONE)
        told = await floor.told(ONE)
        assert told["Stalled"][:2] == ("True", "InRepair")

    on_a_floor(tmp_path, case)


def test_a_node_in_repair_comes_back_once_it_is_repaired_and_its_ticket_closed(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        playing, clock = floor.playing, floor.playing.stage.clock
        await floor.serve()
        await floor.all_well()
        floor.hall[ONE].uncorrectable(3, remap=False)
        await playing.until(floor.in_repair(ONE), within_s=1_800.0)
        assert floor.is_held(ONE)

        # A repair that was none: left alone for as long as people may be at it, then another ticket.
        await floor.order("first", "repaired", ONE, reason="reseated")
        assert "comes back once its return gate is open" in await floor.obeyed("first")
        await clock.sleep(limits.MAINTENANCE_GRACE_S - 60.0)
        assert not await floor.in_repair(ONE)()
        assert floor.is_held(ONE)
        await playing.until(floor.in_repair(ONE), within_s=1_800.0)

        await floor.at_the_bench(ONE)
        assert await floor.in_repair(ONE)(), "that it is well closes no ticket"
        assert floor.is_held(ONE)
        await floor.order("second", "repaired", ONE, reason="another GPU")
        await floor.obeyed("second")

        async def is_back() -> bool:
            return await floor.is_well(ONE)

        await playing.until(is_back, within_s=600.0)
        await clock.sleep(300.0)
        assert await floor.is_well(ONE), "and stays"
        with contextlib.closing(Store(playing.folder / "one" / STORE)) as store:
            said = [event.text for _, event in store.events(ONE, limit=100)]
        assert said[0] == "well", "and `remedy list` has it no more"
        assert (
            sum(f"says ann: {why}" in text for text in said for why in ("reseated", "another")) == 2
        )

    on_a_floor(tmp_path, case)


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_a_site_that_only_tells_touches_no_node(tmp_path: Path, mode: str) -> None:
    files = declared(remedies="act" if mode == "observe" else "tell")

    async def case(floor: Floor) -> None:
        await floor.serve(mode=mode)
        floor.hall[ONE].fall_off(3, mends=Mends.NEVER)

        async def is_told() -> bool:
            return (await floor.told(ONE)).get("Stalled", ("", ""))[1] == "MonitorOnly"

        await floor.playing.until(is_told)
        assert "drain would be next" in (await floor.told(ONE))["Stalled"][2]
        await floor.playing.stage.clock.sleep(600.0)
        assert not floor.is_held(ONE)
        found = await floor.playing.get(GPU_NODE, ONE)
        assert found is not None

    on_a_floor(tmp_path, case, files=files)


def test_gpus_that_are_free_make_no_empty_node_while_a_pod_is_on_it(tmp_path: Path) -> None:
    """A training that only writes its state to a disk holds no GPU, and its budget lets nobody evict it."""

    async def case(floor: Floor) -> None:
        playing = floor.playing
        await floor.serve()
        await floor.all_well()
        floor.put_pod("training-0", ONE, labels={"app": "training"})
        floor.put_budget("training", {"app": "training"})
        boot = floor.hall[ONE].boot_id
        floor.hall[ONE].fall_off(3, mends=Mends.REBOOT)

        async def agent_says_that_nobody_works() -> bool:
            return floor.is_held(ONE) and await floor.processes(ONE) == 0

        await playing.until(agent_says_that_nobody_works)
        await playing.stage.clock.sleep(900.0)
        assert floor.hall[ONE].boot_id == boot, "rebooted under a tenant"
        assert floor.pods(ONE) == ["training-0"]

    on_a_floor(tmp_path, case)


def test_power_is_not_cut_while_somebody_that_nobody_sees_holds_a_gpu(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        playing, host = floor.playing, floor.hall[ONE]
        await floor.serve()
        await floor.all_well()
        boot, losses = host.boot_id, host.bmc.power_losses
        host.fall_off(3, mends=Mends.NEVER)

        async def boots() -> bool:
            return host.boot_id != boot and host.gpus.loaded

        await playing.until(boots, within_s=900.0)
        # By no pod: somebody who logged in, or what a runtime left behind.
        host.gpus.gpus[0].processes = 1

        async def waits_for_another_source() -> bool:
            told = (await floor.told(ONE)).get("Stalled", ("", "", ""))
            return told[1:] == ("OneSource", "drained: cluster says drained")

        await playing.until(waits_for_another_source, within_s=6_000.0)
        await playing.stage.clock.sleep(600.0)
        assert await floor.processes(ONE) is None
        assert host.bmc.power_losses == losses, "power was cut"
        host.gpus.gpus[0].processes = 0

        async def is_in_repair() -> bool:
            return (await floor.told(ONE)).get("Ready", ("", ""))[1] == "InRepair"

        await playing.until(is_in_repair, within_s=12_000.0)
        assert host.bmc.power_losses > losses, "on the word of the agent"

    on_a_floor(tmp_path, case)
