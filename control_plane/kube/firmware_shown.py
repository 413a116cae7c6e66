"""`Rollout` objects of firmware: how far it has come, and what became of each machine, for people. Pure.

A projection as those of settings are: what a leader goes on with stands in the site's state and the grants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from control_plane.api.conditions import Told, moment, ready, reconciling, shortened
from control_plane.api.objects import MachinePart, RolloutSpec, RolloutStatus
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.flashing import COMMITTED, FlashEntry, FlashStep, Grant
from control_plane.kube.rollouts import detail_of, gate_part, told_of

MACHINES_MAX = 200
_URGENT = {FlashStep.QUARANTINED: 0, FlashStep.ROLLED_BACK: 1, **dict.fromkeys(COMMITTED, 2)}
"""Who needs a person comes first, then who is under way."""
_REST = 3


def firmware_objects(
    site: str, rollouts: Iterable[FirmwareRollout], grants: Collection[Grant]
) -> Iterator[tuple[str, RolloutSpec, RolloutStatus, list[Told]]]:
    """Each rollout: name, spec, status without conditions, and the conditions."""
    by_rollout: defaultdict[str, list[Grant]] = defaultdict(list)
    for grant in grants:
        by_rollout[grant.rollout].append(grant)
    return (_object(site, rollout, by_rollout[rollout.id]) for rollout in rollouts)


def name_of(site: str, rollout: FirmwareRollout) -> str:
    """Of the object: rollouts of firmware are counted per site."""
    return f"{rollout.id}-{site}"


def _object(
    site: str, rollout: FirmwareRollout, grants: Sequence[Grant]
) -> tuple[str, RolloutSpec, RolloutStatus, list[Told]]:
    waves = len(rollout.waves)
    passed = waves if rollout.is_over else rollout.wave
    return (
        name_of(site, rollout),
        RolloutSpec(
            site=site,
            kind="firmware",
            to=rollout.bundle,
            version=rollout.version,
            model=rollout.model,
            waves=rollout.waves,
            wave=rollout.wave,
            released=min(rollout.released, waves),
            state=rollout.state.value,
            since=moment(rollout.since_s) if rollout.since_s else None,
            gates=tuple(gate_part(gate) for gate in rollout.gates),
        ),
        RolloutStatus(progress=f"{passed}/{waves}", machines=_machines(grants)),
        _told(rollout),
    )


def _machines(grants: Iterable[Grant]) -> tuple[MachinePart, ...]:
    found = [(grant, entry) for grant in grants for entry in grant.entries.values()]
    found.sort(key=lambda one: (_URGENT.get(one[1].step, _REST), one[0].operation, one[1].asset))
    return tuple(_part(grant, entry) for grant, entry in found[:MACHINES_MAX])


def _part(grant: Grant, entry: FlashEntry) -> MachinePart:
    return MachinePart(
        asset=entry.asset,
        operation=grant.operation,
        purpose=grant.purpose.value,
        step=entry.step.value,
        before=entry.before,
        after=entry.after,
        image=entry.image,
        hash_before_ths=entry.hash_before_ths,
        hash_after_ths=entry.hash_after_ths,
        j_per_th_before=_tenths(entry.j_per_th_before),
        j_per_th_after=_tenths(entry.j_per_th_after),
        committed_at=None if entry.committed_at_s is None else moment(entry.committed_at_s),
        booted_at=None if entry.booted_at_s is None else moment(entry.booted_at_s),
        detail=shortened(entry.detail),
    )


def _tenths(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _told(rollout: FirmwareRollout) -> list[Told]:
    if rollout.state is FirmwareState.SUPERSEDED:
        return [ready("False", "Superseded", "the revision in force does not ask for it")]
    if rollout.state is FirmwareState.WAITING and rollout.awaits_person:
        # No failure: somebody is asked.
        words = detail_of(rollout)
        return [reconciling("AwaitsPerson", words), ready("False", "AwaitsPerson", words)]
    return told_of(
        rollout,
        is_halted=rollout.state is FirmwareState.HALTED,
        is_done=rollout.state is FirmwareState.DONE,
    )
