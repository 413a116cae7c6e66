"""What one process of a campaign does; functions that other processes can find by name."""

from __future__ import annotations

import time

from tests.scenarios.ablations import ABLATIONS, try_ablation
from tests.scenarios.crashes import Outcome, Point, judge, run
from tests.scenarios.play import Report, play


def timed(seed: int) -> tuple[Report, float]:
    """A seed, and the CPU seconds that it took."""
    began = time.process_time()
    return play(seed), time.process_time() - began


def crash(reference: Outcome, point: Point) -> str | None:
    """What is wrong with how it ends where a process dies at a point."""
    return judge(run(point), reference)


def try_nth(number: int) -> tuple[int, int | None, str]:
    """An ablation by its place: its functions do not travel to other processes."""
    caught = try_ablation(ABLATIONS[number])
    return number, caught.seed, caught.violation
