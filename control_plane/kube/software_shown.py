"""`Rollout` objects of GPU software: how far a driver or a MIG profile has come, for people. Pure.

A projection as those of settings are: what a leader goes on with stands in the site's state and on the nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from control_plane.api.conditions import Told, moment
from control_plane.api.objects import RolloutSpec, RolloutStatus
from control_plane.core.digest import digest_of
from control_plane.core.gpu_rollout import SoftwareRollout, SoftwareState
from control_plane.kube.rollouts import gate_part, told_of


def software_objects(
    site: str, rollouts: Iterable[SoftwareRollout]
) -> Iterator[tuple[str, RolloutSpec, RolloutStatus, list[Told]]]:
    """Each rollout that had anybody to reach: name, spec, status without conditions, and the conditions."""
    return (_object(site, rollout) for rollout in rollouts if rollout.waves)


def _object(
    site: str, rollout: SoftwareRollout
) -> tuple[str, RolloutSpec, RolloutStatus, list[Told]]:
    waves = len(rollout.waves)
    passed = waves if rollout.state is SoftwareState.DONE else rollout.wave
    soak_s = rollout.soak_until_s
    return (
        rollout.id,
        RolloutSpec(
            site=site,
            kind="gpu_software",
            to=digest_of(rollout.want),
            version=str(rollout.want),
            model=rollout.profile,
            waves=rollout.waves,
            wave=rollout.wave,
            state=rollout.state.value,
            since=moment(rollout.since_s) if rollout.since_s else None,
            soak_until=None if soak_s is None else moment(soak_s),
            gates=tuple(gate_part(gate) for gate in rollout.gates),
        ),
        RolloutStatus(progress=f"{passed}/{waves}"),
        told_of(
            rollout,
            is_halted=rollout.state is SoftwareState.HALTED,
            is_done=rollout.state is SoftwareState.DONE,
        ),
    )
