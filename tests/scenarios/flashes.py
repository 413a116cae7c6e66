"""Every side effect of one flash by a Job's pod: a pod that dies there, and a machine that loses power there.

The pod runs what a real one does, on the API server's twin. Whatever the moment: no machine gets a second
image, no journal ends without a word, and who is done runs what it should.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from control_plane.core.catalogue import Image
from control_plane.core.firmware import About, Bundle, Shard, ShardDevice
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.core.fleet import Credentials
from control_plane.core.ports import Connection, Driver, Net
from control_plane.core.tls import TlsPin
from control_plane.drivers.registry import make_drivers
from control_plane.engine.images import ImageFolder
from control_plane.kube.firmware_runner import Index, run_index
from control_plane.kube.grants import grant_body, grant_in
from control_plane.kube.kinds import DEVICE_OPERATION
from control_plane.simulator.api_client import ApiClient, Call
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.images import SimImage, make_image
from tests.drivers.making import Bench, on_bench
from tests.engine.running import KnownSecrets
from tests.scenarios.crashes import Point

FAMILIES: Final = ("antminer_stock", "vnish", "whatsminer_v2")
NEW: Final = "20991231.10.REL"
SPACE, OPERATION, ASSET = "power", "fw-0", "m-1"
OFF_S = 30.0
"""For which a machine is without power."""
PODS_MAX = 4


class Course(msgspec.Struct, frozen=True):
    """What dies, on which family."""

    family: str
    dies: str
    """`pod` or `machine`."""


COURSES: Final = tuple(Course(family, dies) for dies in ("pod", "machine") for family in FAMILIES)


class Ended(msgspec.Struct, kw_only=True):
    """What came of one run."""

    course: Course
    effects: list[str] = []
    """Of the first pod, in order: `api`, `send` of a request, `piece` of an image."""
    step: str = ""
    detail: str = ""
    flashed: int = 0
    """How often the machine wrote an image."""
    was_cut: bool = False
    """Whether its power went away while it wrote one."""
    pods: int = 0
    runs: str = ""
    """The version, at the end."""


class Effects:
    """Counts what a pod does to the world, and lets something happen before or after one of these."""

    def __init__(self, point: Point, happens: Callable[[], None]) -> None:
        self.seen: list[str] = []
        self._point, self._happens = point, happens

    def before(self, what: str) -> None:
        self.seen.append(what)
        if self._point.number == len(self.seen) and not self._point.after:
            self._happens()

    def after(self, number: int) -> None:
        """The n-th is done."""
        if self._point.after and self._point.number == number:
            self._happens()


class _Net:
    def __init__(self, net: Net, effects: Effects) -> None:
        self._net, self._effects = net, effects

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> Connection:
        return _Connection(
            await self._net.connect(address, port, deadline_s=deadline_s, tls=tls), self._effects
        )


class _Connection:
    def __init__(self, connection: Connection, effects: Effects) -> None:
        self._connection, self._effects = connection, effects

    async def request(self, payload: bytes, **how: Any) -> bytes:
        self._effects.before("send")
        number = len(self._effects.seen)
        await asyncio.sleep(0)  # where a pod that was killed is gone
        asyncio.get_running_loop().call_soon(self._effects.after, number)
        return await self._connection.request(payload, **how)

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        await self._connection.send(self._watched(pieces), deadline_s=deadline_s)

    def _watched(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._effects.before("piece")
            number = len(self._effects.seen)
            yield piece
            self._effects.after(number)

    def close(self) -> None:
        self._connection.close()


def run(course: Course, point: Point) -> Ended:
    """Flash a machine, with something that dies at a point."""
    with tempfile.TemporaryDirectory(prefix="flash-") as folder:
        return on_bench(course.family, lambda bench: _run(bench, Path(folder), course, point))


async def _run(bench: Bench, folder: Path, course: Course, point: Point) -> Ended:
    ended = Ended(course=course)
    clock = bench.stage.clock
    machine = bench.stage.site.machine(bench.target.asset)
    server, bundle = ApiServer(clock), _bundle(bench, folder, course.family)
    assert bench.target.pin is not None
    grant = Grant(
        operation=OPERATION, rollout="f0001", digest=bundle.digest, fence=1, at_once=1,
        entries={ASSET: FlashEntry(asset=ASSET)}, pins={ASSET: bench.target.pin},
        addresses={ASSET: bench.target.address}, deadline_s=clock.wall_s() + 7_200.0,
    )  # fmt: skip
    made = grant_body(grant, site="lab", namespace=SPACE)
    await ApiClient(server, clock).apply(DEVICE_OPERATION, made, manager="engine")
    index = Index(
        operation=OPERATION,
        namespace=SPACE,
        about=About(digest=bundle.digest, bundle=bundle),
        shard=Shard(devices=(ShardDevice(asset=ASSET),)),
    )
    pod: list[asyncio.Task[bool]] = []
    background: list[asyncio.Task[None]] = []

    def dies() -> None:
        if course.dies == "pod":
            pod[0].cancel()
        else:
            background.append(asyncio.ensure_future(_cut(machine)))

    effects = Effects(point, dies)
    # As the Job's controller does: another pod, until one ends well.
    for number in range(PODS_MAX):
        watch = effects if number == 0 else Effects(Point(0), lambda: None)
        pod[:] = [asyncio.ensure_future(_pod(index, server, bench, folder, watch))]
        done = (await asyncio.gather(*pod, return_exceptions=True))[0]
        ended.pods = number + 1
        if done is True:
            break
    await asyncio.gather(*background)
    kept = grant_in(server.get(DEVICE_OPERATION, f"{SPACE}/{OPERATION}"))
    assert kept is not None
    entry, unit = kept.entries[ASSET], bench.station.device.unit  # type: ignore[attr-defined]
    ended.effects = effects.seen
    ended.step, ended.detail = entry.step.value, entry.detail
    ended.flashed, ended.runs = unit.flash.written, unit.flash.now.version
    ended.was_cut = machine.cut_while_flashing
    return ended


async def _pod(
    index: Index, server: ApiServer, bench: Bench, folder: Path, effects: Effects
) -> bool:
    clock = bench.stage.clock
    line = ApiClient(server, clock)

    def before(_call: Call) -> None:
        effects.before("api")

    def after(_call: Call) -> None:
        effects.after(len(effects.seen))

    line.faults.before, line.faults.after = before, after
    line.faults.latency_s = (0.001, 0.001)
    drivers: Mapping[str, Driver] = make_drivers(_Net(bench.line, effects), clock)
    return await run_index(
        index, line, clock=clock, drivers=drivers, images=ImageFolder(folder),
        secrets=KnownSecrets(), tell=lambda _line: None,
    )  # fmt: skip


async def _cut(machine: Any) -> None:
    machine.power_off()
    await asyncio.sleep(OFF_S)
    machine.power_on()


def _bundle(bench: Bench, folder: Path, family: str) -> Bundle:
    model = bench.stage.site.machine(bench.target.asset).model.model
    data = make_image(
        SimImage(family=family, models=(model.casefold(),), version=NEW), size_bytes=300_000
    )
    (folder / "new.bin").write_bytes(data)
    image = Image(file="new.bin", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    credentials = Credentials(user=bench.target.user, secret_ref=f"env:{family}")
    return Bundle(
        family=family, make="x", model=model, reported_models=(), version=NEW, images=(image,),
        min_from_version=None, flash_s=900.0, settle_s=3_600.0, can_roll_back=False,
        power_mode=None, power_limit_w=None, credentials=credentials,
    )  # fmt: skip


def judge(ended: Ended) -> str | None:
    """What is wrong with how it ended; `None` where nothing is."""
    if ended.flashed > 1:
        return f"{ended.flashed} images were written"
    if ended.step == FlashStep.PENDING and not ended.flashed and ended.detail:
        # Nothing has left for it: it is swept up later.
        return None if ended.course.dies == "machine" else "nobody began it"
    if ended.step not in {FlashStep.DONE, FlashStep.QUARANTINED, FlashStep.ROLLED_BACK}:
        return f"it was left {ended.step} after {ended.pods} pods"
    if ended.step == FlashStep.DONE:
        return None if ended.runs == NEW else f"done, and it runs {ended.runs}"
    if not ended.detail:
        return f"{ended.step} without a word"
    if ended.course.dies == "pod" and ended.was_cut:
        return "a pod that died took the power away"
    if ended.course.dies == "pod" and ended.flashed and ended.runs == NEW:
        return f"it runs {NEW} and is {ended.step}: {ended.detail}"
    return None


def points_of(reference: Ended) -> list[Point]:
    """Every moment at which something can die."""
    numbers = range(1, len(reference.effects) + 1)
    return [Point(number, after) for number in numbers for after in (False, True)]
