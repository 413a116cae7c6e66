"""What `explain` says is next: for every reason there is."""

from __future__ import annotations

from control_plane.core.decide import Reason
from control_plane.views.explain import NEXT


def test_every_reason_says_what_happens_next_and_who_acts() -> None:
    assert set(NEXT) == set(Reason)
    assert all(text.format(asset="m-1") for text in NEXT.values())
