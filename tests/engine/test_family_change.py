"""A machine that is to change its firmware family: held until a person did it, then the same asset goes on.

In virtual time, with simulated machines; the person's work is another machine of the same identity at the
same address, and a while in which nobody answers.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.core.catalogue import Image, Release
from control_plane.core.decision import Reason
from control_plane.core.fleet import Credentials, Device, DeviceType, OwnedPool, Site, Strategy
from control_plane.core.observation import Observation, Unseen, UnseenReason
from control_plane.core.ports import Connection, Net
from control_plane.core.tls import TlsPin
from control_plane.core.verify import Stage
from control_plane.engine.images import ImageFolder
from control_plane.engine.local_grants import LocalGrants
from control_plane.engine.log import silent
from control_plane.engine.slots import Slot
from control_plane.simulator.build import build_site
from control_plane.simulator.network import Trouble
from control_plane.simulator.virtual import EPOCH_S
from tests.engine.running import PASSWORDS, Running, on_site
from tests.simulator.floors import POOLS, S19_VNISH, S21, S21_LUXOS, a_site

FACTORY = (OwnedPool(name="f", url="stratum+tcp://factory.pool:3333", worker="nobody"),)
TYPES: dict[str, DeviceType] = {
    "antminer_stock": S21,
    "luxos": S21_LUXOS,
    "vnish": msgspec.structs.replace(
        S19_VNISH, model="Antminer S21", reported_models=("antminer s21", "s21")
    ),
}
VERSION = "2099.1"


def rack_of(family: str, pools: tuple[OwnedPool, ...] = POOLS, firmware: str | None = None) -> Site:
    """Two machines of a family, at fixed addresses, in one wave."""
    site = a_site(racks=1, slots=2, odd_slots=False)
    kind = TYPES[family]
    credentials = Credentials(user="root", secret_ref=f"env:{family}")

    def meant(device: Device) -> Device:
        intent = msgspec.structs.replace(
            device.intent, family=family, firmware=firmware, pools=pools,
            power_mode=kind.nominal_mode,
            credentials=None if family == "luxos" else credentials,
        )  # fmt: skip
        return msgspec.structs.replace(device, type=kind, intent=intent)

    devices = tuple(meant(d) for d in site.devices if d.type.id != "dgx")
    return msgspec.structs.replace(
        site,
        devices=devices,
        types={kind.id: kind},
        strategy=Strategy(cohorts=(2,), max_new_failure_share=0.5),
    )


def on_dhcp(site: Site) -> Site:
    """The same machines, found by their MAC."""
    devices = tuple(
        msgspec.structs.replace(
            d, address=None, subnet="10.40.0.0/26",
            intent=msgspec.structs.replace(d.intent, addressing="dhcp"),
        )
        for d in site.devices
    )  # fmt: skip
    return msgspec.structs.replace(site, devices=devices)


def slots_of(running: Running) -> list[Slot]:
    return list(running.engine.slots.values())


def are_held(running: Running) -> bool:
    """Whether every machine is held for a person."""
    slots = slots_of(running)
    return all(
        slot.decision is not None and [h.reason for h in slot.decision.held] == [Reason.WORK_ORDER]
        for slot in slots
    )


def are_converged(running: Running) -> bool:
    return (
        all(slot.decision is not None and slot.decision.converged for slot in slots_of(running))
        and not running.other.open_operations()
    )


def a_person_installs(running: Running, found: Site) -> None:
    """Other firmware in the same machines: same place, same MAC and serial, another protocol."""
    stage = running.stage
    made = build_site(
        found, clock=stage.site.world.clock, seed=9, passwords=PASSWORDS, epoch_s=EPOCH_S
    )
    for asset, station in stage.site.stations.items():
        before, after = stage.site.machine(asset), made.machine(asset)
        assert (before.mac, before.serial) == (after.mac, after.serial)
        station.device = made.stations[asset].device
    # What they are told from now on is in their own ledger.
    stage.site.world.ledger = made.world.ledger


Play = Callable[[Running], Awaitable[None]]


def play_on(
    play: Play, folder: Path, *, now: Site, wanted: Site, images: Path | None = None, **more: Any
) -> None:
    """The site was brought to what it is now, and is declared of another family then."""
    on_site(
        play,
        folder,
        found=now,
        before=[now],
        declared=wanted,
        granting=None
        if images is None
        else lambda store, epoch, edges, revisions: LocalGrants(
            store, epoch=epoch, edges=edges, revisions=revisions,
            images=lambda _site: ImageFolder(images), say=silent,
        ),
        **more,
    )  # fmt: skip


PAIRS = [
    ("antminer_stock", "luxos"),
    ("antminer_stock", "vnish"),
    ("luxos", "antminer_stock"),
    ("vnish", "antminer_stock"),
    ("vnish", "luxos"),
]
"""Not LuxOS to VNish: the simulated LuxOS has no web page, so that VNish's driver finds nobody there."""


