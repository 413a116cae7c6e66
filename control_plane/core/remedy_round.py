"""One round over all nodes: what whoever acts does around the pure decision. Pure; the caller has the hands.

    closed     attempts end by evidence
    together   one fault of many nodes is told from many faults
    counted    who is down, and why
    case_of    all that a node's remedy depends on
    kept_for   the attempt, kept before it leaves; the breakers that are told of it

Halls in which everything goes wrong are played through these very functions (`tests/scenarios`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.breaker import Breaker, began
from control_plane.core.correlate import Incident, incident_above
from control_plane.core.domain_budget import Books, Cause, taken
from control_plane.core.gpu import Alert
from control_plane.core.overlay import Overlay
from control_plane.core.remedy_case import (
    CURES,
    Action,
    Attempt,
    Cordon,
    CordonedBy,
    Evidence,
    Foreign,
    GateResult,
    NodeCase,
    Outcome,
    Part,
    Policy,
    Remedy,
    Source,
    Why,
    is_fresh,
    ticket_of,
)
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.remedy_ladder import grace_end
from control_plane.core.remedy_storm import incidents_after
from control_plane.core.remedy_words import still_approved

TookPlace = Callable[[Attempt], bool]
"""Whether evidence of a cure is there: another boot id, an uptime, an answer."""
_OURS: Final = frozenset({Cause.FAULT, Cause.UNKNOWN, Cause.REMEDIATION})
"""What is no word of somebody who works on a node."""


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node as it is seen now, whatever was kept of it. What is not known is `None`, or left out."""

    node: str
    policy: Policy
    slot: str = ""
    serial: str | None = None
    parts: tuple[Part, ...] = ()
    alerts: tuple[Alert, ...] = ()
    alerts_at_s: float | None = None
    evidence: tuple[Evidence, ...] = ()
    cordons: tuple[Cordon, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    locks: tuple[str, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    gate: GateResult | None = None
    no_power: str | None = None
    causes: frozenset[Cause] = frozenset()
    """What takes it down now, our own tickets and drains left out."""
    unwell_since_s: float | None = None
    """Since when the cluster says that it does not serve."""

    def said(self, source: Source) -> Evidence | None:
        """What a source said last."""
        return next((one for one in self.evidence if one.source is source), None)

    @property
    def ours(self) -> Cordon | None:
        """Our own cordon of it."""
        return next((one for one in self.cordons if one.by is CordonedBy.OURS), None)


# --- before anything is decided ------------------------------------------------------------------


def closed(kept: NodeKept, view: NodeView, took_place: TookPlace, *, now_s: float) -> NodeKept:
    """End what evidence shows to have ended, and forget approvals whose time is over."""
    kept = still_approved(kept, now_s=now_s)
    for attempt in kept.attempts:
        if attempt.outcome is Outcome.OPEN:
            outcome = _outcome(attempt, kept, view, took_place, now_s)
            if outcome is not Outcome.OPEN:
                kept = ended(kept, attempt.action, outcome, now_s=now_s)
    return kept


def _outcome(
    attempt: Attempt, kept: NodeKept, view: NodeView, took_place: TookPlace, now_s: float
) -> Outcome:
    match attempt.action:
        case Action.DRAIN:
            said, ours = view.said(Source.CLUSTER), view.ours
            if ours is None:
                return (
                    Outcome.FAILED if now_s >= attempt.at_s + limits.DRAIN_LEFT_S else Outcome.OPEN
                )
            is_seen = said is not None and said.drained is True and said.at_s > ours.since_s
            return Outcome.DONE if is_seen else Outcome.OPEN
        case Action.RETURN:
            return Outcome.DONE if view.ours is None else Outcome.OPEN
        case Action.QUARANTINE:
            return Outcome.DONE if kept.ticket is not None else Outcome.OPEN
        case Action.POWER_OFF:
            return Outcome.OPEN
        case _:
            return Outcome.DONE if took_place(attempt) else Outcome.OPEN


def together(
    site: SiteKept,
    views: Iterable[NodeView],
    kept: Mapping[str, NodeKept],
    *,
    paths: Mapping[str, Sequence[str]],
    now_s: float,
) -> tuple[SiteKept, frozenset[str]]:
    """Open incidents after a look at all nodes, and the nodes below those that are over now.

    Args:
        site: as it was kept.
        views: of every node that is not known to be well.
        kept: by node.
        paths: node → ids of what is above it, of every node.
        now_s: policy time.
    """
    unwell: dict[str, float] = {}
    hands: set[str] = set()
    for view in views:
        said = view.said(Source.CLUSTER)
        if said is not None and said.well is False and view.unwell_since_s is not None:
            unwell[view.node] = view.unwell_since_s
        if _is_on_purpose(view, kept.get(view.node), now_s):
            hands.add(view.node)
    after = incidents_after(
        site.incidents, unwell=unwell, on_purpose=hands, paths=paths,
        population=_population(paths, hands), now_s=now_s,
    )  # fmt: skip
    over = {one.node for one in site.incidents if one not in after}
    below = frozenset(node for node, path in paths.items() if over.intersection(path))
    return msgspec.structs.replace(site, incidents=after), below if over else frozenset()


def _population(paths: Mapping[str, Sequence[str]], hands: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for node, path in paths.items():
        if node not in hands:
            for above in path:
                found[above] = found.get(above, 0) + 1
    return found


def _is_on_purpose(view: NodeView, kept: NodeKept | None, now_s: float) -> bool:
    """Whether somebody's work on it is why it may be unwell. That it is cordoned is no reason."""
    if view.causes - _OURS:
        return True
    return kept is not None and (
        kept.ticket is not None
        or any(a.action is Action.POWER_OFF for a in kept.attempts)
        or any(a.action in CURES and now_s < grace_end(a) for a in kept.attempts)
    )


def counted(
    domains: Books,
    views: Iterable[NodeView],
    kept: Mapping[str, NodeKept],
    *,
    waiting: Collection[str],
    now_s: float,
) -> Books:
    """Who is counted now.

    Args:
        domains: empty books of the site (`books_of`).
        views: of every node that is not known to be well.
        kept: by node.
        waiting: nodes that remediation could not take for want of budget.
        now_s: policy time.
    """
    down: dict[str, frozenset[Cause]] = {}
    for view in views:
        causes = set(view.causes)
        one = kept.get(view.node)
        # An attempt whose end is not known may be on its way.
        is_taken = one is not None and (
            one.ticket is not None
            or any(a.action is Action.DRAIN and a.outcome is Outcome.OPEN for a in one.attempts)
        )
        if view.ours is not None or is_taken:
            causes.add(Cause.REMEDIATION)
        said = view.said(Source.CLUSTER)
        if said is not None and not is_fresh(said.at_s, now_s):
            # That it is down is an old word, too: it may have come back, and would be taken for nothing.
            causes = causes - {Cause.FAULT} | {Cause.UNKNOWN}
        if causes:
            down[view.node] = frozenset(causes)
    return msgspec.structs.replace(domains, down=down, waiting=frozenset(waiting))


# --- a node --------------------------------------------------------------------------------------


def case_of(
    view: NodeView,
    kept: NodeKept,
    site: SiteKept,
    books: Books,
    *,
    path: Sequence[str],
    now_s: float,
) -> NodeCase:
    """All that its remedy depends on."""
    repaired_s = kept.repaired.at_s if kept.repaired is not None else None
    return NodeCase(
        node=view.node, now_s=now_s, books=books, slot=view.slot, serial=view.serial,
        parts=view.parts, policy=view.policy, alerts=view.alerts, alerts_at_s=view.alerts_at_s,
        evidence=view.evidence, attempts=kept.attempts, cordons=view.cordons,
        overlays=view.overlays, locks=view.locks, foreign=view.foreign,
        maintenance_ended_s=max(
            (at_s for at_s in (kept.calm_since_s, repaired_s) if at_s is not None), default=None
        ),
        repaired_s=repaired_s,
        breakers=tuple(
            site.breakers[name] for name in books.of.get(view.node, ()) if name in site.breakers
        ),
        incident=incident_above({one.node: one for one in site.incidents}, path),
        approvals=kept.approvals,
        glass=site.glass, emergencies=site.emergencies, gate=view.gate,
        no_power=view.no_power,
        ticket=kept.ticket.id if kept.ticket is not None else None,
    )  # fmt: skip


def kept_for(
    kept: NodeKept, site: SiteKept, case: NodeCase, what: Remedy, *, boot: str = ""
) -> tuple[NodeKept, SiteKept]:
    """What is kept before an action leaves: the attempt, and that a node was begun on.

    Args:
        kept: of the node.
        site: of all.
        case: that it was decided on.
        what: is about to leave.
        boot: id of the boot that it runs in; another one is the evidence of a restart.
    """
    xids = {alert.xid for alert in what.alerts if alert.xid is not None}
    attempt = Attempt(
        action=what.action, at_s=case.now_s, gpu=what.gpu, boot=boot, xids=tuple(sorted(xids))
    )
    ticket = ticket_of(case, what) if what.action is Action.QUARANTINE else kept.ticket
    kept = msgspec.structs.replace(
        kept, attempts=(*_recent(kept.attempts, case.now_s), attempt), ticket=ticket
    )
    if what.action is not Action.DRAIN or what.why is Why.EMERGENCY:
        return kept, site
    breakers = dict(site.breakers)
    for name in case.books.of.get(case.node, ()):
        members = len(case.books.domains[name].members)
        breakers[name] = began(
            breakers.get(name, Breaker(domain=name)),
            node=case.node, members=members, now_s=case.now_s,
        )  # fmt: skip
    return kept, msgspec.structs.replace(site, breakers=breakers)


def _recent(attempts: tuple[Attempt, ...], now_s: float) -> tuple[Attempt, ...]:
    """Those that anything is still read from: of the window, open ones, and whether it was switched off."""
    since_s = now_s - 2 * limits.REMEDY_WINDOW_S
    last = {one.action: one for one in attempts}
    return tuple(
        one
        for one in attempts
        if one.at_s >= since_s or one.outcome is Outcome.OPEN or last[one.action] is one
    )


def also_counted(books: Books, what: Remedy) -> Books:
    """Books for the next node of the same round."""
    if what.action is not Action.DRAIN:
        return books
    return taken(books=books, node=what.node, cause=Cause.REMEDIATION)


def ended(kept: NodeKept, action: Action, outcome: Outcome, *, now_s: float) -> NodeKept:
    """The open attempts at an action have come to an end."""
    attempts = tuple(
        msgspec.structs.replace(one, outcome=outcome, ended_s=now_s)
        if one.outcome is Outcome.OPEN and one.action is action
        else one
        for one in kept.attempts
    )
    if action is Action.QUARANTINE and outcome is Outcome.FAILED:
        # Decided anew it came out otherwise: nobody has to close a ticket that led to nothing.
        kept = msgspec.structs.replace(kept, ticket=None)
    return msgspec.structs.replace(kept, attempts=attempts)


def calmed(
    kept: Mapping[str, NodeKept], below: Collection[str], *, now_s: float
) -> dict[str, NodeKept]:
    """The nodes below an incident that is over: people had them, as in a maintenance."""
    return {
        node: msgspec.structs.replace(kept.get(node, NodeKept(asset=node)), calm_since_s=now_s)
        for node in below
    }


def over(before: SiteKept, after: SiteKept) -> tuple[Incident, ...]:
    """Incidents that are not open any more."""
    return tuple(one for one in before.incidents if one not in after.incidents)
