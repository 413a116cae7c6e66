"""The site's state in the cluster: kept before anything is sent, taken over under a higher fence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from control_plane.api.objects import StateShardSpec
from control_plane.core.breaker import Breaker
from control_plane.core.change import Disturbance, SettingClass, StopMining
from control_plane.core.cluster import ClusterAway
from control_plane.core.correlate import Incident
from control_plane.core.errors import FenceLost, StoreBusy, StoreError
from control_plane.core.memory import Memory
from control_plane.core.observation import Settings
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.remedy_case import Action, Attempt
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.rollout import Rollout
from control_plane.core.verify import Operation, Stage
from control_plane.engine import kept
from control_plane.engine.kept import KeptStore
from control_plane.kube.kinds import STATE_SHARD
from control_plane.kube.ledger import Claimed, FenceTooLow, Ledger, claim
from control_plane.kube.shards import HEAD, PARTS, packed, unpacked
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual

PLACE = "power"
HOLD = Overlay(
    id="h1", kind=OverlayKind.SAFETY_HOLD, node="r1", owner="ann", reason="hands", since_s=1.0
)


class Site:
    """One API server, and who keeps state in it."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.server = ApiServer(clock)

    async def leader(self, fence: int, holder: str) -> Leader:
        return await Leader.begin(self, fence, holder)

    async def parts(self) -> dict[str, StateShardSpec]:
        client = ApiClient(self.server, self.clock)
        page = await client.list_page(STATE_SHARD, namespace=PLACE)
        return {
            o.metadata.name: msgspec.json.decode(o.spec, type=StateShardSpec) for o in page.items
        }


class Leader:
    """A process with its Store."""

    def __init__(self, line: ApiClient, claimed: Claimed, store: KeptStore, ledger: Ledger) -> None:
        self.line, self.claimed, self.store, self.ledger = line, claimed, store, ledger
        self.is_live = True

    @classmethod
    async def begin(cls, site: Site, fence: int, holder: str) -> Leader:
        line = ApiClient(site.server, site.clock)
        claimed = await claim(line, site="lab", namespace=PLACE, fence=fence, holder=holder)
        store = KeptStore(None)
        store.fill(claimed.rows, {})
        leader: Leader

        ledger = Ledger(
            line,
            claimed,
            site="lab",
            namespace=PLACE,
            fence=fence,
            holder=holder,
            store=store,
            clock=site.clock,
            is_live=lambda: leader.is_live,
        )
        leader = cls(line, claimed, store, ledger)
        return leader


def on_site(case: Callable[[Site], Awaitable[None]]) -> None:
    async def main(loop: VirtualLoop) -> None:
        await case(Site(VirtualClock(loop)))

    run_virtual(main, horizon_s=1_000.0)


def operation(number: int, *, at_s: float = 10.0, stage: Stage = Stage.SENT) -> Operation:
    return Operation(
        id=f"000001-{number:09d}",
        asset=f"m{number}",
        change=StopMining(),
        before=Settings(mining=True),
        after=Settings(mining=False),
        sent_at_s=at_s,
        cost=SettingClass(disturbance=Disturbance.HOT, lost_s=0.0, persistent=False),
        stage=stage,
    )


def rollout(wave: int, since_s: float) -> Rollout:
    return Rollout(
        id="000001-aaaa", to="a" * 64, origin=None, waves=(1, 4), wave=wave, since_s=since_s
    )


def test_the_next_leader_finds_what_the_last_one_kept() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")
        assert one.claimed.missing == PARTS
        one.store.put_rollout(rollout(1, 5.0))
        one.store.put_overlay(HOLD)
        one.store.put_operations([operation(1), operation(2)])
        one.store.put_memories([Memory(asset="m1", equalled=Settings(mining=True))])
        with one.store.transaction():
            number = one.store.next_number("overlay")
        await one.ledger.durable()
        two = await site.leader(2, "two")
        assert two.claimed.missing == ()
        assert two.store.rollouts() == [rollout(1, 5.0)]
        assert two.store.overlays() == (HOLD,)
        assert two.store.open_operations() == [operation(1), operation(2)]
        assert two.store.memories()["m1"].equalled.mining is True
        with two.store.transaction():
            assert two.store.next_number("overlay") == number + 1

    on_site(case)