@pytest.mark.parametrize(("now", "wanted"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_nothing_is_written_to_a_machine_of_another_family(
    tmp_path: Path, now: str, wanted: str
) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: are_held(running))
        await asyncio.sleep(1_000.0)
        assert are_held(running)
        for slot in slots_of(running):
            assert isinstance(slot.unseen, Unseen)
            assert slot.unseen.reason is UnseenReason.OTHER_FAMILY
            assert slot.unseen.family == now
            assert running.writes(slot.asset) == ()
            assert running.other.operations(slot.asset) == []
            told = [e.text for _, e in running.other.events(slot.asset) if e.kind == "work_order"]
            assert told == [f"it speaks {now}, not {wanted}: a person's work"], "once"
        assert running.other.incidents() == []

    play_on(play, tmp_path, now=rack_of(now), wanted=rack_of(wanted, FACTORY))


class Noting:
    """A network that notes which ports are asked."""

    def __init__(self, net: Net, ports: list[int]) -> None:
        self._net, self._ports = net, ports

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> Connection:
        self._ports.append(port)
        return await self._net.connect(address, port, deadline_s=deadline_s, tls=tls)


def test_no_password_of_the_declared_family_is_sent_once_it_is_known(tmp_path: Path) -> None:
    ports: list[int] = []

    async def play(running: Running) -> None:
        await running.until(lambda: are_held(running))
        ports.clear()
        await asyncio.sleep(1_000.0)
        assert ports
        assert set(ports) == {4028}, "VNish's login is on port 80"

    play_on(
        play,
        tmp_path,
        now=rack_of("antminer_stock"),
        wanted=rack_of("vnish"),
        net=lambda net: Noting(net, ports),
    )


def a_release(folder: Path) -> Release:
    """VNish for these machines, whose image lies there."""
    folder.mkdir()
    data = b"\x1f\x8b" * 5_000
    (folder / "vnish.tar.gz").write_bytes(data)
    image = Image(
        file="vnish.tar.gz", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)
    )
    return Release(
        id="vnish", family="vnish", version=VERSION, types=frozenset({"s19_vnish"}),
        images=(image,), flash_s=900.0, settle_s=1800.0, can_roll_back=False, voids_warranty=True,
    )  # fmt: skip


def test_no_wave_is_opened_and_no_image_is_sent_to_a_machine_of_another_family(
    tmp_path: Path,
) -> None:
    release = a_release(tmp_path / "images")
    wanted = msgspec.structs.replace(
        rack_of("vnish", firmware=VERSION), releases={("s19_vnish", "vnish", VERSION): release}
    )

    async def play(running: Running) -> None:
        await running.until(lambda: are_held(running))
        await asyncio.sleep(6_000.0)
        assert are_held(running)
        assert running.other.grants() == []
        (rollout,) = running.other.firmware()
        assert (rollout.round, rollout.gates) in {(0, ()), (1, ())}
        assert rollout.is_over, "there is nothing for a person to let go"
        for station in running.stage.site.stations.values():
            assert station.device.unit.flash.written == 0  # type: ignore[attr-defined]
        assert all(running.writes(slot.asset) == () for slot in slots_of(running))

    play_on(
        play, tmp_path, now=rack_of("antminer_stock"), wanted=wanted, images=tmp_path / "images"
    )


