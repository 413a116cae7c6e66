"""How a revision reaches devices: cohorts in the order of a hash, a gate after each wave.

Git declares the strategy only; the engine makes a `Rollout` for every accepted revision. A gate
compares the wave with an untouched control group: only *new* failures beyond the group's count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise

import msgspec


class RolloutState(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    SOAKING = "soaking"
    """The wave is written and verified; its settle time runs."""
    HALTED = "halted"
    """A gate failed; a person continues it or rolls back."""
    DONE = "done"


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate saw."""

    wave: int
    at_s: float
    passed: bool
    treated: int
    treated_failed: int
    control: int
    control_failed: int
    detail: str = ""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One revision on its way to the devices of a site."""

    id: str
    to: str
    """Revision digest."""
    origin: str | None
    """Revision that devices of later waves stay on, but those in `behind`; `None` at adoption."""
    waves: tuple[int, ...]
    """Cumulative counts over the cohort order; the last equals the number of subjects."""
    wave: int = 0
    """Index of the open wave."""
    since_s: float = 0.0
    """Policy time at which the open wave opened: writes since then are the wave's."""
    state: RolloutState = RolloutState.RUNNING
    soak_until_s: float | None = None
    gates: tuple[GateResult, ...] = ()
    behind: dict[str, str | None] = {}
    """Subjects that a superseded rollout had not reached: the revision each of them still stands on."""

    @property
    def is_open(self) -> bool:
        """Whether it still moves."""
        return self.state in {RolloutState.RUNNING, RolloutState.SOAKING}


def cohort_order(revision: str, assets: Iterable[str]) -> tuple[str, ...]:
    """Assets in the order of the hash of revision and asset id: stable, and no rack goes first."""
    return tuple(sorted(assets, key=lambda asset: _rank(revision, asset)))


def _rank(revision: str, asset: str) -> bytes:
    return hashlib.blake2b(f"{revision}:{asset}".encode(), digest_size=8).digest()


def wave_sizes(subjects: int, cohorts: Sequence[float]) -> tuple[int, ...]:
    """Cumulative wave sizes for a number of subjects: strictly growing, ending in all of them.

    >>> wave_sizes(14_000, (1, 10, 0.01, 0.05, 0.25))
    (1, 11, 151, 851, 4351, 14000)
    >>> wave_sizes(5, (1, 10, 0.01))
    (1, 5)
    """
    sizes: list[int] = []
    total = 0
    for cohort in cohorts:
        step = round(cohort) if cohort >= 1 else round(cohort * subjects)
        total = min(subjects, total + max(step, 1))
        if not sizes or total > sizes[-1]:
            sizes.append(total)
    if subjects and (not sizes or sizes[-1] < subjects):
        sizes.append(subjects)
    return tuple(size for size in sizes if size > 0)


def round_size(subjects: int, cohorts: Sequence[float], earned: int) -> int:
    """How many may be treated together: the largest wave that so many gates have led to.

    >>> [round_size(1_000, (1, 10, 0.05), earned) for earned in range(4)]
    [1, 10, 50, 939]
    """
    ends = wave_sizes(subjects, cohorts)
    sizes = [ends[0], *(end - begin for begin, end in pairwise(ends))]
    return max(sizes[: earned + 1])


def wave_members(
    revision: str, assets: Iterable[str], cohorts: Sequence[float]
) -> tuple[tuple[str, ...], ...]:
    """Who is in which wave, each in cohort order: from the revision and the asset ids alone.

    Whoever declares waves and whoever opens them get the same ones: neither slot states nor holds are in it.
    """
    order = cohort_order(revision, assets)
    ends = wave_sizes(len(order), cohorts)
    return tuple(order[begin:end] for begin, end in pairwise((0, *ends)))


def wave_of(order: Mapping[str, int], rollout: Rollout, asset: str) -> int | None:
    """The wave that brings the revision to an asset; `None` for one the rollout does not change."""
    index = order.get(asset)
    if index is None:
        return None
    for number, size in enumerate(rollout.waves):
        if index < size:
            return number
    return None


def is_assigned(order: Mapping[str, int], rollout: Rollout, asset: str) -> bool:
    """Whether a wave that is open or past has reached the asset."""
    wave = wave_of(order, rollout, asset)
    if wave is None:
        return True
    return rollout.state is RolloutState.DONE or wave <= rollout.wave


def judge_gate(
    wave: int,
    *,
    at_s: float,
    treated: Collection[str],
    control: Collection[str],
    failed: Collection[str],
    max_new_failure_share: float,
) -> GateResult:
    """Whether the open wave may be followed by the next.

    Args:
        wave: the open one.
        at_s: policy time.
        treated: members of this wave that were healthy before it.
        control: devices that no wave has touched and that were healthy at the same time.
        failed: devices that are not healthy now.
        max_new_failure_share: of the treated, beyond the control group's own rate.
    """
    bad = frozenset(failed)
    treated_failed = sum(1 for asset in treated if asset in bad)
    control_failed = sum(1 for asset in control if asset in bad)
    background = control_failed / len(control) if control else 0.0
    share = treated_failed / len(treated) if treated else 0.0
    passed = share - background <= max_new_failure_share
    return GateResult(
        wave=wave,
        at_s=at_s,
        passed=passed,
        treated=len(treated),
        treated_failed=treated_failed,
        control=len(control),
        control_failed=control_failed,
        detail=""
        if passed
        else f"{share:.1%} of the wave failed against {background:.1%} of the control group",
    )


def uncounted(rollout: Rollout, idle: int) -> Rollout:
    """The rollout whose open wave showed nothing of the revision, which changed no device of it.

    It does not count: the next wave is as small as it was meant to be, and begins where there is something
    to write. Else the first wave that truly writes could be a quarter of the site.

    Args:
        rollout: with its open wave.
        idle: how many subjects in a row, right after that wave, have nothing to write either.
    """
    total = rollout.waves[-1]
    sizes = [end - begin for begin, end in pairwise((0, *rollout.waves))][rollout.wave :]
    waves = [*rollout.waves[: rollout.wave], min(total, rollout.waves[rollout.wave] + idle)]
    for size in sizes:
        if waves[-1] < total:
            waves.append(min(total, waves[-1] + size))
    return msgspec.structs.replace(rollout, waves=tuple(waves))


def after_gate(rollout: Rollout, gate: GateResult) -> Rollout:
    """The rollout after a gate: next wave, done, or halted."""
    gates = (*rollout.gates, gate)
    if not gate.passed:
        return msgspec.structs.replace(
            rollout, state=RolloutState.HALTED, gates=gates, soak_until_s=None
        )
    if rollout.wave + 1 >= len(rollout.waves):
        return msgspec.structs.replace(
            rollout, state=RolloutState.DONE, gates=gates, soak_until_s=None
        )
    return msgspec.structs.replace(
        rollout,
        state=RolloutState.RUNNING,
        wave=rollout.wave + 1,
        since_s=gate.at_s,
        gates=gates,
        soak_until_s=None,
    )