def test_an_intent_is_in_the_cluster_once_keep_returns_and_memories_may_follow() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")
        before = one.ledger.requests
        one.store.put_operations([operation(1), operation(2)])
        one.store.put_memories([Memory(asset="m1")])
        await one.ledger.keep()
        assert one.ledger.requests == before + 1, "writes of one moment are one request"
        rows = [unpacked(s.version, s.data) for s in (await site.parts()).values()]
        assert {key for each in rows for key in each.get("operation", {})} == {
            operation(1).id,
            operation(2).id,
        }
        assert not any("memory" in each for each in rows)
        keeping = asyncio.ensure_future(one.ledger.run())
        await asyncio.sleep(5)
        rows = [unpacked(s.version, s.data) for s in (await site.parts()).values()]
        assert any("m1" in each.get("memory", {}) for each in rows)
        keeping.cancel()

    on_site(case)


def test_who_asks_to_keep_nothing_new_asks_nothing_of_the_server() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")
        one.store.put_operations([operation(1)])
        await one.ledger.keep()
        before = one.ledger.requests
        await one.ledger.keep()
        one.store.put_operations([operation(1, stage=Stage.CONFIRMED)])
        await one.ledger.keep()
        assert one.ledger.requests == before, "how it ended is found out by looking"

    on_site(case)


def test_a_former_leader_keeps_nothing_any_more() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")
        await site.leader(2, "two")
        one.store.put_operations([operation(1)])
        with pytest.raises((FenceLost, StoreBusy)):
            await one.ledger.keep()
        with pytest.raises(FenceLost, match="two's under fence 2"):
            await one.ledger.keep()
        rows = [unpacked(s.version, s.data) for s in (await site.parts()).values()]
        assert not any(each.get("operation") for each in rows)

    on_site(case)


def test_a_lease_that_is_not_held_keeps_nothing() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")
        one.store.put_operations([operation(1)])
        one.is_live = False
        before = dict(await site.parts())
        with pytest.raises(FenceLost):
            await one.ledger.keep()
        assert await site.parts() == before

    on_site(case)


@pytest.mark.parametrize(("fence", "holder"), [(4, "two"), (5, "two")])
def test_a_fence_that_is_not_above_all_is_refused_with_what_it_has_to_be_above(
    fence: int, holder: str
) -> None:
    async def case(site: Site) -> None:
        await site.leader(5, "one")
        with pytest.raises(FenceTooLow) as refused:
            await site.leader(fence, holder)
        assert refused.value.highest == 5

    on_site(case)


def test_a_claim_that_was_cut_off_is_taken_up_by_the_same_process() -> None:
    async def case(site: Site) -> None:
        line = ApiClient(site.server, site.clock)
        left = 20

        def cut(call: Any) -> None:
            nonlocal left
            left -= call.writes
            if left < 0:
                raise ClusterAway("gone")

        line.faults.before = cut
        with pytest.raises(ClusterAway):
            await claim(line, site="lab", namespace=PLACE, fence=3, holder="one")
        claimed = (await site.leader(3, "one")).claimed
        assert set(claimed.shards) == set(PARTS)

    on_site(case)


def test_a_write_whose_reply_was_lost_is_not_taken_for_somebody_elses() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")

        def hide(call: Any) -> None:
            if call.writes:
                raise ClusterAway("no answer")

        one.line.faults.after = hide
        one.store.put_operations([operation(1)])
        with pytest.raises(StoreBusy, match="no answer"):
            await one.ledger.keep()
        one.line.faults.after = None
        one.store.put_operations([operation(2)])
        await one.ledger.keep()
        two = await site.leader(2, "two")
        assert [o.id for o in two.store.open_operations()] == [operation(1).id, operation(2).id]

    on_site(case)


def test_what_somebody_else_wrote_or_deleted_is_put_back() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")
        one.store.put_overlay(HOLD)
        await one.ledger.durable()
        other = ApiClient(site.server, site.clock)
        await other.delete(STATE_SHARD, f"lab-{HEAD}", namespace=PLACE)
        one.store.put_rollout(rollout(1, 5.0))
        await one.ledger.durable()
        two = await site.leader(2, "two")
        assert two.store.overlays() == (HOLD,)
        assert two.store.rollouts() == [rollout(1, 5.0)]

    on_site(case)


