"""Some safeguards switched off: the seeds notice. All of them: `make campaign`."""

from __future__ import annotations

import pytest

from tests.scenarios.ablations import ABLATIONS, try_ablation

QUICK = {
    "fence",
    "hold: gate and permit",
    "headroom: all",
    "budgets",
    "zero pools: planner and gate",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(QUICK), ids=[name.replace(": ", "-").replace(" ", "-") for name in sorted(QUICK)]
)
def test_seeds_notice_a_safeguard_that_is_missing(name: str) -> None:
    [ablation] = [a for a in ABLATIONS if a.name == name]
    caught = try_ablation(ablation)
    assert caught.seed is not None, f"200 seeds without {name}, and no {sorted(ablation.rules)}"
