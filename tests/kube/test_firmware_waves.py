"""Firmware waves by the controller: an API server in memory, the real runner in pods, virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.core.cluster import Body, ClusterAway
from control_plane.core.firmware import waves_by_bundle
from control_plane.core.firmware_job import BUNDLE_LABEL, WAVE_LABEL
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.flashing import Grant
from control_plane.core.fleet import Site
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.drivers.registry import make_drivers
from control_plane.inventory.load import load_files
from control_plane.kube.controller import Controller
from control_plane.kube.firmware_jobs import is_suspended
from control_plane.kube.firmware_shown import name_of
from control_plane.kube.grants import job_in
from control_plane.kube.kinds import (
    CONFIG_MAP,
    DEVICE_OPERATION,
    JOB,
    ORDER,
    ROLLOUT,
    STATE_SHARD,
)
from control_plane.kube.listing import list_all
from control_plane.provision.firmware import firmware_bundle
from control_plane.simulator.api_client import ApiClient, Call
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.images import Conduct
from control_plane.simulator.stage import set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.inventory.releases import catalogue
from tests.kube.pods import Pods
from tests.kube.test_controller import FILES, NAMESPACE, PASSWORDS, FactorySecrets, Playing
from tests.kube.test_enforcing import _adopted
from tests.provision.declared import with_firmware

FAMILY = "antminer_stock"
OLD, NEW = "2023.1", "2026.1"
SCALE = 20.0
LONG_S = 2_000.0


def release(
    version: str, images: Path | None = None, *, conduct: Conduct = Conduct.GOOD
) -> dict[str, bytes]:
    """The lab, its Antminers with a version, and the catalogue for that."""
    edit = with_firmware(version, families=FAMILY)
    files = {path: edit(path, data) for path, data in FILES.items()}
    return {**files, **catalogue(files, images, conduct=conduct)}


def site_of(files: dict[str, bytes]) -> Site:
    fleet = load_files(files, sites={"lab"}).fleet
    assert fleet is not None
    return fleet.sites["lab"]


class Shift:
    """A site whose Antminers run the old version, with everything that a `pulumi up` of both would make."""

    def __init__(self, playing: Playing, images: Path) -> None:
        self.playing, self.images = playing, images
        self.pods = Pods(
            playing.server,
            namespace=NAMESPACE,
            clock=playing.stage.clock,
            drivers=lambda: dict(make_drivers(playing.stage.net, playing.stage.clock)),
            secrets=FactorySecrets(),
            images=images,
        )

    async def up(self, version: str, *, conduct: Conduct = Conduct.GOOD, **more: Any) -> None:
        """Declare a version: its Jobs and files first, as the stack does, then the revision."""
        files = release(version, self.images, conduct=conduct)
        site = site_of(files)
        for bundle, waves in waves_by_bundle(site).items():
            found = firmware_bundle(
                bundle, waves, site="lab", namespace=NAMESPACE, image="x", store="http://10.0.0.1/i"
            )
            for each in found.objects:
                await self.put(each)
        await self.playing.declare(files, **more)

    async def put(self, body: Body) -> None:
        kind = JOB if body["kind"] == "Job" else CONFIG_MAP
        await self.playing.kubectl.apply(kind, body, manager="stacks")

    async def release(self, rollout: str, *, through: int | None = None) -> None:
        """A person lets waves go."""
        name = f"go-{rollout}-{through or 0}-{int(self.playing.loop.time())}"
        spec: dict[str, Any] = {
            "site": "lab", "kind": "firmware", "target": rollout, "by": "ann",
            "at": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        if through is not None:
            spec["through"] = through
        body = {
            "apiVersion": ORDER.api_version, "kind": ORDER.kind,
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
        }  # fmt: skip
        await self.playing.kubectl.apply(ORDER, body, manager="kubectl")

    def images_written(self) -> Counter[str]:
        writes = self.playing.stage.site.world.ledger.select()
        return Counter(write.asset for write in writes if write.kind == "upgrade")

    async def until(self, holds: Callable[[], object], *, within_s: float = LONG_S) -> None:
        async def held() -> object:
            return holds()

        await self.playing.until(held, within_s=within_s)


def rollout(controller: Controller) -> FirmwareRollout | None:
    """The one that is declared."""
    tenure = controller.tenure
    found = [r for r in tenure.store.firmware() if r.is_declared] if tenure else []
    return found[-1] if found else None


def stands(controller: Controller, version: str, state: FirmwareState, wave: int = 0) -> bool:
    now = rollout(controller)
    return now is not None and (now.version, now.state, now.wave) == (version, state, wave)


def versions(controller: Controller) -> Counter[str | None]:
    """How many Antminers were seen to run which."""
    tenure = controller.tenure
    slots = tenure.engine.slots.values() if tenure and tenure.engine else ()
    return Counter(
        slot.seen.settings.firmware if slot.seen else None
        for slot in slots
        if slot.device.intent.family == FAMILY
    )


def play(tmp_path: Path, act: Callable[[Shift], Awaitable[None]]) -> None:
    images = tmp_path / "images"
    images.mkdir()

    async def main(loop: VirtualLoop) -> None:
        stage = set_stage(site_of(release(OLD)), loop, seed=5, scale=SCALE, passwords=PASSWORDS)
        playing = Playing(loop, stage, ApiServer(stage.clock), tmp_path)
        shift = Shift(playing, images)
        running = asyncio.ensure_future(shift.pods.run())
        await act(shift)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_virtual(main, horizon_s=20_000.0)


@contextlib.asynccontextmanager
async def serving(controller: Controller) -> AsyncIterator[None]:
    task = asyncio.ensure_future(controller.run())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def begin(shift: Shift, controller: Controller) -> None:
    """Adopted at the old version, then told to enforce it."""
    await _adopted(shift.playing, controller)
    await shift.up(OLD, mode="enforce")
    await shift.until(lambda: stands(controller, OLD, FirmwareState.DONE, 1))


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


class Cut:
    """Cuts a leader off for good at one of its writes to grants and Jobs, before or after it came about."""

    def __init__(self, line: ApiClient, *, at: int, arrives: bool) -> None:
        self._line, self._left, self._arrives = line, at, arrives
        self.happened = False
        line.faults.before = self._before
        line.faults.after = self._after

    def _before(self, call: Call) -> None:
        if not self._arrives and self._counts(call):
            self._cut()

    def _after(self, call: Call) -> None:
        if self._arrives and self._counts(call):
            self._cut()

    def _counts(self, call: Call) -> bool:
        if not call.writes or call.kind not in {JOB, DEVICE_OPERATION}:
            return False
        self._left -= 1
        return self._left == 0

    def _cut(self) -> None:
        self.happened = True
        self._line.faults.away = "refused"
        self._line.cut()
        raise ClusterAway("the line broke at this very moment")


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_leader_that_is_lost_at_any_write_is_taken_over_without_a_second_image(
    tmp_path: Path, at: int, arrives: bool
) -> None:
    async def act(shift: Shift) -> None:
        one, line = shift.playing.controller("one")
        two, _ = shift.playing.controller("two")
        async with serving(one):
            await begin(shift, one)
            await shift.up(NEW, mode="enforce")
            await shift.until(lambda: stands(one, NEW, FirmwareState.WAITING))
            now = rollout(one)
            assert now is not None
            cut = Cut(line, at=at, arrives=arrives)
            await shift.release(now.id, through=2)
            async with serving(two):
                await shift.until(lambda: stands(two, NEW, FirmwareState.DONE, 1))
                assert cut.happened
                await shift.until(lambda: versions(two) == {NEW: 6})
                assert set(shift.images_written().values()) == {1}
                assert not two.tenure.store.incidents()  # type: ignore[union-attr]

    play(tmp_path, act)


async def at_the_first_wave(shift: Shift, controller: Controller, **more: Any) -> FirmwareRollout:
    """The old version everywhere, and the new one waiting for a person."""
    await begin(shift, controller)
    await shift.up(NEW, mode="enforce", **more)
    await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING))
    now = rollout(controller)
    assert now is not None
    return now


def grants(controller: Controller) -> dict[str, Grant]:
    return {g.operation: g for g in controller.tenure.store.grants()} if controller.tenure else {}


def test_a_job_that_is_deleted_by_hand_stops_its_wave_and_loses_nobody(tmp_path: Path) -> None:
    async def act(shift: Shift) -> None:
        controller, _ = shift.playing.controller("one")
        async with serving(controller):
            now = await at_the_first_wave(shift, controller)
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
            assert any(
                "is gone: what it had not begun is free" in line for line in shift.playing.said
            )
            assert shift.pods.begun[0].startswith(f"fw-{now.id}-s0-1-")

    play(tmp_path, act)


def test_a_job_that_somebody_opened_by_hand_did_nothing_and_is_swept_up(tmp_path: Path) -> None:
    async def act(shift: Shift) -> None:
        controller, _ = shift.playing.controller("one")
        async with serving(controller):
            now = await at_the_first_wave(shift, controller)
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

    play(tmp_path, act)


def test_what_a_job_is_to_read_is_looked_at_before_anybody_is_granted(tmp_path: Path) -> None:
    async def act(shift: Shift) -> None:
        controller, _ = shift.playing.controller("one")
        async with serving(controller):
            now = await at_the_first_wave(shift, controller)
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

    play(tmp_path, act)


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
    async def act(shift: Shift) -> None:
        controller, _ = shift.playing.controller("one")
        async with serving(controller):
            now = await at_the_first_wave(shift, controller)
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

    play(tmp_path, act)


def test_a_hold_takes_a_machine_out_of_its_grant(tmp_path: Path) -> None:
    async def act(shift: Shift) -> None:
        controller, _ = shift.playing.controller("one")
        async with serving(controller):
            now = await at_the_first_wave(shift, controller)
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

    play(tmp_path, act)


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
