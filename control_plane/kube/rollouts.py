"""`Rollout` objects: how far a revision has come, for people. Pure.

A projection: what a new leader goes on with stands in the site's state (decision 0012).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Protocol

from control_plane.api.conditions import (
    Told,
    camel,
    moment,
    ready,
    reconciling,
    shortened,
    stalled,
)
from control_plane.api.objects import BehindPart, GatePart, RolloutSpec, RolloutStatus
from control_plane.core.rollout import GateResult, Rollout, RolloutState


class InWaves(Protocol):
    """What rollouts of settings, firmware and GPU software have in common."""

    @property
    def id(self) -> str:
        """Of the rollout."""
        ...

    @property
    def state(self) -> StrEnum:
        """Where it is."""
        ...

    @property
    def wave(self) -> int:
        """The open one, from 0."""
        ...

    @property
    def waves(self) -> tuple[int, ...]:
        """Machines up to each, cumulative."""
        ...


class InWavesWithDetail(InWaves, Protocol):
    """One that says more of itself."""

    @property
    def detail(self) -> str:
        """What is in the way, or why it halted; empty where nothing is."""
        ...


def wave_of(rollout: InWaves) -> str:
    """Where it is, in words."""
    return f"{rollout.id} {rollout.state}: wave {rollout.wave + 1} of {len(rollout.waves)}"


def detail_of(rollout: InWavesWithDetail) -> str:
    """The same with what it says of itself."""
    where = wave_of(rollout)
    return shortened(f"{where}: {rollout.detail}" if rollout.detail else where)


def told_of(rollout: InWavesWithDetail, *, is_halted: bool, is_done: bool) -> list[Told]:
    """Its conditions."""
    if is_done:
        return [ready("True", "Done", f"{len(rollout.waves)} waves")]
    words = detail_of(rollout)
    if is_halted:
        return [stalled("GateFailed", words), ready("False", "GateFailed", words)]
    return [reconciling(camel(rollout.state), words), ready("False", "UnderWay", words)]


def objects_of(
    site: str, rollouts: Iterable[Rollout]
) -> Iterator[tuple[str, RolloutSpec, RolloutStatus, list[Told]]]:
    """Each rollout: name, spec, status without conditions, and the conditions."""
    return (object_of(site, rollout) for rollout in rollouts)


def object_of(site: str, rollout: Rollout) -> tuple[str, RolloutSpec, RolloutStatus, list[Told]]:
    """Name, spec, status without conditions, and the conditions."""
    waves = len(rollout.waves)
    done = waves if rollout.state is RolloutState.DONE else rollout.wave
    return (
        rollout.id,
        RolloutSpec(
            site=site,
            to=rollout.to,
            origin=rollout.origin,
            waves=rollout.waves,
            behind=_behind(rollout),
            wave=rollout.wave,
            state=rollout.state.value,
            since=moment(rollout.since_s) if rollout.since_s else None,
            soak_until=moment(rollout.soak_until_s) if rollout.soak_until_s is not None else None,
            gates=tuple(gate_part(gate) for gate in rollout.gates),
        ),
        RolloutStatus(progress=f"{done}/{waves}"),
        _told(rollout),
    )


def _told(rollout: Rollout) -> list[Told]:
    if rollout.state is RolloutState.HALTED:
        why = rollout.gates[-1].detail if rollout.gates else ""
        return [stalled("GateFailed", why), ready("False", "GateFailed", why)]
    if rollout.is_open:
        where = wave_of(rollout)
        return [reconciling(camel(rollout.state), where), ready("False", "UnderWay", where)]
    return [ready("True", "Done", f"{len(rollout.waves)} waves")]


def _behind(rollout: Rollout) -> tuple[BehindPart, ...]:
    found: defaultdict[str | None, list[str]] = defaultdict(list)
    for asset in sorted(rollout.behind):
        found[rollout.behind[asset]].append(asset)
    return tuple(
        BehindPart(revision=revision, assets=tuple(found[revision]))
        for revision in sorted(found, key=lambda digest: digest or "")
    )


def gate_part(gate: GateResult) -> GatePart:
    """What a gate saw."""
    return GatePart(
        wave=gate.wave,
        at=moment(gate.at_s),
        passed=gate.passed,
        treated=gate.treated,
        treated_failed=gate.treated_failed,
        control=gate.control,
        control_failed=gate.control_failed,
        detail=shortened(gate.detail),
    )
