"""Emergencies and break-glass that people order: what is refused, what a second person is for, what ends."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import msgspec
import pytest

from control_plane.api.conditions import moment
from control_plane.api.objects import OrderSpec
from control_plane.core import limits
from control_plane.core.fleet import Site
from control_plane.core.gpu_domains import gpu_devices
from control_plane.core.remedy_case import BreakGlass, EmergencyKind, Source
from control_plane.engine.store import Store
from control_plane.kube.remedy_orders import heard
from control_plane.kube.saying import Refused
from tests.kube.remedies import ONE
from tests.kube.speaking import lab

TWO, RACK = "lab-g1-n2", "rack/lab-g1"
NOW_S = 1_790_000_000.5
SITE = lab()


def later(seconds: float) -> dt.datetime:
    return moment(NOW_S + seconds)


def spec(kind: str, target: str, **more: object) -> OrderSpec:
    base = OrderSpec(
        site="lab", kind=kind, target=target, by="ann", at=later(-5.0), reason="wet floor"  # type: ignore[arg-type]
    )  # fmt: skip
    return msgspec.structs.replace(base, **more)


def leak(target: str = "leak-1", **more: object) -> OrderSpec:
    base = {"emergency": "leak", "domains": (RACK,), "until": later(1_800.0)}
    return spec("emergency", target, **{**base, **more})


def glass(target: str = "glass-1", **more: object) -> OrderSpec:
    return spec("break_glass", target, **{"nodes": (ONE,), "until": later(3_600.0), **more})


def of_megawatts() -> Site:
    """The lab with nodes that draw 0.6 MW each."""

    def large(site: Site) -> Site:
        ladder = tuple(
            msgspec.structs.replace(step, power_w=600_000.0)
            for step in next(gpu_devices(site)).type.ladder
        )
        return msgspec.structs.replace(
            site,
            devices=tuple(
                msgspec.structs.replace(one, type=msgspec.structs.replace(one.type, ladder=ladder))
                if one.type.gpus
                else one
                for one in site.devices
            ),
        )

    return large(SITE)


def test_an_emergency_says_who_why_and_until_when_and_twice_is_once() -> None:
    store = Store(None)
    told = heard(leak(), store, SITE, now_s=NOW_S)
    assert (told.status, told.reason) == ("True", "InForce")
    assert "2 GPU nodes to be drained" in told.message
    (word,) = store.remedy_site().emergencies
    assert (word.kind, word.domains, word.by, word.reason, word.source) == (
        EmergencyKind.LEAK, frozenset({RACK}), "ann", "wet floor", Source.PERSON,
    )  # fmt: skip
    ((_, event),) = store.events()
    assert event.text == f"leak emergency leak-1 in {RACK}, says ann: wet floor"
    assert heard(leak(), store, SITE, now_s=NOW_S + 60.0).reason == "NothingToDo"
    assert (len(store.events()), store.remedy_site().emergencies) == (1, (word,))


def test_what_a_person_ended_is_not_begun_again_by_the_next_leader() -> None:
    store = Store(None)
    heard(leak(), store, SITE, now_s=NOW_S)
    over = spec("end", "leak-1", by="bob", reason="dry", at=later(30.0))
    assert heard(over, store, SITE, now_s=NOW_S + 30.0).reason == "Ended"
    for word in (leak(), over):
        told = heard(word, store, SITE, now_s=NOW_S + 40.0)
        assert (told.reason, "bob ended leak-1: dry" in told.message) == ("NothingToDo", True)
    (kept,) = store.remedy_site().emergencies
    assert kept.ended is not None


def test_break_glass_of_one_person_is_in_force_at_once_and_told_of_each_node() -> None:
    store = Store(None)
    told = heard(glass(nodes=(ONE, TWO)), store, SITE, now_s=NOW_S)
    assert (told.reason, "for 2 GPU nodes" in told.message) == ("InForce", True)
    for name in (ONE, TWO):
        ((_, event),) = store.events(name)
        assert event.text == "break-glass glass-1, says ann: wet floor"
    assert heard(glass(nodes=(ONE, TWO)), store, SITE, now_s=NOW_S + 1.0).reason == "NothingToDo"


def test_above_a_megawatt_another_person_stands_behind_it() -> None:
    store, site = Store(None), of_megawatts()
    told = heard(glass(nodes=(ONE, TWO)), store, site, now_s=NOW_S)
    assert told.reason == "SecondPerson"
    assert "1.20 MW" in told.message
    sign = spec("approve", "glass-1", reason="agreed", at=later(10.0))
    with pytest.raises(Refused, match="another person approves"):
        heard(sign, store, site, now_s=NOW_S + 10.0)
    signed = msgspec.structs.replace(sign, by="bob")
    assert heard(signed, store, site, now_s=NOW_S + 20.0).reason == "InForce"
    assert heard(signed, store, site, now_s=NOW_S + 21.0).reason == "NothingToDo"
    (word,) = store.remedy_site().glass
    assert word.by == ("ann", "bob")
    assert next(event.text for _, event in store.events(ONE)) == (
        "break-glass glass-1 is approved of, says bob: agreed"
    )
    # The word of the first, obeyed once more by the next leader, takes the second away from nobody.
    assert heard(glass(nodes=(ONE, TWO)), store, site, now_s=NOW_S + 30.0).reason == "NothingToDo"
    assert store.remedy_site().glass == (word,)


def test_two_small_ones_of_one_person_need_another_one_too() -> None:
    store, site = Store(None), of_megawatts()
    assert heard(glass(), store, site, now_s=NOW_S).reason == "InForce"
    assert heard(glass("glass-2", nodes=(TWO,)), store, site, now_s=NOW_S).reason == "SecondPerson"


def test_a_second_person_is_not_heard_of_what_came_later_or_is_over() -> None:
    store, site = Store(None), of_megawatts()
    heard(glass(nodes=(ONE, TWO)), store, site, now_s=NOW_S)
    early = spec("approve", "glass-1", by="bob", at=later(-60.0))
    with pytest.raises(Refused, match="said after this word"):
        heard(early, store, site, now_s=NOW_S)
    heard(spec("end", "glass-1", at=later(1.0)), store, site, now_s=NOW_S + 1.0)
    with pytest.raises(Refused, match="ann ended glass-1"):
        heard(spec("approve", "glass-1", by="bob", at=later(2.0)), store, site, now_s=NOW_S + 2.0)


HOUR = limits.EMERGENCY_MAX_S


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (leak(domains=("rack/lab-g2",)), "Did you mean rack/lab-g1"),
        (leak(domains=()), "needs `emergency`, its class, and `domains`"),
        (leak(emergency=None), "needs `emergency`, its class, and `domains`"),
        (leak(until=None), "needs `until`"),
        (leak(until=later(-1.0)), "its time was over"),
        (leak(until=later(HOUR)), "60 min at most"),
        (leak(reason=None), "needs a reason"),
        (leak("taken"), "taken is the name of something else"),
        (glass(nodes=()), "needs `nodes`"),
        (glass(nodes=("lab-g1-n9",)), "Did you mean lab-g1-n"),
        (glass(until=later(limits.BREAK_GLASS_MAX_S)), "240 min at most"),
        (glass("taken", nodes=(TWO,)), "taken is the name of something else"),
        (spec("end", "takn"), "no emergency or break-glass 'takn'. Did you mean taken?"),
        (spec("end", "x"), "'x': there is taken"),
        (spec("end", "taken", at=later(-60.0)), "said after this word"),
    ],
)  # fmt: skip
def test_a_word_that_means_nothing_changes_nothing(word: OrderSpec, says: str) -> None:
    store = Store(None)
    heard(glass("taken"), store, SITE, now_s=NOW_S)
    before = (store.remedy_site(), store.events())
    with pytest.raises(Refused) as refused:
        heard(word, store, SITE, now_s=NOW_S)
    assert says in str(refused.value)
    assert (store.remedy_site(), store.events()) == before


def test_where_nothing_is_in_force_there_is_nothing_to_end() -> None:
    assert heard(spec("end", "leak-1"), Store(None), SITE, now_s=NOW_S).reason == "NothingToDo"


def test_a_glass_is_kept_as_it_was_said() -> None:
    store = Store(None)
    heard(glass(), store, SITE, now_s=NOW_S)
    (word,) = store.remedy_site().glass
    assert isinstance(word, BreakGlass)
    assert word.until_s - word.since_s == pytest.approx(3_605.0, abs=1.0)


@pytest.mark.parametrize("word", [glass, leak])
def test_a_word_of_the_future_is_no_word_yet(word: Callable[..., OrderSpec]) -> None:
    """Several of one person that come into force together would each be counted alone."""
    ahead = word(at=later(300.0), until=later(900.0))
    with pytest.raises(Refused, match="not yet"):
        heard(ahead, Store(None), SITE, now_s=NOW_S)
