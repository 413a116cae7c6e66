"""What people, and what they approved in advance, set aside of the rules: by name, and for a while."""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.core import limits
from control_plane.core.domain_budget import Books
from control_plane.core.remedy_case import Action, BreakGlass, Emergency, NodeCase, Outcome
from control_plane.core.remedy_ladder import is_in_force


def emergency_on(case: NodeCase) -> Emergency | None:
    """The emergency that names a domain of the node and is not over; of several the first by id."""
    here = case.books.of.get(case.node, ())
    named = (
        one
        for one in case.emergencies
        if one.domains.intersection(here) and goes_on(one, now_s=case.now_s)
    )
    return min(named, key=lambda e: e.id, default=None)


def goes_on(emergency: Emergency, *, now_s: float) -> bool:
    """Whether somebody or a standing order answers for it, and neither its time nor a person ended it."""
    ends_s = min(emergency.until_s, emergency.since_s + limits.EMERGENCY_MAX_S)
    is_answered_for = bool(emergency.plan or emergency.by) and emergency.ended is None
    return is_answered_for and emergency.since_s <= now_s < ends_s


def named_in(emergencies: Iterable[Emergency], books: Books, *, now_s: float) -> frozenset[str]:
    """Nodes of the domains of emergencies that go on, well or not."""
    found: set[str] = set()
    for one in emergencies:
        if goes_on(one, now_s=now_s):
            for name in one.domains & books.domains.keys():
                found |= books.domains[name].members
    return frozenset(found)


def was_switched_off(case: NodeCase) -> bool:
    """Whether an emergency switched it off, and no person has said since that it may go on."""
    last = [a for a in case.attempts if a.action in {Action.POWER_OFF, Action.RETURN}]
    off = [a for a in last[-1:] if a.action is Action.POWER_OFF]
    if not off or off[-1].outcome is Outcome.FAILED:
        return False
    return not any(a.at_s >= off[-1].at_s for a in case.approvals if is_in_force(a, case.now_s))


def glass_of(case: NodeCase) -> BreakGlass | None:
    """The break-glass that covers a node now; one that lacks a name, an end or a second person is none."""
    named = (one for one in case.glass if case.node in one.nodes)
    return min(in_force(named, now_s=case.now_s), key=lambda g: g.id, default=None)


def in_force(glass: Iterable[BreakGlass], *, now_s: float) -> list[BreakGlass]:
    """Those that set anything aside now."""
    return [
        one
        for one in glass
        if one.ended is None
        and one.since_s <= now_s < one.until_s
        and 0.0 < one.until_s - one.since_s <= limits.BREAK_GLASS_MAX_S
        and persons_missing(one) == 0
    ]


def persons_missing(one: BreakGlass) -> int:
    """How many more have to sign it: two different ones answer for more than `BREAK_GLASS_ONE_PERSON_W`."""
    needed = 2 if one.watts > limits.BREAK_GLASS_ONE_PERSON_W else 1
    return max(needed - len({name for name in one.by if name}), 0)
