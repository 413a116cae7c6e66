"""`Rollout` objects: the cluster's memory of how far a revision has come. Pure, both ways.

Its spec survives a lost status, and a lost leader: whoever takes over goes on at the wave that stands there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from control_plane.api.objects import BehindPart, GatePart, RolloutSpec, RolloutStatus
from control_plane.core.rollout import GateResult, Rollout, RolloutState
from control_plane.kube.conditions import (
    Told,
    camel,
    moment,
    ready,
    reconciling,
    shortened,
    stalled,
)


def wave_of(rollout: Rollout) -> str:
    """Where it is, in words."""
    return f"{rollout.id} {rollout.state}: wave {rollout.wave + 1} of {len(rollout.waves)}"


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
            gates=tuple(_part(gate) for gate in rollout.gates),
        ),
        RolloutStatus(progress=f"{done}/{waves}"),
        _told(rollout),
    )


def rollout_of(name: str, spec: RolloutSpec) -> Rollout:
    """What a new leader goes on with; times are those of the object, to the second."""
    return Rollout(
        id=name,
        to=spec.to,
        origin=spec.origin,
        waves=spec.waves,
        wave=spec.wave,
        since_s=spec.since.timestamp() if spec.since else 0.0,
        state=RolloutState(spec.state),
        soak_until_s=spec.soak_until.timestamp() if spec.soak_until else None,
        gates=tuple(_gate(part) for part in spec.gates),
        behind={asset: part.revision for part in spec.behind for asset in part.assets},
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


def _part(gate: GateResult) -> GatePart:
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


def _gate(part: GatePart) -> GateResult:
    return GateResult(
        wave=part.wave,
        at_s=part.at.timestamp(),
        passed=part.passed,
        treated=part.treated,
        treated_failed=part.treated_failed,
        control=part.control,
        control_failed=part.control_failed,
        detail=part.detail,
    )
