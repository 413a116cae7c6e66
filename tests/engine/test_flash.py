"""A device on its way to another firmware, in virtual time: every image, and a death at every step."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from control_plane.core.catalogue import Image
from control_plane.core.errors import StoreError
from control_plane.core.firmware import Bundle
from control_plane.core.flashing import COMMITTED, FlashEntry, FlashStep
from control_plane.core.ports import Target
from control_plane.engine.flash import Flasher, flash_all
from control_plane.engine.images import ImageFolder
from control_plane.simulator.images import Conduct, SimImage, make_image
from control_plane.simulator.network import Trouble
from tests.drivers.making import Bench, on_bench

FAMILIES = ("antminer_stock", "vnish", "whatsminer_v2")
NEW = "20991231.10.REL"
FLASH_S, SETTLE_S = 900.0, 3600.0
Play = Callable[[Bench], Awaitable[None]]


class Kept:
    """A journal in memory; it can be asked to fail."""

    def __init__(self) -> None:
        self.entries: dict[str, FlashEntry] = {}
        self.steps: list[FlashStep] = []
        self.fails_at: FlashStep | None = None
        self.failures = 0

    async def keep(self, entry: FlashEntry) -> None:
        await asyncio.sleep(0.01)
        if entry.step is self.fails_at:
            self.failures += 1
            raise StoreError("disk full")
        self.entries[entry.asset] = entry
        self.steps.append(entry.step)

    def of(self, asset: str) -> FlashEntry:
        return self.entries.get(asset, FlashEntry(asset=asset))


class Shop:
    """A bundle, a folder with its image, a journal."""

    def __init__(self, folder: Path, family: str, *, conduct: Conduct = Conduct.GOOD) -> None:
        self.folder, self.family, self.conduct = folder, family, conduct
        self.journal = Kept()

    def bundle(self, bench: Bench, *, model: str | None = None, flash_s: float = FLASH_S) -> Bundle:
        told = model or bench.stage.site.machine(bench.target.asset).model.model
        image = SimImage(
            family=self.family, models=(told.casefold(),), version=NEW, conduct=self.conduct
        )
        data = make_image(image, size_bytes=300_000)
        (self.folder / "new.bin").write_bytes(data)
        return Bundle(
            family=self.family, make="x", model=told, reported_models=(), version=NEW,
            images=(
                Image(
                    file="new.bin", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)
                ),
            ),
            min_from_version=None, flash_s=flash_s, settle_s=SETTLE_S, can_roll_back=True, power_mode=None,
            power_limit_w=None, credentials=None,
        )  # fmt: skip

    def flasher(self, bench: Bench, bundle: Bundle, *, deadline_s: float = 7200.0) -> Flasher:
        return Flasher(
            bundle, bench.driver, ImageFolder(self.folder), self.journal, bench.stage.clock,  # type: ignore[arg-type]
            deadline_s=bench.stage.clock.wall_s() + deadline_s,
        )  # fmt: skip

    async def flash(self, bench: Bench, bundle: Bundle | None = None) -> FlashEntry:
        flasher = self.flasher(bench, bundle or self.bundle(bench))
        return await whole(flasher, self.journal.of(bench.target.asset), bench.target)


async def whole(flasher: Flasher, entry: FlashEntry, target: Target) -> FlashEntry:
    """One device, from wherever it is to its end."""
    return await flasher.verify(await flasher.install(entry, target), target)


async def soon(holds: Callable[[], bool]) -> None:
    """Look ten times a virtual second."""
    while not holds():  # noqa: ASYNC110 — what is waited for tells nobody
        await asyncio.sleep(0.1)


def flashes(bench: Bench) -> int:
    """How often an image was written to the device."""
    return bench.stage.site.stations[bench.target.asset].device.unit.flash.written  # type: ignore[attr-defined,no-any-return]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_image_is_sent_booted_and_seen_to_hash(tmp_path: Path, family: str) -> None:
    shop = Shop(tmp_path, family)

    async def play(bench: Bench) -> None:
        entry = await shop.flash(bench)
        assert (entry.step, flashes(bench)) == (FlashStep.DONE, 1)
        assert entry.image == shop.bundle(bench).images[0].sha256
        assert 5.0 < (entry.j_per_th_before or 0.0) < 50.0
        assert 5.0 < (entry.j_per_th_after or 0.0) < 50.0
        assert shop.journal.steps == [
            FlashStep.COMMITTING, FlashStep.REBOOTING, FlashStep.VERIFYING, FlashStep.DONE,
        ]  # fmt: skip
        assert (await bench.driver.facts(bench.target))[1].version == NEW  # type: ignore[attr-defined]
        # A second time nothing is sent.
        again = await Shop(tmp_path, family).flash(bench)
        assert (again.step, again.detail) == (FlashStep.DONE, "it ran it already")
        assert flashes(bench) == 1

    on_bench(family, play)


@pytest.mark.parametrize(
    ("conduct", "step", "said"),
    [
        (Conduct.BRICKS, FlashStep.QUARANTINED, "it has not answered for 15 min"),
        (Conduct.IDLE, FlashStep.QUARANTINED, f"it runs {NEW}, and does not hash 80%"),
        (Conduct.WEAK, FlashStep.QUARANTINED, f"it runs {NEW}, and does not hash 80%"),
    ],
)
def test_a_bad_image_ends_with_a_sentence(
    tmp_path: Path, family: str, conduct: Conduct, step: FlashStep, said: str
) -> None:
    shop = Shop(tmp_path, family, conduct=conduct)

    async def play(bench: Bench) -> None:
        entry = await shop.flash(bench)
        assert entry.step is step
        assert entry.detail.startswith(said)
        assert flashes(bench) == 1

    on_bench(family, play)


def test_a_device_that_finds_the_image_wrong_is_named(tmp_path: Path, family: str) -> None:
    shop = Shop(tmp_path, family)

    async def play(bench: Bench) -> None:
        entry = await shop.flash(bench, shop.bundle(bench, model="Another Model"))
        assert entry.step is FlashStep.QUARANTINED
        # VNish says no and fails half-way with one and the same status: then it is looked at.
        said = "it still runs" if family == "vnish" else "the device refuses the image"
        assert entry.detail.startswith(said)
        assert flashes(bench) == 0

    on_bench(family, play)


def spoilt(shop: Shop, bench: Bench) -> Bundle:
    bundle = shop.bundle(bench)
    path = shop.folder / "new.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    return bundle


def short(shop: Shop, bench: Bench) -> Bundle:
    bundle = shop.bundle(bench)
    path = shop.folder / "new.bin"
    path.write_bytes(path.read_bytes()[:-1])
    return bundle


def missing(shop: Shop, bench: Bench) -> Bundle:
    bundle = shop.bundle(bench)
    (shop.folder / "new.bin").unlink()
    return bundle


def of_another_model(shop: Shop, bench: Bench) -> Bundle:
    return msgspec.structs.replace(shop.bundle(bench), reported_models=("nothing of ours",))


def over_what_is_too_old(shop: Shop, bench: Bench) -> Bundle:
    return msgspec.structs.replace(shop.bundle(bench), min_from_version="20980101.1.REL")


def longer_than_the_grant(shop: Shop, bench: Bench) -> Bundle:
    return shop.bundle(bench, flash_s=7201.0)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (spoilt, "has the SHA-256"),
        (short, "and the catalogue says"),
        (missing, "No such file"),
        (of_another_model, "the release is for nothing of ours"),
        (over_what_is_too_old, "older than"),
        (longer_than_the_grant, "the grant ends in 7200 s"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_does_not_fit_is_not_begun(
    tmp_path: Path, family: str, break_it: Callable[[Shop, Bench], Bundle], said: str
) -> None:
    shop = Shop(tmp_path, family)

    async def play(bench: Bench) -> None:
        entry = await shop.flash(bench, break_it(shop, bench))
        assert (entry.step, entry.attempt) == (FlashStep.PENDING, 0)
        assert said in entry.detail
        assert (shop.journal.steps, bench.writes()) == ([], ())

    on_bench(family, play)


def test_another_machine_at_the_address_is_not_written_to(tmp_path: Path, family: str) -> None:
    shop = Shop(tmp_path, family)

    async def play(bench: Bench) -> None:
        bench.stage.site.machine(bench.target.asset).mac = "02:00:00:00:00:99"
        bench.stage.site.machine(bench.target.asset).serial = "STRANGER"
        entry = await shop.flash(bench)
        assert (entry.step, entry.detail) == (FlashStep.PENDING, "not the machine that is pinned")
        assert bench.writes() == ()

    on_bench(family, play)


def test_an_image_does_not_leave_before_the_step_is_kept(tmp_path: Path, family: str) -> None:
    shop = Shop(tmp_path, family)
    shop.journal.fails_at = FlashStep.COMMITTING

    async def play(bench: Bench) -> None:
        with pytest.raises(StoreError):
            await shop.flash(bench)
        assert bench.writes() == ()

    on_bench(family, play)


@pytest.mark.parametrize("step", [FlashStep.REBOOTING, FlashStep.VERIFYING, FlashStep.DONE])
def test_what_has_happened_is_kept_once_that_works_again(
    tmp_path: Path, family: str, step: FlashStep
) -> None:
    shop = Shop(tmp_path, family)
    shop.journal.fails_at = step

    async def heal() -> None:
        await soon(lambda: shop.journal.failures == 5)
        shop.journal.fails_at = None

    async def play(bench: Bench) -> None:
        entry, _ = await asyncio.gather(shop.flash(bench), heal())
        assert (entry.step, shop.journal.of(entry.asset).step) == (FlashStep.DONE, FlashStep.DONE)
        assert flashes(bench) == 1

    on_bench(family, play)


def test_power_that_goes_away_while_it_is_written_is_told(tmp_path: Path, family: str) -> None:
    shop = Shop(tmp_path, family)

    async def play(bench: Bench) -> None:
        machine = bench.stage.site.machine(bench.target.asset)

        async def cut() -> None:
            await soon(machine.is_flashing)
            assert shop.journal.of(bench.target.asset).step in COMMITTED
            machine.power_off()
            await asyncio.sleep(30.0)
            machine.power_on()

        entry, _ = await asyncio.gather(shop.flash(bench), cut())
        assert entry.step is FlashStep.QUARANTINED
        assert "has not answered" in entry.detail
        assert machine.cut_while_flashing

    on_bench(family, play)


@pytest.mark.parametrize("trouble", [Trouble.MUTE, Trouble.RESET, Trouble.GARBAGE, Trouble.SLOW])
def test_an_answer_that_is_lost_is_no_reason_to_send_it_again(
    tmp_path: Path, family: str, trouble: Trouble
) -> None:
    shop = Shop(tmp_path, family)

    async def play(bench: Bench) -> None:
        station = bench.stage.site.stations[bench.target.asset]
        bundle = shop.bundle(bench)

        async def spoil() -> None:
            # From when the image is there; its answer is on the way.
            await soon(lambda: bool(bench.writes()))
            station.trouble = trouble
            await asyncio.sleep(300.0)
            station.trouble = None

        entry, _ = await asyncio.gather(shop.flash(bench, bundle), spoil())
        assert (entry.step, flashes(bench)) == (FlashStep.DONE, 1)

    on_bench(family, play)


class Killer:
    """Ends a run at its n-th turn of the loop, as `kill -9` does: nothing is tidied up, nothing kept."""

    def __init__(self, shop: Shop, after_s: float) -> None:
        self.shop, self.after_s = shop, after_s

    async def play(self, bench: Bench) -> None:
        bundle = self.shop.bundle(bench)
        first = asyncio.ensure_future(self.shop.flash(bench, bundle))
        await asyncio.wait({first}, timeout=self.after_s)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        left = self.shop.journal.of(bench.target.asset)
        entry = await self.shop.flash(bench, bundle)
        machine = bench.stage.site.machine(bench.target.asset)
        assert flashes(bench) <= 1
        assert not machine.cut_while_flashing
        assert entry.is_final
        if entry.step is FlashStep.QUARANTINED:
            # Killed after the step was kept and before the image had left: named, and never sent again.
            assert left.step is FlashStep.COMMITTING
            assert "the image did not take" in entry.detail
            assert flashes(bench) == 0
        else:
            assert (entry.step, flashes(bench)) == (FlashStep.DONE, 1)


@pytest.mark.parametrize("at", [FlashStep.COMMITTING, FlashStep.REBOOTING, FlashStep.VERIFYING])
def test_told_to_end_it_sends_the_image_to_its_end_and_waits_for_nobody(
    tmp_path: Path, family: str, at: FlashStep
) -> None:
    shop = Shop(tmp_path, family)

    async def play(bench: Bench) -> None:
        bundle = shop.bundle(bench)
        flasher = shop.flasher(bench, bundle)

        async def tell() -> float:
            await soon(lambda: at in shop.journal.steps)
            flasher.stop()
            return bench.stage.clock.wall_s()

        entry, told_s = await asyncio.gather(
            whole(flasher, FlashEntry(asset=bench.target.asset), bench.target), tell()
        )
        assert bench.stage.clock.wall_s() - told_s < 10.0
        assert entry.step in COMMITTED
        assert flashes(bench) == 1
        # Whoever comes next goes on.
        assert (await shop.flash(bench, bundle)).step is FlashStep.DONE
        assert flashes(bench) == 1

    on_bench(family, play)


def test_told_to_end_it_does_not_wait_for_a_journal_that_is_away(
    tmp_path: Path, family: str
) -> None:
    shop = Shop(tmp_path, family)
    shop.journal.fails_at = FlashStep.REBOOTING

    async def play(bench: Bench) -> None:
        bundle = shop.bundle(bench)
        flasher = shop.flasher(bench, bundle)

        async def tell() -> None:
            await soon(lambda: shop.journal.failures == 3)
            flasher.stop()

        with pytest.raises(StoreError):
            await asyncio.gather(
                whole(flasher, FlashEntry(asset=bench.target.asset), bench.target), tell()
            )
        shop.journal.fails_at = None
        assert (await shop.flash(bench, bundle)).step is FlashStep.DONE
        assert flashes(bench) == 1

    on_bench(family, play)


def test_told_to_end_before_it_began_it_does_not(tmp_path: Path, family: str) -> None:
    shop = Shop(tmp_path, family)

    async def play(bench: Bench) -> None:
        flasher = shop.flasher(bench, shop.bundle(bench))
        flasher.stop()
        entry = await whole(flasher, FlashEntry(asset=bench.target.asset), bench.target)
        assert (entry.step, entry.attempt, bench.writes()) == (FlashStep.PENDING, 0, ())

    on_bench(family, play)


POINTS_S = (
    0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 1.0, 3.0, 6.0,
    10.0, 60.0, 120.0, 200.0, 400.0, 900.0, 1500.0,
)  # fmt: skip


@pytest.mark.parametrize("after_s", POINTS_S)
def test_whoever_dies_at_any_step_is_taken_over_without_a_second_image(
    tmp_path: Path, family: str, after_s: float
) -> None:
    on_bench(family, Killer(Shop(tmp_path, family), after_s).play)


def test_no_more_than_the_budget_at_the_same_time_and_the_begun_first(
    tmp_path: Path, family: str
) -> None:
    order: list[str] = []
    now = most = 0

    class Slow(Flasher):
        async def install(self, entry: FlashEntry, target: object) -> FlashEntry:
            nonlocal now, most
            order.append(entry.asset)
            now += 1
            most = max(most, now)
            await asyncio.sleep(1.0)
            now -= 1
            return entry

    async def play(bench: Bench) -> None:
        shop = Shop(tmp_path, family)
        bundle = shop.bundle(bench)
        flasher = Slow(
            bundle, bench.driver, ImageFolder(tmp_path), shop.journal, bench.stage.clock,  # type: ignore[arg-type]
            deadline_s=1.0,
        )  # fmt: skip
        work = [(FlashEntry(asset=f"a{n}", attempt=int(n == 7)), bench.target) for n in range(10)]
        ended: list[FlashEntry] = []
        await flash_all(flasher, work, at_once=3, say=ended.append)
        assert len(ended) == 10

    on_bench(family, play)
    assert (most, order[0]) == (3, "a7")
