"""What persons order about the machine in a GPU node's slot: it left for its maker, or is accepted as it is.

As `kube/remedy_orders.py`, which hands them here: the whole effect in one transaction, and nothing twice.
"""

from __future__ import annotations

from control_plane.api.conditions import Told, ready
from control_plane.api.objects import OrderSpec
from control_plane.core.gpu_bom import is_acceptable
from control_plane.core.gpu_life import Fact, Life
from control_plane.core.remedy_kept import NodeKept
from control_plane.core.remedy_words import accepted, left
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.kube.saying import Refused, is_later, nothing_to_do, reason_of


def rma(spec: OrderSpec, store: Store, kept: NodeKept, now_s: float) -> Told:
    """The machine in repair leaves for its maker; the slot stays, and waits for another one.

    Raises:
        Refused: nothing is in repair there, or it is not that machine.
    """
    reason, ticket = reason_of(spec), kept.ticket
    if spec.serial is None:
        raise Refused("an order `rma` needs `serial`, of the machine that leaves")
    if ticket is None:
        last = kept.rma
        if last is not None and last.serial == spec.serial:
            return nothing_to_do(
                f"{last.serial} left, and another machine is there: {last.by} said so"
            )
        raise Refused(f"{spec.target} has no open repair ticket: only what is in repair leaves")
    if is_later(ticket.opened_s, spec):
        raise Refused(
            f"ticket {ticket.id} was opened after this word: look at {spec.target}, and say it anew"
        )
    if kept.left is not None:
        if kept.left.serial == spec.serial:
            return nothing_to_do(f"{spec.serial} left already: {kept.left.by} said so")
        raise Refused(f"{kept.left.serial} left already: {kept.left.by} said so")
    part = next((one for one in ticket.parts if one.serial == spec.serial), None)
    if part is not None:
        raise Refused(
            f"{spec.serial} is GPU {part.gpu}: a part that goes to its maker is a repair. Once "
            f"another one is in: `gridplane remedy repaired {spec.target}`"
        )
    if ticket.serial is not None and ticket.serial != spec.serial:
        raise Refused(f"ticket {ticket.id} is of {ticket.serial}, not of {spec.serial}")
    after = left(kept, serial=spec.serial, by=spec.by, reason=reason, now_s=now_s)
    _keep(
        store, after, spec, f"{spec.serial} left {spec.target} for its maker ({ticket.id})", now_s
    )
    if after.ticket is None:
        return ready("True", "Left", f"{ticket.id} is closed: another machine stands there already")
    return ready("True", "Left", f"{ticket.id} stays open until another machine stands there")


def accept(spec: OrderSpec, store: Store, kept: NodeKept, now_s: float) -> Told:
    """A machine that is made of something else than declared is accepted, as it is now.

    Raises:
        Refused: nothing differs there, or it is what nobody accepts.
    """
    reason, life = reason_of(spec), kept.life
    if life is None or life.life is not Life.BOM_MISMATCH:
        word = kept.accepted
        if word is not None and life is not None and word.board == life.board:
            return nothing_to_do(f"{word.by} accepted it: {word.differs}")
        raise Refused(f"{spec.target} is made of what is declared, or nobody has seen yet of what")
    if is_later(life.since_s, spec):
        raise Refused(f"what differs was found after this word: look at {spec.target}, say it anew")
    found = next(
        (step.by.detail for step in reversed(life.history) if step.by.fact is Fact.BOM_DIFFERS), ""
    )
    if not is_acceptable(found):
        raise Refused(
            f"{found}: budgets, gate and quota count by that. Declare it: another type, or out of service"
        )
    after = accepted(kept, differs=found, by=spec.by, reason=reason, now_s=now_s)
    _keep(store, after, spec, f"{spec.target} is accepted as it is: {found}", now_s)
    return ready("True", "Accepted", f"{found}; it is inspected and validated like any other")


def _keep(store: Store, kept: NodeKept, spec: OrderSpec, text: str, now_s: float) -> None:
    words = f"{text}, says {spec.by}: {spec.reason}"
    with store.transaction():
        store.put_remedies([kept])
        store.put_events([Event(at_s=now_s, kind="order", text=words, asset=spec.target)])
