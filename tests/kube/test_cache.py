"""A cache tells what changed, once, and knows which own writes it does not show yet."""

from __future__ import annotations

import pytest

from control_plane.core.cluster import ClusterError, Event, Gone, Metadata, Object
from control_plane.kube.cache import Cache, number
from tests.kube.running import MINERS, Told, no_bug


def an(name: str, version: int, uid: str = "") -> Object:
    return Object(
        metadata=Metadata(name=name, uid=uid or f"u-{name}", resource_version=str(version))
    )


def a_cache(*objects: Object, version: int = 10) -> Cache:
    cache = Cache(MINERS, bug=no_bug)
    cache.replace(objects, version)
    return cache


def bookmark(version: int) -> Event:
    return Event(type="BOOKMARK", object=an("", version))


def test_who_comes_late_is_told_of_what_is_there() -> None:
    told = Told(a_cache(an("a", 3), an("b", 4)))
    assert told.all == [(None, an("a", 3)), (None, an("b", 4))]


def test_a_list_tells_the_difference_and_deletions_as_such() -> None:
    cache = a_cache(an("a", 3), an("b", 4), an("c", 5))
    told = Told(cache)
    told.all.clear()
    cache.replace([an("a", 3), an("c", 12), an("d", 13)], 20)
    assert told.all == [(an("b", 4), None), (an("c", 5), an("c", 12)), (None, an("d", 13))]
    assert {each.key for each in cache} == {"a", "c", "d"}
    assert len(cache) == 3


def test_another_object_of_the_same_name_is_a_deletion_and_a_new_one() -> None:
    cache = a_cache(an("a", 3))
    told = Told(cache)
    told.all.clear()
    cache.replace([an("a", 12, "other")], 20)
    cache.take(Event(type="ADDED", object=an("a", 21, "third")))
    assert told.all == [
        (an("a", 3), None),
        (None, an("a", 12, "other")),
        (an("a", 12, "other"), None),
        (None, an("a", 21, "third")),
    ]


def test_what_is_told_twice_by_the_server_is_told_once() -> None:
    cache = a_cache()
    told = Told(cache)
    for _ in range(2):
        cache.take(Event(type="ADDED", object=an("a", 11)))
    for _ in range(2):
        cache.take(Event(type="DELETED", object=an("a", 12)))
    assert told.all == [(None, an("a", 11)), (an("a", 11), None)]


def test_a_key_is_behind_from_an_own_write_until_the_cache_is_there() -> None:
    cache = a_cache(an("a", 3))
    cache.wrote(an("a", 15))
    assert cache.is_behind("a")
    assert not cache.is_behind("b")
    cache.take(Event(type="MODIFIED", object=an("b", 14)))
    assert cache.is_behind("a")
    cache.take(Event(type="MODIFIED", object=an("a", 15)))
    assert not cache.is_behind("a")


def test_an_event_may_come_before_the_reply() -> None:
    cache = a_cache(an("a", 3))
    cache.take(Event(type="MODIFIED", object=an("a", 15)))
    cache.take(Event(type="MODIFIED", object=an("a", 17)))  # by somebody else
    cache.wrote(an("a", 15))
    assert not cache.is_behind("a")


def test_the_oldest_reply_of_two_does_not_undo_the_newest() -> None:
    cache = a_cache(an("a", 3))
    cache.wrote(an("a", 16))
    cache.wrote(an("a", 15))
    cache.take(bookmark(15))
    assert cache.is_behind("a")


@pytest.mark.parametrize("how", ["deleted", "bookmark", "list"])
def test_nothing_stays_behind_for_ever(how: str) -> None:
    """The object of the write may be gone before the cache saw it."""
    cache = a_cache(an("a", 3))
    cache.wrote(an("a", 15))
    match how:
        case "deleted":
            cache.take(Event(type="DELETED", object=an("a", 16)))
        case "bookmark":
            cache.take(bookmark(16))
        case _:
            cache.replace([], 16)
    assert not cache.is_behind("a")


def test_a_list_that_began_before_the_write_does_not_show_it() -> None:
    cache = a_cache(an("a", 3))
    cache.wrote(an("a", 15))
    cache.replace([an("a", 3)], 14)
    assert cache.is_behind("a")


def test_after_a_restore_of_the_store_old_numbers_hold_nobody_back() -> None:
    cache = a_cache(an("a", 3), version=1_000)
    cache.wrote(an("a", 1_001))
    with pytest.raises(Gone, match="went back from 1000 to 50"):
        cache.take(bookmark(50))
    cache.replace([an("a", 3)], 51)
    assert not cache.is_behind("a")
    assert cache.version == 51


def test_a_handler_with_a_bug_costs_nobody_else_anything() -> None:
    bugs: list[tuple[str, str]] = []
    cache = Cache(MINERS, bug=lambda whose, words: bugs.append((whose, words)))

    def broken(_old: Object | None, _new: Object | None) -> None:
        raise KeyError("secret")

    cache.tell(broken)
    told = Told(cache)
    cache.replace([an("a", 3), an("b", 4)], 10)
    assert set(told.objects) == {"a", "b"}
    assert [whose for whose, _ in bugs] == ["miners/a", "miners/b"]
    assert all("KeyError at" in words and "secret" not in words for _, words in bugs)


@pytest.mark.parametrize("version", ["", "abc", "-1", "1.5", "\uff11"])
def test_a_version_that_is_no_number_is_refused(version: str) -> None:
    with pytest.raises(ClusterError, match="no number"):
        number(version)
