"""Machines that are given other addresses, in virtual time: let go by a person, in rounds, killed."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from control_plane.core.fleet import (
    Credentials,
    Device,
    Renumbering,
    Site,
    StaticNetwork,
    Strategy,
)
from control_plane.core.overlay import OverlayKind
from control_plane.core.rotation import Fault as Failure
from control_plane.core.rotation import RotationEntry, RotationStep, Subject
from control_plane.core.rotation_rollout import RotationState
from control_plane.engine.audit import AuditFile
from control_plane.engine.records import Order, OrderKind
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.simulator.network import Station
from control_plane.simulator.stage import Stage, set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.engine import running as running_
from tests.engine.running import HORIZON_S, PASSWORDS, KnownSecrets, Running, on_site, small_site
from tests.engine.test_rotating import SECRET, let_go, live_on, rotation, secrets, stands

FAMILY, OTHER = "antminer_stock", "whatsminer_v2"
DHCP = "10.50.0.0/24"
KINDS = {FAMILY: "set_network_conf", OTHER: "net_config"}
Play = Callable[[Running], Awaitable[None]]
Place = Callable[[Device], str]


def new_of(device: Device) -> str:
    return f"10.60.{device.rack[-1]}.{device.slot + 10}"


def next_slot(device: Device) -> str:
    """A rack whose machines all move up by one."""
    return str(ipaddress.IPv4Address(str(device.address)) + 1)


def moving(family: str = FAMILY, *, place: Place = new_of, subnet: str | None = None) -> Site:
    """The small site, the machines of one family with new addresses."""

    def declare(device: Device) -> Device:
        if device.intent.family != family:
            return device
        address = place(device)
        told = StaticNetwork(
            address=address, netmask="255.255.0.0", gateway="10.60.0.1", dns=("10.60.0.1",)
        )
        moves = Renumbering(
            network=told,
            to="10.60.0.0/16",
            address=None if subnet else device.address,
            subnet=subnet,
        )
        return msgspec.structs.replace(device, address=address, renumbering=moves)

    site = found()
    return msgspec.structs.replace(
        site,
        devices=tuple(declare(d) for d in site.devices),
        strategy=Strategy(cohorts=(1, 2), max_new_failure_share=0.05),
    )


def found(subnet: str | None = None, family: str = FAMILY) -> Site:
    """The site as it stands: static, or one family on DHCP."""

    def place(device: Device) -> Device:
        mac = f"02:00:00:00:{device.rack[-1].zfill(2)}:{device.slot:02d}"
        device = msgspec.structs.replace(device, mac=mac)
        if subnet is None or device.intent.family != family:
            return device
        intent = msgspec.structs.replace(device.intent, addressing="dhcp")
        return msgspec.structs.replace(device, address=None, subnet=subnet, intent=intent)

    return small_site(place)


def play_moves(play: Play, folder: Path, *, site: Site, at: Site | None = None) -> None:
    on_site(play, folder, found=at or found(), declared=site, secrets=secrets(), rotates=True)


def places(stage: Stage, family: str = FAMILY) -> dict[str, str]:
    """Where each machine really stands."""
    return {
        asset: station.address
        for asset, station in stage.site.stations.items()
        if stage.site.machine(asset).model.family == family
    }


def wanted(site: Site, family: str = FAMILY) -> dict[str, str | None]:
    return {d.asset: d.address for d in site.devices if d.intent.family == family}


def entries(store: Store) -> list[RotationEntry]:
    return store.rotating(Subject.ADDRESS)


def moves(running: Running, family: str = FAMILY) -> list[str]:
    """Assets, once for each change of network settings that arrived."""
    return [
        write.asset
        for asset in places(running.stage, family)
        for write in running.writes(asset)
        if write.kind == KINDS[family]
    ]


def are_well(running: Running) -> bool:
    """Whether each machine answers where it is declared, and says so."""
    return all(
        slot.unseen is None
        and slot.seen is not None
        and slot.address == slot.device.address
        and slot.decision is not None
        and slot.decision.converged
        for slot in running.engine.slots.values()
    )


def test_each_wave_waits_for_a_person_and_then_moves(tmp_path: Path) -> None:
    site = moving()

    async def play(running: Running) -> None:
        store, before = running.other, places(running.stage)
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        await asyncio.sleep(600.0)
        assert places(running.stage) == before
        # Looks and writes go on where they are.
        assert all(slot.unseen is None for slot in running.engine.slots.values())
        now = rotation(store)
        assert now is not None
        assert now.id == "n0001"
        let_go(store)
        await running.until(lambda: stands(store, RotationState.WAITING, "wave 2"))
        assert len(set(places(running.stage).values()) - set(before.values())) == 1
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert places(running.stage) == wanted(site)
        assert sorted(moves(running)) == sorted(before)
        await running.until(lambda: are_well(running))
        assert {e.verified for e in entries(store)} == set(wanted(site).values())
        assert {m.located for a, m in store.memories().items() if a in before} == set(
            wanted(site).values()
        )
        assert not any(slot.locked for slot in running.engine.slots.values())

    play_moves(play, tmp_path, site=site)


def test_machines_on_dhcp_are_found_by_who_they_are_and_given_static_addresses(
    tmp_path: Path,
) -> None:
    site = moving(subnet=DHCP)

    async def play(running: Running) -> None:
        store = running.other
        assert all(place.startswith("10.50.0.") for place in places(running.stage).values())
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        await running.until(
            lambda: all(slot.unseen is None for slot in running.engine.slots.values())
        )
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert places(running.stage) == wanted(site)
        await running.until(lambda: are_well(running))
        assert len(moves(running)) == len(wanted(site))

    play_moves(play, tmp_path, site=site, at=found(DHCP))


def test_whatsminers_that_boot_for_it_move_too_and_one_that_sleeps_is_left(tmp_path: Path) -> None:
    site = moving(OTHER)

    async def play(running: Running) -> None:
        store, asset = running.other, min(wanted(site, OTHER))
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        running.stage.site.machine(asset).sleep()
        slot = running.engine.slots[asset]
        await running.until(lambda: slot.seen is not None and slot.seen.settings.mining is False)
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.WAITING, "sleeps"))
        assert asset not in moves(running, OTHER)
        left = {a for a, at in places(running.stage, OTHER).items() if at != wanted(site, OTHER)[a]}
        assert left == {asset}

    play_moves(play, tmp_path, site=site)


def test_in_a_row_that_moves_up_the_last_goes_first(tmp_path: Path) -> None:
    site = moving(place=next_slot)

    async def play(running: Running) -> None:
        store = running.other
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE), within_s=6_000.0)
        assert places(running.stage) == wanted(site)
        order = sorted(
            (write.at_device_s, write.asset)
            for asset in places(running.stage)
            for write in running.writes(asset)
            if write.kind == KINDS[FAMILY]
        )
        slots = {device.asset: device.slot for device in site.devices}
        assert [slots[asset] for _, asset in order] == [4, 3, 2, 1]

    play_moves(play, tmp_path, site=site)


def test_nothing_is_sent_while_a_stranger_has_the_new_address(tmp_path: Path) -> None:
    site = moving()

    async def play(running: Running) -> None:
        store, network = running.other, running.stage.site.network
        asset = min(wanted(site))
        stranger = next(s for s in running.stage.site.stations.values() if s.asset != asset)
        address = str(wanted(site)[asset])
        network.add(Station("stranger", address, stranger.device))
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        let_go(store, through=9)
        await running.until(
            lambda: any("another machine answers" in e.detail for e in entries(store))
        )
        await asyncio.sleep(1_500.0)
        assert asset not in moves(running)
        network.move([(s, "10.99.0.1") for s in list(network) if s.asset == "stranger"])
        await running.until(lambda: stands(store, RotationState.DONE), within_s=6_000.0)
        assert places(running.stage) == wanted(site)

    play_moves(play, tmp_path, site=site)


def test_an_answer_that_is_lost_is_no_second_change(tmp_path: Path) -> None:
    site = moving()

    async def play(running: Running) -> None:
        store = running.other
        for asset in wanted(site):
            running.stage.site.machine(asset).loses_network_answer = True
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert places(running.stage) == wanted(site)
        assert sorted(moves(running)) == sorted(wanted(site))

    play_moves(play, tmp_path, site=site)


def test_a_machine_that_ignores_it_stops_all_and_a_person_lets_it_go_on(tmp_path: Path) -> None:
    site = moving()

    async def play(running: Running) -> None:
        store, before = running.other, places(running.stage)
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        for asset in before:
            running.stage.site.machine(asset).obeys = False
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.HALTED))
        assert len(moves(running)) == 1
        (entry,) = [e for e in entries(store) if e.step is RotationStep.FAILED]
        assert entry.fault is Failure.NOT_TAKEN
        assert entry.verified == before[entry.asset]
        for asset in before:
            running.stage.site.machine(asset).obeys = True
        let_go(store)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert places(running.stage) == wanted(site)

    play_moves(play, tmp_path, site=site)


def test_one_that_stands_there_already_is_told_nothing(tmp_path: Path) -> None:
    site = moving()

    async def play(running: Running) -> None:
        store, asset = running.other, min(wanted(site))
        machine = running.stage.site.machine(asset)
        machine.readdress(str(wanted(site)[asset]))
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        let_go(store, through=9)
        await running.until(lambda: stands(store, RotationState.DONE))
        assert places(running.stage) == wanted(site)
        assert asset not in moves(running)

    play_moves(play, tmp_path, site=site)


def test_a_hold_wins(tmp_path: Path) -> None:
    site = moving()

    async def play(running: Running) -> None:
        store, before = running.other, places(running.stage)
        await running.until(lambda: stands(store, RotationState.WAITING, "lets it go"))
        running.hold(site.id, OverlayKind.MAINTENANCE_HOLD)
        let_go(store, through=9)
        await asyncio.sleep(900.0)
        assert places(running.stage) == before
        store.drop_overlay("h1")
        await running.until(lambda: stands(store, RotationState.DONE))
        assert places(running.stage) == wanted(site)

    play_moves(play, tmp_path, site=site)


def test_a_machine_that_forgot_everything_is_given_it_again(tmp_path: Path) -> None:
    """As after an image that resets it, or another control board: the maker's password, and DHCP."""
    given = Credentials(user="root", secret_ref="env:new", previous=(f"env:{FAMILY}",))
    site = moving(subnet=DHCP)
    devices = tuple(
        running_.intending(d, credentials=given) if d.intent.family == FAMILY else d
        for d in site.devices
    )
    site = msgspec.structs.replace(site, devices=devices)

    def all_is_done(running: Running) -> bool:
        known = running.other.rotations()
        return len(known) == 2 and all(r.state is RotationState.DONE for r in known)

    async def play(running: Running) -> None:
        store, asset = running.other, min(wanted(site))
        machine = running.stage.site.machine(asset)
        await running.until(lambda: len(store.rotations()) == 2)
        for each in store.rotations():
            store.put_order(
                Order(kind=OrderKind.CREDENTIALS, target=each.id, by="ann", through=9, at_s=0.0)
            )
        await running.until(lambda: all_is_done(running), within_s=6_000.0)
        assert machine.password == SECRET
        machine.password = PASSWORDS[FAMILY]
        machine.readdress(None)
        assert places(running.stage)[asset].startswith("10.50.0.")
        await running.until(
            lambda: machine.password == SECRET and places(running.stage) == wanted(site),
            within_s=6_000.0,
        )
        await running.until(lambda: all_is_done(running) and are_well(running))

    play_moves(play, tmp_path, site=site, at=found(DHCP))


