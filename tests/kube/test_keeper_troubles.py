"""People, operators and budgets in the way of a remedy; the real controller and agents, in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.core import limits
from control_plane.core.cluster import NODE, PDB, POD
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.remedy_case import Action
from control_plane.simulator.gpu_host import Mends
from tests.kube.halls import Floor, on_a_floor

ONE, TWO = "lab-g1-n1", "lab-g1-n2"
LONG_S = 3_000.0
LOOKS_S = 20.0


async def _ill(floor: Floor, *, mends: Mends = Mends.REBOOT, pod: bool = False) -> None:
    """A hall that is well, and a GPU of one node that falls off its bus."""
    await floor.serve()
    await floor.all_well()
    if pod:
        floor.put_pod("training-0", ONE)
        floor.keep_up("training-0")
    floor.hall[ONE].fall_off(3, mends=mends)


async def _is_held(floor: Floor) -> None:
    async def is_held() -> bool:
        return floor.is_held(ONE)

    await floor.playing.until(is_held)


async def _is_mended(floor: Floor) -> None:
    async def is_back() -> bool:
        return bool(floor.resets(ONE)) and await floor.is_well(ONE)

    await floor.playing.until(is_back, within_s=LONG_S)
    assert len(floor.resets(ONE)) == 1


# --- cordons --------------------------------------------------------------------------------------


def test_a_node_that_a_person_cordoned_is_named_and_left_alone(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.put_pod("training-0", ONE)
        floor.cordon(ONE)
        floor.hall[ONE].fall_off(3)
        await floor.comes_to(ONE, "HumanCordon")
        await floor.pass_time(600.0)
        assert await floor.why(ONE) == "HumanCordon"
        assert floor.pods(ONE) == ["training-0"]
        assert not floor.is_held(ONE)
        assert floor.node(ONE)["spec"]["unschedulable"] is True
        assert not floor.resets(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_cordon_between_the_decision_and_the_write_is_not_drained_behind(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.put_pod("training-0", ONE)
        floor.once_kept(ONE, Action.DRAIN, lambda: floor.cordon(ONE))
        floor.hall[ONE].fall_off(3)
        await floor.comes_to(ONE, "HumanCordon")
        await floor.pass_time(300.0)
        assert floor.pods(ONE) == ["training-0"]
        assert not floor.is_held(ONE)
        assert floor.node(ONE)["spec"]["unschedulable"] is True

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_cordon_of_a_person_under_our_hold_stays_when_the_node_comes_back(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor) -> None:
        await _ill(floor)
        await _is_held(floor)
        # With a field manager of its own: a mere `kubectl cordon` finds it done already, and says nothing.
        body = {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": ONE},
            "spec": {"unschedulable": True},
        }  # fmt: skip
        await floor.playing.kubectl.apply(NODE, body, manager="ann")

        async def is_let_go() -> bool:
            return bool(floor.resets(ONE)) and not floor.is_held(ONE)

        await floor.playing.until(is_let_go, within_s=LONG_S)
        assert floor.node(ONE)["spec"]["unschedulable"] is True
        await floor.pass_time(600.0)
        assert len(floor.resets(ONE)) == 1

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_hold_that_a_person_took_apart_waits_for_a_person(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await _ill(floor)
        await _is_held(floor)
        floor.cordon(ONE, cordoned=False)
        await floor.comes_to(ONE, "HumanCordon")
        floor.put_pod("training-1", ONE)
        await floor.pass_time(900.0)
        assert await floor.why(ONE) == "HumanCordon"
        assert "took marks of our hold away" in (await floor.told(ONE))["Stalled"][2]
        assert floor.pods(ONE) == ["training-1"]
        assert not floor.node(ONE)["spec"].get("unschedulable")
        assert not floor.resets(ONE)
        floor.cordon(ONE)
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_hold_that_is_taken_apart_right_before_the_restart_stops_it(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await _ill(floor)
        await _is_held(floor)
        floor.once_kept(ONE, Action.REBOOT, lambda: floor.cordon(ONE, cordoned=False))
        await floor.comes_to(ONE, "HumanCordon", within_s=LONG_S)
        await floor.pass_time(600.0)
        assert not floor.resets(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


# --- holds and freezes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "kind", "why"),
    [(ONE, "safety", "Hold"), ("lab-g1", "freeze", "Freeze"), ("lab", "safety", "Hold")],
)
def test_a_persons_word_keeps_every_remedy_away(
    tmp_path: Path, where: str, kind: str, why: str
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        await floor.say("h-1", where, kind=kind)
        floor.hall[ONE].fall_off(3)
        await floor.comes_to(ONE, why)
        await floor.pass_time(300.0)
        assert not floor.is_held(ONE)
        assert not floor.resets(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def _hold(floor: Floor, kind: OverlayKind = OverlayKind.SAFETY_HOLD) -> None:
    """In force at once, as one that is said on the host of the leader."""
    floor.store.put_overlay(
        Overlay(
            id="h-1", kind=kind, node=ONE, owner="ann", reason="hands in it",
            since_s=floor.playing.stage.clock.wall_s(),
        )
    )  # fmt: skip


@pytest.mark.parametrize("action", [Action.DRAIN, Action.REBOOT])
def test_a_hold_between_the_decision_and_the_write_lets_nothing_leave(
    tmp_path: Path, action: Action
) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.once_kept(ONE, action, lambda: _hold(floor))
        floor.hall[ONE].fall_off(3)
        await floor.comes_to(ONE, "Hold", within_s=LONG_S)
        await floor.pass_time(600.0)
        assert floor.is_held(ONE) == (action is Action.REBOOT)
        assert not floor.resets(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_hold_ends_a_drain_where_it_is_and_its_end_lets_it_go_on(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await _ill(floor, pod=True)
        await floor.comes_to(ONE, "Draining")
        await floor.say("h-1", ONE)
        floor.playing.server.delete(PDB, "tenants/training-0")
        await floor.comes_to(ONE, "Hold")
        await floor.pass_time(300.0)
        assert floor.pods(ONE) == ["training-0"], "nothing is evicted under a person's hold"
        await floor.release("h-1")
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_what_is_lowered_on_purpose_is_not_judged(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        _hold(floor, OverlayKind.CURTAILMENT)
        floor.hall[ONE].fall_off(3)
        await floor.comes_to(ONE, "Curtailed")
        await floor.pass_time(600.0)
        assert not floor.is_held(ONE)
        floor.store.drop_overlay("h-1")
        await _is_held(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


# --- driver upgrades ---------------------------------------------------------------------------------


def test_nothing_is_begun_while_the_operator_upgrades_a_driver(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.upgrade(ONE, "drain-required")
        floor.cordon(ONE)  # as the operator does
        floor.hall[ONE].fall_off(3)
        await floor.comes_to(ONE, "ForeignOperation")
        await floor.pass_time(600.0)
        assert not floor.is_held(ONE)
        assert not floor.resets(ONE)
        floor.cordon(ONE, cordoned=False)
        floor.upgrade(ONE, "upgrade-done")
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_an_upgrade_that_begins_under_our_drain_stops_it(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await _ill(floor, pod=True)
        await floor.comes_to(ONE, "Draining")
        floor.upgrade(ONE, "pod-restart-required")
        await floor.comes_to(ONE, "ForeignOperation")
        floor.playing.server.delete(PDB, "tenants/training-0")
        await floor.pass_time(300.0)
        assert floor.pods(ONE) == ["training-0"], "one at a time: the operator has the node"
        assert not floor.resets(ONE)
        floor.upgrade(ONE, "upgrade-done")
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


# --- work that does not go ---------------------------------------------------------------------------


def test_a_node_whose_work_may_not_go_is_not_restarted_and_ends_with_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DRAIN_DEADLINE_S", 600.0)

    async def case(floor: Floor) -> None:
        await _ill(floor, pod=True)
        await floor.comes_to(ONE, "DrainOverdue", within_s=1_200.0)
        assert "Stalled" in await floor.told(ONE)
        assert floor.pods(ONE) == ["training-0"]
        assert not floor.resets(ONE)
        floor.playing.server.delete(PDB, "tenants/training-0")
        floor.playing.server.delete(POD, "tenants/training-0", grace_s=0)
        await _is_mended(floor)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)


def test_a_pod_that_nobody_makes_again_is_named_and_not_ended(tmp_path: Path) -> None:
    async def case(floor: Floor) -> None:
        await floor.serve()
        await floor.all_well()
        floor.put_pod("notebook", ONE, controller="")
        floor.hall[ONE].fall_off(3)

        async def is_named() -> bool:
            return "notebook" in str(await floor.told(ONE))

        await floor.playing.until(is_named)
        await floor.pass_time(900.0)
        assert floor.pods(ONE) == ["notebook"]
        assert not floor.resets(ONE)

    on_a_floor(tmp_path, case, looks_s=LOOKS_S)
