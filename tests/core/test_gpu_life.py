"""The life of a slot: nothing moves but by evidence that fits, and history only grows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.gpu_life import (
    DEADLINES_S,
    TABLE,
    Evidence,
    Fact,
    Life,
    Operation,
    Record,
    Transition,
    advance,
    awaits_look,
)
from control_plane.core.remedy_case import Action, Remedy, Stay, Stayed, Why

T0 = 1_000.0
MAC = "02:00:00:00:00:01"
BOARD, OTHER_BOARD = "4c4c4544-0051-3510-8052-b4c04f4d3533", "4c4c4544-0051-3510-8052-b4c04f4d3534"
TURNED = "44454c4c-5100-1035-8052-b4c04f4d3533"
"""The first one, with its bytes as SMBIOS keeps them."""
NEW = Record(node="gpu-1", slot="r1/3", since_s=T0)


def fact(fact: Fact, at_s: float = T0 + 10.0, **changes: Any) -> Evidence:
    base = Evidence(fact=fact, at_s=at_s, source="test")
    if fact is Fact.IDENTIFIED:
        base = msgspec.structs.replace(base, serial="S1", mac=MAC)
    if fact is Fact.QUARANTINED:
        base = msgspec.structs.replace(base, ticket="t1")
    return msgspec.structs.replace(base, **changes)


def at(life: Life, **changes: Any) -> Record:
    there = life not in {Life.DECLARED, Life.RMA, Life.RETIRED}
    base = msgspec.structs.replace(
        NEW, life=life, serial="S1" if there else None, mac=MAC if there else None
    )
    return msgspec.structs.replace(base, **changes)


def lived(record: Record, *facts: Fact) -> list[Life]:
    told = [fact(one, at_s=T0 + 10.0 * number) for number, one in enumerate(facts, 1)]
    _, steps = advance(record, told, now_s=T0 + 1_000.0)
    return [step.after for step in steps]


def test_from_declared_to_ready() -> None:
    facts = [
        Fact.IDENTIFIED, Fact.INSPECTION_BEGAN, Fact.BOM_MATCHES, Fact.PROVISIONED, Fact.JOINED,
        Fact.GATE_OPEN,
    ]  # fmt: skip
    told = [fact(one, at_s=T0 + n) for n, one in enumerate(facts)]
    record, steps = advance(NEW, reversed(told), now_s=T0 + 100.0)
    assert [step.after for step in steps] == [
        Life.DISCOVERED, Life.INSPECTING, Life.PROVISIONING, Life.JOINING, Life.VALIDATING, Life.READY,
    ]  # fmt: skip
    assert (record.serial, record.mac, record.since_s) == ("S1", MAC, T0 + 5.0)
    assert record.history == steps


def test_from_a_fault_to_another_machine_in_the_same_slot() -> None:
    record = at(Life.READY)
    facts = [Fact.ALERTED, Fact.CORDONED, Fact.QUARANTINED, Fact.LEFT]
    told = [fact(one, at_s=T0 + 10.0 * n) for n, one in enumerate(facts, 1)]
    record, steps = advance(record, told, now_s=T0 + 100.0)
    assert [step.after for step in steps] == [Life.DEGRADED, Life.DRAINING, Life.REPAIR, Life.RMA]
    assert (record.slot, record.serial, record.mac, record.ticket) == ("r1/3", None, None, "t1")
    came = fact(Fact.IDENTIFIED, at_s=T0 + 90.0, serial="S2", mac="02:00:00:00:00:09")
    record, _ = advance(record, [came], now_s=T0 + 100.0)
    assert (record.life, record.serial, record.ticket) == (Life.DISCOVERED, "S2", None)
    assert len(record.history) == 5


def test_a_repaired_machine_is_validated_again() -> None:
    got = lived(at(Life.REPAIR), Fact.GATE_OPEN, Fact.REPAIRED, Fact.GATE_OPEN)
    assert got == [Life.VALIDATING, Life.READY]


def test_what_is_made_of_something_else_goes_no_further_without_a_person() -> None:
    assert lived(at(Life.INSPECTING), Fact.BOM_DIFFERS, Fact.PROVISIONED, Fact.JOINED) == [
        Life.BOM_MISMATCH
    ]
    assert lived(at(Life.BOM_MISMATCH), Fact.BOM_ACCEPTED, Fact.BOM_MATCHES) == [
        Life.INSPECTING, Life.PROVISIONING,
    ]  # fmt: skip


@pytest.mark.parametrize("life", sorted(set(Life) - {Life.RETIRED}))
def test_every_state_can_be_retired_and_nothing_comes_back(life: Life) -> None:
    assert lived(at(life), Fact.RETIRED, *sorted(Fact)) == [Life.RETIRED]


@pytest.mark.parametrize("life", sorted(set(Life) - {Life.DECLARED, Life.RMA, Life.RETIRED}))
def test_another_machine_in_the_slot_is_inspected_whatever_was_there(life: Life) -> None:
    other = fact(Fact.IDENTIFIED, serial="S2", mac="02:00:00:00:00:09")
    record, steps = advance(at(life), [other], now_s=T0 + 20.0)
    assert [step.after for step in steps] == [Life.DISCOVERED]
    assert record.serial == "S2"


@pytest.mark.parametrize("one", sorted(set(Fact) - {Fact.IDENTIFIED, Fact.RETIRED}))
@pytest.mark.parametrize("life", sorted(set(Life) - {Life.DECLARED, Life.RMA, Life.RETIRED}))
def test_what_is_said_of_another_machine_moves_nothing(life: Life, one: Fact) -> None:
    record = at(life)
    after, steps = advance(record, [fact(one, serial="S2")], now_s=T0 + 20.0)
    assert (after.life, steps) == (life, ())


@pytest.mark.parametrize(
    "evidence",
    [
        fact(Fact.IDENTIFIED, serial=None),
        fact(Fact.IDENTIFIED, mac=None),
        fact(Fact.IDENTIFIED, at_s=T0 - 1.0),
        fact(Fact.IDENTIFIED, at_s=T0 + 21.0),
        fact(Fact.GATE_OPEN),
    ],
)
def test_what_is_half_old_early_or_out_of_place_is_passed_over(evidence: Evidence) -> None:
    assert advance(NEW, [evidence], now_s=T0 + 20.0) == (NEW, ())


def test_a_machine_is_told_by_its_board_alone() -> None:
    came = fact(Fact.IDENTIFIED, serial=None, mac=None, board=BOARD)
    record, steps = advance(NEW, [came], now_s=T0 + 20.0)
    assert [step.after for step in steps] == [Life.DISCOVERED]
    assert (record.board, record.serial, record.mac) == (BOARD, None, None)


@pytest.mark.parametrize(
    ("said", "is_another"),
    [
        ({"board": BOARD}, False),
        ({"board": BOARD.upper()}, False),
        ({"board": TURNED}, False),
        ({"board": BOARD, "serial": "S2"}, False),
        ({"board": OTHER_BOARD}, True),
        ({"board": OTHER_BOARD, "serial": "S1"}, True),
        ({"serial": "S2", "mac": MAC}, True),
    ],
)
def test_the_board_tells_before_the_serial_does(said: dict[str, str], *, is_another: bool) -> None:
    record = at(Life.READY, board=BOARD)
    seen = Evidence(fact=Fact.IDENTIFIED, at_s=T0 + 10.0, source="test", **said)
    after, _ = advance(record, [seen], now_s=T0 + 20.0)
    assert after.life is (Life.DISCOVERED if is_another else Life.READY)


def test_who_is_known_by_a_serial_only_is_not_another_one_by_a_board() -> None:
    seen = fact(Fact.IDENTIFIED, serial=None, mac=None, board=BOARD)
    assert advance(at(Life.READY), [seen], now_s=T0 + 20.0)[1] == ()


def test_the_newest_steps_are_kept() -> None:
    record, steps = at(Life.READY), list[Transition]()
    for turn in range(limits.LIFE_STEPS_KEPT):
        told = [fact(Fact.ALERTED, T0 + 2.0 * turn), fact(Fact.CLEARED, T0 + 2.0 * turn + 1.0)]
        record, those = advance(record, told, now_s=T0 + 1_000.0)
        steps += those
    assert len(steps) == 2 * limits.LIFE_STEPS_KEPT
    assert list(record.history) == steps[-limits.LIFE_STEPS_KEPT :]


@pytest.mark.parametrize("life", sorted(Life))
def test_a_fresh_look_is_asked_for_where_the_next_step_hangs_on_it(life: Life) -> None:
    wants = life in {Life.INSPECTING, Life.VALIDATING, Life.DRAINING}
    assert awaits_look(at(life)) is wants
    assert not awaits_look(at(life, operation=Operation.STUCK))


def test_no_quarantine_without_a_ticket() -> None:
    assert (
        advance(at(Life.DRAINING), [fact(Fact.QUARANTINED, ticket=None)], now_s=T0 + 20.0)[1] == ()
    )


def test_what_is_told_twice_happened_once() -> None:
    told = [fact(Fact.ALERTED), fact(Fact.CLEARED)]
    record, steps = advance(at(Life.READY), told, now_s=T0 + 20.0)
    assert [step.after for step in steps] == [Life.DEGRADED, Life.READY]
    assert advance(record, told, now_s=T0 + 30.0) == (record, ())


def test_every_state_is_in_the_table_and_has_a_deadline() -> None:
    assert set(TABLE) == set(DEADLINES_S) == set(Life)
    assert {life for life, s in DEADLINES_S.items() if s is None} == {Life.READY, Life.RETIRED}
    reached = {to for row in TABLE.values() for to in row.values()} | {Life.DECLARED, Life.RETIRED}
    assert reached == set(Life)


@pytest.mark.parametrize("life", sorted(life for life, s in DEADLINES_S.items() if s is not None))
def test_one_that_stays_too_long_is_stuck_where_it_is(life: Life) -> None:
    deadline_s = DEADLINES_S[life]
    assert deadline_s is not None
    early, _ = advance(at(life), [], now_s=T0 + deadline_s - 1.0)
    late, steps = advance(at(life), [], now_s=T0 + deadline_s)
    assert early.operation is not Operation.STUCK
    assert (late.life, late.operation, steps) == (life, Operation.STUCK, ())


@pytest.mark.parametrize(
    ("verdict", "operation"),
    [
        (None, Operation.IDLE),
        (Remedy(node="gpu-1", action=Action.DRAIN, why=Why.ALERT), Operation.ACTING),
        (Stay.WELL, Operation.IDLE),
        (Stay.OBSERVED, Operation.IDLE),
        (Stay.FOREIGN, Operation.IDLE),
        (Stay.HOLD, Operation.HELD),
        (Stay.HUMAN_CORDON, Operation.HELD),
        (Stay.CURTAILED, Operation.HELD),
        (Stay.BUDGET, Operation.WAITING_BUDGET),
        (Stay.NO_POWER, Operation.WAITING_BUDGET),
        (Stay.DRAINING, Operation.ACTING),
        (Stay.GRACE, Operation.ACTING),
        (Stay.ASKS, Operation.WAITING_HUMAN),
        (Stay.BREAKER, Operation.WAITING_HUMAN),
        (Stay.IN_REPAIR, Operation.WAITING_HUMAN),
    ],
)
def test_what_goes_on_around_a_node_is_told_apart_from_its_life(
    verdict: Remedy | Stay | None, operation: Operation
) -> None:
    said = Stayed(node="gpu-1", reason=verdict) if isinstance(verdict, Stay) else verdict
    record, steps = advance(at(Life.READY), [], now_s=T0 + 1.0, verdict=said)
    assert (record.life, record.operation, steps) == (Life.READY, operation, ())


FACTS = st.lists(
    st.builds(
        Evidence,
        fact=st.sampled_from(Fact),
        at_s=st.floats(T0 - 100.0, T0 + 200.0),
        source=st.just("test"),
        serial=st.sampled_from([None, "S1", "S2"]),
        mac=st.sampled_from([None, MAC]),
        board=st.sampled_from([None, None, BOARD, OTHER_BOARD]),
        ticket=st.sampled_from([None, "t1"]),
    ),
    max_size=12,
)


@given(first=FACTS, second=FACTS)
def test_history_only_grows_and_holds_together(
    first: list[Evidence], second: list[Evidence]
) -> None:
    before, _ = advance(NEW, first, now_s=T0 + 100.0)
    after, steps = advance(before, second, now_s=T0 + 200.0)
    assert after.history == before.history + steps
    life, since_s = Life.DECLARED, T0
    for step in after.history:
        assert step.before is life
        assert step.by.at_s >= since_s
        life, since_s = step.after, step.by.at_s
    assert (after.life, after.since_s) == (life, since_s)
    is_nobody = after.board is None and after.serial is None
    assert is_nobody == (after.life in {Life.DECLARED, Life.RMA, Life.RETIRED})
    assert (
        advance(after, [*first, *second], now_s=T0 + 200.0)[0].history[: len(after.history)]
        == after.history
    )
