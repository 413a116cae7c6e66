"""Passwords and addresses that the controller changes: its state in an API server in memory, virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from control_plane.core import limits
from control_plane.core.cluster import ClusterAway
from control_plane.core.rotation import RotationStep, Subject
from control_plane.core.rotation_rollout import Rotation, RotationState
from control_plane.core.secret import Secret
from control_plane.kube.controller import Controller
from control_plane.kube.kinds import STATE_SHARD
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.stage import set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.kube.test_controller import FILES, PASSWORDS, FactorySecrets, Playing
from tests.kube.test_enforcing import _adopted
from tests.kube.waves import SCALE, Cut, let_go, serving, site_of, until

FAMILY, NEW_PASSWORD = "antminer_stock", "n3w_pass"
_OLD = b'credentials: {user: root, secret_ref: "env:GRIDPLANE_ANTMINER_PASSWORD"}'
_NEW = (
    b'credentials: {user: root, secret_ref: "env:GRIDPLANE_NEXT", '
    b'previous: ["env:GRIDPLANE_ANTMINER_PASSWORD"]}'
)
ROTATING = {path: data.replace(_OLD, _NEW) for path, data in FILES.items()}


_RACKS, _SITE = "sites/lab/racks/lab.yaml", "sites/lab/site.yaml"
_OLD_PLACE, _NEW_PLACE = b"{static_by_slot: 10.90.0.11}", b"10.90.0.111"
_NETWORK = b"{name: miners, cidr: 10.90.0.0/24, purpose: miners}"
MOVING = {
    **FILES,
    _RACKS: FILES[_RACKS].replace(
        _OLD_PLACE, b"{static_by_slot: " + _NEW_PLACE + b", previous: " + _OLD_PLACE + b"}"
    ),
    _SITE: FILES[_SITE].replace(_NETWORK, _NETWORK[:-1] + b", gateway: 10.90.0.1}"),
}
MOVED = {f"10.90.0.{111 + n}" for n in range(6)}


class BothPasswords(FactorySecrets):
    def resolve(self, ref: str) -> Secret:
        return Secret(NEW_PASSWORD) if ref == "env:GRIDPLANE_NEXT" else super().resolve(ref)


def play(tmp_path: Path, act: Callable[[Playing], Awaitable[None]]) -> None:
    async def main(loop: VirtualLoop) -> None:
        stage = set_stage(site_of(FILES), loop, seed=5, scale=SCALE, passwords=PASSWORDS)
        await act(Playing(loop, stage, ApiServer(stage.clock), tmp_path, secrets=BothPasswords()))

    run_virtual(main, horizon_s=20_000.0)


def rotation(controller: Controller) -> Rotation | None:
    tenure = controller.tenure
    found = [r for r in tenure.store.rotations() if r.is_declared] if tenure else []
    return found[-1] if found else None


def stands(controller: Controller, state: RotationState) -> bool:
    now = rotation(controller)
    return now is not None and now.state is state


def passwords(playing: Playing) -> Counter[str]:
    """What the Antminers really have."""
    site = playing.stage.site
    machines = (site.machine(asset) for asset in site.stations)
    return Counter(m.password for m in machines if m.model.family == FAMILY)


def changes(playing: Playing) -> Counter[str]:
    writes = playing.stage.site.world.ledger.select()
    return Counter(w.asset for w in writes if w.kind == "passwd")


def places(playing: Playing) -> set[str]:
    """Where the Antminers really stand."""
    site = playing.stage.site
    return {
        station.address
        for asset, station in site.stations.items()
        if site.machine(asset).model.family == FAMILY
    }


async def at_the_first_wave(
    playing: Playing, controller: Controller, files: dict[str, bytes] = ROTATING
) -> Rotation:
    await _adopted(playing, controller)
    await playing.declare(files, mode="enforce")
    await until(playing, lambda: stands(controller, RotationState.WAITING))
    await until(playing, lambda: (now := rotation(controller)) and now.awaits_person)
    now = rotation(controller)
    assert now is not None
    # It is known to whoever leads next.
    await asyncio.sleep(2 * limits.LEDGER_LAG_S)
    return now


def test_each_wave_waits_for_a_person_and_is_kept_before_a_change_leaves(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        controller, _ = playing.controller("one")
        async with serving(controller):
            now = await at_the_first_wave(playing, controller)
            await asyncio.sleep(120)
            assert passwords(playing) == {"root": 6}
            await let_go(playing, "credentials", now.id, through=9)
            await until(playing, lambda: stands(controller, RotationState.DONE))
            assert passwords(playing) == {NEW_PASSWORD: 6}
            assert set(changes(playing).values()) == {1}
            assert controller.tenure is not None
            steps = {e.step for e in controller.tenure.store.rotating(Subject.PASSWORD)}
            assert steps == {RotationStep.DONE}
            assert not any(s.locked for s in controller.tenure.engine.slots.values())  # type: ignore[union-attr]

    play(tmp_path, act)


def test_what_the_cluster_does_not_keep_is_not_sent(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        controller, line = playing.controller("one")
        async with serving(controller):
            now = await at_the_first_wave(playing, controller)
            await let_go(playing, "credentials", now.id, through=9)
            await until(playing, lambda: stands(controller, RotationState.ROTATING))

            def refuse(call: Any) -> None:
                if call.kind is STATE_SHARD and call.writes:
                    raise ClusterAway("etcd is full")

            line.faults.before = refuse
            before = passwords(playing)[NEW_PASSWORD]
            await asyncio.sleep(120)
            # One may have been under way at that very moment.
            assert passwords(playing)[NEW_PASSWORD] <= before + 1
            line.faults.before = None
            await until(playing, lambda: stands(controller, RotationState.DONE))
            assert passwords(playing) == {NEW_PASSWORD: 6}

    play(tmp_path, act)


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 13])
def test_a_leader_that_is_lost_in_the_middle_locks_nobody_out(
    tmp_path: Path, at: int, arrives: bool
) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        two, _ = playing.controller("two")
        async with serving(one):
            now = await at_the_first_wave(playing, one)
            cut = Cut(line, at=at, arrives=arrives, kinds=(STATE_SHARD,))
            await let_go(playing, "credentials", now.id, through=9)
            async with serving(two):
                await until(playing, lambda: cut.happened)
                # A change whose leader died right before the wire is named; a person lets it go on.
                await until(
                    playing,
                    lambda: stands(two, RotationState.DONE) or stands(two, RotationState.HALTED),
                )
                assert set(passwords(playing)) <= {"root", NEW_PASSWORD}
                assert all(count == 1 for count in changes(playing).values())
                assert two.tenure is not None
                for entry in two.tenure.store.rotating(Subject.PASSWORD):
                    machine = playing.stage.site.machine(entry.asset)
                    known = {"env:GRIDPLANE_NEXT": NEW_PASSWORD}.get(entry.verified or "", "root")
                    assert machine.password == known, entry

    play(tmp_path, act)


@pytest.mark.parametrize("at", [2, 5, 8])
def test_addresses_are_given_by_whoever_leads_and_nobody_is_lost(tmp_path: Path, at: int) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        two, _ = playing.controller("two")
        async with serving(one):
            now = await at_the_first_wave(playing, one, MOVING)
            await asyncio.sleep(120)
            assert not places(playing) & MOVED
            cut = Cut(line, at=at, arrives=True, kinds=(STATE_SHARD,))
            await let_go(playing, "credentials", now.id, through=9)
            async with serving(two):
                await until(playing, lambda: cut.happened)

                def ended() -> bool:
                    return stands(two, RotationState.DONE) or stands(two, RotationState.HALTED)

                await until(playing, ended)
                if stands(two, RotationState.HALTED):
                    # Its leader died right before the wire; a person lets it go on.
                    await let_go(playing, "credentials", now.id, through=9)
                await until(playing, lambda: stands(two, RotationState.DONE))
                assert places(playing) == MOVED
                writes = playing.stage.site.world.ledger.select()
                sent = Counter(w.asset for w in writes if w.kind == "set_network_conf")
                assert sorted(sent.values()) == [1] * 6

    play(tmp_path, act)
