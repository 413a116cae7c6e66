"""Firmware rollouts without a cluster, in virtual time: the engine opens waves and installs by itself."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from control_plane.core.catalogue import Image, Release
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.flashing import FlashStep, Purpose
from control_plane.core.fleet import Device, Site, Strategy
from control_plane.engine.images import ImageFolder
from control_plane.engine.local_grants import LocalGrants
from control_plane.engine.log import silent
from control_plane.engine.records import Order, OrderKind
from control_plane.simulator.images import Conduct, SimImage, make_image
from tests.engine.running import Running, on_site, small_site

FAMILY = "antminer_stock"
OLD, NEW = "Fri Aug 25 17:28:38 CST 2023", "Mon Dec 30 10:00:00 CST 2099"
Play = Callable[[Running], Awaitable[None]]


class Shop:
    """Releases of the old and the new firmware, with their images in a folder."""

    def __init__(self, folder: Path, conduct: Conduct = Conduct.GOOD) -> None:
        self.folder = folder / "images"
        self.folder.mkdir()
        self.releases = {
            OLD: self._release(OLD, Conduct.GOOD),
            NEW: self._release(NEW, conduct),
        }

    def _release(self, version: str, conduct: Conduct) -> Release:
        image = SimImage(
            family=FAMILY, models=("antminer s21", "s21"), version=version, conduct=conduct
        )
        data = make_image(image, size_bytes=100_000)
        name = f"{hashlib.sha256(data).hexdigest()[:8]}.bin"
        (self.folder / name).write_bytes(data)
        return Release(
            id=name, family=FAMILY, version=version, types=frozenset({"s21"}),
            images=(
                Image(file=name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)),
            ),
            flash_s=900.0, settle_s=1800.0, can_roll_back=False, voids_warranty=False,
        )  # fmt: skip

    def site(self, version: str, cohorts: tuple[float, ...] = (1, 2)) -> Site:
        """The small site, its Antminers with a version."""

        def with_version(device: Device) -> Device:
            if device.intent.family != FAMILY:
                return device
            intent = msgspec.structs.replace(device.intent, firmware=version)
            return msgspec.structs.replace(device, intent=intent)

        release = self.releases[version]
        return msgspec.structs.replace(
            small_site(with_version),
            releases={("s21", FAMILY, version): release},
            strategy=Strategy(cohorts=cohorts, max_new_failure_share=0.05),
        )

    def play(self, play: Play, folder: Path, **more: Any) -> None:
        """The site runs the old version and is to run the new one."""
        on_site(
            play,
            folder,
            found=self.site(OLD),
            declared=self.site(NEW, **more),
            before=[self.site(OLD)],
            granting=lambda store, epoch, edges, revisions: LocalGrants(
                store,
                epoch=epoch,
                edges=edges,
                revisions=revisions,
                images=lambda _site: ImageFolder(self.folder),
                say=silent,
            ),
        )


def rollout(running: Running) -> FirmwareRollout | None:
    """The one that is declared."""
    found = [r for r in running.other.firmware() if r.is_declared]
    return found[-1] if found else None


def stands(running: Running, state: FirmwareState, wave: int = 0, needle: str = "") -> bool:
    now = rollout(running)
    return now is not None and (now.state, now.wave) == (state, wave) and needle in now.detail


def let_go(running: Running, *, through: int | None = None) -> None:
    """A person lets waves go."""
    now = rollout(running)
    assert now is not None
    running.other.put_order(
        Order(
            kind=OrderKind.FIRMWARE, target=now.id, by="ann", through=through,
            at_s=running.stage.clock.wall_s(),
        )
    )  # fmt: skip


def versions(running: Running) -> dict[str, str | None]:
    """What each Antminer was seen to run."""
    return {
        asset: slot.seen.settings.firmware if slot.seen else None
        for asset, slot in running.engine.slots.items()
        if slot.device.intent.family == FAMILY
    }


def images(running: Running) -> dict[str, int]:
    """How many images each Antminer has written."""
    found = {asset: running.stage.site.stations[asset].device for asset in versions(running)}
    return {asset: device.unit.flash.written for asset, device in found.items()}  # type: ignore[attr-defined]


def test_each_wave_waits_for_a_person_and_then_installs(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: stands(running, FirmwareState.WAITING, needle="lets it go"))
        await asyncio.sleep(900.0)
        assert set(versions(running).values()) == {OLD}
        let_go(running)
        await running.until(
            lambda: stands(running, FirmwareState.WAITING, wave=1, needle="lets it go"),
            within_s=8_000.0,
        )
        now = rollout(running)
        assert now is not None
        assert [(g.passed, g.treated) for g in now.gates] == [(True, 1)]
        assert sorted(versions(running).values()) == [OLD] * (len(images(running)) - 1) + [NEW]  # type: ignore[type-var]
        let_go(running, through=len(now.waves))
        await running.until(
            lambda: stands(running, FirmwareState.DONE, wave=len(now.waves) - 1), within_s=16_000.0
        )
        assert set(versions(running).values()) == {NEW}
        assert set(images(running).values()) == {1}
        # Sooner or later each of them hashes as declared, and nothing is left to do.
        await running.until(
            lambda: all(s.decision and s.decision.converged for s in running.engine.slots.values())
        )

    Shop(tmp_path).play(play, tmp_path)


def test_a_bad_image_stops_at_the_first_machine_which_is_taken_back(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: stands(running, FirmwareState.WAITING, needle="lets it go"))
        let_go(running, through=9)
        await running.until(lambda: stands(running, FirmwareState.HALTED), within_s=8_000.0)
        await running.until(lambda: set(versions(running).values()) == {OLD}, within_s=8_000.0)
        assert sorted(images(running).values()) == [0, 0, 0, 2]
        (back,) = [g for g in running.other.grants() if g.purpose is Purpose.ROLL_BACK]
        await running.until(
            lambda: (
                [
                    e.step
                    for g in running.other.grants()
                    if g.operation == back.operation
                    for e in g.entries.values()
                ]
                == [FlashStep.DONE]
            ),
            within_s=8_000.0,
        )
        assert any("stopped: 1 of 1 failed" in page for page in running.engine.journal.pages)

    Shop(tmp_path, Conduct.IDLE).play(play, tmp_path)


def test_a_machine_under_way_is_locked(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: stands(running, FirmwareState.WAITING, needle="lets it go"))
        let_go(running)
        await running.until(lambda: any(images(running).values()))
        (asset,) = (asset for asset, count in images(running).items() if count)
        slot = running.engine.slots[asset]
        assert slot.locked == "f0001-wave-0-0"
        assert slot.decision is not None
        assert slot.decision.state == "flashing"
        # It boots: that is no loss, and no incident of its rack.
        assert not running.engine.incidents.open
        await running.until(lambda: not slot.locked, within_s=8_000.0)
        await running.until(lambda: slot.decision is not None and slot.decision.converged)

    Shop(tmp_path).play(play, tmp_path)


def test_a_held_machine_is_not_begun_until_it_is_released(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: stands(running, FirmwareState.WAITING, needle="lets it go"))
        running.hold(running.engine.site.id)
        let_go(running)
        await running.until(lambda: stands(running, FirmwareState.WAITING, needle="not fit"))
        await asyncio.sleep(600.0)
        assert set(images(running).values()) == {0}
        running.other.drop_overlay("h1")
        await running.until(lambda: any(images(running).values()))

    Shop(tmp_path).play(play, tmp_path)


def test_an_older_revision_is_a_rollout_of_its_own(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    async def play(running: Running) -> None:
        await running.until(lambda: stands(running, FirmwareState.WAITING, needle="lets it go"))
        first = rollout(running)
        running.declare(shop.site(OLD))
        # Nobody has the new version: all of it is passed by, and the one before it is not declared any more.
        await running.until(lambda: stands(running, FirmwareState.DONE, wave=2))
        now = rollout(running)
        assert first is not None
        assert now is not None
        assert now.id != first.id
        assert set(images(running).values()) == {0}

    shop.play(play, tmp_path)
