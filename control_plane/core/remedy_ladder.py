"""Which rung of the ladder a node's alerts ask for, by what was tried before. Pure; a table and a few rules.

    observe → drain → GPU reset → driver reload → reboot → BMC power cycle → quarantine and ticket

A fault starts at the least rung that its alert names, and climbs by what did not help: a try helped where its
alert was gone for the grace of its rung. One that came back later may be tried once more on the same rung.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.gpu import Alert, Rung
from control_plane.core.remedy_case import (
    CURES,
    RUNG_OF,
    Action,
    Approval,
    Attempt,
    NodeCase,
    Outcome,
    Why,
)

GRACE_S: Final[Mapping[Rung, float]] = {
    Rung.DRAIN: limits.DRAINED_GRACE_S,
    Rung.RESET_GPU: limits.RESET_GRACE_S,
    Rung.RELOAD_DRIVER: limits.RELOAD_GRACE_S,
    Rung.REBOOT: limits.REBOOT_GRACE_S,
    Rung.POWER_CYCLE: limits.POWER_CYCLE_GRACE_S,
}
"""How long after a try nothing more is done, and its alert may still be there."""
CURE_RUNGS: Final = frozenset(RUNG_OF[action] for action in CURES)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the alerts of a node ask for together."""

    rung: Rung
    gpu: str | None
    alerts: tuple[Alert, ...]
    why: Why
    asks: bool = False
    """Nothing above `DRAIN` before a person says so."""


def acute(case: NodeCase) -> tuple[Alert, ...]:
    """The alerts that ask for more than a look."""
    return tuple(alert for alert in case.alerts if alert.rung > Rung.OBSERVE or alert.final)


def cures(case: NodeCase) -> Iterator[Attempt]:
    """What was tried on the drained node as it is now, within the window, in order; begun counts."""
    since_s = counts_since(case)
    return (one for one in case.attempts if one.action in CURES and one.at_s > since_s)


def last_try(case: NodeCase) -> Attempt | None:
    """The one whose grace ends last. A repair shortens none: the node may be booting still."""
    return max((a for a in case.attempts if a.action in CURES), key=grace_end, default=None)


def counts_since(case: NodeCase) -> float:
    """From when attempts count: those of the window, and of the machine as it was repaired last."""
    return max(case.now_s - limits.REMEDY_WINDOW_S, case.repaired_s or 0.0)


def end_of(attempt: Attempt) -> float:
    """From when its grace runs. One of which nobody heard again has had it since it left."""
    return attempt.at_s if attempt.ended_s is None else attempt.ended_s


def grace_end(attempt: Attempt) -> float:
    """Until when nothing follows an attempt at a cure."""
    return end_of(attempt) + GRACE_S[RUNG_OF[attempt.action]]


def drained_since(case: NodeCase, cordoned_s: float) -> float:
    """When it was first seen drained under the present cordon; that of the cordon where nobody kept it."""
    ends = [
        one.ended_s
        for one in case.attempts
        if one.action is Action.DRAIN and one.ended_s is not None and one.at_s >= cordoned_s
    ]
    return max(ends, default=cordoned_s)


def wanted(case: NodeCase, *, drained_s: float | None) -> Wanted:
    """The least that helps all its alerts, of which there is one at least.

    Args:
        case: with acute alerts.
        drained_s: since when the node is drained; `None` where it is not.
    """
    found = [(alert, *_rung_of(alert, case, drained_s)) for alert in acute(case)]
    rung = max(rung for _, rung, _ in found)
    asks = [alert for alert, of, _ in found if alert.asks and not _is_approved(case, alert, of)]
    if asks and rung > Rung.DRAIN and not any(alert.final for alert, _, _ in found):
        return Wanted(rung=Rung.DRAIN, gpu=None, alerts=tuple(asks), why=Why.ALERT, asks=True)
    if rung in CURE_RUNGS and _spent(case):
        return Wanted(
            rung=Rung.REPAIR, gpu=None, alerts=tuple(a for a, _, _ in found), why=Why.CAP_SPENT
        )
    leading = sorted(
        ((alert, why) for alert, of, why in found if of == rung),
        key=lambda one: (one[0].since_s, one[0].gpu or "", one[0].kind, one[0].xid or 0),
    )
    first, why = leading[0]
    return Wanted(
        rung=rung,
        gpu=_gpu_of(first, case) if rung is Rung.RESET_GPU else None,
        alerts=tuple(alert for alert, _ in leading),
        why=why,
        asks=bool(asks),
    )


def _gpu_of(alert: Alert, case: NodeCase) -> str | None:
    return alert.gpu if case.policy.gpus_reset_alone else None


def _rung_of(alert: Alert, case: NodeCase, drained_s: float | None) -> tuple[Rung, Why]:
    if alert.final:
        return Rung.REPAIR, Why.FINAL
    rung, why = alert.rung, Why.ALERT
    if rung is Rung.DRAIN and drained_s is not None:
        if case.now_s < drained_s + GRACE_S[Rung.DRAIN]:
            return rung, why
        rung, why = Rung.RESET_GPU, Why.NO_HELP
    for attempt in cures(case):
        of = RUNG_OF[attempt.action]
        if of >= rung and _did_not_help(alert, attempt, case):
            rung, why = Rung(of + 1), Why.NO_HELP
    while rung in CURE_RUNGS:
        if rung not in case.policy.rungs:
            rung = Rung(rung + 1)
        elif _tries(rung, alert, case) >= limits.REMEDY_ATTEMPTS:
            rung, why = Rung(rung + 1), Why.CAP_SPENT
        else:
            break
    return rung, why


def _did_not_help(alert: Alert, attempt: Attempt, case: NodeCase) -> bool:
    """Whether it took place, and the alert is the same fault still."""
    return (
        attempt.outcome is Outcome.DONE
        and _is_for(attempt, alert, case)
        and alert.since_s <= grace_end(attempt)
    )


def _is_for(attempt: Attempt, alert: Alert, case: NodeCase) -> bool:
    gpu = _gpu_of(alert, case)
    return attempt.gpu is None or gpu is None or attempt.gpu == gpu


def _tries(rung: Rung, alert: Alert, case: NodeCase) -> int:
    return sum(
        RUNG_OF[attempt.action] is rung and _is_for(attempt, alert, case) for attempt in cures(case)
    )


def _spent(case: NodeCase) -> bool:
    return sum(1 for _ in cures(case)) >= limits.REMEDY_PER_DAY


def _is_approved(case: NodeCase, alert: Alert, rung: Rung) -> bool:
    """Whether a person said so of this fault: what was said before it began is of another one."""
    return any(
        approval.at_s >= alert.since_s and approval.up_to >= rung
        for approval in case.approvals
        if is_in_force(approval, case.now_s)
    )


def is_in_force(approval: Approval, now_s: float) -> bool:
    """Whether it was given, and its time is not over."""
    return bool(approval.by) and approval.at_s <= now_s < approval.until_s
