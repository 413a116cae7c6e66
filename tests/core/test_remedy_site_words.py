"""Words on many GPU nodes: said twice they are one, ended they stay ended, and small ones add up."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.core.remedy_case import BreakGlass, Emergency, EmergencyKind, Ended, Source, Stay
from control_plane.core.remedy_kept import SiteKept
from control_plane.core.remedy_site_words import (
    ended,
    is_said_again,
    signed,
    watts_under_glass,
    with_site_words_of,
    with_word,
    without_past,
    word_named,
)
from control_plane.core.remedy_urgent import goes_on, in_force, named_in, persons_missing
from tests.core.remedies import (
    BOOKS,
    NODE,
    NOW_S,
    RACK,
    action_of,
    case,
    drained,
    said,
    stay_of,
    well,
)

LEAK = Emergency(
    id="leak-1", kind=EmergencyKind.LEAK, domains=frozenset({"r1"}), by="kim", reason="wet floor",
    source=Source.PERSON, since_s=NOW_S - 60.0, until_s=NOW_S + 600.0,
)  # fmt: skip
GLASS = BreakGlass(
    id="glass-1", by=("kim",), reason="customer waits", since_s=NOW_S - 60.0,
    until_s=NOW_S + 600.0, nodes=frozenset({NODE}), watts=10_000.0,
)  # fmt: skip
OVER = Ended(by="lee", reason="dry", at_s=NOW_S)


def test_a_persons_emergency_drains_and_needs_somebody_else_to_switch_off() -> None:
    assert action_of(case(emergencies=(LEAK,), alerts=())) == "drain"
    hot = (said(Source.BMC, unsafe=True),)
    assert action_of(case(emergencies=(LEAK,), alerts=(), evidence=hot)) == "power_off"
    own = (said(Source.PERSON, unsafe=True),)
    assert action_of(case(emergencies=(LEAK,), alerts=(), evidence=own)) == "drain"


def test_what_an_emergency_cordoned_is_drained_and_then_kept_so() -> None:
    busy = (said(Source.CLUSTER, drained=False, well=True),)
    assert stay_of(drained(emergencies=(LEAK,), evidence=busy, alerts=())) is Stay.DRAINING
    assert stay_of(drained(emergencies=(LEAK,), alerts=())) is Stay.EMERGENCY


@pytest.mark.parametrize(
    "changes", [{"by": ""}, {"ended": OVER}, {"until_s": NOW_S}, {"since_s": NOW_S + 1.0}]
)
def test_one_that_nobody_answers_for_or_that_is_over_drains_nobody(
    changes: dict[str, object],
) -> None:
    one = msgspec.structs.replace(LEAK, **changes)
    assert not goes_on(one, now_s=NOW_S)
    assert named_in((one,), BOOKS, now_s=NOW_S) == frozenset()
    # What it had drained comes back through the gate.
    assert action_of(well(emergencies=(one,))) == "return"


def test_only_the_nodes_of_its_domains_are_named() -> None:
    assert named_in((LEAK,), BOOKS, now_s=NOW_S) == RACK
    elsewhere = msgspec.structs.replace(LEAK, domains=frozenset({"rack-of-before"}))
    assert named_in((elsewhere,), BOOKS, now_s=NOW_S) == frozenset()


def test_a_glass_that_a_person_ended_is_none() -> None:
    assert in_force((GLASS,), now_s=NOW_S) == [GLASS]
    assert in_force((msgspec.structs.replace(GLASS, ended=OVER),), now_s=NOW_S) == []


def test_small_ones_of_one_person_add_up_to_a_large_one() -> None:
    most_w = limits.BREAK_GLASS_ONE_PERSON_W
    draws = {f"gpu-{n}": most_w * 0.4 for n in range(1, 9)}
    site = SiteKept()
    for n, name in enumerate(("gpu-1", "gpu-2", "gpu-3"), 1):
        watts = watts_under_glass(site, [name], draws, now_s=NOW_S)
        assert watts == pytest.approx(most_w * 0.4 * n)
        one = msgspec.structs.replace(GLASS, id=f"glass-{n}", nodes=frozenset({name}), watts=watts)
        assert persons_missing(one) == (1 if n == 3 else 0)
        site = with_word(site, one)
    # The one that waits sets nothing aside, and one node under two counts once.
    assert watts_under_glass(site, ["gpu-1"], draws, now_s=NOW_S) == pytest.approx(most_w * 0.8)
    assert watts_under_glass(site, ["gone"], draws, now_s=NOW_S + 601.0) == 0.0


def test_nobody_is_two_persons() -> None:
    large = msgspec.structs.replace(GLASS, watts=2e6)
    assert persons_missing(signed(large, by="kim")) == 1
    assert persons_missing(signed(large, by="lee")) == 0


def test_a_word_is_known_again_whatever_became_of_it() -> None:
    for word in (LEAK, GLASS):
        site = with_word(SiteKept(), word)
        assert word_named(site, word.id) == word
        over = ended(word, OVER)
        assert ended(over, Ended(by="ann", reason="too", at_s=NOW_S + 1.0)) == over, "ended once"
        site = with_word(site, over)
        assert site.words == (over,), "it is in the place of what it was"
        assert is_said_again(over, word)
        assert not is_said_again(over, msgspec.structs.replace(word, until_s=NOW_S + 601.0))
    counted = msgspec.structs.replace(signed(GLASS, by="lee"), watts=99.0)
    assert is_said_again(counted, GLASS), (
        "a second person, and what else is in force, change no word"
    )
    assert not is_said_again(LEAK, GLASS)


@given(ends_s=st.lists(st.floats(0.0, 2 * NOW_S), max_size=6), now_s=st.floats(0.0, 2 * NOW_S))
def test_a_word_is_kept_until_its_time_is_over(ends_s: list[float], now_s: float) -> None:
    site = SiteKept()
    for n, until_s in enumerate(ends_s):
        site = with_word(
            site, msgspec.structs.replace(LEAK, id=f"leak-{n}", until_s=until_s, ended=OVER)
        )
        site = with_word(site, msgspec.structs.replace(GLASS, id=f"glass-{n}", until_s=until_s))
    left = without_past(site, now_s=now_s)
    assert len(left.words) == 2 * sum(now_s < until_s for until_s in ends_s)
    assert without_past(left, now_s=now_s) is left
    assert with_site_words_of(SiteKept(), left).words == left.words


def test_rows_of_before_there_were_such_words_are_read() -> None:
    assert msgspec.json.decode(b"{}", type=SiteKept).words == ()
    both = with_word(with_word(SiteKept(), LEAK), ended(GLASS, OVER))
    assert msgspec.json.decode(msgspec.json.encode(both), type=SiteKept) == both
