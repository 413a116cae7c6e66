"""What people, and what they approved in advance, set aside of the rules: by name, and for a while."""

from __future__ import annotations

from control_plane.core import limits
from control_plane.core.remedy_case import Action, BreakGlass, Emergency, NodeCase, Outcome
from control_plane.core.remedy_ladder import is_in_force


def emergency_on(case: NodeCase) -> Emergency | None:
    """The emergency that names a domain of the node and is not over; of several the first by id."""
    return min(
        (one for one in case.emergencies if _covers(one, case)), key=lambda e: e.id, default=None
    )


def _covers(emergency: Emergency, case: NodeCase) -> bool:
    ends_s = min(emergency.until_s, emergency.since_s + limits.EMERGENCY_MAX_S)
    here = emergency.domains.intersection(case.books.of.get(case.node, ()))
    return bool(here and emergency.plan) and emergency.since_s <= case.now_s < ends_s


def was_switched_off(case: NodeCase) -> bool:
    """Whether an emergency switched it off, and no person has said since that it may go on."""
    last = [a for a in case.attempts if a.action in {Action.POWER_OFF, Action.RETURN}]
    off = [a for a in last[-1:] if a.action is Action.POWER_OFF]
    if not off or off[-1].outcome is Outcome.FAILED:
        return False
    return not any(a.at_s >= off[-1].at_s for a in case.approvals if is_in_force(a, case.now_s))


def glass_of(case: NodeCase) -> BreakGlass | None:
    """The break-glass that covers a node now; one that lacks a name, an end or a second person is none."""
    for one in sorted(case.glass, key=lambda g: g.id):
        persons = {name for name in one.by if name}
        needed = 2 if one.watts > limits.BREAK_GLASS_ONE_PERSON_W else 1
        is_boxed = 0.0 < one.until_s - one.since_s <= limits.BREAK_GLASS_MAX_S
        if (
            case.node in one.nodes
            and one.since_s <= case.now_s < one.until_s
            and is_boxed
            and len(persons) >= needed
        ):
            return one
    return None
