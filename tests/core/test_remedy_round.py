"""One round over all nodes: what ends attempts, who is counted, what is kept before anything leaves."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.correlate import Incident
from control_plane.core.domain_budget import Books, Cause, Domain, DomainKind, books_of
from control_plane.core.remedy_case import (
    Action,
    Attempt,
    Cordon,
    CordonedBy,
    Evidence,
    NodeCase,
    Outcome,
    Policy,
    Remedy,
    Source,
    Why,
)
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.remedy_round import (
    NodeView,
    case_of,
    closed,
    counted,
    ended,
    kept_for,
    together,
)

NOW_S = 1_000_000.0
NODES = tuple(f"n{number}" for number in range(20))
PATHS = {node: (f"r{number // 4}", "hall", "site") for number, node in enumerate(NODES)}


def books() -> Books:
    return books_of(
        [
            Domain(id="cluster", kind=DomainKind.CLUSTER, members=frozenset(NODES)),
            *(
                Domain(
                    id=f"r{rack}",
                    kind=DomainKind.RACK,
                    members=frozenset(NODES[rack * 4 : rack * 4 + 4]),
                )
                for rack in range(5)
            ),
        ]
    )


def view(node: str = "n0", *, well: bool | None = True, drained: bool | None = None,
         at_s: float = NOW_S, held_s: float | None = None, **more: object) -> NodeView:  # fmt: skip
    cordons = () if held_s is None else (Cordon(by=CordonedBy.OURS, who="us", since_s=held_s),)
    said = Evidence(source=Source.CLUSTER, at_s=at_s, drained=drained, well=well)
    made = NodeView(node=node, policy=Policy(acts=True), evidence=(said,), cordons=cordons)
    return msgspec.structs.replace(made, **more)


def kept(*attempts: Attempt, **more: object) -> NodeKept:
    return msgspec.structs.replace(NodeKept(asset="n0", attempts=attempts), **more)


def left(action: Action, ago_s: float = 30.0) -> Attempt:
    return Attempt(action=action, at_s=NOW_S - ago_s)


def outcome(after: NodeKept) -> Outcome:
    (one,) = after.attempts
    return one.outcome


@pytest.mark.parametrize(
    ("attempt", "seen", "took_place", "outcome_"),
    [
        (left(Action.DRAIN), view(held_s=NOW_S - 20, drained=True), False, Outcome.DONE),
        (left(Action.DRAIN), view(held_s=NOW_S - 20), False, Outcome.OPEN),
        # What was seen before the cordon says nothing of after it.
        (left(Action.DRAIN), view(held_s=NOW_S - 5, drained=True, at_s=NOW_S - 9), False, Outcome.OPEN),
        # A cordon that was never seen failed, once it had its time.
        (left(Action.DRAIN), view(), False, Outcome.OPEN),
        (left(Action.DRAIN, limits.DRAIN_LEFT_S), view(), False, Outcome.FAILED),
        (left(Action.RETURN), view(held_s=NOW_S - 500), False, Outcome.OPEN),
        (left(Action.RETURN), view(), False, Outcome.DONE),
        (left(Action.REBOOT), view(held_s=NOW_S - 500), False, Outcome.OPEN),
        (left(Action.REBOOT), view(held_s=NOW_S - 500), True, Outcome.DONE),
        (left(Action.POWER_CYCLE, 9e5), view(held_s=NOW_S - 500), False, Outcome.OPEN),
        (left(Action.QUARANTINE), view(held_s=NOW_S - 500), False, Outcome.OPEN),
    ],
)  # fmt: skip
def test_an_attempt_ends_by_evidence_alone(
    attempt: Attempt, seen: NodeView, took_place: bool, outcome_: Outcome
) -> None:
    after = closed(kept(attempt), seen, lambda _: took_place, now_s=NOW_S)
    assert outcome(after) is outcome_


def test_what_has_ended_stays_ended() -> None:
    done = ended(kept(left(Action.REBOOT)), Action.REBOOT, Outcome.FAILED, now_s=NOW_S)
    assert closed(done, view(), lambda _: True, now_s=NOW_S + 9) == done


@pytest.mark.parametrize(
    ("seen", "of", "causes"),
    [
        (view(), None, None),
        (view(causes=frozenset({Cause.FAULT})), None, {Cause.FAULT}),
        (view(held_s=NOW_S), None, {Cause.REMEDIATION}),
        (view(), kept(left(Action.DRAIN)), {Cause.REMEDIATION}),
        (view(), kept(left(Action.REBOOT)), None),
        (view(at_s=NOW_S - limits.GPU_EVIDENCE_TTL_S - 1), None, {Cause.UNKNOWN}),
        # That it was down is as old a word.
        (
            view(at_s=NOW_S - limits.GPU_EVIDENCE_TTL_S - 1, causes=frozenset({Cause.FAULT})),
            None,
            {Cause.UNKNOWN},
        ),
    ],
)
def test_who_is_counted(seen: NodeView, of: NodeKept | None, causes: set[Cause] | None) -> None:
    rows = {} if of is None else {"n0": of}
    found = counted(books(), [seen], rows, waiting=(), now_s=NOW_S)
    assert found.down.get("n0") == (None if causes is None else frozenset(causes))


def lost(*nodes: str, at_s: float = NOW_S) -> list[NodeView]:
    return [view(node, well=False, unwell_since_s=at_s) for node in nodes]


def test_a_rack_that_is_lost_is_one_incident_and_its_end_is_that_of_a_maintenance() -> None:
    site, below = together(SiteKept(), lost(*NODES[:4]), {}, paths=PATHS, now_s=NOW_S)
    (one,) = site.incidents
    assert (one.node, below) == ("r0", frozenset())
    again, below = together(site, lost(*NODES[:4]), {}, paths=PATHS, now_s=NOW_S + 60)
    assert (again, below) == (site, frozenset())
    after, below = together(site, lost(), {}, paths=PATHS, now_s=NOW_S + 600)
    assert (after.incidents, below) == ((), frozenset(NODES[:4]))


def test_nodes_that_are_in_their_grace_are_no_incident() -> None:
    rows = {node: NodeKept(asset=node, attempts=(left(Action.REBOOT),)) for node in NODES[:4]}
    site, _ = together(SiteKept(), lost(*NODES[:4]), rows, paths=PATHS, now_s=NOW_S)
    assert site.incidents == ()


DRAIN = Remedy(node="n0", action=Action.DRAIN, why=Why.ALERT)


def a_case(site: SiteKept | None = None, of: NodeKept | None = None) -> NodeCase:
    return case_of(
        view(), of or NodeKept(asset="n0"), site or SiteKept(), books(),
        path=PATHS["n0"], now_s=NOW_S,
    )  # fmt: skip


def test_before_a_drain_leaves_it_is_kept_and_every_breaker_of_the_node_is_told() -> None:
    after, site = kept_for(NodeKept(asset="n0"), SiteKept(), a_case(), DRAIN, boot="b1")
    assert after.attempts == (Attempt(action=Action.DRAIN, at_s=NOW_S, boot="b1"),)
    assert {name: set(b.begun) for name, b in site.breakers.items()} == {
        "cluster": {"n0"}, "r0": {"n0"}
    }  # fmt: skip
    case = a_case(site, after)
    assert {one.domain for one in case.breakers} == {"cluster", "r0"}


def test_an_emergency_is_no_reason_for_a_breaker() -> None:
    emergency = msgspec.structs.replace(DRAIN, why=Why.EMERGENCY)
    _, site = kept_for(NodeKept(asset="n0"), SiteKept(), a_case(), emergency)
    assert site.breakers == {}


def test_a_quarantine_keeps_its_ticket_with_what_was_tried() -> None:
    tried = kept(left(Action.REBOOT))
    what = msgspec.structs.replace(DRAIN, action=Action.QUARANTINE)
    after, _ = kept_for(tried, SiteKept(), a_case(of=tried), what)
    assert after.ticket is not None
    assert after.ticket.attempts == tried.attempts
    assert closed(after, view(), lambda _: False, now_s=NOW_S).attempts[-1].outcome is Outcome.DONE


def test_the_journal_of_a_node_does_not_grow_for_ever() -> None:
    old = [
        Attempt(action=Action.REBOOT, at_s=NOW_S - day * 86_400.0, outcome=Outcome.DONE)
        for day in range(40, 0, -1)
    ]
    off = Attempt(action=Action.POWER_OFF, at_s=NOW_S - 30 * 86_400.0, outcome=Outcome.DONE)
    after, _ = kept_for(kept(off, *old), SiteKept(), a_case(), DRAIN)
    assert off in after.attempts, "that it was switched off in an emergency, a person ends"
    assert len(after.attempts) <= 5


def test_below_an_open_incident_the_case_says_so() -> None:
    one = Incident(
        id="r0-1", node="r0", cause="lost", since_s=NOW_S, assets=4, detail="four of four"
    )
    case = a_case(SiteKept(incidents=(one,)))
    assert case.incident is not None
    assert "four of four" in case.incident
