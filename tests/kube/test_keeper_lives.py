"""Lives of GPU nodes, by evidence of the real controller and the real agents; in virtual time."""

from __future__ import annotations

from pathlib import Path

from control_plane.core.gpu_life import Life, Record
from control_plane.engine.store import Store
from control_plane.simulator.gpu_host import Mends
from tests.kube.halls import Floor, on_a_floor

ONE, TWO = "lab-g1-n1", "lab-g1-n2"
WAY_IN = [
    Life.DISCOVERED, Life.INSPECTING, Life.PROVISIONING, Life.JOINING, Life.VALIDATING, Life.READY,
]  # fmt: skip


def record(floor: Floor, name: str = ONE, *, of: str = "one") -> Record | None:
    return floor.controllers[of][0].keeper.lives.get(name)


def way(floor: Floor, name: str = ONE) -> list[Life]:
    one = record(floor, name)
    return [step.after for step in one.history] if one is not None else []


def store(floor: Floor) -> Store:
    """Of the tenure that goes on."""
    tenure = floor.controllers["one"][0].tenure
    assert tenure is not None
    return tenure.said


async def lives(floor: Floor, life: Life, *, within_s: float, name: str = ONE) -> None:
    """Wait until it does, and its object says so."""

    async def does() -> bool:
        one, status = record(floor, name), await floor.status(name)
        return one is not None and one.life is life and status.get("life") == life.value

    await floor.playing.until(does, within_s=within_s)


def test_a_node_that_is_in_service_walks_to_ready_and_a_fault_takes_it_there_again(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        await lives(floor, Life.READY, within_s=120.0)
        assert way(floor) == WAY_IN
        one = record(floor)
        assert one is not None
        assert one.board == floor.hall[ONE].board
        floor.hall[ONE].fall_off(3, mends=Mends.REBOOT)
        await lives(floor, Life.DRAINING, within_s=60.0)
        await lives(floor, Life.READY, within_s=3_900.0)
        assert way(floor) == [*WAY_IN, Life.DEGRADED, Life.DRAINING, Life.READY]
        assert way(floor, TWO) == WAY_IN
        events = [event.text for _, event in store(floor).events(ONE)]
        assert [text for text in events if text.startswith("life: ready -> degraded (agent: ")]
        assert (await floor.status(ONE))["operation"] == "idle"

    on_a_floor(tmp_path, case)


def test_what_nothing_mends_is_in_repair_with_its_ticket(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        await lives(floor, Life.READY, within_s=120.0)
        floor.hall[ONE].fall_off(3, mends=Mends.NEVER)
        await lives(floor, Life.REPAIR, within_s=12_000.0)
        one = record(floor)
        assert one is not None
        assert one.ticket is not None
        assert way(floor) == [*WAY_IN, Life.DEGRADED, Life.DRAINING, Life.REPAIR]
        assert (await floor.status(ONE))["operation"] == "waiting_human"

    on_a_floor(tmp_path, case)


def test_whoever_leads_next_goes_on_with_the_lives_that_are_kept(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        await lives(floor, Life.READY, within_s=120.0)
        before = record(floor)
        floor.die("one")
        floor.join("two")

        async def goes_on() -> bool:
            return record(floor, of="two") is not None

        await floor.playing.until(goes_on)
        assert record(floor, of="two") == before
        assert (await floor.status(ONE))["life"] == "ready"

    on_a_floor(tmp_path, case)


def test_a_machine_that_left_for_its_maker_leaves_its_slot_to_another_one(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        await lives(floor, Life.READY, within_s=120.0)
        host = floor.hall[ONE]
        host.fall_off(3, mends=Mends.NEVER)
        await lives(floor, Life.REPAIR, within_s=12_000.0)
        serial = host.serial
        await floor.order("out", "rma", ONE, serial=serial, reason="case 4711")
        assert "stays open until another machine stands there" in await floor.obeyed("out")
        # It stands there still, and runs.
        await lives(floor, Life.RMA, within_s=60.0)
        await floor.pass_time(120.0)
        kept = store(floor).remedy(ONE)
        assert kept is not None
        assert kept.left is not None
        assert (kept.left.serial, kept.left.board, kept.left.xids) == (serial, host.board, (79,))
        assert kept.left.ticket.attempts
        host.bmc.reset("ForceOff")
        await floor.pass_time(60.0)
        host.swap_board("SWAPPED-1")
        host.replace_gpu(3)
        host.bmc.reset("On")
        resets = len(floor.resets(ONE))
        await lives(floor, Life.READY, within_s=3_600.0)
        assert way(floor)[-len(WAY_IN) - 1 :] == [Life.RMA, *WAY_IN]
        kept = store(floor).remedy(ONE)
        assert kept is not None
        assert (kept.ticket, kept.left) == (None, None)
        assert kept.repaired is not None
        assert await floor.is_well(ONE)
        assert len(floor.resets(ONE)) == resets, "nobody restarts a machine that just came"

    on_a_floor(tmp_path, case)


def test_another_board_in_the_slot_is_discovered_and_inspected_and_nobody_is_restarted(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        await lives(floor, Life.READY, within_s=120.0)
        host = floor.hall[ONE]
        before, other = host.board, floor.hall[TWO].boot_id
        host.bmc.reset("ForceOff")

        async def is_off() -> bool:
            return bool(host.bmc.power == "Off")

        await floor.playing.until(is_off, within_s=60.0)
        host.swap_board("SWAPPED-1")
        host.bmc.reset("On")

        async def is_another() -> bool:
            one = record(floor)
            return one is not None and one.board == host.board != before

        await floor.playing.until(is_another, within_s=900.0)
        boot = host.boot_id
        await lives(floor, Life.READY, within_s=900.0)
        assert way(floor)[-len(WAY_IN) :] == WAY_IN
        assert (host.boot_id, floor.hall[TWO].boot_id) == (boot, other)

    on_a_floor(tmp_path, case)
