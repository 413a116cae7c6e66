"""A condition keeps the time of its last change, and says of which generation it speaks."""

from __future__ import annotations

from control_plane.api.conditions import camel, conditions, moment, ready, reconciling, stalled


def test_a_time_changes_only_with_the_status() -> None:
    first = conditions([ready("False", "Reconciling", "1 of 2")], (), generation=1, now_s=10.0)
    second = conditions([ready("False", "TooFew", "0 of 2")], first, generation=2, now_s=20.0)
    third = conditions([ready("True", "AsDeclared")], second, generation=2, now_s=30.0)
    times = [c.last_transition_time for those in (first, second, third) for c in those]
    assert times == [moment(10), moment(10), moment(30)]
    assert (second[0].reason, second[0].message) == ("TooFew", "0 of 2")
    assert [c.observed_generation for those in (first, second) for c in those] == [1, 2]


def test_what_holds_no_more_is_left_out() -> None:
    before = conditions(
        [reconciling("Rollout", "wave 1"), ready("False", "x")], (), generation=1, now_s=0
    )
    after = conditions([ready("True", "AsDeclared")], before, generation=1, now_s=1)
    assert [c.type for c in after] == ["Ready"]


def test_a_message_is_cut_to_what_the_schema_takes() -> None:
    [condition] = conditions([stalled("Incident", "x" * 5_000)], (), generation=1, now_s=0)
    assert len(condition.message) == 1_024


def test_a_reason_of_ours_becomes_one_of_a_condition() -> None:
    assert camel("manual_override") == "ManualOverride"
