"""What `get` and `explain` show is what the engine decides on the same state."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from control_plane.core.change import SetPools
from control_plane.core.correlate import Incident
from control_plane.core.decision import Decision, Reason
from control_plane.core.fleet import Device, Site, SlotState
from control_plane.core.memory import Memory, Pin
from control_plane.core.observation import Depth, Identity, Settings, Unseen, UnseenReason
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.plan import make_plan
from control_plane.core.rollout import GateResult, Rollout, RolloutState
from control_plane.core.verify import Operation, Stage
from control_plane.core.world import decide_all
from control_plane.engine.edges import Edges
from control_plane.engine.loop import Engine
from control_plane.engine.records import Order, OrderKind, Released, RevisionRecord
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.engine.world import read_world
from tests.core.builders import (
    CAPABILITIES,
    FOREIGN_POOLS,
    NOW_S,
    WRITES,
    device,
    intent,
    pool,
    seen,
    settings,
    site,
)
from tests.engine.test_reconciler import Machine, NoSecrets
from tests.engine.test_rollouts import StillClock


class Nothing(asyncio.TaskGroup):
    """Where writes would run: none does."""

    def create_task(self, coro: Coroutine[Any, Any, Any], **_more: Any) -> Any:  # type: ignore[override]
        coro.close()


def miner(number: int, **changes: Any) -> Device:
    names = {"mac": f"02:00:00:00:00:{number:02x}", "serial": f"SN{number}"}
    return device(f"d{number:02}", slot=number, **{**names, **changes})


def own(number: int, **changes: Any) -> Settings:
    worker = f"own.d{number:02}"
    return settings(pools=(pool("a.example.com", worker), pool("b.example.com", worker)), **changes)


class Floor:
    """A Store in the middle of a rollout, and an engine that takes it over."""

    def __init__(self, before: Site, after: Site, *, wave: int) -> None:
        self.after, self.clock, self.store = after, StillClock(), Store(None)
        self.revisions = Revisions(self.store, "t")
        for number, (digest, declared) in enumerate((("old", before), ("new", after)), 1):
            self.revisions.learn(digest, declared)
            record = RevisionRecord(
                digest=digest,
                seq=number,
                commit=None,
                accepted_at_s=NOW_S,
                accepted_by="ann",
                plan_digest="p",
            )
            self.store.put_revision(record, {})
        subjects = len(after.devices)
        self.store.put_rollout(
            Rollout(id="r", to="new", origin="old", waves=(2, 5, subjects), wave=wave)
        )

    def see(self, number: int, have: Settings, **changes: Any) -> None:
        one = self.after.devices[number - 1]
        identity = Identity(mac=one.mac, serial=one.serial, model="Antminer S21", family="fam")
        self.store.put_sightings([seen(have, asset=one.asset, identity=identity, **changes)])

    def shown(self) -> dict[str, Decision]:
        return decide_all(self.after, self.world())

    def world(self) -> Any:
        return read_world(
            self.store,
            self.after,
            "new",
            site_of=self.revisions.site,
            capabilities={"fam": CAPABILITIES},
            now_s=NOW_S,
        )

    def engine(self) -> Engine:
        return Engine(
            site="t",
            store=self.store,
            audit=None,
            epoch=self.store.take_over(),
            edges=Edges(
                clock=self.clock,
                rng=random.Random(1),
                secrets=NoSecrets(),
                drivers={"fam": Machine(settings())},
                capabilities={"fam": CAPABILITIES},
            ),
            revisions=self.revisions,
        )

    def judged(self) -> Engine:
        """An engine that has looked at every device and begun nothing."""
        engine = self.engine()
        engine.reconciler.acts = Nothing()
        for asset, sighting in self.store.sightings().items():
            engine.reconciler.sights.sighted(engine.slots[asset], sighting, Depth.FULL)
        engine.reconciler.admits = True
        for slot in engine.slots.values():
            engine.reconciler.judge(slot)
        engine.reconciler.admit_raises()
        return engine

    def decided(self) -> dict[str, Decision]:
        """As the engine decides, once every device was looked at."""
        slots = self.judged().slots
        return {a: s.decision for a, s in slots.items() if s.decision is not None}


def words(decisions: dict[str, Decision]) -> dict[str, tuple[set[Any], list[Any], bool]]:
    """What people read of decisions; of a refused raise the engine keeps the step that it will take."""
    told = {}
    for asset, decision in decisions.items():
        held = {(h.reason, h.field, h.detail) for h in decision.held}
        refused = any(h.reason is Reason.NO_HEADROOM for h in decision.held)
        steps = [s.change for s in decision.steps if not (refused and s.raises)]
        told[asset] = (held, steps, decision.converged)
    return told


@pytest.mark.parametrize("wave", [0, 1, 2])
@pytest.mark.parametrize("utility_kw", [1_000.0, 38.0])
def test_engine_and_explain_say_the_same(wave: int, utility_kw: float) -> None:
    miners = [miner(n, rack="r2" if n > 9 else "r1") for n in range(1, 13)]
    low = tuple(
        msgspec.structs.replace(m, intent=intent(power_mode="low", mining=n % 3 != 0))
        for n, m in enumerate(miners, 1)
    )
    floor = Floor(
        site(low, utility_kw=utility_kw), site(tuple(miners), utility_kw=utility_kw), wave=wave
    )
    for n in range(1, 9):
        floor.see(n, own(n, power_mode="low", mining=n % 3 != 0))
    floor.see(9, own(9), hashrate_ths=0.0)
    floor.see(10, settings(pools=FOREIGN_POOLS))
    floor.see(11, own(11, power_mode="low"))
    lost = Unseen(asset="d12", at_s=NOW_S, reason=UnseenReason.UNREACHABLE, detail="")
    floor.store.put_sightings([lost])
    floor.store.put_memories(
        [
            Memory(asset="d03", equalled=own(3, power_mode="low", mining=False)),
            Memory(asset="d10", equalled=own(10)),
        ]
    )
    floor.store.put_released([Released(asset="x", feed="gone", power_w=3_500.0, since_s=NOW_S)])
    floor.store.put_incident(
        Incident(id="i1", node="r2", cause="lost", since_s=NOW_S, assets=3, detail="lost")
    )
    floor.store.put_overlay(
        Overlay(
            id="h1", kind=OverlayKind.SAFETY_HOLD, node="d04", owner="ann", reason="x", since_s=0
        )
    )
    floor.store.put_operations(
        [
            Operation(
                id="000001-000000001",
                asset="d05",
                change=SetPools(own(5).pools or ()),
                before=own(5, power_mode="high"),
                after=own(5),
                sent_at_s=NOW_S,
                cost=next(iter(WRITES.values())),
                stage=Stage.READ_BACK,
            )
        ]
    )
    shown = floor.shown()
    reasons = {held.reason for decision in shown.values() for held in decision.held}
    assert {Reason.INCIDENT, Reason.HOLD, Reason.IN_FLIGHT} <= reasons
    assert (Reason.ROLLOUT_WAVE in reasons) is (wave < 2)
    assert (Reason.NO_HEADROOM in reasons) is (utility_kw < 1_000.0 and wave > 0)
    assert words(floor.decided()) == words(shown)


def test_the_plan_is_of_all_waves() -> None:
    miners = tuple(miner(n) for n in range(1, 9))
    low = tuple(msgspec.structs.replace(m, intent=intent(power_mode="low")) for m in miners)
    floor = Floor(site(low), site(miners), wave=0)
    for n in range(1, 9):
        floor.see(n, own(n, power_mode="low"))
    assert make_plan(floor.after, "new", floor.world()).actionable == 8
    assert sum(1 for decision in floor.shown().values() if decision.steps) == 2


def test_a_device_whose_feed_was_renamed_waits_for_its_wave_on_the_new_one() -> None:
    miners = tuple(miner(n) for n in range(1, 9))
    there = tuple(
        msgspec.structs.replace(m, intent=intent(power_mode="low"), feed="pdu2") for m in miners
    )
    after = site(miners)
    feeds = {name: node for name, node in after.feeds.items() if name != "pdu2"}
    floor = Floor(site(there), msgspec.structs.replace(after, feeds=feeds), wave=0)
    for n in range(1, 9):
        floor.see(n, own(n, power_mode="low"))
    assert words(floor.decided()) == words(floor.shown())


def test_the_engine_looks_for_the_machine_that_a_new_record_names() -> None:
    one = miner(1, address=None, subnet="10.0.0.0/24")
    after = site((msgspec.structs.replace(one, mac="02:00:00:00:00:77"),))
    floor = Floor(site((one,)), site((one,)), wave=2)
    engine = floor.engine()
    slot = engine.slots["d01"]
    slot.memory = msgspec.structs.replace(slot.memory, located="10.0.0.9")
    slot.address = "10.0.0.9"
    floor.store.put_memories([slot.memory])
    floor.revisions.learn("newer", after)
    record = msgspec.structs.replace(floor.store.revisions()[-1], digest="newer", seq=3)
    floor.store.put_revision(record, {})
    floor.store.put_rollout(Rollout(id="n", to="newer", origin="new", waves=()))
    engine._roster.put_in_force(record)
    pin = engine.slots["d01"].memory.pin
    assert pin is not None
    assert (pin.mac, engine.slots["d01"].address) == ("02:00:00:00:00:77", None)


def test_a_device_that_is_unplugged_frees_its_room_in_a_running_engine() -> None:
    one = (miner(1),)
    floor = Floor(site(one), site(one), wave=2)
    gone = [Released(asset=a, feed="pdu", power_w=3_500.0, since_s=NOW_S) for a in ("x", "y")]
    floor.store.put_released(gone)
    engine = floor.engine()
    before_w = engine.reconciler.sights.loads.at("pdu")
    floor.store.drop_released(["x"])
    engine._hear(iter(()))
    assert before_w - engine.reconciler.sights.loads.at("pdu") == 3_500.0
    engine._hear(iter(()))
    assert before_w - engine.reconciler.sights.loads.at("pdu") == 3_500.0


# --- orders ------------------------------------------------------------------------------------------


def ordered(kind: OrderKind, target: str) -> Order:
    return Order(kind=kind, target=target, by="ann", at_s=NOW_S)


def test_an_order_about_a_device_that_is_not_managed_leaves_the_rest_of_its_memory() -> None:
    broken = (miner(1), miner(2, state=SlotState.IN_REPAIR))
    floor = Floor(site(broken), site(broken), wave=2)
    pin = Pin(mac="02:00:00:00:00:55", serial=None, source="ann")
    known = Memory(asset="d02", pin=pin, persistent_writes_s=(NOW_S,), located="10.0.0.9")
    floor.store.put_memories([known])
    floor.store.put_order(ordered(OrderKind.CONTESTED, "d02"))
    floor.store.put_order(ordered(OrderKind.STUCK, "d02"))
    floor.engine()
    assert floor.store.orders() == []
    assert floor.store.memories()["d02"] == known


@pytest.mark.parametrize(("depth", "wholly"), [(Depth.FULL, False), (Depth.POOLS, True)])
def test_what_another_process_saw_in_passing_is_looked_at_wholly(
    depth: Depth, wholly: bool
) -> None:
    """It may have been about to: a miner that began anew is seen to have, and asked for all next."""
    floor = Floor(site((miner(1),)), site((miner(1),)), wave=2)
    floor.see(1, own(1))
    (kept,) = floor.store.sightings().values()
    floor.store.put_sightings([msgspec.structs.replace(kept, depth=depth)])
    engine = floor.engine()
    engine.remember(floor.store.sightings())
    slot = engine.slots["d01"]
    assert slot.sighting is not None, "it is not asked again before it is judged"
    assert slot.full_wanted is wholly


def test_only_the_rollout_that_was_named_goes_on() -> None:
    miners = (miner(1), miner(2), miner(3))
    low = tuple(msgspec.structs.replace(m, intent=intent(power_mode="low")) for m in miners)
    floor = Floor(site(low), site(miners), wave=0)
    (rollout,) = floor.store.rollouts()
    gate = GateResult(
        wave=0, at_s=NOW_S, passed=False, treated=1, treated_failed=1, control=0, control_failed=0
    )
    halted = msgspec.structs.replace(rollout, state=RolloutState.HALTED, gates=(gate,))
    floor.store.put_rollout(halted)
    floor.store.put_order(ordered(OrderKind.ROLLOUT, "an-older-one"))
    floor.engine()
    assert floor.store.rollouts() == [halted]
    floor.store.put_order(ordered(OrderKind.ROLLOUT, "r"))
    floor.engine()
    assert floor.store.rollouts()[0].state is RolloutState.RUNNING


@pytest.mark.parametrize("utility_kw", [1_000.0, 15.0], ids=["roomy", "full"])
def test_who_has_nothing_to_write_when_its_wave_comes(utility_kw: float) -> None:
    miners = tuple(miner(n) for n in range(1, 9))
    low = tuple(msgspec.structs.replace(m, intent=intent(power_mode="low")) for m in miners)
    floor = Floor(site(low), site(miners, utility_kw=utility_kw), wave=0)
    for n in range(1, 9):
        floor.see(n, own(n, power_mode="low"))
    later = [n for n in range(1, 9) if not floor.judged().slots[f"d{n:02}"].assigned]
    as_declared, stolen, *raised = later
    floor.see(as_declared, own(as_declared))
    floor.see(stolen, settings(pools=FOREIGN_POOLS))
    engine = floor.judged()

    def is_idle(number: int) -> bool:
        return engine.reconciler.is_idle(engine.slots[f"d{number:02}"], miners[number - 1])

    assert is_idle(as_declared)
    assert not is_idle(stolen)
    assert {is_idle(n) for n in raised} == {utility_kw < 1_000.0}, "what has no room waits for room"


def test_a_revision_that_is_accepted_again_is_taken_up_once_every_device_was_judged_by_it() -> None:
    miners = tuple(miner(n) for n in range(1, 4))
    floor = Floor(site(miners), site(miners), wave=2)
    for n in range(1, 4):
        floor.see(n, own(n))
    engine = floor.engine()

    def judge_all() -> None:
        while (slot := engine.reconciler.sights.queue.pop()) is not None:
            engine.reconciler.judge(slot)

    def told() -> float:
        engine._beat()
        status = floor.store.status()
        assert status is not None
        return status.taken_up_s

    for asset, sighting in floor.store.sightings().items():
        engine.reconciler.sights.sighted(engine.slots[asset], sighting, Depth.FULL)
    judge_all()
    assert told() == NOW_S
    again = msgspec.structs.replace(floor.store.revisions()[-1], accepted_at_s=NOW_S + 5)
    floor.store.put_revision(again, {})
    assert told() == NOW_S, "it has not heard of it"
    engine._hear(iter(()))
    assert told() == NOW_S, "it has heard, and judged nobody by it"
    judge_all()
    assert told() == NOW_S + 5