@pytest.mark.parametrize("subnet", [None, DHCP], ids=["static", "dhcp"])
@pytest.mark.parametrize(
    ("lives", "mute"),
    [
        *(((n,), False) for n in range(1, 6)),
        *(((n,), True) for n in range(3, 6)),
        ((0,), False),
        ((0, 1), True),
        ((1,) * 8, False),
    ],
    ids=str,
)
def test_every_machine_is_found_wherever_the_process_dies(
    tmp_path: Path, lives: tuple[int, ...], subnet: str | None, *, mute: bool
) -> None:
    site, path = moving(subnet=subnet), tmp_path / "state.sqlite"

    async def main(loop: VirtualLoop) -> None:
        stage = set_stage(found(subnet), loop, seed=5, passwords=PASSWORDS)
        first = Store(path)
        revisions = Revisions(first, site.id)
        running_._accept(first, AuditFile(tmp_path / "audit.jsonl"), revisions, site, 0.0)
        for asset in places(stage):
            stage.site.machine(asset).loses_network_answer = mute
        async for _ in live_on(stage, path, lives, site, KnownSecrets(), within_s=4_000.0):
            pass
        assert stands(first, RotationState.DONE), rotation(first)
        assert places(stage) == wanted(site)
        for asset in places(stage):
            sent = stage.site.world.ledger.select(asset=asset)
            assert {w.kind for w in sent} == {KINDS[FAMILY]}

    run_virtual(main, horizon_s=10 * HORIZON_S)
