"""Firmware waves by the controller: an API server in memory, the real runner in pods, virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from control_plane.core.firmware_job import BUNDLE_LABEL, WAVE_LABEL
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.kube.controller import Controller
from control_plane.kube.firmware_jobs import is_suspended
from control_plane.kube.firmware_shown import name_of
from control_plane.kube.grants import job_in
from control_plane.kube.kinds import (
    CONFIG_MAP,
    DEVICE_OPERATION,
    JOB,
    ROLLOUT,
    STATE_SHARD,
)
from control_plane.kube.listing import list_all
from control_plane.simulator.images import Conduct
from tests.kube.test_controller import NAMESPACE
from tests.kube.waves import (
    NEW,
    OLD,
    Shift,
    at_the_first_wave,
    begin,
    grants,
    lose_leader,
    play,
    play_on,
    release,
    rollout,
    serving,
    stands,
    versions,
)


def test_each_wave_waits_for_a_person_and_is_installed_by_its_job(tmp_path: Path) -> None:
    async def act(shift: Shift) -> None:
        playing = shift.playing
        controller, _ = playing.controller("one")
        async with serving(controller):
            await begin(shift, controller)
            await shift.up(NEW, mode="enforce")
            await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING))
            await asyncio.sleep(120)
            assert not shift.images_written()
            assert not shift.pods.begun

            now = rollout(controller)
            assert now is not None
            told = await playing.told(ROLLOUT, name_of("lab", now))
            assert told["Reconciling"][:2] == ("True", "AwaitsPerson")
            await shift.release(now.id)
            await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING, 1))
            assert versions(controller) == {OLD: 5, NEW: 1}
            (first,) = shift.pods.begun
            assert "-w0-" in first
            await shift.release(now.id, through=2)
            await shift.until(lambda: stands(controller, NEW, FirmwareState.DONE, 1))
            assert versions(controller) == {NEW: 6}
            assert set(shift.images_written().values()) == {1}
            # Each grant has ended, and each Job that ran has its suspension back.
            jobs = await list_all(playing.kubectl, JOB, namespace=NAMESPACE)
            await shift.until(
                lambda: not any(s.locked for s in controller.tenure.engine.slots.values())  # type: ignore[union-attr]
            )
            assert {job.metadata.name for job in jobs} >= set(shift.pods.begun)

            async def has_ended() -> bool:
                jobs = await list_all(playing.kubectl, JOB, namespace=NAMESPACE)
                return all(is_suspended(job) for job in jobs)

            await playing.until(has_ended)

            async def is_shown() -> bool:
                shown = await playing.get(ROLLOUT, name_of("lab", now))
                machines = msgspec.json.decode(shown.status)["machines"] if shown else ()
                return len(machines) == 6 and all(
                    m["step"] == "done" and m["jPerThAfter"] > 5 and m["image"] for m in machines
                )

            await playing.until(is_shown)

    play(tmp_path, act)


def test_a_bad_image_stops_at_its_first_machine_which_goes_back_by_a_job_of_the_controller(
    tmp_path: Path,
) -> None:
    async def act(shift: Shift) -> None:
        controller, _ = shift.playing.controller("one")
        async with serving(controller):
            await begin(shift, controller)
            await shift.up(NEW, conduct=Conduct.IDLE, mode="enforce")
            await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING))
            now = rollout(controller)
            assert now is not None
            await shift.release(now.id, through=2)
            await shift.until(lambda: stands(controller, NEW, FirmwareState.HALTED))
            await shift.until(lambda: versions(controller) == {OLD: 6})
            # One machine took the bad image, and then the one that it ran before.
            assert list(shift.images_written().values()) == [2]
            assert [name.split("-w0-")[0][:3] for name in shift.pods.begun] == ["fw-", "fw-"]
            assert shift.pods.begun[1].startswith(f"fw-{now.id}-r0-0-")

            async def is_shown() -> bool:
                told = await shift.playing.told(ROLLOUT, name_of("lab", now))
                return told.get("Stalled", ("",))[:2] == ("True", "GateFailed")

            await shift.playing.until(is_shown)

    play(tmp_path, act)


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_leader_that_is_lost_at_any_write_is_taken_over_without_a_second_image(
    tmp_path: Path, at: int, arrives: bool
) -> None:
    lose_leader(tmp_path, at=at, arrives=arrives, kinds=(JOB, DEVICE_OPERATION))


def test_a_job_that_is_deleted_by_hand_stops_its_wave_and_loses_nobody(tmp_path: Path) -> None:
    async def act(shift: Shift, controller: Controller, now: FirmwareRollout) -> None:
        # Nobody runs pods yet: the first wave is granted and open, and then its Job goes.
        shift.pods.is_paused = True
        await shift.release(now.id, through=2)
        await shift.until(lambda: bool(grants(controller)))
        await asyncio.sleep(5)
        (operation,) = grants(controller)
        await shift.playing.kubectl.delete(JOB, job_in(operation), namespace=NAMESPACE)
        shift.pods.is_paused = False
        # Who deletes a Job means something by it: a person says whether it goes on.
        await shift.until(lambda: stands(controller, NEW, FirmwareState.HALTED))
        await shift.release(now.id, through=2)
        await shift.until(lambda: stands(controller, NEW, FirmwareState.DONE, 1))
        assert versions(controller) == {NEW: 6}
        assert set(shift.images_written().values()) == {1}
        assert any("is gone: what it had not begun is free" in line for line in shift.playing.said)
        assert shift.pods.begun[0].startswith(f"fw-{now.id}-s0-1-")

    play_on(tmp_path, act)


def test_a_job_that_somebody_opened_by_hand_did_nothing_and_is_swept_up(tmp_path: Path) -> None:
    async def act(shift: Shift, controller: Controller, now: FirmwareRollout) -> None:
        jobs = await list_all(shift.playing.kubectl, JOB, namespace=NAMESPACE)
        (wave,) = (
            j.metadata.name
            for j in jobs
            if j.metadata.labels.get(WAVE_LABEL) == "0"
            and j.metadata.labels[BUNDLE_LABEL] == now.bundle[:10]
        )
        body = {
            "apiVersion": JOB.api_version, "kind": JOB.kind,
            "metadata": {"name": wave, "namespace": NAMESPACE}, "spec": {"suspend": False},
        }  # fmt: skip
        await shift.playing.kubectl.apply(JOB, body, manager="somebody")
        await shift.until(lambda: wave in shift.pods.begun)
        await asyncio.sleep(5)
        (said,) = shift.pods.said
        assert said["why"] == f"not granted: there is no {wave}-0"
        await shift.release(now.id)
        await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING, 1))
        assert versions(controller) == {OLD: 5, NEW: 1}
        assert shift.pods.begun[1].startswith(f"fw-{now.id}-w0-0-")

    play_on(tmp_path, act)


def test_what_a_job_is_to_read_is_looked_at_before_anybody_is_granted(tmp_path: Path) -> None:
    async def act(shift: Shift, controller: Controller, now: FirmwareRollout) -> None:
        maps = await list_all(shift.playing.kubectl, CONFIG_MAP, namespace=NAMESPACE)
        (shards,) = (
            m
            for m in maps
            if m.metadata.labels.get(WAVE_LABEL) == "0"
            and m.metadata.labels[BUNDLE_LABEL] == now.bundle[:10]
        )
        name = shards.metadata.name
        await shift.playing.kubectl.delete(CONFIG_MAP, name, namespace=NAMESPACE)
        await shift.release(now.id)

        def is_named() -> bool:
            found = rollout(controller)
            return found is not None and f"ConfigMap {name}" in found.detail

        await shift.until(is_named)
        await asyncio.sleep(60)
        assert not grants(controller)
        assert not shift.pods.begun
        # A person runs the stack again, as the sentence says.
        await shift.up(NEW, mode="enforce")
        await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING, 1))

    play_on(tmp_path, act)


def test_without_a_stack_it_says_what_to_run(tmp_path: Path) -> None:
    async def act(shift: Shift) -> None:
        controller, _ = shift.playing.controller("one")
        async with serving(controller):
            await begin(shift, controller)
            await shift.playing.declare(release(NEW, shift.images), mode="enforce")
            await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING))
            now = rollout(controller)
            assert now is not None
            await shift.release(now.id)

            def is_said() -> bool:
                found = rollout(controller)
                return found is not None and "run `pulumi up` of lab.fleet" in found.detail

            await shift.until(is_said)
            assert not grants(controller)

    play(tmp_path, act)


def test_an_api_server_that_is_away_in_the_middle_of_a_flash_costs_nothing(tmp_path: Path) -> None:
    async def act(shift: Shift) -> None:
        controller, line = shift.playing.controller("one")
        async with serving(controller):
            now = await at_the_first_wave(shift, controller)
            await shift.release(now.id)
            await shift.until(lambda: bool(shift.images_written()))
            for each in (line, shift.pods.line):
                each.faults.away = "refused"
                each.cut()
            await asyncio.sleep(60)
            for each in (line, shift.pods.line):
                each.faults.away = ""
            await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING, 1))
            assert versions(controller) == {OLD: 5, NEW: 1}
            assert list(shift.images_written().values()) == [1]

    play(tmp_path, act)


def test_to_observe_takes_back_what_was_not_begun_and_to_enforce_goes_on(tmp_path: Path) -> None:
    async def act(shift: Shift, controller: Controller, now: FirmwareRollout) -> None:
        shift.pods.is_paused = True
        await shift.release(now.id)
        await shift.until(lambda: bool(grants(controller)))
        await shift.playing.declare(release(NEW), mode="observe")

        def is_closed() -> bool:
            (grant,) = grants(controller).values()
            return not grant.locked(shift.playing.stage.clock.wall_s())

        await shift.until(is_closed)
        shift.pods.is_paused = False
        await asyncio.sleep(60)
        assert not shift.images_written()
        await shift.playing.declare(release(NEW), mode="enforce")
        await shift.until(lambda: stands(controller, NEW, FirmwareState.HALTED))
        await shift.release(now.id)
        await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING, 1))
        assert versions(controller) == {OLD: 5, NEW: 1}
        assert list(shift.images_written().values()) == [1]

    play_on(tmp_path, act)


def test_a_hold_takes_a_machine_out_of_its_grant(tmp_path: Path) -> None:
    async def act(shift: Shift, controller: Controller, now: FirmwareRollout) -> None:
        shift.pods.is_paused = True
        await shift.release(now.id)
        await shift.until(lambda: bool(grants(controller)))
        (asset,) = (a for g in grants(controller).values() for a in g.entries)
        assert controller.tenure is not None
        controller.tenure.said.put_overlay(
            Overlay(
                id="h-1", kind=OverlayKind.MAINTENANCE_HOLD, node=asset, owner="ann",
                reason="a hand is in it", since_s=shift.playing.stage.clock.wall_s(),
            )
        )  # fmt: skip
        await shift.until(
            lambda: (
                not any(
                    g.locked(shift.playing.stage.clock.wall_s())
                    for g in grants(controller).values()
                )
            )
        )
        shift.pods.is_paused = False
        await asyncio.sleep(120)
        assert asset not in shift.images_written()

    play_on(tmp_path, act)


def test_numbers_go_on_where_the_state_of_the_site_was_lost(tmp_path: Path) -> None:
    async def act(shift: Shift) -> None:
        one, _ = shift.playing.controller("one")
        async with serving(one):
            now = await at_the_first_wave(shift, one)
            await shift.release(now.id)
            await shift.until(lambda: stands(one, NEW, FirmwareState.WAITING, 1))
        page = await shift.playing.kubectl.list_page(STATE_SHARD, namespace=NAMESPACE)
        for each in page.items:
            await shift.playing.kubectl.delete(STATE_SHARD, each.metadata.name, namespace=NAMESPACE)
        two, _ = shift.playing.controller("two")
        async with serving(two):
            await shift.until(lambda: rollout(two) is not None)
            after = rollout(two)
            assert after is not None
            assert int(after.id[1:]) > int(now.id[1:])
            # The whole site is held: nothing begins before a person has looked.
            await shift.release(after.id)
            await asyncio.sleep(60)
            assert list(shift.images_written().values()) == [1]

    play(tmp_path, act)
