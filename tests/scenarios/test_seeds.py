"""Two hundred seeds: a site is adopted while everything goes wrong, and no invariant ever breaks."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.scenarios.play import Report, play
from tests.scenarios.replay import replay

SEEDS = 200
REPLAYED = (1, 2, 3)


@pytest.mark.slow
def test_no_invariant_breaks_in_any_seed() -> None:
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        reports: list[Report] = list(pool.map(play, range(SEEDS), chunksize=5))
    broken = [
        f"seed {report.seed}: {report.violations[0]}" for report in reports if report.violations
    ]
    assert broken == [], "replay one: python -m tests.campaign --seed N --trace"
    assert sum(report.writes for report in reports) > 5 * SEEDS, "the seeds hardly write anything"


@pytest.mark.slow
def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    here = [play(seed).digest for seed in REPLAYED]
    for hash_seed in ("0", "4711"):
        assert replay(REPLAYED, hash_seed) == here, f"PYTHONHASHSEED={hash_seed}"