def test_writes_that_have_ended_go_once_their_wave_is_judged_and_not_before() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")
        keeping = asyncio.ensure_future(one.ledger.run())
        one.store.put_rollout(rollout(0, 5.0))
        one.store.put_operations([operation(1, stage=Stage.CONFIRMED), operation(2)])
        await asyncio.sleep(10)
        kept = (await site.leader(2, "two")).store
        assert {o.id for o in kept.operations()} == {operation(1).id, operation(2).id}
        keeping.cancel()

        three = await site.leader(3, "three")
        keeping = asyncio.ensure_future(three.ledger.run())
        three.store.put_rollout(rollout(1, 20.0))
        await asyncio.sleep(10)
        kept = (await site.leader(4, "four")).store
        assert {o.id for o in kept.operations()} == {operation(2).id}, "what is open stays"
        keeping.cancel()

    on_site(case)


def test_a_closed_incident_is_history() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")
        incident = Incident(id="i0001", node="r1", cause="lost", since_s=1.0, assets=5, detail="")
        one.store.put_incident(incident)
        await one.ledger.durable()
        assert (await site.leader(2, "two")).store.incidents() == [incident]
        three = await site.leader(3, "three")
        three.store.put_incident(msgspec.structs.replace(incident, open=False))
        await three.ledger.durable()
        assert (await site.leader(4, "four")).store.incidents(open_only=False) == []

    on_site(case)


def test_what_was_tried_on_gpu_nodes_is_in_the_cluster_before_anything_leaves() -> None:
    async def case(site: Site) -> None:
        one = await site.leader(1, "one")
        tried = NodeKept(asset="n1", attempts=(Attempt(action=Action.REBOOT, at_s=5.0),))
        together = SiteKept(breakers={"site:lab": Breaker(domain="site:lab", begun={"n1": 5.0})})
        one.store.put_remedies([tried, NodeKept(asset="n2", calm_since_s=5.0)])
        one.store.put_remedy_site(together)
        await one.ledger.keep()
        two = await site.leader(2, "two")
        assert two.store.remedies() == {"n1": tried, "n2": NodeKept(asset="n2", calm_since_s=5.0)}
        assert two.store.remedy_site() == together
        two.store.drop_remedies(["n2"])
        await two.ledger.keep()
        assert (await site.leader(3, "three")).store.remedies() == {"n1": tried}

    on_site(case)


def test_rows_of_an_older_release_are_brought_forward_and_those_of_a_newer_one_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = packed({"overlay": {"h1": msgspec.json.encode({"was": 1})}})
    monkeypatch.setattr(kept, "ROWS_VERSION", 3)
    monkeypatch.setattr(
        kept,
        "MIGRATIONS",
        {
            1: lambda rows: {"overlay": dict.fromkeys(rows["overlay"], b"2")},
            2: lambda rows: {**rows, "released": {"m1": b"3"}},
        },
    )
    assert unpacked(1, old) == {"overlay": {"h1": b"2"}, "released": {"m1": b"3"}}
    with pytest.raises(StoreError, match="version 4, this release knows 3"):
        unpacked(4, old)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (packed({"overlay": {"h1": b"{}"}})[:-3], "truncated"),
        (b"nonsense", "damaged"),
        (packed({"stranger": {"x": b"1"}}), "stranger: unknown here"),
    ],
)
def test_damaged_rows_are_refused_and_never_read_as_few(data: bytes, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        unpacked(1, data)


def test_a_damaged_record_is_refused_when_the_store_is_filled() -> None:
    with pytest.raises(StoreError, match="damaged"):
        KeptStore(None).fill({"overlay": {"h1": b"{}"}}, {})


def test_the_memories_of_one_shard_of_a_large_site_fit_into_an_object() -> None:
    memories = {
        f"m-{n:06d}": msgspec.json.encode(
            Memory(asset=f"m-{n:06d}", equalled=Settings(mining=True, power_mode="normal"))
        )
        for n in range(600)
    }
    assert len(packed({"memory": memories})) < 100_000
