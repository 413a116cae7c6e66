"""Words on the machine in a slot: it left for its maker, it is accepted; and what its life makes of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.api.conditions import moment
from control_plane.api.objects import GpuNodeStatus, OrderSpec
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.gpu_life import Evidence, Fact, Life, Transition
from control_plane.core.remedy_case import Part
from control_plane.core.remedy_kept import NodeKept
from control_plane.core.remedy_words import repaired, with_words_of
from control_plane.engine.store import Store
from control_plane.kube.gpu_lives import lives_after
from control_plane.kube.gpu_view import Known, NodeFacts, gate_of
from control_plane.kube.remedy_machine_orders import accept, rma
from control_plane.kube.saying import Refused
from tests.kube.test_gpu_lives import HELD, NAME, OTHER_BOARD, READY, SILENT, kept, told
from tests.kube.test_gpu_view import BOARD, DEVICE, NOW_S

SERIAL, TICKET = "S4X3921", "t-7"
MODEL = "NVIDIA H200 NVL"


def spec(kind: str, **more: object) -> OrderSpec:
    base = OrderSpec(
        site="lab", kind=kind, target=NAME, by="ann", at=moment(NOW_S), reason="case 4711"  # type: ignore[arg-type]
    )  # fmt: skip
    return msgspec.structs.replace(base, **more)


def leaves(row: NodeKept, store: Store | None = None, **more: object) -> str:
    return rma(spec("rma", **{"serial": SERIAL, **more}), store or Store(None), row, NOW_S).message


def in_repair(**changes: Any) -> NodeKept:
    """Whose ticket names a GPU, an XID and a serial."""
    row = kept(Life.REPAIR, ticket=TICKET)
    assert row.life is not None
    assert row.ticket is not None
    alert = Alert(kind=AlertKind.XID, rung=Rung.REPAIR, since_s=NOW_S, gpu="0F", xid=79)
    ticket = msgspec.structs.replace(
        row.ticket, serial=SERIAL, alerts=(alert,), parts=(Part(gpu="0F", serial="G-1"),)
    )
    life = msgspec.structs.replace(row.life, ticket=TICKET)
    return msgspec.structs.replace(row, life=life, ticket=ticket, **changes)


def gone() -> NodeKept:
    store, row = Store(None), in_repair()
    leaves(row, store)
    found = store.remedy(NAME)
    assert found is not None
    return found


def lived(row: NodeKept, of: NodeFacts | None, status: GpuNodeStatus | None = None) -> NodeKept:
    """After one round of a second later each."""
    found = lives_after(
        {NAME: row}, {NAME: DEVICE}, declared={NAME}, facts={NAME: of} if of is not None else {},
        told={NAME: status} if status is not None else {}, verdicts={}, now_s=NOW_S,
    )  # fmt: skip
    return found[0].kept if found else row


def on(board: str, of: NodeFacts = READY) -> NodeFacts:
    """A kubelet that runs on a board."""
    return msgspec.structs.replace(of, board=board)


def life_of(row: NodeKept) -> Life:
    assert row.life is not None
    return row.life.life


def test_an_rma_carries_what_its_maker_is_told_and_said_twice_is_said_once() -> None:
    store = Store(None)
    assert leaves(in_repair(), store) == f"{TICKET} stays open until another machine stands there"
    row = store.remedy(NAME)
    assert row is not None
    word = row.left
    assert word is not None
    assert (word.serial, word.board, word.by, word.reason, word.at_s, word.xids) == (
        SERIAL, BOARD, "ann", "case 4711", NOW_S, (79,),
    )  # fmt: skip
    assert word.ticket == row.ticket == in_repair().ticket
    ((_, event),) = store.events(NAME)
    assert event.text == f"{SERIAL} left {NAME} for its maker ({TICKET}), says ann: case 4711"
    again = rma(spec("rma", serial=SERIAL), store, row, NOW_S + 60.0)
    assert (again.reason, store.remedy(NAME)) == ("NothingToDo", row)


@pytest.mark.parametrize(
    ("row", "more", "says"),
    [
        (in_repair(), {"serial": None}, "needs `serial`"),
        (in_repair(), {"reason": None}, "needs a reason"),
        (in_repair(), {"serial": "S-of-another"}, f"{TICKET} is of {SERIAL}, not of S-of-another"),
        (in_repair(), {"serial": "G-1"}, "is GPU 0F: a part that goes to its maker is a repair"),
        (in_repair(), {"at": moment(NOW_S - 3_600.0)}, "opened after this word"),
        (kept(Life.READY), {}, "has no open repair ticket"),
        (gone(), {"serial": "S-2"}, f"{SERIAL} left already: ann said so"),
    ],
)  # fmt: skip
def test_what_does_not_leave_is_refused(row: NodeKept, more: dict[str, object], says: str) -> None:
    store = Store(None)
    with pytest.raises(Refused) as refused:
        leaves(row, store, **more)
    assert says in str(refused.value)
    assert (store.remedies(), store.events()) == ({}, [])


def test_the_slot_waits_for_another_machine_and_the_one_that_left_is_not_it() -> None:
    out = lived(gone(), READY)
    assert life_of(out) is Life.RMA
    assert out.life is not None
    assert out.life.history[-1].by.source == "ann"
    # It stands there still, and its kubelet runs: nobody has pulled it out yet.
    still = lived(out, READY)
    assert (life_of(still), still.left is not None) == (Life.RMA, True)
    assert life_of(lived(out, SILENT)) is Life.RMA


def test_another_board_closes_the_ticket_and_is_inspected_like_any_other() -> None:
    row = lived(gone(), READY)
    row = lived(row, on(OTHER_BOARD, HELD))
    assert (life_of(row), row.ticket, row.left) == (Life.DISCOVERED, None, None)
    assert row.repaired is not None
    assert row.repaired.reason == f"{SERIAL} left for its maker, {OTHER_BOARD} stands there"
    assert (row.repaired.ticket, row.repaired.at_s) == (TICKET, NOW_S)
    assert row.rma is not None, "the record of what left stays"
    assert row.is_idle is False


def test_the_same_machine_that_is_back_is_repaired_and_known_again() -> None:
    back = repaired(lived(gone(), READY), by="bob", reason="riser", now_s=NOW_S)
    assert life_of(lived(back, READY)) is Life.DISCOVERED


def test_a_word_that_comes_after_the_other_machine_closes_its_ticket_at_once() -> None:
    found = Evidence(fact=Fact.IDENTIFIED, at_s=NOW_S - 5.0, source="cluster", board=OTHER_BOARD)
    step = Transition(before=Life.REPAIR, after=Life.DISCOVERED, by=found)
    row = in_repair()
    assert row.life is not None
    life = msgspec.structs.replace(
        row.life, life=Life.INSPECTING, board=OTHER_BOARD, history=(step,)
    )
    store = Store(None)
    told_ = leaves(msgspec.structs.replace(row, life=life), store)
    assert told_ == f"{TICKET} is closed: another machine stands there already"
    after = store.remedy(NAME)
    assert after is not None
    assert (after.ticket, after.left, after.rma is not None) == (None, None, True)


def test_words_on_a_machine_that_come_during_an_attempt_are_not_lost() -> None:
    now = gone()
    assert with_words_of(in_repair(), now).left == now.left


# --- accepted ----------------------------------------------------------------------------------------


def mismatched(gpus: int = 8) -> NodeKept:
    row = lived(kept(Life.INSPECTING), READY, told(name=MODEL, gpus=gpus))
    assert life_of(row) is Life.BOM_MISMATCH
    return row


def accepts(row: NodeKept, **more: object) -> NodeKept:
    store = Store(None)
    word = accept(spec("accept", **more), store, row, NOW_S)
    assert word.reason == "Accepted"
    found = store.remedy(NAME)
    assert found is not None
    return found


def test_what_is_accepted_is_inspected_again_and_goes_on() -> None:
    row = accepts(mismatched())
    assert row.accepted is not None
    assert MODEL in row.accepted.differs
    row = lived(row, READY)
    assert life_of(row) is Life.INSPECTING
    row = lived(row, READY, told(name=MODEL, ago_s=0.0))
    assert life_of(row) is Life.PROVISIONING
    assert row.life is not None
    assert "ann accepts gpu_model is" in row.life.history[-1].by.detail


@pytest.mark.parametrize(
    ("board", "name", "gpus"), [(OTHER_BOARD, MODEL, 8), (BOARD, "NVIDIA L4", 8), (BOARD, MODEL, 7)]
)
def test_another_machine_or_another_difference_asks_anew(board: str, name: str, gpus: int) -> None:
    row = accepts(mismatched())
    inspecting = kept(Life.INSPECTING, board=board)
    row = msgspec.structs.replace(inspecting, accepted=row.accepted)
    after = lived(row, on(board), told(name=name, gpus=gpus))
    assert life_of(after) is Life.BOM_MISMATCH


def test_a_number_of_gpus_is_declared_and_what_does_not_differ_is_not_accepted() -> None:
    with pytest.raises(Refused, match=r"gpus is 7, declared is 8.*Declare it"):
        accepts(mismatched(gpus=7))
    with pytest.raises(Refused, match="made of what is declared"):
        accepts(kept(Life.READY))
    with pytest.raises(Refused, match="after this word"):
        accepts(mismatched(), at=moment(NOW_S - 3_600.0))


def test_gpus_of_another_make_at_the_gate_keep_it_shut_until_they_are_accepted() -> None:
    row = lived(kept(Life.VALIDATING), READY, told(name=MODEL))
    assert life_of(row) is Life.BOM_MISMATCH
    assert life_of(lived(kept(Life.VALIDATING), READY, told(lost=1))) is Life.VALIDATING
    accepted = accepts(mismatched()).accepted
    for known, is_open in ((Known(), False), (Known(accepted=accepted), True)):
        gate = gate_of(DEVICE, READY, told(name=MODEL), known, NOW_S)
        assert ("gpu_model is" not in str(gate.missing)) is is_open
