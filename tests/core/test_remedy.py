"""The remedy of one node: guards in their order, what is done on it, and what nothing overrides."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.breaker import Breaker
from control_plane.core.domain_budget import Cause, given_back, taken
from control_plane.core.gpu import AlertKind, Rung
from control_plane.core.overlay import OverlayKind
from control_plane.core.remedy import remedy
from control_plane.core.remedy_case import (
    Action,
    Approval,
    BreakGlass,
    Cordon,
    CordonedBy,
    Emergency,
    EmergencyKind,
    Foreign,
    GateResult,
    NodeCase,
    Outcome,
    Policy,
    Remedy,
    Source,
    Stay,
    Stayed,
    Why,
    ticket_of,
)
from control_plane.core.remedy_ladder import GRACE_S
from tests.core.remedies import (
    BOOKS,
    DRAINED_BOOKS,
    NODE,
    NOW_S,
    OURS,
    PCI,
    PERSON,
    TWO_SAY,
    action_of,
    alert,
    case,
    drained,
    overlay,
    said,
    stay_of,
    tried,
    well,
)

TRIPPED = Breaker(domain="r1", tripped_at_s=NOW_S - 100.0)
FULL = taken(books=BOOKS, node="gpu-2", cause=Cause.DRIVER_UPGRADE)
CYCLE = (alert(Rung.POWER_CYCLE, gpu=None),)


def test_a_fault_is_drained_first_and_then_gets_the_least_that_it_asks_for() -> None:
    got = remedy(case())
    assert isinstance(got, Remedy)
    assert (got.action, got.why, got.gpu, got.rung) == (Action.DRAIN, Why.ALERT, None, Rung.DRAIN)
    got = remedy(drained())
    assert isinstance(got, Remedy)
    assert (got.action, got.why, got.gpu) == (Action.RESET_GPU, Why.ALERT, PCI)
    assert got.detail == f"xid 119 of {PCI}: reset_gpu"
    assert got.alerts == (alert(),)
    assert got.evidence == TWO_SAY


@pytest.mark.parametrize(
    ("changes", "stay"),
    [
        ({"alerts": ()}, Stay.WELL),
        ({"alerts": (alert(Rung.OBSERVE),)}, Stay.OBSERVED),
        ({"alerts": (alert(since_s=NOW_S - 5.0),)}, Stay.SETTLING),
        ({"alerts_at_s": None}, Stay.STALE),
        ({"alerts_at_s": NOW_S - limits.GPU_EVIDENCE_TTL_S - 1.0}, Stay.STALE),
        ({"alerts_at_s": NOW_S + 1.0}, Stay.STALE),
        ({"overlays": (overlay(OverlayKind.SAFETY_HOLD),)}, Stay.HOLD),
        ({"overlays": (overlay(OverlayKind.MAINTENANCE_HOLD, expires_s=NOW_S - 1.0),)}, Stay.HOLD),
        ({"overlays": (overlay(OverlayKind.FREEZE),)}, Stay.FREEZE),
        ({"overlays": (overlay(OverlayKind.CURTAILMENT),)}, Stay.CURTAILED),
        ({"overlays": (overlay(OverlayKind.GUARD),)}, Stay.CURTAILED),
        ({"cordons": (PERSON,)}, Stay.HUMAN_CORDON),
        ({"cordons": (Cordon(by=CordonedBy.PROGRAM, who="medik8s", since_s=NOW_S),)}, Stay.FOREIGN),
        ({"foreign": (Foreign(owner="driver upgrade", state="pod-restart-required", since_s=NOW_S),)},
         Stay.FOREIGN),
        ({"foreign": (Foreign(owner="driver upgrade", state="upgrade-failed",
                              since_s=NOW_S - limits.FOREIGN_STUCK_S),)}, Stay.FOREIGN_OVERDUE),
        ({"locks": ("fw-0",)}, Stay.LOCKED),
        ({"maintenance_ended_s": NOW_S - 60.0}, Stay.MAINTENANCE_GRACE),
        ({"incident": "r1-0: 8 of 8 were lost"}, Stay.INCIDENT),
        ({"breakers": (TRIPPED,)}, Stay.BREAKER),
        ({"books": FULL}, Stay.BUDGET),
        ({"policy": Policy(acts=False)}, Stay.MONITOR_ONLY),
        ({"ticket": "t1"}, Stay.IN_REPAIR),
        ({"attempts": (tried(Action.DRAIN, ago_s=10.0, took_s=None),)}, Stay.ACTING),
    ],
)  # fmt: skip
def test_why_nothing_is_begun(changes: dict[str, Any], stay: Stay) -> None:
    assert stay_of(case(**changes)) is stay


@pytest.mark.parametrize(
    "changes",
    [
        {"overlays": (overlay(OverlayKind.FREEZE, expires_s=NOW_S - 1.0),)},
        {"overlays": (overlay(OverlayKind.CURTAILMENT, expires_s=NOW_S - 1.0),)},
        {"maintenance_ended_s": NOW_S - limits.MAINTENANCE_GRACE_S},
        {"breakers": (Breaker(domain="r1"),)},
        {"books": given_back(books=FULL, node="gpu-2", cause=Cause.DRIVER_UPGRADE)},
        {"books": taken(books=FULL, node=NODE, cause=Cause.FAULT)},
        {"attempts": (tried(Action.DRAIN, ago_s=limits.DRAIN_LEFT_S, took_s=None),)},
        {"cordons": (PERSON,), "policy": Policy(acts=True, drains_for_people=True)},
    ],
)
def test_what_is_over_stops_nothing(changes: dict[str, Any]) -> None:
    assert action_of(case(**changes)) is Action.DRAIN


def test_what_only_looks_on_says_what_it_would_do() -> None:
    got = remedy(drained(policy=Policy()))
    assert isinstance(got, Stayed)
    assert got.would is not None
    assert got.would.action is Action.RESET_GPU


# --- drained, or not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "stay"),
    [
        ((), Stay.DRAINING),
        ((said(Source.CLUSTER, drained=False),), Stay.DRAINING),
        ((said(Source.CLUSTER, drained=True), said(Source.AGENT, drained=False)), Stay.DRAINING),
        ((said(Source.CLUSTER, drained=True, at_s=NOW_S - 61.0),), Stay.DRAINING),
        ((said(Source.CLUSTER, drained=True, at_s=NOW_S + 5.0),), Stay.DRAINING),
        ((said(Source.CLUSTER, well=True),), Stay.DRAINING),
        ((said(Source.BMC, drained=True), said(Source.METER, drained=True)), Stay.DRAINING),
        # GPUs without work make no empty node: a pod may hold its work elsewhere.
        ((said(Source.AGENT, drained=True),), Stay.DRAINING),
        ((said(Source.AGENT, drained=True), said(Source.BMC, drained=True)), Stay.DRAINING),
        ((said(Source.AGENT, drained=True), said(Source.CLUSTER, drained=False)), Stay.DRAINING),
    ],
)
@pytest.mark.parametrize("rung", [r for r in Rung if r >= Rung.RESET_GPU])
def test_nothing_from_a_reset_on_happens_on_a_node_that_nobody_says_is_drained(
    rung: Rung, evidence: tuple[Any, ...], stay: Stay
) -> None:
    assert stay_of(drained(alerts=(alert(rung),), evidence=evidence)) is stay


def test_who_waits_for_the_api_server_is_told_so() -> None:
    got = remedy(drained(evidence=(said(Source.AGENT, drained=True),)))
    assert isinstance(got, Stayed)
    words = "agent says drained; the API server does not say that its pods are gone"
    assert got.detail == words


def test_what_was_seen_before_the_cordon_does_not_count() -> None:
    late = msgspec.structs.replace(OURS, since_s=NOW_S - 5.0)
    assert stay_of(drained(cordons=(late,))) is Stay.DRAINING


def test_a_drain_that_does_not_end_is_a_persons() -> None:
    old = msgspec.structs.replace(OURS, since_s=NOW_S - limits.DRAIN_DEADLINE_S)
    got = remedy(drained(cordons=(old,), evidence=(said(Source.CLUSTER, drained=False),)))
    assert isinstance(got, Stayed)
    assert (got.reason, got.detail) == (Stay.DRAIN_OVERDUE, "cluster says not drained")


def test_a_drain_that_left_and_is_to_be_seen_is_not_waited_for_as_an_attempt() -> None:
    left = tried(Action.DRAIN, ago_s=5.0, took_s=None)
    assert action_of(drained(attempts=(left,))) is Action.RESET_GPU


# --- power ---------------------------------------------------------------------------------------


def test_a_power_cycle_needs_two_sources_for_both() -> None:
    assert action_of(drained(alerts=CYCLE)) is Action.POWER_CYCLE


@pytest.mark.parametrize(
    ("evidence", "stay"),
    [
        ((TWO_SAY[0],), Stay.ONE_SOURCE),
        ((TWO_SAY[0], TWO_SAY[0]), Stay.ONE_SOURCE),
        ((TWO_SAY[0], said(Source.BMC, drained=True)), Stay.ONE_SOURCE),
        ((TWO_SAY[0], said(Source.BMC, well=False)), Stay.ONE_SOURCE),
        ((TWO_SAY[0], said(Source.BMC, well=False, drained=True, at_s=NOW_S - 61.0)), Stay.ONE_SOURCE),
        ((*TWO_SAY, said(Source.AGENT, well=True)), Stay.CONTRADICTION),
        ((*TWO_SAY, said(Source.METER, drained=False)), Stay.DRAINING),
        ((), Stay.DRAINING),
    ],
)  # fmt: skip
def test_power_is_never_cut_on_less(evidence: tuple[Any, ...], stay: Stay) -> None:
    assert stay_of(drained(alerts=CYCLE, evidence=evidence)) is stay


def test_what_is_fresh_was_seen_after_the_last_try() -> None:
    assert min(GRACE_S.values()) > limits.GPU_EVIDENCE_TTL_S


@pytest.mark.parametrize("rung", [Rung.REBOOT, Rung.POWER_CYCLE])
def test_a_boot_waits_until_it_is_known_whether_others_follow(rung: Rung) -> None:
    new = alert(rung, since_s=NOW_S - limits.CORRELATED_WINDOW_S + 1.0)
    assert stay_of(drained(alerts=(new,))) is Stay.SETTLING


# --- guards on a drained node ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "stay"),
    [
        ({"overlays": (overlay(OverlayKind.SAFETY_HOLD),)}, Stay.HOLD),
        ({"overlays": (overlay(OverlayKind.FREEZE),)}, Stay.FREEZE),
        ({"cordons": (OURS, PERSON)}, Stay.HUMAN_CORDON),
        ({"locks": ("fw-0",)}, Stay.LOCKED),
        ({"foreign": (Foreign(owner="u", state="cordon-required", since_s=NOW_S),)}, Stay.FOREIGN),
        ({"incident": "r1"}, Stay.INCIDENT),
        ({"breakers": (TRIPPED,)}, Stay.BREAKER),
        ({"alerts_at_s": NOW_S - 100.0}, Stay.STALE),
        ({"alerts": (alert(Rung.DRAIN, asks=True),)}, Stay.ASKS),
        ({"alerts": (alert(Rung.REBOOT, asks=True),)}, Stay.ASKS),
        ({"alerts": (alert(Rung.REBOOT), alert(Rung.DRAIN, asks=True, xid=154))}, Stay.ASKS),
        ({"attempts": (tried(Action.REBOOT, ago_s=60.0, took_s=None),)}, Stay.ACTING),
        ({"attempts": (tried(Action.REBOOT, ago_s=60.0),)}, Stay.GRACE),
    ],
)
def test_what_stops_it_halfway(changes: dict[str, Any], stay: Stay) -> None:
    assert stay_of(drained(**changes)) is stay


def test_neither_budget_nor_own_cordon_stops_what_was_begun() -> None:
    books = taken(books=DRAINED_BOOKS, node="gpu-2", cause=Cause.PERSON)
    assert action_of(drained(books=books)) is Action.RESET_GPU


def test_a_person_says_of_this_fault_how_far_it_may_go() -> None:
    asks = alert(Rung.REBOOT, asks=True)

    def after(**changes: Any) -> NodeCase:
        base = Approval(by="kim", at_s=NOW_S - 60.0, until_s=NOW_S + 60.0, up_to=Rung.REBOOT)
        return drained(alerts=(asks,), approvals=(msgspec.structs.replace(base, **changes),))

    assert action_of(after()) is Action.REBOOT
    for changes in (
        {"up_to": Rung.RESET_GPU},
        {"until_s": NOW_S},
        {"at_s": asks.since_s - 1.0},
        {"at_s": NOW_S + 1.0},
        {"by": ""},
    ):
        assert stay_of(after(**changes)) is Stay.ASKS, changes


def test_a_final_alert_goes_to_repair_once_it_is_drained() -> None:
    final = alert(Rung.RESET_GPU, kind=AlertKind.REMAP_FAILED, final=True, xid=None)
    assert action_of(case(alerts=(final,))) is Action.DRAIN
    got = remedy(drained(alerts=(final, alert(Rung.DRAIN, asks=True)), breakers=(TRIPPED,)))
    assert isinstance(got, Remedy)
    assert (got.action, got.why) == (Action.QUARANTINE, Why.FINAL)


def test_a_ticket_has_what_the_bench_asks_for() -> None:
    final = alert(kind=AlertKind.REMAP_FAILED, final=True, xid=None)
    one = drained(alerts=(final,), attempts=(tried(Action.REBOOT, ago_s=9_000.0),))
    got = remedy(one)
    assert isinstance(got, Remedy)
    ticket = ticket_of(one, got)
    assert (ticket.node, ticket.slot, ticket.serial) == (NODE, "r1/3", "S1")
    assert [(part.gpu, part.serial) for part in ticket.parts] == [(PCI, "G0")]
    assert (ticket.alerts, ticket.attempts, ticket.evidence) == ((final,), one.attempts, TWO_SAY)
    assert ticket == ticket_of(one, got)


# --- coming back ---------------------------------------------------------------------------------


def test_a_node_that_is_well_comes_back_through_the_gate() -> None:
    assert action_of(well()) is Action.RETURN


@pytest.mark.parametrize(
    "changes",
    [
        {"breakers": (TRIPPED,)},
        {"incident": "r1"},
        {"books": taken(books=DRAINED_BOOKS, node="gpu-2", cause=Cause.PERSON)},
        {"maintenance_ended_s": NOW_S - 1.0},
        {"alerts": (alert(Rung.OBSERVE),)},
    ],
)
def test_neither_storm_nor_budget_keeps_it_out(changes: dict[str, Any]) -> None:
    assert action_of(well(**changes)) is Action.RETURN


@pytest.mark.parametrize(
    ("changes", "stay"),
    [
        ({"gate": None}, Stay.GATE),
        ({"gate": GateResult(at_s=NOW_S - 61.0, missing=())}, Stay.GATE),
        ({"gate": GateResult(at_s=NOW_S - 5.0, missing=("7 of 8 GPUs answer",))}, Stay.GATE),
        ({"attempts": (tried(Action.RESET_GPU, ago_s=6.0, took_s=3.0),)}, Stay.GATE),
        ({"no_power": "pdu-3"}, Stay.NO_POWER),
        ({"cordons": (OURS, PERSON)}, Stay.HUMAN_CORDON),
        ({"cordons": (OURS, PERSON), "policy": Policy(acts=True, drains_for_people=True)},
         Stay.HUMAN_CORDON),
        ({"overlays": (overlay(OverlayKind.SAFETY_HOLD),)}, Stay.HOLD),
        ({"overlays": (overlay(OverlayKind.CURTAILMENT),)}, Stay.CURTAILED),
        ({"alerts_at_s": NOW_S - 61.0}, Stay.STALE),
        ({"cordons": (msgspec.structs.replace(OURS, since_s=NOW_S - limits.GATE_DEADLINE_S),),
          "gate": None}, Stay.GATE_OVERDUE),
    ],
)  # fmt: skip
def test_what_keeps_it_out(changes: dict[str, Any], stay: Stay) -> None:
    assert stay_of(well(**changes)) is stay


def test_one_that_comes_back_too_often_in_a_day_goes_to_repair() -> None:
    back = tuple(tried(Action.RETURN, ago_s=3_600.0 * n) for n in (9, 6, 3))
    assert action_of(well(attempts=back[:2])) is Action.RETURN
    got = remedy(well(attempts=back))
    assert isinstance(got, Remedy)
    assert (got.action, got.why) == (Action.QUARANTINE, Why.CAP_SPENT)


# --- break-glass and emergencies ---------------------------------------------------------------------

GLASS = BreakGlass(
    id="bg1",
    by=("kim",),
    reason="customer waits",
    since_s=NOW_S - 60.0,
    until_s=NOW_S + 3_600.0,
    nodes=frozenset({NODE}),
    watts=80_000.0,
)


@pytest.mark.parametrize(
    "changes", [{"books": FULL}, {"breakers": (TRIPPED,)}, {"incident": "r1 was lost"}]
)
def test_persons_set_budgets_breakers_and_incidents_aside(changes: dict[str, Any]) -> None:
    got = remedy(case(glass=(GLASS,), **changes))
    assert isinstance(got, Remedy)
    assert (got.action, got.authority) == (Action.DRAIN, "bg1")


@pytest.mark.parametrize(
    "changes",
    [
        {"until_s": NOW_S},
        {"since_s": NOW_S + 1.0},
        {"until_s": NOW_S + limits.BREAK_GLASS_MAX_S},
        {"by": ()},
        {"by": ("",)},
        {"nodes": frozenset({"gpu-2"})},
        {"watts": 1_000_001.0},
        {"watts": 1_000_001.0, "by": ("kim", "kim")},
    ],
)
def test_a_glass_without_a_name_an_end_or_a_second_person_is_none(changes: dict[str, Any]) -> None:
    one = msgspec.structs.replace(GLASS, **changes)
    assert stay_of(case(glass=(one,), books=FULL)) is Stay.BUDGET


def test_two_persons_answer_for_a_megawatt() -> None:
    one = msgspec.structs.replace(GLASS, watts=2e6, by=("kim", "lee"))
    assert action_of(case(glass=(one,), books=FULL)) is Action.DRAIN


@pytest.mark.parametrize(
    ("changes", "stay"),
    [
        ({"overlays": (overlay(OverlayKind.SAFETY_HOLD),)}, Stay.HOLD),
        ({"evidence": ()}, Stay.DRAINING),
        ({"locks": ("fw-0",)}, Stay.LOCKED),
        ({"alerts": CYCLE, "evidence": TWO_SAY[:1]}, Stay.ONE_SOURCE),
        ({"cordons": (OURS, PERSON)}, Stay.HUMAN_CORDON),
    ],
)
def test_no_glass_sets_holds_people_or_evidence_aside(changes: dict[str, Any], stay: Stay) -> None:
    assert stay_of(drained(glass=(GLASS,), **changes)) is stay


FIRE = Emergency(
    id="em1",
    kind=EmergencyKind.LEAK,
    domains=frozenset({"r1"}),
    plan="so-7",
    source=Source.METER,
    since_s=NOW_S - 30.0,
    until_s=NOW_S + 600.0,
)
WET = (said(Source.BMC, unsafe=True),)


def test_what_is_unsafe_already_is_switched_off_undrained_and_under_any_hold() -> None:
    for changes in (
        {},
        {"overlays": (overlay(OverlayKind.SAFETY_HOLD),)},
        {"cordons": (PERSON,)},
        {"books": FULL, "breakers": (TRIPPED,)},
        {"alerts": (), "alerts_at_s": None},
    ):
        got = remedy(case(emergencies=(FIRE,), evidence=WET, **changes))
        assert isinstance(got, Remedy), changes
        assert (got.action, got.why, got.authority) == (Action.POWER_OFF, Why.EMERGENCY, "so-7")
        assert got.evidence == WET


def test_the_rest_of_its_domains_is_drained_whatever_the_budget() -> None:
    got = remedy(case(emergencies=(FIRE,), books=FULL, breakers=(TRIPPED,)))
    assert isinstance(got, Remedy)
    assert (got.action, got.authority) == (Action.DRAIN, "so-7")
    assert stay_of(drained(emergencies=(FIRE,))) is Stay.EMERGENCY


@pytest.mark.parametrize(
    ("changes", "stay"),
    [
        ({"locks": ("fw-0",)}, Stay.LOCKED),
        ({"overlays": (overlay(OverlayKind.SAFETY_HOLD),), "evidence": ()}, Stay.HOLD),
        ({"cordons": (PERSON,), "evidence": ()}, Stay.HUMAN_CORDON),
        ({"evidence": (*WET, said(Source.AGENT, unsafe=False))}, Stay.CONTRADICTION),
        ({"attempts": (tried(Action.POWER_OFF, ago_s=10.0, took_s=None),)}, Stay.EMERGENCY),
        ({"policy": Policy()}, Stay.MONITOR_ONLY),
    ],
)
def test_what_an_emergency_does_not_override(changes: dict[str, Any], stay: Stay) -> None:
    assert stay_of(case(**{"emergencies": (FIRE,), "evidence": WET, **changes})) is stay


@pytest.mark.parametrize(
    "changes",
    [
        {"domains": frozenset({"r2"})},
        {"domains": frozenset()},
        {"plan": ""},
        {"until_s": NOW_S},
        {"since_s": NOW_S + 1.0},
        {"since_s": NOW_S - limits.EMERGENCY_MAX_S},
    ],
)
def test_an_emergency_reaches_no_further_than_it_says(changes: dict[str, Any]) -> None:
    one = msgspec.structs.replace(FIRE, **changes)
    assert stay_of(case(emergencies=(one,), evidence=WET, alerts=())) is Stay.WELL


def test_its_own_source_is_not_the_second_one() -> None:
    one = msgspec.structs.replace(FIRE, source=Source.BMC)
    assert action_of(case(emergencies=(one,), evidence=WET)) is Action.DRAIN


def test_what_an_emergency_switched_off_goes_on_by_a_person() -> None:
    off = (tried(Action.POWER_OFF, ago_s=5_000.0),)
    say = Approval(by="kim", at_s=NOW_S - 60.0, until_s=NOW_S + 60.0, up_to=Rung.POWER_CYCLE)
    assert stay_of(case(attempts=off)) is Stay.EMERGENCY
    assert action_of(case(attempts=off, approvals=(say,))) is Action.DRAIN
    assert action_of(case(attempts=(*off, tried(Action.RETURN, ago_s=3_000.0)))) is Action.DRAIN
    failed = msgspec.structs.replace(off[0], outcome=Outcome.FAILED)
    assert action_of(case(attempts=(failed,))) is Action.DRAIN
