"""The gate trusts nobody: each refusal by itself, with the decision's own checks out of the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.change import (
    Change,
    SetPools,
    SetPowerMode,
    StartMining,
    StopMining,
    settings_after,
)
from control_plane.core.decision import Danger, Step, Why
from control_plane.core.diff import permitted_w
from control_plane.core.errors import FenceLost, StoreBusy, StoreError
from control_plane.core.memory import Memory
from control_plane.core.observation import Field, Identity, PoolSetting, Settings
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.verify import Operation, Stage
from control_plane.engine.adapters import SystemClock
from control_plane.engine.audit import AuditFile
from control_plane.engine.gate import Gate, Intent
from control_plane.engine.journal import Journal
from control_plane.engine.records import RevisionRecord
from control_plane.engine.slots import Slot, make_slot
from control_plane.engine.store import Store
from tests.core.builders import (
    CAPABILITIES,
    DECLARED_POOLS,
    FOREIGN_POOLS,
    NOW_S,
    PIN,
    device,
    pool,
    seen,
    settings,
    site,
)

SITE = site((device(),))


def step_of(change: Change, before: Settings | None = None, why: Why = Why.ROLLOUT) -> Step:
    have = before or settings()
    after = settings_after(have, change)
    return Step(
        asset="d1",
        change=change,
        why=why,
        field=Field.POOLS,
        danger=Danger.D2,
        before=have,
        after=after,
        before_w=permitted_w(device().type, have),
        after_w=permitted_w(device().type, after),
        before_ths=200.0,
        after_ths=200.0,
        disturbance=CAPABILITIES.writes[next(iter(CAPABILITIES.writes))].disturbance,
        lost_ths_s=0.0,
    )


def slot(**changes: Any) -> Slot:
    made = make_slot(SITE, device(), Memory(asset="d1", pin=PIN), None, CAPABILITIES)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def gate(store: Store, audit: AuditFile | None = None) -> Gate:
    journal = Journal(store=store, audit=audit, clock=SystemClock())
    made = Gate(store=store, audit=audit, epoch=store.take_over(), journal=journal)
    made.learn(SITE)
    return made


def answer(change: Change, *, store: Store | None = None, **changes: Any) -> Operation | str:
    intent = Intent(
        slot=changes.get("slot") or slot(),
        step=changes.get("step")
        or step_of(change, changes.get("before"), changes.get("why", Why.ROLLOUT)),
        seen=changes.get("seen") or seen(),
    )
    return gate(store or Store(None)).intend([intent], NOW_S)[0]


SET = SetPools(DECLARED_POOLS)


def overlay(kind: OverlayKind, node: str) -> Overlay:
    return Overlay(id="h1", kind=kind, node=node, owner="ann", reason="x", since_s=NOW_S)


def test_what_passes_is_durable_before_it_is_returned() -> None:
    store = Store(None)
    operation = answer(SET, store=store)
    assert isinstance(operation, Operation)
    assert store.open_operations() == [operation]


def test_the_end_of_the_write_before_is_durable_with_the_next() -> None:
    """Or a process killed in between leaves two writes of one device open, and the next follows one."""
    store = Store(None)
    journal = Journal(store=store, audit=None, clock=SystemClock())
    made = Gate(store=store, audit=None, epoch=store.take_over(), journal=journal)
    made.learn(SITE)
    first, second = (Intent(slot=slot(), step=step_of(SET), seen=seen()) for _ in range(2))
    ended = made.intend([first], NOW_S)[0]
    assert isinstance(ended, Operation)
    journal.operation(msgspec.structs.replace(ended, stage=Stage.CONFIRMED))
    passed = made.intend([second], NOW_S)
    assert store.open_operations() == passed


@pytest.mark.parametrize("node", ["d1", "r1", "pdu", "pad", "grid", "t"])
@pytest.mark.parametrize("kind", [OverlayKind.SAFETY_HOLD, OverlayKind.MAINTENANCE_HOLD])
def test_a_hold_anywhere_above_refuses_all_but_a_stop(node: str, kind: OverlayKind) -> None:
    store = Store(None)
    store.put_overlay(overlay(kind, node))
    assert answer(SET, store=store) == f"{kind} hold of ann"
    assert answer(SetPowerMode("low"), store=store) == f"{kind} hold of ann"
    assert isinstance(answer(StopMining(), store=store), Operation)


def test_a_hold_elsewhere_refuses_nothing() -> None:
    store = Store(None)
    store.put_overlay(overlay(OverlayKind.SAFETY_HOLD, "pdu2"))
    assert isinstance(answer(SET, store=store), Operation)


def test_a_curtailment_of_the_last_moment_lets_no_raise_through() -> None:
    store = Store(None)
    off = msgspec.structs.replace(
        overlay(OverlayKind.CURTAILMENT, "t"), fields=Settings(mining=False)
    )
    store.put_overlay(off)
    asleep = settings(mining=False)
    assert answer(StartMining("normal"), store=store, before=asleep) == "curtailed"
    assert isinstance(answer(StopMining(), store=store), Operation)
    assert isinstance(answer(SET, store=store), Operation)


@pytest.mark.parametrize("node", ["t", "d1"])
def test_below_a_node_that_a_guard_sheds_nothing_is_raised(node: str) -> None:
    store = Store(None)
    store.put_overlay(overlay(OverlayKind.GUARD, node))
    asleep = settings(mining=False)
    refusal = "guarded: a guard sheds there, or lowered it"
    assert answer(StartMining("normal"), store=store, before=asleep) == refusal
    assert isinstance(answer(StopMining(), store=store), Operation)
    assert isinstance(answer(SET, store=store), Operation)


def test_a_freeze_lets_lowering_through() -> None:
    store = Store(None)
    store.put_overlay(overlay(OverlayKind.FREEZE, "t"))
    assert answer(SET, store=store) == "frozen"
    assert isinstance(answer(SetPowerMode("low"), store=store), Operation)


@pytest.mark.parametrize("why", [Why.DRIFT, Why.CAP, Why.CONTESTED])
def test_nothing_but_a_rollout_raises(why: Why) -> None:
    asleep = settings(mining=False)
    assert answer(StartMining("normal"), before=asleep, why=why) == "a repair may not raise power"
    assert isinstance(answer(StartMining("normal"), before=asleep), Operation)


@pytest.mark.parametrize("identity", [None, Identity(), Identity(mac="02:00:00:00:00:99")])
def test_a_machine_that_is_not_the_pinned_one_gets_nothing(identity: Identity | None) -> None:
    assert answer(SET, seen=seen(identity=identity)) == "identity is not confirmed"


def test_without_a_pin_nothing_is_written() -> None:
    assert answer(SET, slot=slot(memory=Memory(asset="d1"))) == "identity is not confirmed"


def test_one_write_at_a_time() -> None:
    first = answer(SET)
    assert isinstance(first, Operation)
    assert answer(SET, slot=slot(op=first)) == "another write is open"


@pytest.mark.parametrize("change", [SET, StopMining()])
def test_nothing_passes_to_a_machine_that_firmware_is_being_installed_on(change: Change) -> None:
    under_way = slot(locked="f0001-wave-0-0")
    refusal = "firmware is being installed (f0001-wave-0-0)"
    assert answer(change, slot=under_way) == refusal
    store = Store(None)
    passed, intent = gate(store), Intent(slot=slot(), step=step_of(change), seen=seen())
    assert isinstance(passed.intend([intent], NOW_S)[0], Operation)
    intent.slot.locked = "f0001-wave-0-0"
    assert passed.refuses(intent, NOW_S) == refusal


def test_nothing_passes_while_it_is_not_known_where_firmware_is_being_installed() -> None:
    shut = gate(Store(None))
    shut.knows_locks = False
    intent = Intent(slot=slot(), step=step_of(StopMining()), seen=seen())
    with pytest.raises(StoreBusy, match="not known yet"):
        shut.intend([intent], NOW_S)
    assert "not known yet" in (shut.refuses(intent, NOW_S) or "")


words = st.sampled_from(["own.d1", "own.d2", "thief", "own.{asset}", "", "own.d1 ", "OWN.d1"])
hosts = st.sampled_from(["a.example.com", "b.example.com", "a.example.com.evil.example.org", "x"])


@given(pools=st.lists(st.builds(pool, hosts, words), max_size=4).map(tuple))
def test_no_pool_off_the_owner_s_list_passes(pools: tuple[PoolSetting, ...]) -> None:
    result = answer(SetPools(pools))
    if isinstance(result, Operation):
        assert pools
        assert set(pools) <= set(DECLARED_POOLS)
    else:
        assert not pools or not set(pools) <= set(DECLARED_POOLS)


def test_a_pool_of_another_owner_is_refused_by_name() -> None:
    assert answer(SetPools(FOREIGN_POOLS)) == (
        "stratum+tcp://thief.example.org:3333 is not on the list of own"
    )


def test_what_was_decided_by_a_revision_that_is_no_longer_in_force_does_not_pass() -> None:
    """The device may have left the declaration; the engine hears of it a moment later."""
    store = Store(None)
    intent = Intent(slot=slot(), step=step_of(SET), seen=seen())

    def accept(digest: str, seq: int) -> None:
        record = RevisionRecord(
            digest=digest,
            seq=seq,
            commit=None,
            accepted_at_s=NOW_S,
            accepted_by="ann",
            plan_digest="p",
        )
        store.put_revision(record, {})

    accept("one", 1)
    behind = gate(store)
    behind.learn(SITE, "one")
    accept("two", 2)
    assert behind.intend([intent], NOW_S) == ["another revision was accepted meanwhile"]
    behind.learn(SITE, "two")
    assert isinstance(behind.intend([intent], NOW_S)[0], Operation)


def test_after_a_take_over_the_gate_is_closed_for_good() -> None:
    store = Store(None)
    old = gate(store)
    store.take_over()
    intent = Intent(slot=slot(), step=step_of(SET), seen=seen())
    for _ in range(2):
        with pytest.raises(FenceLost):
            old.intend([intent], NOW_S)
    assert store.open_operations() == []
    assert not old.is_open


HOLD = overlay(OverlayKind.SAFETY_HOLD, "r1")


@pytest.mark.parametrize(
    ("change", "then", "refusal"),
    [
        (SET, HOLD, "safety hold of ann"),
        (StopMining(), HOLD, None),
        (SET, overlay(OverlayKind.FREEZE, "t"), "frozen"),
        (SetPowerMode("low"), overlay(OverlayKind.FREEZE, "t"), None),
        (SET, overlay(OverlayKind.SAFETY_HOLD, "pdu2"), None),
    ],
)
def test_what_has_passed_is_judged_again_by_the_holds_of_the_moment(
    change: Change, then: Overlay, refusal: str | None
) -> None:
    store = Store(None)
    passed = gate(store)
    intent = Intent(slot=slot(), step=step_of(change), seen=seen())
    assert isinstance(passed.intend([intent], NOW_S)[0], Operation)
    assert passed.refuses(intent, NOW_S) is None
    store.put_overlay(then)
    assert passed.refuses(intent, NOW_S) == refusal


def test_not_even_a_stop_leaves_after_a_take_over_or_without_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    intent = Intent(slot=slot(), step=step_of(StopMining()), seen=seen())
    old = gate(store)
    store.take_over()
    assert old.refuses(intent, NOW_S) == "epoch 1 was taken over by epoch 2"
    assert old.refuses(intent, NOW_S) == "the gate is closed"
    blind = gate(store)
    store.close()
    assert "closed database" in str(blind.refuses(intent, NOW_S))


def test_while_another_process_writes_nothing_passes_and_nothing_but_a_stop_leaves(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "s.sqlite")
    store.wait_at_most(0.01)
    passed = gate(store)
    intent = Intent(slot=slot(), step=step_of(SET), seen=seen())
    stop = Intent(slot=slot(), step=step_of(StopMining()), seen=seen())
    with Store(tmp_path / "s.sqlite").transaction():
        with pytest.raises(StoreBusy):
            passed.intend([intent], NOW_S)
        assert "is locked" in str(passed.refuses(intent, NOW_S))
        assert passed.refuses(stop, NOW_S) is None
    with pytest.raises(StoreBusy):
        passed.intend([intent], NOW_S)
    passed.shut("")
    assert isinstance(passed.intend([intent], NOW_S)[0], Operation)


def test_a_batch_is_durable_as_one_or_not_at_all(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    closed = gate(store, AuditFile(tmp_path / "missing" / "audit.jsonl"))
    intents = [Intent(slot=slot(), step=step_of(SET), seen=seen()) for _ in range(3)]
    with pytest.raises(StoreError):
        closed.intend(intents, NOW_S)
    assert store.open_operations() == []


def test_the_audit_names_operation_device_and_epoch(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    audit = AuditFile(tmp_path / "audit.jsonl")
    [operation] = gate(store, audit).intend(
        [Intent(slot=slot(), step=step_of(SET), seen=seen())], NOW_S
    )
    assert isinstance(operation, Operation)
    record = msgspec.json.decode((tmp_path / "audit.jsonl").read_bytes())
    assert (record["operation"], record["asset"], record["epoch"]) == (operation.id, "d1", 1)
