"""A refused login is known again, and tells nobody what it was."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.refused_login import BmcLogin, RefusedLogin, is_same_login, mark_of
from control_plane.core.remedy_kept import NodeKept
from control_plane.core.remedy_words import login_allowed, with_words_of
from control_plane.core.secret import Secret

SENT = {"address": "10.90.3.21", "user": "gridplane", "password": Secret("s3cret-of-before")}
REFUSED = RefusedLogin(address="10.90.3.21", user="gridplane", mark=mark_of(**SENT), at_s=5.0)  # type: ignore[arg-type]
KEPT = NodeKept(asset="n1", login=BmcLogin(refused=REFUSED))


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({}, True),
        ({"password": Secret("s3cret-of-now")}, False),
        ({"user": "root"}, False),
        ({"address": "10.90.3.22"}, False),
    ],
)
def test_only_the_same_credential_at_the_same_place_is_the_refused_one(
    changes: dict[str, object], is_same: bool
) -> None:
    assert is_same_login(REFUSED, **{**SENT, **changes}) is is_same  # type: ignore[arg-type]


def test_what_is_kept_is_short_and_another_one_at_each_address() -> None:
    marks = {mark_of(**{**SENT, "address": f"10.0.0.{n}"}) for n in range(8)}  # type: ignore[arg-type]
    assert len(marks) == 8
    assert {len(mark) for mark in marks} == {6}
    assert b"s3cret" not in msgspec.json.encode(KEPT)


def test_a_persons_word_is_of_one_more_try_and_is_not_lost_during_an_attempt() -> None:
    again = login_allowed(KEPT)
    assert again.login == BmcLogin(refused=None, tries=1)
    assert login_allowed(again) is again
    assert with_words_of(KEPT, again).login == again.login
    assert KEPT.is_idle, "a node is not looked at more often for it"
