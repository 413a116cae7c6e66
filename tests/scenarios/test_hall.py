"""Halls of GPU nodes: whatever goes wrong, no remedy breaks a rule, and all end well or with a name."""

from __future__ import annotations

import pytest

from tests.scenarios.hall_ablations import ABLATIONS, try_hall
from tests.scenarios.hall_play import play_hall

QUICK = 6
SILENT = (84, 765, 780, 903)
"""In these nobody had told of a node for long: it was down, and others were taken; or back, and was."""
REPAIRED = (109,)
"""In this one somebody said so while the node was still in the grace of a power cycle."""
SEEDS = 40
NOTICED_SOON = ("drained: evidence", "holds and freezes", "budget: remediation", "incidents")


def test_no_rule_breaks_in_a_few_halls() -> None:
    reports = [play_hall(seed) for seed in (*range(QUICK), *SILENT, *REPAIRED)]
    assert [report.violations[0] for report in reports if report.violations] == []
    done = {action for report in reports for action in report.actions}
    assert {"drain", "reset_gpu", "reboot", "power_cycle", "quarantine", "return"} <= done


@pytest.mark.slow
def test_no_rule_breaks_in_any_hall() -> None:
    broken = [
        f"seed {seed}: {report.violations[0]}"
        for seed in range(QUICK, SEEDS)
        if (report := play_hall(seed)).violations
    ]
    assert broken == [], "replay one: python -m tests.campaign --hall N"


def test_a_seed_is_the_same_hall_each_time() -> None:
    assert play_hall(3).digest == play_hall(3).digest


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTICED_SOON)
def test_a_safeguard_that_is_missing_is_noticed(name: str) -> None:
    [number] = [n for n, one in enumerate(ABLATIONS) if one.name == name]
    assert try_hall(number).seed is not None
