"""Journals of management hosts and the cluster, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from control_plane.core.cluster import ClusterAway
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.engine import said
from control_plane.engine.store import Store
from control_plane.kube.journal import FRESH_S, WAIT_S, Journals
from control_plane.kube.kinds import OVERLAY
from control_plane.kube.lease import LEASE
from control_plane.simulator.api_client import ApiClient, Call
from tests.kube.running import PLACE, Around, around, beside, until
from tests.kube.speaking import LAB, Cluster


class Host:
    """A management host with one controller on it."""

    def __init__(self, cluster: Cluster, folder: Path | None, node: str) -> None:
        self.cluster, self.folder, self.node = cluster, folder, node
        self.store = Store(None)
        self.said: list[str] = []
        clock = cluster.around.clock
        self.line = ApiClient(cluster.around.server, clock)
        self.journals = Journals(
            self.line,
            folder=folder,
            site=LAB,
            namespace=PLACE,
            node=node,
            identity=f"{node}-pod",
            clock=clock,
            say=lambda text, /, **_: self.said.append(text),
        )

    def speak(self, id_: str) -> Overlay:
        """As `gridplane hold --journal` on this host."""
        assert self.folder is not None
        overlay = Overlay(
            id=id_, kind=OverlayKind.SAFETY_HOLD, node="lab-r1", owner="ann", reason="PDU",
            since_s=float(int(self.cluster.around.clock.wall_s())),
        )  # fmt: skip
        said.say(self.folder, LAB, overlay)
        return overlay

    def holds(self) -> set[str]:
        return {overlay.id for overlay in self.store.overlays()}

    async def merged_s(self) -> float:
        """How long a take-over waits."""
        clock = self.cluster.around.clock
        began_s = clock.wire_s()
        await self.journals.merged(self.store)
        return clock.wire_s() - began_s


def play(case: Callable[[Cluster], Awaitable[None]]) -> None:
    async def main(around_: Around) -> None:
        await case(Cluster(around_))

    around(main)


def host(cluster: Cluster, tmp_path: Path, node: str) -> Host:
    folder = tmp_path / node
    folder.mkdir(exist_ok=True)
    return Host(cluster, folder, node)


def test_with_the_api_server_away_it_is_in_force_here_at_once_and_there_later(
    tmp_path: Path,
) -> None:
    async def case(cluster: Cluster) -> None:
        one = host(cluster, tmp_path, "mgmt-1")
        one.journals.attach(one.store)
        async with beside(one.journals.run()):
            await asyncio.sleep(5)
            one.line.faults.away = "silent"
            hold = one.speak("h-1")
            await asyncio.sleep(1)
            assert one.store.overlays() == (hold,)
            await asyncio.sleep(100)
            assert cluster.names(OVERLAY) == set()
            one.line.faults.away = ""
            await until(lambda: cluster.names(OVERLAY) == {"h-1"}, within_s=60)
            await asyncio.sleep(1)
            one.store.drop_overlay("h-1")
            await cluster.drop(OVERLAY, "h-1")
            await asyncio.sleep(10)
            assert one.holds() == cluster.names(OVERLAY) == set(), "released is released"
        again = host(cluster, tmp_path, "mgmt-1")
        await again.journals.merged(again.store)
        assert again.holds() == set()

    play(case)


def test_a_take_over_knows_the_own_journal_before_anything_else(tmp_path: Path) -> None:
    async def case(cluster: Cluster) -> None:
        one = host(cluster, tmp_path, "mgmt-1")
        hold = one.speak("h-1")
        assert await one.merged_s() < 1
        assert one.store.overlays() == (hold,)

    play(case)


@pytest.mark.parametrize("damage", ["line", "folder"])
def test_a_journal_that_cannot_be_read_holds_the_whole_site(tmp_path: Path, damage: str) -> None:
    async def case(cluster: Cluster) -> None:
        one = host(cluster, tmp_path, "mgmt-1")
        assert one.folder is not None
        if damage == "line":
            said.file_of(one.folder, LAB).write_bytes(b"rubbish\n")
        else:
            one.folder.rmdir()
        await one.journals.merged(one.store)
        (hold,) = one.store.overlays()
        assert (hold.node, hold.owner, hold.kind) == (LAB, "gridplane", "maintenance")
        async with beside(one.journals.run()):
            await until(lambda: cluster.names(OVERLAY) == {hold.id})
            await asyncio.sleep(20)
            marked = cluster.find(LEASE, "gridplane-lab-journal-mgmt-1")
            assert (marked is not None) is (damage == "line"), "what was not read is not marked"

    play(case)


def test_a_take_over_costs_nothing_while_the_other_hosts_tell(tmp_path: Path) -> None:
    async def case(cluster: Cluster) -> None:
        one, two = (host(cluster, tmp_path, node) for node in ("mgmt-1", "mgmt-2"))
        async with beside(one.journals.run(), two.journals.run()):
            await asyncio.sleep(20)
            assert await one.merged_s() < 0.1
            # And a process that has just begun has to see each tell once.
            fresh = host(cluster, tmp_path, "mgmt-1")
            assert await fresh.merged_s() < FRESH_S
            assert fresh.said == []

    play(case)


def test_after_an_outage_what_another_host_was_told_is_waited_for(tmp_path: Path) -> None:
    async def case(cluster: Cluster) -> None:
        one, two = (host(cluster, tmp_path, node) for node in ("mgmt-1", "mgmt-2"))
        async with beside(one.journals.run(), two.journals.run()):
            await asyncio.sleep(20)
            two.line.faults.away = "refused"
            two.speak("h-2")
            await asyncio.sleep(FRESH_S + 2)
            waiting = asyncio.ensure_future(one.merged_s())
            await asyncio.sleep(10)
            assert not waiting.done()
            two.line.faults.away = ""
            await waiting
            assert "h-2" in cluster.names(OVERLAY), "the list that follows has it"
            assert one.said == []

    play(case)


def test_a_host_that_stays_silent_is_named_and_not_waited_for_longer(tmp_path: Path) -> None:
    async def case(cluster: Cluster) -> None:
        one, two = (host(cluster, tmp_path, node) for node in ("mgmt-1", "mgmt-2"))
        async with beside(one.journals.run()):
            async with beside(two.journals.run()):
                await asyncio.sleep(20)
            await asyncio.sleep(FRESH_S + 2)
            assert WAIT_S <= await one.merged_s() < WAIT_S + 2
            (page,) = [event for _, event in one.store.events() if event.kind == "page"]
            assert "host mgmt-2 was not read" in page.text
            assert "delete lease gridplane-lab-journal-mgmt-2" in page.text

    play(case)


def test_who_does_not_know_the_hosts_opens_nothing(tmp_path: Path) -> None:
    async def case(cluster: Cluster) -> None:
        one = host(cluster, tmp_path, "mgmt-1")
        one.line.faults.away = "refused"
        with pytest.raises(ClusterAway):
            await one.journals.merged(one.store)

    play(case)


def test_a_process_without_a_journal_waits_for_those_of_the_hosts(tmp_path: Path) -> None:
    async def case(cluster: Cluster) -> None:
        one, none = host(cluster, tmp_path, "mgmt-1"), Host(cluster, None, "laptop")
        async with beside(none.journals.run()):
            async with beside(one.journals.run()):
                await asyncio.sleep(20)
                assert await none.merged_s() < 0.1
            await asyncio.sleep(FRESH_S + 2)
            assert await none.merged_s() >= WAIT_S
        assert cluster.find(LEASE, "gridplane-lab-journal-laptop") is None

    play(case)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_dies_while_it_carries_leaves_one_hold(tmp_path: Path, when: str) -> None:
    async def case(cluster: Cluster) -> None:
        one = host(cluster, tmp_path, "mgmt-1")
        one.speak("h-1")

        def die(call: Call) -> None:
            if call.kind is OVERLAY and call.verb == "create":
                raise asyncio.CancelledError

        setattr(one.line.faults, when, die)
        run = asyncio.ensure_future(one.journals.run())
        await asyncio.sleep(5)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        assert cluster.names(OVERLAY) == ({"h-1"} if when == "after" else set())
        again = host(cluster, tmp_path, "mgmt-1")
        async with beside(again.journals.run()):
            await again.journals.merged(again.store)
            assert again.holds() == {"h-1"}
            await asyncio.sleep(5)
            assert cluster.names(OVERLAY) == {"h-1"}
            assert again.folder is not None
            assert said.pending(again.folder, LAB, node="mgmt-1", now_s=0.0) == []

    play(case)
