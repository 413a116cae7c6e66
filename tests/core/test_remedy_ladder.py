"""Which rung: the least that is asked for, one higher for each that did not help, caps at every one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.remedy import remedy
from control_plane.core.remedy_case import (
    CURES,
    RUNG_OF,
    Action,
    Attempt,
    Outcome,
    Policy,
    Remedy,
    Stay,
    Why,
)
from control_plane.core.remedy_ladder import GRACE_S
from tests.core.remedies import (
    NOW_S,
    OURS,
    PCI,
    action_of,
    alert,
    drained,
    stay_of,
    tried,
)

OLD = NOW_S - 80_000.0
"""Since when these faults are there: nothing that was tried since helped."""
UP = {
    Action.RESET_GPU: Action.RELOAD_DRIVER,
    Action.RELOAD_DRIVER: Action.REBOOT,
    Action.REBOOT: Action.POWER_CYCLE,
    Action.POWER_CYCLE: Action.QUARANTINE,
}


@pytest.mark.parametrize("rung", [r for r in Rung if r >= Rung.RESET_GPU])
def test_it_starts_where_the_alert_says(rung: Rung) -> None:
    got = action_of(drained(alerts=(alert(rung, since_s=OLD),)))
    assert RUNG_OF[got] is rung


def test_of_several_it_is_the_least_that_helps_all() -> None:
    alerts = (alert(Rung.RESET_GPU), alert(Rung.REBOOT, xid=79), alert(Rung.OBSERVE, xid=63))
    got = remedy(drained(alerts=alerts))
    assert isinstance(got, Remedy)
    assert (got.action, got.alerts) == (Action.REBOOT, (alerts[1],))


@pytest.mark.parametrize(("action", "after"), sorted(UP.items()))
def test_each_rung_comes_when_the_one_below_did_not_help(action: Action, after: Action) -> None:
    rung = RUNG_OF[action]
    fault = (alert(rung, since_s=OLD),)
    grace_s = GRACE_S[rung]
    early = (tried(action, ago_s=grace_s + 29.0),)
    assert stay_of(drained(alerts=fault, attempts=early)) is Stay.GRACE
    late = (tried(action, ago_s=grace_s + 30.0),)
    got = remedy(drained(alerts=fault, attempts=late))
    assert isinstance(got, Remedy)
    assert (got.action, got.why) == (after, Why.NO_HELP)


def test_one_that_helped_for_its_grace_may_be_tried_once_more_and_not_twice() -> None:
    fault = (alert(Rung.REBOOT, since_s=NOW_S - 1_000.0),)
    before = [tried(Action.REBOOT, ago_s=ago_s, took_s=600.0) for ago_s in (20_000.0, 10_000.0)]
    assert action_of(drained(alerts=fault, attempts=(before[1],))) is Action.REBOOT
    got = remedy(drained(alerts=fault, attempts=tuple(before)))
    assert isinstance(got, Remedy)
    assert (got.action, got.why) == (Action.POWER_CYCLE, Why.CAP_SPENT)


def test_a_fault_that_is_told_anew_within_the_grace_is_the_same_one() -> None:
    """A driver that boots tells its faults again: that is no news."""
    told_s = NOW_S - 4_000.0 + 60.0
    fault = (alert(Rung.REBOOT, since_s=told_s),)
    attempts = (tried(Action.REBOOT, ago_s=4_000.0),)
    assert action_of(drained(alerts=fault, attempts=attempts)) is Action.POWER_CYCLE


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN, Outcome.OPEN])
def test_what_may_not_have_taken_place_is_tried_once_more(outcome: Outcome) -> None:
    fault = (alert(Rung.REBOOT, since_s=OLD),)
    once = tried(Action.REBOOT, ago_s=9_000.0, outcome=outcome)
    if outcome is Outcome.OPEN:
        once = msgspec.structs.replace(once, ended_s=None)
    assert action_of(drained(alerts=fault, attempts=(once,))) is Action.REBOOT
    twice = (once, msgspec.structs.replace(once, at_s=NOW_S - 5_000.0))
    assert action_of(drained(alerts=fault, attempts=twice)) is Action.POWER_CYCLE


def test_another_gpu_has_tries_of_its_own() -> None:
    fault = (alert(since_s=OLD),)
    other = tried(Action.RESET_GPU, ago_s=5_000.0, gpu="1B")
    assert action_of(drained(alerts=fault, attempts=(other,))) is Action.RESET_GPU
    same = tried(Action.RESET_GPU, ago_s=5_000.0, gpu=PCI)
    assert action_of(drained(alerts=fault, attempts=(same,))) is Action.RELOAD_DRIVER
    together = drained(
        alerts=fault, attempts=(other,), policy=Policy(acts=True, gpus_reset_alone=False)
    )
    assert action_of(together) is Action.RELOAD_DRIVER


def test_gpus_of_one_fabric_are_reset_together() -> None:
    got = remedy(drained(policy=Policy(acts=True, gpus_reset_alone=False)))
    assert isinstance(got, Remedy)
    assert (got.action, got.gpu) == (Action.RESET_GPU, None)


def test_rungs_that_a_node_does_not_have_are_passed_over() -> None:
    some = Policy(acts=True, rungs=frozenset({Rung.DRAIN, Rung.RESET_GPU, Rung.REBOOT}))
    fault = (alert(since_s=OLD),)
    for tries, after in (
        ([Action.RESET_GPU], Action.REBOOT),
        ([Action.RESET_GPU, Action.REBOOT], Action.QUARANTINE),
    ):
        attempts = tuple(tried(one, ago_s=9_000.0 - n) for n, one in enumerate(tries))
        assert action_of(drained(alerts=fault, attempts=attempts, policy=some)) is after


def test_a_day_has_so_many_and_then_it_is_for_the_bench() -> None:
    fault = (alert(since_s=NOW_S - 300.0),)
    gpus = [f"{n:02X}" for n in range(limits.REMEDY_PER_DAY)]
    attempts = tuple(
        tried(Action.RESET_GPU, ago_s=50_000.0 - n, gpu=gpu) for n, gpu in enumerate(gpus)
    )
    assert action_of(drained(alerts=fault, attempts=attempts[1:])) is Action.RESET_GPU
    got = remedy(drained(alerts=fault, attempts=attempts))
    assert isinstance(got, Remedy)
    assert (got.action, got.why) == (Action.QUARANTINE, Why.CAP_SPENT)


def test_another_day_is_another_day() -> None:
    attempts = (tried(Action.REBOOT, ago_s=limits.REMEDY_WINDOW_S),)
    fault = (alert(Rung.REBOOT, since_s=NOW_S - 90_000.0),)
    assert action_of(drained(alerts=fault, attempts=attempts)) is Action.REBOOT


def test_what_asks_for_a_drain_gets_more_where_that_does_not_help() -> None:
    fault = (alert(Rung.DRAIN, since_s=OLD),)
    new = (msgspec.structs.replace(OURS, since_s=NOW_S - 100.0),)
    assert stay_of(drained(alerts=fault, cordons=new)) is Stay.GRACE
    assert action_of(drained(alerts=fault)) is Action.RESET_GPU
    seen = tried(Action.DRAIN, ago_s=900.0, took_s=800.0)
    assert stay_of(drained(alerts=fault, attempts=(seen,))) is Stay.GRACE


ALERTS = st.lists(
    st.builds(
        Alert,
        kind=st.sampled_from(AlertKind),
        rung=st.sampled_from(Rung),
        since_s=st.floats(OLD, NOW_S),
        gpu=st.sampled_from([None, PCI, "1B"]),
        asks=st.booleans(),
        final=st.booleans(),
    ),
    max_size=4,
)
ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        action=st.sampled_from(sorted(CURES)),
        at_s=st.floats(NOW_S - 90_000.0, NOW_S),
        gpu=st.sampled_from([None, PCI, "1B"]),
        ended_s=st.none() | st.floats(NOW_S - 90_000.0, NOW_S),
        outcome=st.sampled_from(Outcome),
    ),
    max_size=8,
)


@given(alerts=ALERTS, attempts=ATTEMPTS)
def test_whatever_was_tried_caps_graces_and_askers_hold(
    alerts: list[Alert], attempts: list[Attempt]
) -> None:
    attempts.sort(key=lambda one: one.at_s)
    got = remedy(drained(alerts=tuple(alerts), attempts=tuple(attempts)))
    if not isinstance(got, Remedy) or got.action not in CURES:
        return
    today = [a for a in attempts if a.at_s > NOW_S - limits.REMEDY_WINDOW_S]
    same = [a for a in today if a.action is got.action and a.gpu == got.gpu]
    assert len(today) < limits.REMEDY_PER_DAY
    assert len(same) < limits.REMEDY_ATTEMPTS
    assert not any(alert.asks and alert.rung > Rung.OBSERVE for alert in alerts)
    assert not any(alert.final for alert in alerts)
    rung = RUNG_OF[got.action]
    assert min(a.rung for a in alerts if a.rung > Rung.OBSERVE) <= rung
    for one in today:
        end_s = one.at_s if one.ended_s is None else one.ended_s
        assert end_s + GRACE_S[RUNG_OF[one.action]] <= NOW_S


@given(alerts=ALERTS)
def test_a_fault_that_nothing_helps_ends_on_the_bench(alerts: list[Alert]) -> None:
    """However it begins: so many tries, and a person has it."""
    lasting = [
        msgspec.structs.replace(one, asks=False) for one in alerts if one.rung > Rung.OBSERVE
    ]
    if not lasting:
        return
    case = drained(alerts=tuple(lasting))
    now_s, done = NOW_S, 0
    while True:
        got = remedy(at(case, now_s))
        if isinstance(got, Remedy):
            if got.action is Action.QUARANTINE:
                break
            assert got.action in CURES
            done += 1
            one = Attempt(
                action=got.action,
                at_s=now_s,
                gpu=got.gpu,
                ended_s=now_s + 30.0,
                outcome=Outcome.DONE,
            )
            case = msgspec.structs.replace(case, attempts=(*case.attempts, one))
        now_s += 600.0
        assert now_s < NOW_S + 40_000.0, got
    assert done <= limits.REMEDY_PER_DAY


def at(case: Any, now_s: float) -> Any:
    """The same case later, looked at again."""
    evidence = tuple(msgspec.structs.replace(one, at_s=now_s - 1.0) for one in case.evidence)
    return msgspec.structs.replace(case, now_s=now_s, alerts_at_s=now_s - 1.0, evidence=evidence)
