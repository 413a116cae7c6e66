"""What is done to one GPU node next, or why nothing is. Pure: the same case, the same answer.

Guards first, in a fixed order, from what nothing may override to what time alone ends; then the ladder
(`remedy_ladder`); then what its action needs. Whatever is missing, old or contradictory is a reason to stay.
A fault of one node and a fault of many are told apart before anything is begun (`remedy_storm`).

The caller keeps an attempt before it acts on it, and asks again, on a fresh case, right before it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from control_plane.core import limits
from control_plane.core.domain_budget import Cause, refusal
from control_plane.core.gpu import Rung
from control_plane.core.overlay import OverlayKind, freeze_on, hold_on
from control_plane.core.remedy_case import (
    ACTION_OF,
    CURES,
    Action,
    Cordon,
    CordonedBy,
    NodeCase,
    Outcome,
    Remedy,
    Source,
    Stay,
    Stayed,
    Why,
    is_fresh,
)
from control_plane.core.remedy_ladder import (
    CURE_RUNGS,
    GRACE_S,
    Wanted,
    acute,
    counts_since,
    cures,
    drained_since,
    end_of,
    grace_end,
    last_try,
    wanted,
)
from control_plane.core.remedy_urgent import emergency_on, glass_of, was_switched_off

_LEFT_S: Final = {
    **{ACTION_OF[rung]: grace_s for rung, grace_s in GRACE_S.items() if rung in CURE_RUNGS},
    Action.DRAIN: limits.DRAIN_LEFT_S,
    Action.QUARANTINE: limits.DRAIN_LEFT_S,
    Action.RETURN: limits.DRAIN_LEFT_S,
    Action.POWER_OFF: limits.RESET_GRACE_S,
}
"""For how long an attempt without an end may still be under way."""
_POWER_SOURCES: Final = 2


def remedy(case: NodeCase) -> Remedy | Stayed:
    """The next action on a node, or a named reason why there is none."""
    found = next(found for ask in _IN_ORDER if (found := ask(case)) is not None)
    if isinstance(found, Remedy) and not case.policy.acts:
        return _stay(case, Stay.MONITOR_ONLY, f"{found.action} would be next", would=found)
    return found


def is_drained(case: NodeCase, *, sources: int = 1) -> bool:
    """Whether so many independent sources say so, the API server among them, and no fresh one denies it.

    It alone sees all work: GPUs may be free while a pod writes its state to a disk, and a node that draws
    little may be about to begin. What was seen before the node was cordoned says nothing: work may have been
    placed on it since.
    """
    if not case.cordons:
        return False
    since_s = min(cordon.since_s for cordon in case.cordons)
    said = [one for one in case.fresh if one.drained is not None and one.at_s > since_s]
    yes = {one.source for one in said if one.drained}
    return len(yes) >= sources and Source.CLUSTER in yes and all(one.drained for one in said)


# --- guards --------------------------------------------------------------------------------------


def _locked(case: NodeCase) -> Stayed | None:
    return _stay(case, Stay.LOCKED, case.locks[0]) if case.locks else None


def _emergency(case: NodeCase) -> Remedy | Stayed | None:
    """Approved in advance: what is unsafe is stopped, as a hold lets every stop pass; the rest is drained."""
    one = emergency_on(case)
    if one is None:
        why = "switched off in an emergency: a person says when it goes on"
        return _stay(case, Stay.EMERGENCY, why) if was_switched_off(case) else None
    said = [e for e in case.fresh if e.unsafe is not None and e.source is not one.source]
    if any(e.unsafe for e in said):
        if not all(e.unsafe for e in said):
            return _stay(case, Stay.CONTRADICTION, f"{one.id}: {_say(case, 'unsafe')}")
        if any(
            a.action is Action.POWER_OFF
            and a.at_s >= one.since_s
            and a.outcome is not Outcome.FAILED
            for a in case.attempts
        ):
            return _stay(case, Stay.EMERGENCY, f"switched off for {one.id} ({one.kind})")
        return Remedy(
            node=case.node,
            action=Action.POWER_OFF,
            why=Why.EMERGENCY,
            detail=f"{one.id} ({one.kind}): unsafe as it runs, drained or not",
            evidence=tuple(said),
            authority=one.plan or one.id,
        )
    if _barred(case) or _acting(case) or _human(case):
        return None
    ours = case.cordon_of(CordonedBy.OURS)
    if ours is not None:
        if not is_drained(case):
            return _draining(case, ours)
        return _stay(case, Stay.EMERGENCY, f"kept drained for {one.id} ({one.kind})")
    refused = [a for a in case.attempts if a.action is Action.DRAIN and a.outcome is Outcome.FAILED]
    if refused and case.now_s < refused[-1].at_s + limits.DRAIN_LEFT_S:
        return _stay(
            case, Stay.EMERGENCY, f"{one.id} ({one.kind}): somebody else has it: not drained"
        )
    return Remedy(
        node=case.node,
        action=Action.DRAIN,
        why=Why.EMERGENCY,
        detail=f"{one.id} ({one.kind}) in its domain",
        authority=one.plan or one.id,
    )


def _barred(case: NodeCase) -> Stayed | None:
    hold = hold_on(case.overlays)
    if hold is not None:
        return _stay(case, Stay.HOLD, f"{hold.id} of {hold.owner}: {hold.reason}")
    freeze = freeze_on(case.overlays, case.now_s)
    if freeze is not None:
        return _stay(case, Stay.FREEZE, f"{freeze.id} of {freeze.owner}: {freeze.reason}")
    return None


def _acting(case: NodeCase) -> Stayed | None:
    for attempt in reversed(case.attempts):
        if attempt.outcome is not Outcome.OPEN:
            continue
        if attempt.action is Action.DRAIN and case.cordon_of(CordonedBy.OURS) is not None:
            continue  # it left, as is to be seen; how far it is, evidence tells
        until_s = attempt.at_s + _LEFT_S[attempt.action]
        if case.now_s < until_s:
            return _stay(case, Stay.ACTING, f"{attempt.action} left", until_s=until_s)
    return None


def _human(case: NodeCase) -> Stayed | None:
    cordon = case.cordon_of(CordonedBy.PERSON)
    if cordon is None or case.policy.drains_for_people:
        return None
    return _stay(case, Stay.HUMAN_CORDON, f"cordoned by {cordon.who}")


def _foreign(case: NodeCase) -> Stayed | None:
    if case.foreign:
        one = min(case.foreign, key=lambda f: (f.since_s, f.owner))
        since_s, detail = one.since_s, f"{one.owner} is at {one.state}"
    elif (cordon := case.cordon_of(CordonedBy.PROGRAM)) is not None:
        since_s, detail = cordon.since_s, f"cordoned by {cordon.who}"
    else:
        return None
    overdue = case.now_s - since_s >= limits.FOREIGN_STUCK_S
    return _stay(case, Stay.FOREIGN_OVERDUE if overdue else Stay.FOREIGN, detail)


def _curtailed(case: NodeCase) -> Stayed | None:
    """What was lowered on purpose looks like a fault: it is not judged until it may run again."""
    for overlay in case.overlays:
        kinds = {OverlayKind.CURTAILMENT, OverlayKind.GUARD}
        if overlay.kind in kinds and not overlay.is_expired(case.now_s):
            return _stay(case, Stay.CURTAILED, f"{overlay.id}: {overlay.reason}")
    return None


def _in_repair(case: NodeCase) -> Stayed | None:
    return _stay(case, Stay.IN_REPAIR, f"ticket {case.ticket}") if case.ticket else None


def _stale(case: NodeCase) -> Stayed | None:
    if is_fresh(case.alerts_at_s, case.now_s):
        return None
    seen = "never looked at" if case.alerts_at_s is None else f"last seen at {case.alerts_at_s:.0f}"
    return _stay(case, Stay.STALE, seen)


def _well(case: NodeCase) -> Remedy | Stayed | None:
    """A node without a fault that asks for anything: back to work, where it was ours to keep it out."""
    if acute(case):
        return None
    ours = case.cordon_of(CordonedBy.OURS)
    if ours is None:
        return _stay(case, Stay.OBSERVED if case.alerts else Stay.WELL)
    if _returns(case) >= limits.RETURNS_PER_DAY:
        if not is_drained(case):
            return _draining(case, ours)
        return Remedy(
            node=case.node,
            action=Action.QUARANTINE,
            why=Why.CAP_SPENT,
            detail=f"well again, as {_returns(case)} times before within a day",
            evidence=case.fresh,
        )
    return _shut(case, ours) or Remedy(
        node=case.node,
        action=Action.RETURN,
        why=Why.WELL,
        detail="nothing is wrong any more, and the return gate is open",
        evidence=case.fresh,
    )


def _shut(case: NodeCase, ours: Cordon) -> Stayed | None:
    """What keeps out a node that is well."""
    ends = (end_of(one) for one in cures(case))
    since_s = max([ours.since_s, case.repaired_s or 0.0, *ends])
    gate = case.gate
    seen_s = min(case.alerts_at_s or 0.0, 0.0 if gate is None else gate.at_s)
    if gate is None or not is_fresh(seen_s, case.now_s) or seen_s <= since_s:
        return _at_gate(case, since_s, "not looked at since")
    if gate.missing:
        return _at_gate(case, since_s, "; ".join(gate.missing))
    person = case.cordon_of(CordonedBy.PERSON)
    if person is not None:
        return _stay(case, Stay.HUMAN_CORDON, f"cordoned by {person.who}")
    if case.no_power is not None:
        return _stay(case, Stay.NO_POWER, f"{case.no_power} cannot bear its full draw")
    return None


def _returns(case: NodeCase) -> int:
    since_s = counts_since(case)
    return sum(a.action is Action.RETURN and a.at_s > since_s for a in case.attempts)


def _at_gate(case: NodeCase, since_s: float, detail: str) -> Stayed:
    until_s = since_s + limits.GATE_DEADLINE_S
    if case.now_s >= until_s:
        return _stay(case, Stay.GATE_OVERDUE, detail)
    return _stay(case, Stay.GATE, detail, until_s=until_s)


def _after_maintenance(case: NodeCase) -> Stayed | None:
    if case.maintenance_ended_s is None:
        return None
    until_s = case.maintenance_ended_s + limits.MAINTENANCE_GRACE_S
    if case.now_s >= until_s:
        return None
    return _stay(case, Stay.MAINTENANCE_GRACE, "people worked on it", until_s=until_s)


def _incident(case: NodeCase) -> Stayed | None:
    if case.incident is None or glass_of(case) is not None:
        return None
    return _stay(case, Stay.INCIDENT, case.incident)


def _after_a_try(case: NodeCase) -> Stayed | None:
    last = last_try(case)
    if last is None or case.now_s >= grace_end(last):
        return None
    return _stay(case, Stay.GRACE, f"after {last.action}", until_s=grace_end(last))


# --- the ladder ----------------------------------------------------------------------------------


def _climb(case: NodeCase) -> Remedy | Stayed:
    ours = case.cordon_of(CordonedBy.OURS)
    drained = ours is not None and is_drained(case)
    drained_s = drained_since(case, ours.since_s) if ours is not None and drained else None
    want = wanted(case, drained_s=drained_s)
    if ours is None:
        return _begin(case, want)
    if drained_s is None:
        return _draining(case, ours)
    if want.rung is Rung.DRAIN:
        if want.asks:
            return _stay(case, Stay.ASKS, _told(want))
        until_s = drained_s + GRACE_S[Rung.DRAIN]
        return _stay(case, Stay.GRACE, "after drain", until_s=until_s)
    do = _remedy(case, want, ACTION_OF[want.rung])
    if want.rung is Rung.REPAIR:
        return do
    return _power_evidence(case, want) or _storm(case, do) or do


def _begin(case: NodeCase, want: Wanted) -> Remedy | Stayed:
    settled_s = min(alert.since_s for alert in want.alerts) + limits.REMEDY_SETTLE_S
    if case.now_s < settled_s:
        return _stay(case, Stay.SETTLING, _told(want), until_s=settled_s)
    do = _remedy(case, want, Action.DRAIN)
    if glass_of(case) is None:
        refused = refusal(books=case.books, node=case.node, cause=Cause.REMEDIATION)
        if refused is not None:
            return _stay(case, Stay.BUDGET, refused.detail, would=do)
    return _storm(case, do) or do


def _draining(case: NodeCase, ours: Cordon) -> Stayed:
    until_s = ours.since_s + limits.DRAIN_DEADLINE_S
    detail = _say(case, "drained") or "no fresh source says that it is drained"
    if not any(one.source is Source.CLUSTER and one.drained is not None for one in case.fresh):
        detail += "; the API server does not say that its pods are gone"
    if case.now_s >= until_s:
        return _stay(case, Stay.DRAIN_OVERDUE, detail)
    return _stay(case, Stay.DRAINING, detail, until_s=until_s)


def _power_evidence(case: NodeCase, want: Wanted) -> Stayed | None:
    """What stops a reboot or a power cycle of a drained node."""
    if want.rung < Rung.REBOOT:
        return None
    seen_s = min(alert.since_s for alert in want.alerts) + limits.CORRELATED_WINDOW_S
    if case.now_s < seen_s:
        return _stay(case, Stay.SETTLING, "others may follow", until_s=seen_s)
    if want.rung < Rung.POWER_CYCLE:
        return None
    # Fresh is of after the last try: every grace is longer than evidence lives.
    said = [one for one in case.fresh if one.well is not None]
    if any(one.well for one in said):
        return _stay(case, Stay.CONTRADICTION, _say(case, "well"))
    if len({one.source for one in said}) < _POWER_SOURCES:
        return _stay(case, Stay.ONE_SOURCE, f"unwell: {_say(case, 'well') or 'nobody fresh'}")
    if not is_drained(case, sources=_POWER_SOURCES):
        return _stay(case, Stay.ONE_SOURCE, f"drained: {_say(case, 'drained')}")
    return None


def _storm(case: NodeCase, do: Remedy) -> Stayed | None:
    if glass_of(case) is not None:
        return None
    for breaker in case.breakers:
        if breaker.is_open(case.now_s):
            return _stay(case, Stay.BREAKER, f"the breaker of {breaker.domain} is open", would=do)
    return None


def _remedy(case: NodeCase, want: Wanted, action: Action) -> Remedy:
    glass = glass_of(case)
    return Remedy(
        node=case.node,
        action=action,
        why=want.why,
        gpu=want.gpu if action in CURES else None,
        detail=_told(want),
        alerts=want.alerts,
        evidence=case.fresh,
        authority=glass.id if glass is not None else "",
    )


def _told(want: Wanted) -> str:
    one = want.alerts[0]
    xid = f" {one.xid}" if one.xid is not None else ""
    where = f" of {one.gpu}" if one.gpu else ""
    more = f" and {len(want.alerts) - 1} more" if len(want.alerts) > 1 else ""
    return f"{one.kind}{xid}{where}{more}: {want.rung.name.lower()}"


def _say(case: NodeCase, what: str) -> str:
    said = [(one.source, getattr(one, what)) for one in case.fresh]
    return ", ".join(
        f"{source} says {'' if yes else 'not '}{what}" for source, yes in said if yes is not None
    )


def _stay(
    case: NodeCase,
    reason: Stay,
    detail: str = "",
    *,
    until_s: float | None = None,
    would: Remedy | None = None,
) -> Stayed:
    return Stayed(node=case.node, reason=reason, detail=detail, until_s=until_s, would=would)


_IN_ORDER: Final[tuple[Callable[[NodeCase], Remedy | Stayed | None], ...]] = (
    _locked,
    _emergency,
    _barred,
    _acting,
    _human,
    _foreign,
    _curtailed,
    _in_repair,
    _stale,
    _well,
    _after_maintenance,
    _incident,
    _after_a_try,
    _climb,
)
"""The last one always answers."""
