"""Controllers on a site where everything goes wrong: no invariant breaks, and it ends as declared."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.scenarios.play import Report
from tests.scenarios.reigns import play

SEEDS = 6


@pytest.mark.slow
def test_no_invariant_breaks_under_controllers() -> None:
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        reports: list[Report] = list(pool.map(play, range(SEEDS)))
    broken = [f"seed {r.seed}: {r.violations[0]}" for r in reports if r.violations]
    assert broken == []
    assert sum(report.writes for report in reports) > 5 * SEEDS
