"""A site under controllers whose Antminers are to run another firmware: what people do, and what is seen."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

from control_plane.core import limits
from control_plane.core.cluster import Body, ClusterAway, Kind
from control_plane.core.firmware import waves_by_bundle
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.flashing import Grant
from control_plane.core.fleet import Site
from control_plane.drivers.registry import make_drivers
from control_plane.inventory.load import load_files
from control_plane.kube.controller import Controller
from control_plane.kube.kinds import (
    CONFIG_MAP,
    JOB,
    ORDER,
)
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
                bundle,
                waves,
                site="lab",
                namespace=NAMESPACE,
                image="x",
                store="http://10.0.0.1/i",
                pace=None,
            )
            for each in found.objects:
                await self.put(each)
        await self.playing.declare(files, **more)

    async def put(self, body: Body) -> None:
        kind = JOB if body["kind"] == "Job" else CONFIG_MAP
        await self.playing.kubectl.apply(kind, body, manager="stacks")

    async def release(self, rollout: str, *, through: int | None = None) -> None:
        """A person lets waves go."""
        await let_go(self.playing, "firmware", rollout, through=through)

    def images_written(self) -> Counter[str]:
        writes = self.playing.stage.site.world.ledger.select()
        return Counter(write.asset for write in writes if write.kind == "upgrade")

    async def until(self, holds: Callable[[], object]) -> None:
        await until(self.playing, holds)


async def let_go(playing: Playing, kind: str, target: str, *, through: int | None = None) -> None:
    """A person lets waves of something go."""
    spec: dict[str, Any] = {
        "site": "lab", "kind": kind, "target": target, "by": "ann", "at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    if through is not None:
        spec["through"] = through
    name = f"go-{target}-{through or 0}-{int(playing.loop.time())}"
    body = {
        "apiVersion": ORDER.api_version, "kind": ORDER.kind,
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    }  # fmt: skip
    await playing.kubectl.apply(ORDER, body, manager="kubectl")


async def until(playing: Playing, holds: Callable[[], object]) -> None:
    """Wait until something holds, as long as waves may take."""

    async def held() -> object:
        return holds()

    await playing.until(held, within_s=LONG_S)


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


class Cut:
    """Cuts a leader off for good at one of its writes, before or after it came about."""

    def __init__(
        self, line: ApiClient, *, at: int, arrives: bool, kinds: Collection[Kind] = ()
    ) -> None:
        """`kinds` are those of the writes that count; without, all do."""
        self._line, self._left, self._arrives, self._kinds = line, at, arrives, kinds
        self.seen = 0
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
        if not call.writes or (self._kinds and call.kind not in self._kinds):
            return False
        self.seen += 1
        self._left -= 1
        return self._left == 0

    def _cut(self) -> None:
        self.happened = True
        self._line.faults.away = "refused"
        self._line.cut()
        raise ClusterAway("the line broke at this very moment")


async def at_the_first_wave(shift: Shift, controller: Controller, **more: Any) -> FirmwareRollout:
    """The old version everywhere, and the new one waiting for a person."""
    await begin(shift, controller)
    await shift.up(NEW, mode="enforce", **more)
    await shift.until(lambda: stands(controller, NEW, FirmwareState.WAITING))
    now = rollout(controller)
    assert now is not None
    return now


def play_on(
    tmp_path: Path, act: Callable[[Shift, Controller, FirmwareRollout], Awaitable[None]]
) -> None:
    """Play under one controller, from where the new version waits for a person."""

    async def begun(shift: Shift) -> None:
        controller, _ = shift.playing.controller("one")
        async with serving(controller):
            await act(shift, controller, await at_the_first_wave(shift, controller))

    play(tmp_path, begun)


def grants(controller: Controller) -> dict[str, Grant]:
    return {g.operation: g for g in controller.tenure.store.grants()} if controller.tenure else {}


def lose_leader(tmp_path: Path, *, at: int, arrives: bool, kinds: Collection[Kind] = ()) -> int:
    """Two waves, with a leader that is cut off for good at one of its writes, and another that takes over.

    Args:
        tmp_path: for what they work with.
        at: at which write, from 1; 0 is nowhere.
        arrives: whether it still comes about.
        kinds: of the writes that count; without, all do.

    Returns:
        How many writes the first leader had done by then, or by the end.
    """
    seen: list[int] = []

    async def act(shift: Shift) -> None:
        one, line = shift.playing.controller("one")
        two, _ = shift.playing.controller("two")
        async with serving(one):
            now = await at_the_first_wave(shift, one)
            # A word about a rollout that no other leader would know of is refused, and said again.
            await asyncio.sleep(2 * limits.LEDGER_LAG_S)
            cut = Cut(line, at=at, arrives=arrives, kinds=kinds)
            await shift.release(now.id, through=2)
            async with serving(two):
                await shift.until(
                    lambda: any(stands(each, NEW, FirmwareState.DONE, 1) for each in (two, one))
                )
                seen.append(cut.seen)
                last = two if cut.happened else one
                assert cut.happened == bool(at), f"{cut.seen} writes"
                await shift.until(lambda: stands(last, NEW, FirmwareState.DONE, 1))
                await shift.until(lambda: versions(last) == {NEW: 6})
                assert set(shift.images_written().values()) == {1}
                assert not last.tenure.store.incidents()  # type: ignore[union-attr]

    play(tmp_path, act)
    return seen[0]
