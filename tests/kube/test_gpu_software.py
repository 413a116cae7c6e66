"""Drivers and MIG profiles that reach a hall in waves: real controller and agents, a simulated operator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from control_plane.core import limits
from control_plane.core.cluster import NODE
from control_plane.core.driver_upgrade import LABEL
from control_plane.core.gpu_rollout import SoftwareRollout, SoftwareState
from control_plane.core.gpu_software import STEP
from control_plane.core.mig import CONFIG, GAVE_UP, STATE
from control_plane.core.node_hold import SKIP_DRIVER_UPGRADE
from control_plane.simulator.api_server import Change
from control_plane.simulator.gpu_host import Mends
from control_plane.simulator.gpu_operator import GpuOperator
from tests.kube.halls import PROFILE, Floor, declared, on_a_floor

OLD, NEW = "595.91.07", "610.57.04"
SEVEN = "all-1g.18gb"
THREE = "all-3g.71gb"
LOOKS_S = 60.0
WAVE_S = 2 * limits.GPU_SOFTWARE_SOAK_S
WORKS = ("cordon-required", "wait-for-jobs-required", "pod-deletion-required",
         "pod-restart-required", "uncordon-required")  # fmt: skip


def files(
    *, nodes: int = 4, racks: int = 2, driver: str = OLD, mig: str = "all-disabled",
    software: str = "waves", remedies: str = "act",
) -> dict[str, bytes]:  # fmt: skip
    """The lab with a hall whose software comes in waves."""
    found = declared(nodes=nodes, racks=racks, remedies=remedies)
    profile = found[PROFILE].replace(OLD.encode(), driver.encode())
    profile = profile.replace(b"mig: all-disabled", f"mig: {mig}".encode())
    return {**found, PROFILE: profile + f"  software: {software}\n".encode()}


class Works:
    """The operator of the hall, and what was seen of its nodes at every moment."""

    def __init__(self, floor: Floor, *, max_parallel: int = 0) -> None:
        self.floor = floor
        racks = len({name.rpartition("-")[0] for name in floor.hall})
        self.shape = (len(floor.hall) // racks, racks)
        """Nodes of each rack, and racks."""
        self.most = 0
        """Nodes that were out at one moment, at most."""
        self.operator = GpuOperator(
            floor.hall, floor.playing.server, max_parallel=max_parallel, max_unavailable=1.0,
            clients=self._clients,
        )  # fmt: skip
        floor.playing.server.hears.append(self._hear)

    def _clients(self, node: str, there: bool) -> None:
        agent = self.floor.agents[node]
        agent.stopped = not there
        agent.look()

    def _hear(self, change: Change) -> None:
        if change.kind == NODE:
            self.most = max(self.most, len(self.out()))

    def out(self) -> set[str]:
        """Nodes that the operator is at, or that were let go for it."""
        return {
            name
            for name in self.floor.hall
            if self.label(name, LABEL) in WORKS
            or self.floor.node(name)["spec"].get("unschedulable")
        }

    def label(self, name: str, label: str) -> str:
        found: str = self.floor.node(name)["metadata"].get("labels", {}).get(label, "")
        return found

    def note(self, name: str, note: str) -> str:
        found: str = self.floor.node(name)["metadata"].get("annotations", {}).get(note, "")
        return found

    def with_driver(self, version: str) -> set[str]:
        return {name for name, host in self.floor.hall.items() if host.gpus.driver == version}

    def rollout(self) -> SoftwareRollout | None:
        return self.floor.store.remedy_site().software.get("gpu-inference")

    async def held_back(self) -> None:
        """Wait until every node is."""

        async def are() -> bool:
            skips = [self.label(name, SKIP_DRIVER_UPGRADE) for name in self.floor.hall]
            return set(skips) == {"true"}

        await self.until(are)

    async def until(self, holds: Callable[[], Awaitable[bool]], *, within_s: float = 900.0) -> None:
        """Wait, and look as often as a controller does."""
        loop = self.floor.playing.loop
        end = loop.time() + within_s
        while not await holds():
            assert loop.time() < end, f"it did not come to that; said: {self.floor.playing.said}"
            await asyncio.sleep(limits.GPU_LOOK_S)

    def has_come_to(self, state: SoftwareState) -> Callable[[], Awaitable[bool]]:
        async def has() -> bool:
            found = self.rollout()
            return found is not None and found.want.driver == NEW and found.state is state

        return has

    async def wants(self, **more: str) -> None:
        """Git declares something else."""
        nodes, racks = self.shape
        changed = files(nodes=nodes, racks=racks, **more)
        await self.floor.playing.declare(changed, mode="enforce")


def in_a_hall(
    tmp_path: Path,
    case: Callable[[Floor, Works], Awaitable[None]],
    *,
    nodes: int = 4,
    racks: int = 2,
) -> None:
    """Play a case in a hall that is well and held back."""
    of = files(nodes=nodes, racks=racks)

    async def whole(floor: Floor) -> None:
        works = Works(floor)
        await floor.serve()
        await floor.all_well()
        await works.held_back()
        await case(floor, works)

    on_a_floor(tmp_path, whole, files=of, looks_s=LOOKS_S)


def test_a_driver_comes_wave_by_wave_and_the_operator_takes_nobody_before(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        works.operator.declare(NEW)
        await floor.pass_time(600.0)
        assert works.operator.began == [], "it was told first, and everybody is held back"
        assert {works.label(name, LABEL) for name in floor.hall} == {"upgrade-required"}
        floor.put_pod("training-0", "lab-g1-n1")
        await works.wants(driver=NEW)

        await works.until(works.has_come_to(SoftwareState.SOAKING), within_s=1_800.0)
        (canary,) = works.with_driver(NEW)
        assert works.operator.began == [canary]
        await floor.pass_time(limits.GPU_SOFTWARE_SOAK_S - 120.0)
        assert works.with_driver(NEW) == {canary}, "a wave soaks before the next one opens"

        await works.until(works.has_come_to(SoftwareState.DONE), within_s=8 * WAVE_S)
        assert works.with_driver(NEW) == set(floor.hall)
        assert works.most == 1, "the rack and the cluster have room for one"
        assert sorted(works.operator.began) == sorted(floor.hall)
        found = works.rollout()
        assert found is not None
        assert found.waves == (1, 3, 7, 8)
        assert [gate.passed for gate in found.gates] == [True] * 4
        first = [name.rpartition("-")[0] for name in works.operator.began[:2]]
        assert len(set(first)) == 2, "one of each rack, and then another one of each"
        await floor.all_well()
        assert {works.label(name, SKIP_DRIVER_UPGRADE) for name in floor.hall} == {"true"}
        assert not any(floor.resets(name) for name in floor.hall), "remedies took it for no fault"

    in_a_hall(tmp_path, case)


async def _first_goes(floor: Floor, works: Works) -> str:
    """Another driver is wanted, everywhere; who is begun on."""
    works.operator.declare(NEW)
    await works.wants(driver=NEW)

    async def has_begun() -> bool:
        return bool(works.operator.began)

    await works.until(has_begun, within_s=900.0)
    return works.operator.began[0]


def test_an_upgrade_that_fails_stops_the_waves_until_a_person_lets_them_go_on(
    tmp_path: Path,
) -> None:
    async def case(floor: Floor, works: Works) -> None:
        works.operator.fails |= set(floor.hall)
        first = await _first_goes(floor, works)
        await works.until(works.has_come_to(SoftwareState.HALTED), within_s=1_200.0)
        found = works.rollout()
        assert found is not None
        assert found.failed == (first,)
        assert "gave up" in found.detail
        assert works.note(first, STEP) == "failed"
        assert works.label(first, SKIP_DRIVER_UPGRADE) == "true"

        # The operator calls it done as soon as its pod is ready: that is nobody's word to go on.
        works.operator.fails.clear()
        works.operator.mend(first)
        await floor.pass_time(WAVE_S)
        assert works.operator.began == [first]
        assert works.with_driver(NEW) == {first}
        found = works.rollout()
        assert found is not None
        assert found.state is SoftwareState.HALTED

        await floor.order("go-on", "rollout", found.id)
        assert "goes on" in await floor.obeyed("go-on")
        await works.until(works.has_come_to(SoftwareState.DONE), within_s=4 * WAVE_S)
        assert works.with_driver(NEW) == set(floor.hall)
        assert works.most == 1

    in_a_hall(tmp_path, case, nodes=2)


def test_a_persons_hold_keeps_a_node_out_and_the_others_go(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        held = "lab-g2-n1"
        await floor.say("hands", held)
        await _first_goes(floor, works)

        async def are_up() -> bool:
            return works.with_driver(NEW) == set(floor.hall) - {held}

        await works.until(are_up, within_s=4 * WAVE_S)
        await floor.pass_time(WAVE_S)
        found = works.rollout()
        assert found is not None
        assert found.state is SoftwareState.RUNNING
        assert f"{held}: hands of ann: hands in it" in found.detail
        assert held not in works.operator.began

        await floor.release("hands")
        await works.until(works.has_come_to(SoftwareState.DONE), within_s=3 * WAVE_S)
        assert works.with_driver(NEW) == set(floor.hall)

    in_a_hall(tmp_path, case, nodes=2)


def test_a_node_that_somebody_cordoned_is_not_let_go_and_stays_cordoned(tmp_path: Path) -> None:
    """The operator would upgrade it whatever its budget says (gpu-operator#2820)."""

    async def case(floor: Floor, works: Works) -> None:
        for name in floor.hall:
            floor.cordon(name)
        works.operator.declare(NEW)
        await works.wants(driver=NEW)
        await floor.pass_time(900.0)
        assert works.operator.began == []
        assert works.with_driver(NEW) == set()
        assert all(floor.node(name)["spec"].get("unschedulable") for name in floor.hall)
        floor.cordon("lab-g1-n1", cordoned=False)
        await floor.pass_time(900.0)
        assert works.operator.began == [], "the others fill the budget"
        for name in floor.hall:
            floor.cordon(name, cordoned=False)
        await works.until(works.has_come_to(SoftwareState.DONE), within_s=4 * WAVE_S)

    in_a_hall(tmp_path, case, nodes=2)


def test_the_operators_own_cordon_is_never_undone_by_us(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        for name in floor.hall:
            works.operator.waits_for_jobs.add(name)
        first = await _first_goes(floor, works)
        # It waits for work of tenants.
        await floor.pass_time(1_800.0)
        assert works.label(first, LABEL) == "wait-for-jobs-required"
        assert floor.node(first)["spec"]["unschedulable"]
        assert not floor.is_held(first)
        works.operator.waits_for_jobs.clear()
        works.operator.resume()

        async def is_free() -> bool:
            return not floor.node(first)["spec"].get("unschedulable")

        await works.until(is_free, within_s=900.0)
        assert works.operator.began == [first]

    in_a_hall(tmp_path, case, nodes=2)


def test_a_hold_that_comes_before_the_operator_begins_takes_the_node_back(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        works.operator.declare(NEW)
        await floor.pass_time(30.0)
        works.operator.pauses = True
        await works.wants(driver=NEW)
        gone: list[str] = []

        async def goes() -> bool:
            gone[:] = [n for n in floor.hall if works.note(n, STEP) == "going"]
            return bool(gone)

        await works.until(goes, within_s=900.0)
        assert works.label(gone[0], SKIP_DRIVER_UPGRADE) == ""
        await floor.say("hands", gone[0])

        async def is_back() -> bool:
            return works.label(gone[0], SKIP_DRIVER_UPGRADE) == "true"

        await works.until(is_back)
        works.operator.resume()
        await works.until(lambda: _has_begun(works), within_s=900.0)
        assert gone[0] not in works.operator.began

    in_a_hall(tmp_path, case, nodes=2)


async def _has_begun(works: Works) -> bool:
    return bool(works.operator.began)


def test_the_next_leader_goes_on_with_the_wave_of_the_one_that_died(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        first = await _first_goes(floor, works)
        before = works.rollout()
        assert before is not None
        floor.join("two")
        await floor.pass_time(60.0)
        floor.die("one")
        await floor.pass_time(60.0)

        async def leads() -> bool:
            return floor.controllers["two"][0].elector.is_live()

        await works.until(leads)
        await works.until(works.has_come_to(SoftwareState.DONE), within_s=5 * WAVE_S)
        found = works.rollout()
        assert found is not None
        assert (found.id, found.waves) == (before.id, before.waves)
        assert sorted(works.operator.began) == sorted(floor.hall), "nobody twice"
        assert (works.operator.began[0], works.most) == (first, 1)

    in_a_hall(tmp_path, case, nodes=2)


def test_waves_that_are_not_wanted_any_more_give_the_nodes_back(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        await works.wants(software="leave")

        async def are_free() -> bool:
            marks = {works.note(name, STEP) for name in floor.hall}
            return marks | {works.label(n, SKIP_DRIVER_UPGRADE) for n in floor.hall} == {""}

        await works.until(are_free)
        assert works.rollout() is None

    in_a_hall(tmp_path, case, nodes=2)


def test_a_node_under_a_persons_hold_is_not_given_back_before_that_ends(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        held = "lab-g2-n1"
        await floor.say("hands", held)
        await works.wants(software="leave")

        async def are_free() -> bool:
            return {n for n in floor.hall if works.label(n, SKIP_DRIVER_UPGRADE) == ""} == set(
                floor.hall
            ) - {held}

        await works.until(are_free)
        await floor.pass_time(120.0)
        assert works.label(held, SKIP_DRIVER_UPGRADE) == "true"
        await floor.release("hands")

        async def is_free() -> bool:
            return works.label(held, SKIP_DRIVER_UPGRADE) == ""

        await works.until(is_free)

    in_a_hall(tmp_path, case, nodes=2)


def test_a_skip_label_that_somebody_takes_off_a_node_at_rest_is_put_back(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        name = "lab-g1-n1"

        def take_off(node: Any) -> None:
            node["metadata"]["labels"][SKIP_DRIVER_UPGRADE] = "false"

        floor.edit(name, take_off)
        await works.until(lambda: _is_skipped(works, name), within_s=60.0)

    in_a_hall(tmp_path, case, nodes=2)


async def _is_skipped(works: Works, name: str) -> bool:
    return works.label(name, SKIP_DRIVER_UPGRADE) == "true"


def test_the_old_driver_declared_again_is_the_way_back(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        first = await _first_goes(floor, works)
        await works.until(works.has_come_to(SoftwareState.SOAKING), within_s=1_800.0)
        works.operator.declare(OLD)
        await works.wants(driver=OLD)

        async def is_back() -> bool:
            found = works.rollout()
            is_done = found is not None and found.state is SoftwareState.DONE
            return is_done and works.with_driver(OLD) == set(floor.hall)

        await works.until(is_back, within_s=2 * WAVE_S)
        assert works.operator.began == [first, first]
        await floor.all_well()

    in_a_hall(tmp_path, case, nodes=2)


def test_remedies_and_waves_have_one_budget(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        first = await _first_goes(floor, works)
        ill = next(name for name in sorted(floor.hall) if name != first)
        floor.hall[ill].fall_off(3, mends=Mends.REBOOT)
        await floor.comes_to(ill, "WaitingBudget")
        assert works.out() == {first}, "what a wave has out is room that a remedy does not have"

        async def is_mended() -> bool:
            return bool(floor.resets(ill)) and await floor.is_well(ill)

        await works.until(is_mended, within_s=3_000.0)
        assert works.operator.began == [first], "and the other way round"
        await works.until(works.has_come_to(SoftwareState.DONE), within_s=5 * WAVE_S)
        assert works.with_driver(NEW) == set(floor.hall)
        assert works.most == 1

    in_a_hall(tmp_path, case, nodes=2)


# --- MIG ------------------------------------------------------------------------------------------------


def test_a_mig_profile_is_asked_of_empty_nodes_one_after_the_other(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        for name in floor.hall:
            floor.put_pod(f"of-{name}", name)
        await works.wants(mig=SEVEN)

        async def is_parted() -> bool:
            return len(works.operator.parted) == 1

        await works.until(is_parted, within_s=900.0)
        (first, profile) = works.operator.parted[0]
        assert profile == SEVEN
        assert floor.pods(first) == [], "it was empty before it was asked for"
        assert works.note(first, "gridplane.dev/hold-by") == "gridplane-software"

        async def is_done() -> bool:
            found = works.rollout()
            return found is not None and found.state is SoftwareState.DONE

        await works.until(is_done, within_s=4 * WAVE_S)
        assert {works.label(n, CONFIG) for n in floor.hall} == {SEVEN}
        assert {works.label(n, STATE) for n in floor.hall} == {"success"}
        assert works.most == 1
        assert not any(floor.node(n)["spec"].get("unschedulable") for n in floor.hall)
        assert len(works.operator.parted) == len(floor.hall), "and nobody twice"

    in_a_hall(tmp_path, case, nodes=2)


def test_a_node_whose_tenants_may_not_be_ended_is_given_back_to_them(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        for name in floor.hall:
            floor.put_pod(f"of-{name}", name)
            floor.keep_up(f"of-{name}")
        await works.wants(mig=SEVEN)

        async def is_halted() -> bool:
            found = works.rollout()
            return found is not None and found.state is SoftwareState.HALTED

        await works.until(is_halted, within_s=limits.DRAIN_DEADLINE_S + 900.0)
        found = works.rollout()
        assert found is not None
        assert "not drained for MIG" in found.detail
        await floor.pass_time(60.0)
        assert [floor.pods(name) for name in floor.hall] == [[f"of-{n}"] for n in floor.hall]
        assert not any(floor.node(n)["spec"].get("unschedulable") for n in floor.hall)
        assert works.operator.parted == []

    in_a_hall(tmp_path, case, nodes=2, racks=1)


def test_a_profile_that_the_gpus_cannot_do_is_put_back_and_halts_the_waves(tmp_path: Path) -> None:
    async def case(floor: Floor, works: Works) -> None:
        works.operator.refuses.add(SEVEN)
        await works.wants(mig=SEVEN)

        async def is_halted() -> bool:
            found = works.rollout()
            return found is not None and found.state is SoftwareState.HALTED

        await works.until(is_halted, within_s=1_800.0)
        (first,) = [name for name in floor.hall if works.note(name, GAVE_UP)]

        async def is_back() -> bool:
            return not floor.node(first)["spec"].get("unschedulable")

        await works.until(is_back, within_s=900.0)
        assert works.label(first, CONFIG) == "", "it had none before"
        await floor.pass_time(WAVE_S)
        assert [name for name, profile in works.operator.parted if profile == SEVEN] == [first]

        # Another profile is another matter: it reaches that node, drained, as all others.
        await works.wants(mig=THREE)

        async def all_have_it() -> bool:
            return {works.label(name, CONFIG) for name in floor.hall} == {THREE}

        await works.until(all_have_it, within_s=8 * WAVE_S)

    in_a_hall(tmp_path, case, nodes=2)
