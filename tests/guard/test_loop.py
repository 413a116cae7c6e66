"""The guard as it runs: simulated machines and meters by their real protocols, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.core.findings import SourceRef
from control_plane.core.fleet import Site
from control_plane.core.guard_bundle import BundleError
from control_plane.core.guard_making import bundle_of
from control_plane.core.memory import Pin
from control_plane.core.meter import Meter
from control_plane.core.ports import Driver, Target
from control_plane.core.secret import Secret
from control_plane.drivers.modbus import ModbusMeters
from control_plane.drivers.registry import all_capabilities, make_drivers
from control_plane.engine.log import Level
from control_plane.guard.given import GIVEN, KEPT, Given, Way, give, kept_in, shown_in
from control_plane.guard.loop import GuardLoop
from control_plane.simulator.meters import MeterFault
from control_plane.simulator.stage import Stage, set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.engine.running import PASSWORDS, REFS, KnownSecrets, small_site

HORIZON_S = 20_000.0


def metered() -> Site:
    """A rack of Antminers and one of WhatsMiners, below one meter."""
    site = small_site()
    miners = tuple(d for d in site.devices if d.intent.family in PASSWORDS)
    root = next(n for n in site.feeds.values() if n.parent is None)
    meter = Meter(
        name="m-0", node=root.id, address="10.42.200.1", model="janitza-umg96", range_w=500_000.0,
        where=SourceRef("tests"),
    )  # fmt: skip
    feeds = {**site.feeds, root.id: msgspec.structs.replace(root, meter="m-0")}
    return msgspec.structs.replace(site, feeds=feeds, devices=miners, meters={"m-0": meter})


@dataclass(kw_only=True)
class Yard:
    """A site that hashes, a guard's folder, and guards that come and go."""

    site: Site
    root: str
    stage: Stage
    folder: Path
    drivers: dict[str, Driver]
    ways: dict[str, Way]
    said: list[tuple[str, str]] = field(default_factory=list)

    def drawn_w(self) -> float:
        return self.stage.site.totals()[0]

    def give(self, cap_w: float, **how: Any) -> None:
        bundle = bundle_of(
            self.site, {}, all_capabilities(), revision="r" * 64, now_s=self.stage.clock.wall_s(),
            caps_w={self.root: cap_w}, **how,
        )  # fmt: skip
        give(
            self.folder,
            Given(
                bundle=bundle,
                ways=self.ways,
                types={d.type.id: d.type for d in self.site.devices},
                meters=tuple(self.site.meters.values()),
            ),
        )

    def guard(self) -> GuardLoop:
        return GuardLoop(
            self.folder, self.drivers, ModbusMeters(self.stage.net, self.stage.clock), KnownSecrets(),
            clock=self.stage.clock,
            say=self._hear,
        )  # fmt: skip

    async def guarded(self, seconds: float) -> None:
        """A guard for a while, then killed without a word."""
        task = asyncio.ensure_future(self.guard().serve())
        await asyncio.wait({task}, timeout=seconds)
        assert not task.done() or task.result() is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _hear(
        self, message: str, /, *, level: Level = "info", kind: str = "", **fields: object
    ) -> None:
        self.said.append((kind, message))

    def pages(self) -> list[str]:
        return [text for kind, text in self.said if kind == "page"]


def in_yard(folder: Path, play: Callable[[Yard], Awaitable[None]]) -> None:
    site = metered()

    async def main(loop: VirtualLoop) -> None:
        stage = set_stage(site, loop, seed=5, passwords=PASSWORDS)
        drivers = make_drivers(stage.net, stage.clock)
        ways = {}
        for device in site.devices:
            family = device.intent.family
            target = Target(
                asset=device.asset, address=str(device.address), user="root",
                password=Secret(REFS[f"env:{family}"]),
            )  # fmt: skip
            told = await drivers[family].identify(target)
            pin = Pin(mac=told.mac, serial=told.serial, source="tests")
            ways[device.asset] = Way(
                address=target.address, family=family, type=device.type.id, pin=pin, user="root",
                secret_ref=f"env:{family}",
            )  # fmt: skip
        root = next(n.id for n in site.feeds.values() if n.parent is None)
        await play(
            Yard(
                site=site,
                root=root,
                stage=stage,
                folder=folder,
                drivers=dict(drivers),
                ways=ways,
            )
        )

    run_virtual(main, horizon_s=HORIZON_S)


