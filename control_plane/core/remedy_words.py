"""What persons say of one GPU node, and what is kept of it. Pure; who said it, and when, goes with it.

A ticket that is closed lets its node come back through the return gate, or be tried on anew: nothing else
does. An approval is of a while, and of faults that were there when it was said.
"""

from __future__ import annotations

import msgspec

from control_plane.core.remedy_case import Action, Approval, Outcome
from control_plane.core.remedy_kept import NodeKept, Repaired


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
    return msgspec.structs.replace(kept, approvals=now.approvals)
