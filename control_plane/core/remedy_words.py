"""What persons say of one GPU node, and what is kept of it. Pure; who said it, and when, goes with it.

A ticket that is closed lets its node come back through the return gate, or be tried on anew: nothing else
does. An approval is of a while, and of faults that were there when it was said.
"""

from __future__ import annotations

import msgspec

from control_plane.core.gpu_life import Life, Record
from control_plane.core.refused_login import BmcLogin
from control_plane.core.remedy_case import Action, Approval, Outcome
from control_plane.core.remedy_kept import Accepted, NodeKept, Repaired, Rma


def repaired(kept: NodeKept, *, by: str, reason: str, now_s: float) -> NodeKept:
    """A node in repair after a person closed its ticket: the same machine goes back.

    Its hold stays until the gate is open. What was tried is kept, and counts no more.

    Args:
        kept: with an open ticket; without one nothing changes.
        by: who says so.
        reason: what was done to it.
        now_s: policy time.
    """
    if kept.ticket is None:
        return kept
    # Its quarantine is over with it, wherever whoever began that has got to.
    attempts = tuple(
        msgspec.structs.replace(one, outcome=Outcome.DONE, ended_s=now_s)
        if one.action is Action.QUARANTINE and one.outcome is Outcome.OPEN
        else one
        for one in kept.attempts
    )
    word = Repaired(ticket=kept.ticket.id, by=by, reason=reason, at_s=now_s)
    return msgspec.structs.replace(kept, attempts=attempts, ticket=None, repaired=word)


def left(kept: NodeKept, *, serial: str, by: str, reason: str, now_s: float) -> NodeKept:
    """A node in repair whose machine left for its maker. Its ticket stays open until another one is there.

    Args:
        kept: with an open ticket; without one nothing changes.
        serial: of the machine.
        by: who says so.
        reason: why, and what the maker calls it.
        now_s: policy time.
    """
    if kept.ticket is None:
        return kept
    board = kept.life.board if kept.life is not None else None
    is_there = _came(kept.life, since_s=kept.ticket.opened_s)
    word = Rma(
        ticket=kept.ticket, serial=serial, board=None if is_there else board, by=by, reason=reason,
        at_s=now_s,
    )  # fmt: skip
    kept = msgspec.structs.replace(kept, rma=word)
    return replaced(kept, board=board, now_s=now_s) if is_there else kept


def _came(life: Record | None, *, since_s: float) -> bool:
    """Whether another machine came into a slot since then."""
    steps = life.history if life is not None else ()
    return any(step.after is Life.DISCOVERED and step.by.at_s > since_s for step in steps)


def replaced(kept: NodeKept, *, board: str | None, now_s: float) -> NodeKept:
    """A node in whose slot another machine stands than the one that left: its ticket is closed.

    What was tried before was tried on the other one. Its hold stays until the gate is open.
    """
    gone = kept.left
    if gone is None:
        return kept
    reason = f"{gone.serial} left for its maker, {board or 'another machine'} stands there"
    return repaired(kept, by=gone.by, reason=reason, now_s=now_s)


def accepted(kept: NodeKept, *, differs: str, by: str, reason: str, now_s: float) -> NodeKept:
    """A node whose machine is accepted as it is.

    Args:
        kept: of the node.
        differs: what is not as declared, as it was found.
        by: who says so.
        reason: why.
        now_s: policy time.
    """
    board = kept.life.board if kept.life is not None else None
    word = Accepted(board=board, differs=differs, by=by, reason=reason, at_s=now_s)
    return msgspec.structs.replace(kept, accepted=word)


def login_allowed(kept: NodeKept) -> NodeKept:
    """A node whose BMC may be sent once more what it refused: a person unlocked the account, or mended it."""
    if kept.login is None or kept.login.refused is None:
        return kept
    again = BmcLogin(tries=kept.login.tries + 1)
    return msgspec.structs.replace(kept, login=again)


def approved(kept: NodeKept, word: Approval) -> NodeKept:
    """A node after a person approved of more; said twice it is one word."""
    if word in kept.approvals:
        return kept
    return msgspec.structs.replace(kept, approvals=(*kept.approvals, word))


def still_approved(kept: NodeKept, *, now_s: float) -> NodeKept:
    """Without the approvals whose time is over."""
    left = tuple(one for one in kept.approvals if now_s < one.until_s)
    return kept if left == kept.approvals else msgspec.structs.replace(kept, approvals=left)


def with_words_of(kept: NodeKept, now: NodeKept | None) -> NodeKept:
    """What was kept of a node, with what persons have said of it since."""
    if now is None:
        return kept
    if now.repaired != kept.repaired:
        kept = msgspec.structs.replace(kept, ticket=now.ticket, repaired=now.repaired)
    return msgspec.structs.replace(
        kept, approvals=now.approvals, rma=now.rma, accepted=now.accepted, login=now.login
    )
