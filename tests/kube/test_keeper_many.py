"""Many GPU nodes in trouble, leaders that die, a cluster that is away; in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from control_plane.core.cluster import PDB, ClusterAway
from control_plane.core.remedy_case import Action
from control_plane.kube.kinds import STATE_SHARD
from control_plane.simulator.api_client import Call
from control_plane.simulator.gpu_host import Mends
from tests.kube.halls import Floor, declared, on_a_floor

ONE, TWO = "lab-g1-n1", "lab-g1-n2"
LONG_S = 3_000.0
LOOKS_S = 20.0


async def _is_mended(floor: Floor, *, resets: int = 1) -> None:
    async def is_back() -> bool:
        return bool(floor.resets(ONE)) and await floor.is_well(ONE)

    await floor.playing.until(is_back, within_s=LONG_S)
    assert len(floor.resets(ONE)) == resets


# --- one cause ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "where"),
    [("lab-g1-", "lab-g1"), ("lab-g", "lab-hall")],
    ids=["a rack", "several racks"],
)
def test_a_feed_that_goes_is_one_incident_and_leaves_nothing_drained_behind(
    tmp_path: Path, lost: str, where: str
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        gone = [name for name in floor.hall if name.startswith(lost)]
        for name in gone:
            floor.hall[name].bmc.lose_feed()
        await floor.comes_to(gone[0], "Incident")
        await floor.pass_time(600.0)
        assert [await floor.why(name) for name in gone] == ["Incident"] * len(gone)
        assert [one.node for one in floor.store.remedy_site().incidents] == [where]
        assert not any(floor.is_held(name) or floor.resets(name) for name in floor.hall)
        for name in gone:
            floor.hall[name].bmc.regain_feed()

        async def are_well() -> bool:
            return all([await floor.is_well(name) for name in floor.hall])

        await floor.playing.until(are_well, within_s=LONG_S)
        await floor.pass_time(1_500.0)
        assert await are_well()
        assert not any(floor.resets(name) for name in floor.hall)
        assert not floor.store.remedy_site().incidents

    on_a_floor(tmp_path, case, looks_s=LOOKS_S, files=declared(nodes=8, racks=2))


# --- budgets and breakers -----------------------------------------------------------------------------


def test_what_a_budget_has_no_room_for_waits_and_comes_after(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.hall[ONE].fall_off(3)
        floor.hall[TWO].fall_off(5)
        first: list[str] = []

        async def one_waits() -> bool:
            assert sum(floor.is_held(name) for name in (ONE, TWO)) <= 1
            first[:] = [name for name in (ONE, TWO) if floor.is_held(name)]
            return "WaitingBudget" in {await floor.why(ONE), await floor.why(TWO)} and bool(first)

        await floor.playing.until(one_waits)

        async def are_back() -> bool:
            assert sum(floor.is_held(name) for name in (ONE, TWO)) <= 1
            return all([await floor.is_well(name) for name in (ONE, TWO)])

        await floor.playing.until(are_back, within_s=2 * LONG_S)
        assert [len(floor.resets(name)) for name in (ONE, TWO)] == [1, 1]

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_the_third_node_of_a_domain_within_an_hour_opens_its_breaker(tmp_path: Path) -> None:
    ill = ("lab-g1-n1", "lab-g1-n2", "lab-g1-n3", "lab-g1-n4")

    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        for name in ill[:2]:
            floor.hall[name].fall_off(3)

            async def is_back(name: str = name) -> bool:
                return bool(floor.resets(name)) and await floor.is_well(name)

            await floor.playing.until(is_back, within_s=LONG_S)
        for name in ill[2:]:
            floor.hall[name].fall_off(3)

        async def is_open() -> bool:
            # One was begun, which tripped it; the other waits for that one.
            why = sorted([await floor.why(name) for name in ill[2:]])
            return why == ["BreakerOpen", "WaitingBudget"]

        await floor.playing.until(is_open, within_s=900.0)
        assert any([("Stalled" in await floor.told(name)) for name in ill[2:]])
        await floor.pass_time(1_800.0)
        assert await is_open()
        assert not floor.resets(ill[2])
        assert not floor.resets(ill[3])

    on_a_floor(tmp_path, case, looks_s=LOOKS_S, files=declared(nodes=4, racks=1))


# --- leaders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.DRAIN, Action.REBOOT])
def test_a_leader_that_dies_before_the_request_leaves_leaves_nothing_twice(
    tmp_path: Path, action: Action
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.once_kept(ONE, action, lambda: floor.die("one"))
        floor.hall[ONE].fall_off(3)

        async def is_dead() -> bool:
            return bool(floor.controllers["one"][1].faults.away)

        await floor.playing.until(is_dead)
        # A drain that another process leads does not begin by what this one still knows.
        assert not floor.resets(ONE)
        floor.join("two")
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_fence_that_is_lost_between_the_decision_and_the_write_lets_nothing_leave(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        elector = floor.controllers["one"][0].elector
        floor.once_kept(ONE, Action.REBOOT, lambda: setattr(elector, "is_live", lambda: False))
        floor.hall[ONE].fall_off(3)

        async def is_lost() -> bool:
            return not elector.is_live()

        await floor.playing.until(is_lost)
        await floor.pass_time(120.0)
        assert not floor.resets(ONE)
        assert floor.is_held(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_leader_that_dies_right_after_the_restart_left_is_followed_without_a_second_one(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.hall[ONE].fall_off(3)

        async def has_left() -> bool:
            return bool(floor.resets(ONE))

        await floor.playing.until(has_left)
        floor.die("one")
        floor.join("two")
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_drain_keeps_its_deadline_and_its_hold_under_the_next_leader(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.put_pod("training-0", ONE)
        floor.keep_up("training-0")
        floor.hall[ONE].fall_off(3)
        await floor.comes_to(ONE, "Draining")
        await floor.pass_time(60.0)
        before = floor.node(ONE)["metadata"]["annotations"]
        floor.die("one")
        floor.join("two")

        async def goes_on() -> bool:
            return floor.controllers["two"][0].keeper.verdicts.get(ONE) is not None

        await floor.playing.until(goes_on)
        await floor.pass_time(120.0)
        after = floor.node(ONE)["metadata"]["annotations"]
        kept = [key for key in before if "since" in key or "deadline" in key or key.endswith("by")]
        assert len(kept) >= 3, before
        assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
        assert floor.is_held(ONE)
        assert not floor.resets(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_what_the_cluster_does_not_keep_does_not_leave(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        line = floor.controllers["one"][1]

        def refuse(call: Call) -> None:
            if call.kind is STATE_SHARD and call.writes:
                raise ClusterAway("etcd is full")

        line.faults.before = refuse
        floor.hall[ONE].fall_off(3)
        await floor.pass_time(300.0)
        assert not floor.is_held(ONE)
        line.faults.before = None
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


@pytest.mark.parametrize("away", ["refused", "silent"])
def test_nothing_is_begun_on_what_is_old(
    tmp_path: Path, away: Literal["refused", "silent"]
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        line = floor.controllers["one"][1]
        floor.hall[ONE].fall_off(3)

        async def is_held() -> bool:
            return floor.is_held(ONE)

        await floor.playing.until(is_held)
        line.faults.away = away
        line.cut()
        floor.hall[TWO].fall_off(3)
        await floor.pass_time(300.0)
        assert not floor.resets(ONE)
        assert not floor.is_held(TWO)
        line.faults.away = ""
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


# --- what is declared ---------------------------------------------------------------------------------


def test_a_site_that_is_only_observed_goes_on_with_nothing_until_it_is_enforced_again(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.put_pod("training-0", ONE)
        floor.keep_up("training-0")
        floor.hall[ONE].fall_off(3)
        await floor.comes_to(ONE, "Draining")
        await floor.playing.declare(floor.files, mode="observe")
        await floor.pass_time(30.0)
        floor.playing.server.delete(PDB, "tenants/training-0")
        await floor.pass_time(300.0)
        assert floor.pods(ONE) == ["training-0"]
        assert not floor.resets(ONE)
        assert floor.is_held(ONE)
        assert await floor.why(ONE) not in {"", "Drain", "Reboot"}
        assert len([text for text in floor.playing.said if "does not lead" in text]) == 0
        await floor.playing.declare(floor.files, mode="enforce")
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_an_agent_that_is_gone_is_named_and_nothing_is_done(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        agent = floor.agents[ONE]
        agent.stopped = True
        agent.look()
        floor.hall[ONE].fall_off(3)
        await floor.comes_to(ONE, "StaleTelemetry")
        await floor.pass_time(1_200.0)
        assert await floor.why(ONE) == "StaleTelemetry"
        assert (await floor.told(ONE))["Ready"][1] == "AgentSilent"
        assert not floor.is_held(ONE)
        assert not floor.resets(ONE)
        agent.stopped = False
        agent.look()
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_node_that_is_declared_no_more_stays_held_and_leaves_no_row(tmp_path: Path) -> None:
    two, one = declared(nodes=2), declared(nodes=1)

    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.put_pod("training-0", TWO)
        floor.keep_up("training-0")
        floor.hall[TWO].fall_off(3, mends=Mends.NEVER)

        async def is_held() -> bool:
            return floor.is_held(TWO)

        await floor.playing.until(is_held)
        await floor.playing.declare(one, mode="enforce", acknowledgements={"removals": 1})

        async def is_dropped() -> bool:
            return floor.store.remedy(TWO) is None

        await floor.playing.until(is_dropped, within_s=LONG_S)
        assert floor.is_held(TWO), "it is ill, and whose it is now nobody told us"
        assert floor.pods(TWO) == ["training-0"]
        said = [text for text in floor.playing.said if TWO in text and "no more" in text]
        assert len(said) == 1
        await floor.playing.declare(two, mode="enforce")

        async def is_remedied() -> bool:
            return floor.store.remedy(TWO) is not None or await floor.why(TWO) != ""

        await floor.playing.until(is_remedied)
        assert floor.is_held(TWO)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)
