"""How many machines of the example site a bad image costs, and a bad revision of settings. Pure.

Waves, rounds, the stop in the middle of a round and its gate are the engine's own functions. What is
modelled is the worst that may happen beside them: a person has let every wave go, and as many machines as a
round may have down together are begun before the first of them is known to be lost.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.firmware import Wave
from control_plane.core.firmware_rollout import (
    FirmwareRollout,
    FirmwareState,
    begun,
    is_lost,
    judged,
    opened,
    passed_by,
    released,
    round_size,
    together,
)
from control_plane.core.flashing import FlashEntry, FlashStep
from control_plane.core.fleet import Strategy
from control_plane.core.rollout import judge_gate, wave_members

SHARES: Final = (1.0, 0.5, 0.25, 0.1)
"""Of the machines that take the image, those that never answer again."""
_DEAD = FlashStep.QUARANTINED


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What one image cost, or one revision."""

    model: str
    """Of the image's machines; empty for a revision, which is for all."""
    share: float
    machines: int
    """That it is declared for."""
    lost: int
    stopped: bool
    """Whether a gate stopped it."""


def play(waves: Sequence[Wave], strategy: Strategy, *, share: float, seed: int) -> Loss:
    """Bring an image to the machines of a bundle until a gate stops it, or all of them have it."""
    chance = random.Random(f"{seed}/{share}/{waves[0].bundle.digest}")
    rollout = _all_released(begun("f0001", waves, 0.0))
    taken: set[str] = set()
    lost = 0
    while rollout.state is FirmwareState.WAITING:
        left = [d.asset for d in waves[rollout.wave].devices if d.asset not in taken]
        if not left:
            rollout = passed_by(rollout, "", 0.0)
            continue
        chosen = left[: round_size(rollout, strategy)]
        entries = _round(rollout, chosen, strategy.max_new_failure_share, chance, share)
        taken |= {entry.asset for entry in entries if entry.attempt}
        lost += sum(entry.step is _DEAD for entry in entries)
        rollout = judged(
            opened(rollout, 0.0),
            entries,
            now_s=0.0,
            ill=(),
            # The rest of the site is well: nothing of what dies is excused.
            control=["somebody"],
            control_failed=(),
            max_new_failure_share=strategy.max_new_failure_share,
        )
    return Loss(
        model=waves[0].bundle.model,
        share=share,
        machines=rollout.waves[-1],
        lost=lost,
        stopped=rollout.state is FirmwareState.HALTED,
    )


def configure(assets: Sequence[str], strategy: Strategy, *, share: float, seed: int) -> Loss:
    """Bring a revision of settings to machines until a gate stops it, or all of them have it."""
    chance = random.Random(f"{seed}/{share}")
    lost, passed = 0, True
    for number, wave in enumerate(wave_members(str(seed), assets, strategy.cohorts)):
        failed = [asset for asset in wave if chance.random() < share]
        lost += len(failed)
        passed = judge_gate(
            number,
            at_s=0.0,
            treated=wave,
            # The rest of the site is well.
            control=["somebody"],
            failed=failed,
            max_new_failure_share=strategy.max_new_failure_share,
        ).passed
        if not passed:
            break
    return Loss(model="", share=share, machines=len(assets), lost=lost, stopped=not passed)


def _all_released(rollout: FirmwareRollout) -> FirmwareRollout:
    after = released(rollout, through=len(rollout.waves), by="ann")
    assert isinstance(after, FirmwareRollout)
    return after


def _round(
    rollout: FirmwareRollout,
    chosen: Sequence[str],
    allowed: float,
    chance: random.Random,
    share: float,
) -> list[FlashEntry]:
    """A round, to where it is withdrawn or has ended."""
    shards = -(-len(chosen) // limits.FIRMWARE_SHARD_DEVICES)
    grants = min(shards, limits.FIRMWARE_SHARDS_AT_ONCE)
    at_once = max(1, min(limits.FIRMWARE_AT_ONCE, together(rollout) // grants)) * grants
    entries = [FlashEntry(asset=asset) for asset in chosen]
    for begin in range(0, len(entries), at_once):
        for place in range(begin, min(begin + at_once, len(entries))):
            step = _DEAD if chance.random() < share else FlashStep.DONE
            entries[place] = msgspec.structs.replace(entries[place], attempt=1, step=step)
        if is_lost(rollout, entries, allowed):
            break
    return entries