def test_a_site_is_kept_below_its_cap_with_nobody_else_there(tmp_path: Path) -> None:
    async def play(yard: Yard) -> None:
        full_w = yard.drawn_w()
        assert full_w > 20_000
        cap_w = full_w * 0.7
        yard.give(cap_w)
        await yard.guarded(1_500.0)
        assert yard.drawn_w() <= cap_w
        # Not everything was put to sleep for it.
        assert yard.drawn_w() >= cap_w * 0.6
        assert any(f"{yard.root}: over" in page for page in yard.pages())
        shown = shown_in(yard.folder)
        assert shown is not None
        assert shown.lowered

    in_yard(tmp_path, play)


def test_below_the_cap_nothing_is_written(tmp_path: Path) -> None:
    async def play(yard: Yard) -> None:
        yard.give(yard.drawn_w() * 1.2)
        before = len(yard.stage.site.world.ledger.select())
        await yard.guarded(300.0)
        assert len(yard.stage.site.world.ledger.select()) == before
        assert yard.pages() == []

    in_yard(tmp_path, play)


def test_the_next_guard_tells_nobody_twice_what_was_obeyed(tmp_path: Path) -> None:
    async def play(yard: Yard) -> None:
        yard.give(yard.drawn_w() * 0.7)
        await yard.guarded(1_500.0)
        writes = len(yard.stage.site.world.ledger.select())
        assert writes
        await yard.guarded(300.0)
        assert len(yard.stage.site.world.ledger.select()) == writes
        assert kept_in(yard.folder).ordered

    in_yard(tmp_path, play)


def test_a_tighter_cap_is_taken_up_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    async def play(yard: Yard) -> None:
        full_w = yard.drawn_w()
        yard.give(full_w * 1.2)
        task = asyncio.ensure_future(yard.guard().serve())
        await asyncio.sleep(60)
        yard.give(full_w * 0.6)
        await asyncio.sleep(10)
        (yard.folder / GIVEN).write_text('{"sha256": "00", "given": {}}')
        await asyncio.sleep(1_500)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert yard.drawn_w() <= full_w * 0.6
        assert any("the one before stays in force" in text for _, text in yard.said)

    in_yard(tmp_path, play)


def test_a_silent_meter_is_a_page_and_machines_are_counted(tmp_path: Path) -> None:
    async def play(yard: Yard) -> None:
        yard.give(yard.drawn_w() * 1.5)
        yard.stage.site.meters.meters["m-0"].fault = MeterFault.SILENT
        await yard.guarded(120.0)
        assert [page.split(":")[1].strip() for page in yard.pages()] == ["no_meter"]

    in_yard(tmp_path, play)


def test_a_locked_machine_is_left_alone(tmp_path: Path) -> None:
    async def play(yard: Yard) -> None:
        ants = {d.asset for d in yard.site.devices if d.intent.family == "antminer_stock"}
        until_s = yard.stage.clock.wall_s() + 10_000
        yard.give(yard.drawn_w() * 0.7, locked_until_s=dict.fromkeys(ants, until_s))
        await yard.guarded(1_200.0)
        written = {write.asset for write in yard.stage.site.world.ledger.select()}
        assert written
        assert not written & ants

    in_yard(tmp_path, play)


def test_without_anything_given_it_says_what_to_do(tmp_path: Path) -> None:
    async def play(yard: Yard) -> None:
        with pytest.raises(BundleError, match="gridplane guard give"):
            await yard.guard().serve()

    in_yard(tmp_path, play)


def test_a_damaged_memory_is_put_aside_and_the_site_is_kept_all_the_same(tmp_path: Path) -> None:
    async def play(yard: Yard) -> None:
        (yard.folder / KEPT).write_text("{")
        cap_w = yard.drawn_w() * 0.7
        yard.give(cap_w)
        await yard.guarded(1_500.0)
        assert yard.drawn_w() <= cap_w
        assert (yard.folder / KEPT).with_suffix(".damaged").exists()
        assert kept_in(yard.folder).ordered

    in_yard(tmp_path, play)