@pytest.mark.parametrize(("now", "wanted"), PAIRS[:3], ids=["-".join(pair) for pair in PAIRS[:3]])
def test_once_it_answers_as_declared_the_same_asset_goes_on_under_the_new_driver(
    tmp_path: Path, now: str, wanted: str
) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: are_held(running))
        pins = {slot.asset: slot.memory.pin for slot in slots_of(running)}
        stations = running.stage.site.stations
        for station in stations.values():
            station.trouble = Trouble.BLACK_HOLE
        await asyncio.sleep(600.0)
        a_person_installs(running, rack_of(wanted, FACTORY))
        for station in stations.values():
            station.trouble = None
        await running.until(lambda: are_converged(running), within_s=15_000.0)
        assert set(pins) == set(running.engine.slots), "no asset came or went"
        for slot in slots_of(running):
            assert slot.memory.pin == pins[slot.asset]
            assert slot.driver is running.drivers[wanted]
            assert slot.memory.family == wanted
            assert isinstance(slot.seen, Observation)
            assert slot.seen.identity is not None
            assert slot.seen.identity.family == wanted
            urls = [pool.url for pool in slot.seen.settings.pools or ()]
            assert urls == [pool.url for pool in POOLS]
            operations = running.other.operations(slot.asset)
            assert {o.why for o in operations} == {"rollout"}, "what it came with is no drift"
            assert operations[-1].stage is Stage.CONFIRMED

    play_on(play, tmp_path, now=rack_of(now), wanted=rack_of(wanted))


def test_another_machine_of_the_new_family_is_not_taken_for_the_asset(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        await running.until(lambda: are_held(running))
        a_person_installs(running, rack_of("luxos", FACTORY))
        machines = [running.stage.site.machine(slot.asset) for slot in slots_of(running)]
        for number, machine in enumerate(machines):
            machine.mac, machine.serial = f"02:00:00:00:99:{number:02x}", f"OTHER{number}"

        def are_strangers() -> bool:
            return all(
                slot.decision is not None
                and [h.reason for h in slot.decision.held] == [Reason.WRONG_IDENTITY]
                for slot in slots_of(running)
            )

        await running.until(are_strangers)
        await asyncio.sleep(1_000.0)
        assert all(running.writes(slot.asset) == () for slot in slots_of(running))

    play_on(play, tmp_path, now=rack_of("antminer_stock"), wanted=rack_of("luxos"))


@pytest.mark.parametrize("dhcp", [False, True], ids=["fixed", "dhcp"])
def test_an_engine_that_runs_holds_them_from_the_acceptance_until_they_answer_anew(
    tmp_path: Path, *, dhcp: bool
) -> None:
    place = on_dhcp if dhcp else (lambda site: site)

    async def play(running: Running) -> None:
        await running.until(lambda: are_converged(running))
        pins = {slot.asset: slot.memory.pin for slot in slots_of(running)}
        written = {asset: running.writes(asset) for asset in pins}
        running.declare(place(rack_of("luxos")))
        await running.until(lambda: are_held(running))
        await asyncio.sleep(1_000.0)
        assert are_held(running)
        assert {asset: running.writes(asset) for asset in pins} == written
        network = running.stage.site.network
        a_person_installs(running, place(rack_of("luxos", FACTORY)))
        if dhcp:
            network.move([(s, f"10.40.0.{60 + n}") for n, s in enumerate(list(network))])
        await running.until(lambda: are_converged(running), within_s=15_000.0)
        for slot in slots_of(running):
            assert slot.memory.pin == pins[slot.asset]
            assert slot.memory.family == "luxos"
            assert slot.seen is not None
            assert len(slot.seen.settings.pools or ()) == len(POOLS)
        if dhcp:
            assert {slot.address for slot in slots_of(running)} == {"10.40.0.60", "10.40.0.61"}

    # A pool more with the new family: that is no write for the old firmware.
    now = place(rack_of("antminer_stock", POOLS[:1]))
    play_on(play, tmp_path, now=now, wanted=now)
