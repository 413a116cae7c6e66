"""A site's state out of a cluster, into an empty one or onto a box; nothing is written to a device."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from control_plane.core.cluster import ClusterAway
from control_plane.core.errors import StoreError
from control_plane.engine.backup import (
    RESTORED,
    Backup,
    held,
    into_store,
    packed_backup,
    read_backup,
    rows_of,
)
from control_plane.engine.store import Store
from control_plane.kube.backup import from_cluster, into_cluster
from control_plane.kube.kinds import SITE, STATE_SHARD
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer
from tests.kube.test_controller import NAMESPACE, Playing, play
from tests.kube.test_enforcing import CHANGED, SCALE, _adopted, _writes


async def _made(playing: Playing) -> Backup:
    return await from_cluster(
        playing.kubectl, site="lab", namespace=NAMESPACE, release="1", now_s=1.0
    )


def mid_rollout(tmp_path: Path, act: Callable[[Playing, Backup], Awaitable[None]]) -> None:
    """A backup, taken while the second wave was being written; then the controller has gone."""

    async def whole(playing: Playing) -> None:
        one, _ = playing.controller("one")
        serving = asyncio.ensure_future(one.run())
        await _adopted(playing, one)
        await playing.declare(CHANGED, mode="enforce")

        async def is_in_second_wave() -> bool:
            store = one.tenure.store if one.tenure else None
            return (
                store is not None
                and store.rollouts()[-1].wave == 1
                and bool(store.open_operations())
            )

        await playing.until(is_in_second_wave, within_s=1_000.0)
        backup = read_backup(packed_backup(await _made(playing)))
        serving.cancel()
        await asyncio.wait([serving])
        await asyncio.sleep(60)  # what had left has arrived: nobody sends any more
        await act(playing, backup)

    play(tmp_path, whole, scale=SCALE)


def test_an_empty_cluster_goes_on_from_it_held_and_without_a_write(tmp_path: Path) -> None:
    async def act(playing: Playing, backup: Backup) -> None:
        before = _writes(playing)
        playing.server = ApiServer(playing.stage.clock)
        playing.kubectl = ApiClient(playing.server, playing.stage.clock, manager="kubectl")
        two, _ = playing.controller("two")
        serving = asyncio.ensure_future(two.run())
        await asyncio.sleep(30)
        name = await into_cluster(playing.kubectl, held(backup, 2.0), namespace=NAMESPACE)

        async def is_taken_over() -> bool:
            return two.tenure is not None and two.tenure.engine is not None

        await playing.until(is_taken_over)
        assert two.tenure is not None
        rollout = two.tenure.store.rollouts()[-1]
        assert rollout.wave == 1
        assert {o.id for o in two.tenure.store.overlays()} == {RESTORED.format(site="lab")}
        assert all(memory.pin is not None for memory in two.tenure.store.memories().values())
        await asyncio.sleep(60)
        assert two.tenure.in_force == name
        await playing.kubectl.apply(
            SITE,
            {
                "apiVersion": SITE.api_version,
                "kind": "Site",
                "metadata": {"name": "lab", "namespace": NAMESPACE},
                "spec": {"mode": "enforce", "revision": name},
            },
            manager="ann",
        )
        await asyncio.sleep(120)
        assert _writes(playing) == before, "held, whatever the mode"
        two.tenure.said.drop_overlay(RESTORED.format(site="lab"))

        async def is_done() -> bool:
            return two.tenure is not None and two.tenure.store.rollouts()[-1].state == "done"

        await playing.until(is_done, within_s=1_000.0)
        serving.cancel()

    mid_rollout(tmp_path, act)


def test_a_box_goes_on_from_it(tmp_path: Path) -> None:
    async def act(_playing: Playing, backup: Backup) -> None:
        store = Store(None)
        into_store(held(backup, 2.0), store)
        record = store.accepted()
        assert record is not None
        assert store.revision_files(record.digest) == CHANGED
        assert store.rollouts()[-1].wave == 1
        assert store.open_operations()
        rows, revisions = rows_of(store)
        assert revisions == backup.revisions
        assert rows["memory"].keys() == backup.rows["memory"].keys()
        with pytest.raises(StoreError, match="empty folder only"):
            into_store(backup, store)

    mid_rollout(tmp_path, act)


def test_a_restore_that_was_cut_off_anywhere_is_called_again(tmp_path: Path) -> None:
    async def act(playing: Playing, backup: Backup) -> None:
        for left in (0, 1, 10, 51):
            server = ApiServer(playing.stage.clock)
            line = ApiClient(server, playing.stage.clock)
            budget = left

            def cut(call: Any) -> None:
                nonlocal budget
                budget -= call.writes
                if budget < 0:
                    raise ClusterAway("gone")

            line.faults.before = cut
            with pytest.raises(ClusterAway):
                await into_cluster(line, backup, namespace=NAMESPACE)
            line.faults.before = None
            await into_cluster(line, backup, namespace=NAMESPACE)
            again = await from_cluster(
                line, site="lab", namespace=NAMESPACE, release="1", now_s=1.0
            )
            assert again.rows["memory"] == backup.rows["memory"]
            assert again.revisions == backup.revisions
            with pytest.raises(StoreError, match="there is a Site lab"):
                await into_cluster(line, backup, namespace=NAMESPACE)

    mid_rollout(tmp_path, act)


def test_state_of_a_controller_is_not_written_over(tmp_path: Path) -> None:
    async def act(playing: Playing, backup: Backup) -> None:
        await playing.kubectl.delete(SITE, "lab", namespace=NAMESPACE)
        with pytest.raises(StoreError, match="written by one"):
            await into_cluster(playing.kubectl, backup, namespace=NAMESPACE)
        await playing.kubectl.delete(STATE_SHARD, "lab-head", namespace=NAMESPACE)
        with pytest.raises(StoreError, match="1 of the 49 parts"):
            await _made(playing)

    mid_rollout(tmp_path, act)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"PK" + data, "no backup of gridplane"),
        (lambda data: data.replace(b"backup 1", b"backup 2"), "does not know"),
        (lambda data: data[:-1], "checksum"),
        (lambda data: data[:-1] + b"x", "checksum"),
    ],
)
def test_what_is_no_backup_is_refused(change: Callable[[bytes], bytes], words: str) -> None:
    whole = packed_backup(Backup(site="lab", made_at_s=1.0, release="1", rows={}, revisions={}))
    assert read_backup(whole).site == "lab"
    with pytest.raises(StoreError, match=words):
        read_backup(change(whole))
