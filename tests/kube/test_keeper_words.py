"""What people set in force for GPU nodes; the real controller and the real agents, in virtual time."""

from __future__ import annotations

from pathlib import Path

from control_plane.api.conditions import moment
from control_plane.core.breaker import Breaker
from control_plane.core.remedy_kept import SiteKept
from control_plane.simulator.gpu_host import Mends
from tests.kube.halls import Floor, declared, on_a_floor

ONE, TWO, OTHER = "lab-g1-n1", "lab-g1-n2", "lab-g2-n1"
RACK = "rack/lab-g1"


async def _leak(floor: Floor, *, for_s: float = 1_800.0) -> None:
    until = moment(floor.playing.stage.clock.wall_s() + for_s)
    await floor.order(
        "wet", "emergency", "leak-1", emergency="leak", domains=(RACK,), until=until,
        reason="wet floor",
    )  # fmt: skip
    await floor.obeyed("wet")


def test_an_emergency_drains_its_rack_alone_past_the_budget_until_a_person_ends_it(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.put_pod("job", ONE)
        await _leak(floor)
        for name in (ONE, TWO):
            await floor.comes_to(name, "Emergency", within_s=120.0)
            assert floor.is_held(name)
            assert floor.resets(name) == []
        assert "job" not in floor.pods(ONE), "it is drained, not only cordoned"
        assert not floor.is_held(OTHER)
        # The next leader goes on with it.
        floor.die("one")
        floor.join("two")
        await floor.pass_time(120.0)
        assert floor.is_held(ONE)
        assert [one.id for one in floor.store.remedy_site().emergencies] == ["leak-1"]
        await floor.order("dry", "end", "leak-1", reason="valve shut")
        await floor.obeyed("dry")
        await floor.all_well()
        assert [text for text in floor.playing.said if "leak emergency leak-1 is over" in text]

    on_a_floor(tmp_path, case, files=declared(nodes=2, racks=2))


def test_what_a_bmc_calls_hot_is_switched_off_and_goes_on_by_a_person_alone(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.hall[ONE].bmc.faults.overheats = True
        await _leak(floor, for_s=600.0)

        async def is_off() -> bool:
            return floor.resets(ONE) == ["ForceOff"]

        await floor.playing.until(is_off, within_s=120.0)
        assert floor.resets(TWO) == []
        floor.hall[ONE].bmc.faults.overheats = False
        # Its time ends it; what was switched off stays off.
        await floor.pass_time(1_800.0)
        assert await floor.is_well(TWO)
        assert floor.store.remedy_site().emergencies == ()
        assert (floor.resets(ONE), await floor.why(ONE)) == (["ForceOff"], "Emergency")

    on_a_floor(tmp_path, case)


def test_under_a_persons_hold_an_emergency_drains_nobody(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        await floor.say("mine", ONE)
        await _leak(floor)
        await floor.comes_to(TWO, "Emergency", within_s=120.0)
        assert await floor.why(ONE) == "Hold"
        assert not floor.is_held(ONE)

    on_a_floor(tmp_path, case)


def test_break_glass_sets_an_open_breaker_aside_for_its_node(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        now_s = floor.playing.stage.clock.wall_s()
        tripped = Breaker(domain=RACK, begun={TWO: now_s}, tripped_at_s=now_s)
        floor.store.put_remedy_site(SiteKept(breakers={RACK: tripped}))
        floor.hall[ONE].fall_off(3, mends=Mends.REBOOT)
        await floor.comes_to(ONE, "BreakerOpen", within_s=120.0)
        await floor.pass_time(300.0)
        assert not floor.is_held(ONE)
        await floor.order(
            "now", "break_glass", "glass-1", nodes=(ONE,), until=moment(now_s + 7_200.0),
            reason="customer waits",
        )  # fmt: skip
        assert "stand back for 1 GPU node until" in await floor.obeyed("now")

        async def is_held() -> bool:
            return floor.is_held(ONE)

        await floor.playing.until(is_held, within_s=60.0)

    on_a_floor(tmp_path, case)
