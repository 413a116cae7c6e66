"""What an open hand-over of NVSentinel calls for, when it is over, and what is answered. Pure.

A hand-over is evidence of another remediator: an alert like any other, until a cure took place that is at
least the one it asks for. What came after that tells our own agent. So it is answered `True` only for a node
that a cure and the return gate have passed through, `False` only for one that has a repair ticket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from control_plane.core.external_remediation import Answer, Request
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.node_hold import Node
from control_plane.core.remedy_case import (
    CURES,
    RUNG_OF,
    Action,
    Attempt,
    Outcome,
    Remedy,
    Stay,
    Stayed,
)
from control_plane.core.remedy_kept import NodeKept

QUARANTINED: Final = "quarantineHealthEvent"
"""Annotation of a node that NVSentinel keeps out."""
CORDONED: Final = "quarantineHealthEventIsCordoned"
FOUND_CORDONED: Final = "quarantineHealthEventCordonPreExisting"
"""Beside it: somebody else had cordoned the node before."""
_YES: Final = "True"
_RUNGS: Final[Mapping[str, Rung]] = {
    "COMPONENT_RESET": Rung.RESET_GPU,
    "2": Rung.RESET_GPU,
    "RESTART_VM": Rung.REBOOT,
    "15": Rung.REBOOT,
    "RESTART_BM": Rung.REBOOT,
    "24": Rung.REBOOT,
}
"""Names and numbers of NVSentinel's `RecommendedAction`. All else asks a person, but:"""
_FOR_THE_BENCH: Final = frozenset({"CONTACT_SUPPORT", "5"})
_DETAIL_MAX: Final = 200
_DIGITS_MAX: Final = 4
"""Of an Xid."""


def is_cordoned_by_nvsentinel(node: Node) -> bool:
    """Whether the cordon of a node is NVSentinel's own: nobody else's was there before."""
    words = node.annotations
    return words.get(CORDONED) == _YES and words.get(FOUND_CORDONED) != _YES


def alert_of(request: Request) -> Alert:
    """What is wrong with its node, as NVSentinel has it."""
    final = request.action in _FOR_THE_BENCH
    rung = Rung.REPAIR if final else _RUNGS.get(request.action, Rung.DRAIN)
    asked = request.custom_action or request.action or "no action"
    [code] = request.codes if len(request.codes) == 1 else ("",)
    detail = f"NVSentinel ({request.name}) asks for {asked}: {request.check} {request.message}"
    return Alert(
        kind=AlertKind.HANDED_OVER,
        rung=rung,
        since_s=request.since_s,
        xid=int(code) if code.isdecimal() and len(code) <= _DIGITS_MAX else None,
        detail=detail.strip()[:_DETAIL_MAX],
        asks=rung is Rung.DRAIN,
        final=final,
    )


def is_cured(request: Request, kept: NodeKept | None) -> bool:
    """Whether what it asks for took place since, or more; whether that helped, our own agent tells."""
    return _cured_s(request, kept) is not None


def answer_of(
    request: Request,
    kept: NodeKept | None,
    verdict: Remedy | Stayed | None,
    *,
    is_held: bool | None,
) -> tuple[Answer, str]:
    """What is to be told now, and its words; `Answer.NONE` is how it goes.

    Args:
        request: an open one.
        kept: what was tried on its node.
        verdict: what is done to it, or why nothing is.
        is_held: whether we hold it; `None`: there is no such node.
    """
    attempts = kept.attempts if kept is not None else ()
    if kept is not None and kept.ticket is not None and not _is_open(attempts, Action.QUARANTINE):
        why = kept.ticket.why.value.replace("_", " ")
        return Answer.FAILED, f"in repair: ticket {kept.ticket.id} ({why})"
    cured_s = _cured_s(request, kept)
    if cured_s is not None and is_held is False and _is_well(verdict):
        for one in attempts:
            if one.action is Action.RETURN and one.outcome is Outcome.DONE and one.at_s >= cured_s:
                done = ", ".join(a.action for a in attempts if _is_cure_since(a, request))
                return Answer.DONE, f"{done or 'repaired'}; back through the return gate"
    if is_held is None:
        return Answer.NONE, "no_node: there is no such node"
    return Answer.NONE, _progress(verdict)


def says_more(request: Request, words: str) -> bool:
    """Whether progress is worth a write: what is told is another word than the one that stands there."""
    return request.said.partition(":")[0] != words.partition(":")[0]


def _progress(verdict: Remedy | Stayed | None) -> str:
    if verdict is None:
        return "seen: nothing is decided yet"
    word = verdict.action.value if isinstance(verdict, Remedy) else verdict.reason.value
    return f"{word}: {verdict.detail}" if verdict.detail else word


def _cured_s(request: Request, kept: NodeKept | None) -> float | None:
    """When what it asks for took place first."""
    if kept is None:
        return None
    found = [a.at_s for a in kept.attempts if _is_cure_since(a, request)]
    if kept.repaired is not None and kept.repaired.at_s >= request.since_s:
        found.append(kept.repaired.at_s)
    return min(found, default=None)


def _is_cure_since(attempt: Attempt, request: Request) -> bool:
    return (
        attempt.action in CURES
        and attempt.outcome is Outcome.DONE
        and attempt.at_s >= request.since_s
        and RUNG_OF[attempt.action] >= alert_of(request).rung
    )


def _is_open(attempts: tuple[Attempt, ...], action: Action) -> bool:
    return any(a.action is action and a.outcome is Outcome.OPEN for a in attempts)


def _is_well(verdict: Remedy | Stayed | None) -> bool:
    return isinstance(verdict, Stayed) and verdict.reason in {Stay.WELL, Stay.OBSERVED}
