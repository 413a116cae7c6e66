"""Nodes that NVSentinel hands over, by the real controller and the real agents; in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.core import limits
from control_plane.core.cluster import NotFound, Rejected
from control_plane.core.external_remediation import REQUEST, Answer
from control_plane.core.remedy_case import Action, Outcome
from control_plane.simulator.api_client import Call
from control_plane.simulator.gpu_host import Mends
from tests.kube.halls import Floor, declared, on_a_floor
from tests.kube.sentinel import Sentinel

ONE, TWO = "lab-g1-n1", "lab-g1-n2"
LOOKS_S = 20.0
LONG_S = 3_000.0


async def _well(floor: Floor) -> Sentinel:
    await floor.serve()
    await floor.all_well()
    return Sentinel(floor)


async def _answered(
    floor: Floor, sentinel: Sentinel, answer: Answer, name: str = "err-1", within_s: float = LONG_S
) -> None:
    async def is_it() -> bool:
        return sentinel.answer(name) is answer

    await floor.playing.until(is_it, within_s=within_s)


def _is_cordoned(floor: Floor, name: str) -> bool:
    return bool(floor.node(name)["spec"].get("unschedulable"))


def test_a_node_that_is_handed_over_is_drained_restarted_and_given_back(tmp_path: Path) -> None:
    """Nothing that our own agent sees is wrong with it."""

    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        floor.put_pod("training-0", ONE)
        boot, other = floor.hall[ONE].boot_id, floor.hall[TWO].boot_id
        sentinel.hand_over(ONE)

        async def is_told() -> bool:
            return sentinel.request().said.startswith("draining")

        await floor.playing.until(is_told, within_s=60.0)
        assert floor.hall[ONE].boot_id == boot
        await _answered(floor, sentinel, Answer.DONE)
        said = sentinel.request().said
        assert said == "reboot; back through the return gate"
        assert floor.hall[ONE].boot_id != boot
        assert len(floor.resets(ONE)) == 1
        assert not floor.pods(ONE)
        assert not floor.is_held(ONE)
        assert _is_cordoned(floor, ONE), "its own cordon is NVSentinel's to undo"
        sentinel.take_back()
        await floor.all_well()
        await floor.pass_time(900.0)
        assert await floor.is_well(ONE)
        assert len(floor.resets(ONE)) == 1, "and nothing more is done to it"
        assert floor.hall[TWO].boot_id == other

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_what_cannot_be_mended_is_answered_with_a_failure_and_stays_out(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        floor.hall[ONE].fall_off(3, mends=Mends.NEVER)
        sentinel.hand_over(ONE)
        await _answered(floor, sentinel, Answer.FAILED, within_s=12_000.0)
        kept = floor.store.remedy(ONE)
        assert kept is not None
        assert kept.ticket is not None
        assert f"ticket {kept.ticket.id}" in sentinel.request().said
        assert floor.is_held(ONE)
        await floor.at_the_bench(ONE)
        await floor.order("fixed", "repaired", ONE, reason="another GPU")
        await floor.obeyed("fixed")

        async def is_given_up() -> bool:
            return not floor.is_held(ONE)

        await floor.playing.until(is_given_up, within_s=LONG_S)
        await floor.comes_to(ONE, "ForeignOperation")
        await floor.pass_time(300.0)
        assert sentinel.answer() is Answer.FAILED, "an answer is final"
        assert _is_cordoned(floor, ONE), "until a person deletes the request"
        sentinel.delete()
        sentinel.free(ONE)
        await floor.all_well()

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_what_asks_for_support_goes_to_repair_and_what_nobody_knows_asks_a_person(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        sentinel.hand_over(ONE, action="CUSTOM")
        await floor.comes_to(ONE, "PersonDecides")
        await floor.pass_time(600.0)
        assert sentinel.answer() is Answer.NONE
        assert sentinel.request().said.startswith("person_decides: handed_over 79")
        assert not floor.resets(ONE)
        sentinel.hand_over(ONE, "err-2", action="CONTACT_SUPPORT")
        for name in ("err-1", "err-2"):
            await _answered(floor, sentinel, Answer.FAILED, name)
        assert not floor.resets(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_two_requests_for_one_node_are_one_repair_and_two_answers(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        sentinel.hand_over(ONE)
        sentinel.hand_over(ONE, "err-2", action="24", quarantines=False)
        for name in ("err-1", "err-2"):
            await _answered(floor, sentinel, Answer.DONE, name)
        assert len(floor.resets(ONE)) == 1
        sentinel.delete("err-2")
        sentinel.take_back()
        await floor.pass_time(limits.REBOOT_GRACE_S)
        # After the grace of a cure it is another fault, and another repair.
        sentinel.hand_over(ONE, "err-3")
        await _answered(floor, sentinel, Answer.DONE, "err-3", within_s=2 * LONG_S)
        assert len(floor.resets(ONE)) == 2

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_request_that_is_deleted_midway_is_not_answered_and_the_node_comes_back(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        floor.put_pod("training-0", ONE)
        floor.keep_up("training-0")
        sentinel.hand_over(ONE)
        await floor.comes_to(ONE, "Draining")
        sentinel.delete()

        async def is_given_up() -> bool:
            return not floor.is_held(ONE)

        await floor.playing.until(is_given_up, within_s=600.0)
        assert not floor.resets(ONE), "our own agent finds nothing wrong"
        assert floor.pods(ONE) == ["training-0"]
        assert _is_cordoned(floor, ONE), "NVSentinel's cordon is NVSentinel's"
        with pytest.raises(NotFound):
            sentinel.request()
        await floor.comes_to(ONE, "ForeignOperation")

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_node_that_nobody_declared_is_named_once_and_not_answered(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        sentinel.hand_over("somebodys", quarantines=False)
        sentinel.hand_over("", "nobodys", quarantines=False)
        await floor.pass_time(300.0)
        assert sentinel.request().said == ""
        said = [text for text in floor.playing.said if "somebodys" in text]
        assert len(said) == 1
        assert "no GPU node that is managed here" in said[0]
        for name in (ONE, TWO):
            assert await floor.is_well(name)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


@pytest.mark.parametrize("action", [Action.DRAIN, Action.REBOOT, Action.RETURN])
def test_a_leader_that_dies_leaves_the_rest_and_the_answer_to_the_next_one(
    tmp_path: Path, action: Action
) -> None:
    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        floor.once_kept(ONE, action, lambda: floor.die("one"))
        sentinel.hand_over(ONE)

        async def is_dead() -> bool:
            return bool(floor.controllers["one"][1].faults.away)

        await floor.playing.until(is_dead, within_s=LONG_S)
        assert sentinel.answer() is Answer.NONE
        floor.join("two")
        await _answered(floor, sentinel, Answer.DONE, within_s=2 * LONG_S)
        assert not floor.is_held(ONE)
        # One that left and whose leader died may be tried once more; never without an end.
        assert 1 <= len(floor.resets(ONE)) <= 2
        sentinel.take_back()
        await floor.all_well()

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_cordon_of_a_person_is_one_whoever_hands_the_node_over(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        floor.cordon(ONE)
        sentinel.hand_over(ONE)
        await floor.comes_to(ONE, "HumanCordon")
        await floor.pass_time(600.0)
        assert not floor.resets(ONE)
        assert not floor.is_held(ONE)
        assert sentinel.request().said.startswith("human_cordon: ")

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_what_nvsentinel_still_works_on_is_left_alone(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        sentinel.quarantine(ONE)
        floor.hall[ONE].fall_off(3, mends=Mends.REBOOT)
        await floor.comes_to(ONE, "ForeignOperation")
        await floor.pass_time(600.0)
        assert not floor.is_held(ONE)
        assert not floor.resets(ONE)
        sentinel.hand_over(ONE, quarantines=False)
        await _answered(floor, sentinel, Answer.DONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


@pytest.mark.parametrize("how", ["tell", "observe"])
def test_a_site_that_only_tells_answers_nothing_and_touches_nothing(
    tmp_path: Path, how: str
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve(mode="observe" if how == "observe" else "enforce")
        await floor.pass_time(120.0)
        sentinel = Sentinel(floor)
        sentinel.hand_over(ONE)
        await floor.comes_to(ONE, "MonitorOnly")
        await floor.pass_time(300.0)
        assert sentinel.answer() is Answer.NONE
        assert sentinel.request().said.startswith("monitor_only" if how == "tell" else "")
        assert bool(sentinel.request().said) is (how == "tell")
        assert not floor.is_held(ONE)
        assert not floor.resets(ONE)

    files = declared(remedies="tell" if how == "tell" else "act")
    on_a_floor(tmp_path, case, files=files, looks_s=LOOKS_S)


def test_where_nvsentinel_is_not_installed_it_is_asked_for_once_in_a_while(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        asked = 0
        await floor.serve()
        line = floor.controllers["one"][1]

        def absent(call: Call) -> None:
            nonlocal asked
            if call.kind == REQUEST:
                asked += 1
                raise NotFound("the server could not find the requested resource")

        line.faults.before = absent
        await floor.all_well()
        began, begun_s = asked, floor.playing.loop.time()
        floor.hall[ONE].fall_off(3, mends=Mends.REBOOT)

        async def is_back() -> bool:
            return bool(floor.resets(ONE)) and await floor.is_well(ONE)

        await floor.playing.until(is_back, within_s=LONG_S)
        passed_s = floor.playing.loop.time() - begun_s
        assert asked - began <= passed_s / 600.0 + 1
        line.faults.before = None
        sentinel = Sentinel(floor)
        sentinel.hand_over(TWO)
        await _answered(floor, sentinel, Answer.DONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_while_nobody_may_read_them_only_what_nvsentinel_keeps_out_waits(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        floor.join("one")
        line = floor.controllers["one"][1]

        def refuse(call: Call) -> None:
            if call.kind == REQUEST:
                raise Rejected("externalremediationrequests is forbidden")

        line.faults.before = refuse
        await floor.playing.declare(floor.files, mode="enforce")
        await floor.all_well()
        sentinel = Sentinel(floor)
        sentinel.hand_over(ONE)
        floor.hall[TWO].fall_off(3, mends=Mends.REBOOT)
        # It is decided on; the other one is down, and that is all that may be.
        await floor.comes_to(TWO, "WaitingBudget")
        await floor.pass_time(300.0)
        assert await floor.why(ONE) == "ForeignOperation"
        assert not floor.is_held(ONE)
        assert sum("is not known" in text for text in floor.playing.said) == 1
        line.faults.before = None
        await _answered(floor, sentinel, Answer.DONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_an_answer_that_the_server_refuses_is_given_later_and_one_of_somebody_else_is_left(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        sentinel = await _well(floor)
        line, tried = floor.controllers["one"][1], 0

        def refuse(call: Call) -> None:
            nonlocal tried
            if call.kind == REQUEST and call.writes:
                tried += 1
                raise Rejected("externalremediationrequests/status is forbidden")

        line.faults.before = refuse
        sentinel.hand_over(ONE)

        async def is_returned() -> bool:
            kept = floor.store.remedy(ONE)
            return kept is not None and any(
                a.action is Action.RETURN and a.outcome is Outcome.DONE for a in kept.attempts
            )

        began_s = floor.playing.loop.time()
        await floor.playing.until(is_returned, within_s=LONG_S)
        await floor.pass_time(300.0)
        assert tried <= (floor.playing.loop.time() - began_s) / 60.0 + 1
        assert sum("it is not answered" in text for text in floor.playing.said) == 1
        assert not floor.is_held(ONE), "it is not taken again for want of an answer"
        line.faults.before = None
        await _answered(floor, sentinel, Answer.DONE)
        assert len(floor.resets(ONE)) == 1

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)
