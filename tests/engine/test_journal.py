"""What the engine learned, on its way to the Store."""

from __future__ import annotations

from control_plane.engine.journal import Journal
from control_plane.engine.store import Store
from tests.engine.test_rollouts import StillClock


def test_pages_of_years_are_counted_and_the_last_ones_shown() -> None:
    journal = Journal(store=Store(None), audit=None, clock=StillClock())
    for n in range(1_000):
        journal.page(f"page {n}")
    assert journal.paged == 1_000
    assert journal.pages[-1] == "page 999"
    assert len(journal.pages) <= 200
