"""How a bundle reaches the machines that are to run it: wave by wave, each let go by a person. Pure.

A wave is declared: its Job has its members. How many machines of it may be worked on before a gate has
judged is another matter: a *round*, as large as the gates before have earned. So a wave of thousands that is
the first to have anything to do still begins with one machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, takewhile

import msgspec

from control_plane.core import limits
from control_plane.core.digest import digest_of
from control_plane.core.firmware import Wave
from control_plane.core.flashing import FlashEntry, FlashStep
from control_plane.core.fleet import Strategy
from control_plane.core.rollout import GateResult, judge_gate
from control_plane.core.rollout import round_size as largest_round


class FirmwareState(StrEnum):
    """Where a firmware rollout stands."""

    WAITING = "waiting"
    """Its open wave waits until a person lets it go, or until a machine of it is fit."""
    INSTALLING = "installing"
    """Machines of a round have their grants."""
    HALTED = "halted"
    """A gate failed, and what the round changed is taken back where it can be; a person decides."""
    DONE = "done"
    """All waves are behind it; who was not fit at its turn is swept up."""
    SUPERSEDED = "superseded"
    """It is not declared any more. What is under way is finished, and nothing is begun."""


class FirmwareRollout(msgspec.Struct, frozen=True, kw_only=True):
    """One bundle on its way."""

    id: str
    bundle: str
    """Digest."""
    members: str
    """Digest over who is in which wave: with other members it is another rollout."""
    model: str
    version: str
    """As machines that run it print it."""
    waves: tuple[int, ...]
    """Cumulative sizes."""
    wave: int = 0
    """The open one; the last where all are behind."""
    is_over: bool = False
    """All waves are behind it: its rounds sweep up."""
    round: int = 0
    """Of the open wave."""
    state: FirmwareState = FirmwareState.WAITING
    released: int = 0
    """Waves that a person let go: those below it."""
    released_by: str = ""
    begun_at_s: float = 0.0
    since_s: float = 0.0
    """When the state was entered, policy time."""
    failed: tuple[str, ...] = ()
    """Machines that an image of it left for and that were not found well: nothing leaves for them again."""
    seen_failures: int = 0
    """How many of these a person has let it go on with."""
    gates: tuple[GateResult, ...] = ()
    detail: str = ""
    """What it waits for, or why it halted, in words."""

    @property
    def is_declared(self) -> bool:
        """Whether it is what the revision in force asks for."""
        return self.state is not FirmwareState.SUPERSEDED

    @property
    def has_ended(self) -> bool:
        """Whether no wave of it is left."""
        return self.state in {FirmwareState.DONE, FirmwareState.SUPERSEDED}

    @property
    def awaits_person(self) -> bool:
        """Whether its open wave was not let go yet."""
        return self.state is FirmwareState.WAITING and not self.is_released

    @property
    def is_released(self) -> bool:
        """Whether a person let the open wave go."""
        return self.released > self.wave

    @property
    def earned(self) -> int:
        """Gates that have judged somebody and passed, since the last that did not."""
        return len(list(takewhile(lambda gate: gate.passed, reversed(self.gates))))


def members_of(waves: Iterable[Wave]) -> str:
    """Digest over who is in which wave."""
    return digest_of([[device.asset for device in wave.devices] for wave in waves])


def begun(rollout_id: str, waves: Sequence[Wave], now_s: float) -> FirmwareRollout:
    """The rollout of a bundle that was just declared, with all its waves in order."""
    bundle = waves[0].bundle
    return FirmwareRollout(
        id=rollout_id,
        bundle=bundle.digest,
        members=members_of(waves),
        model=bundle.model,
        version=bundle.version,
        waves=tuple(accumulate(len(wave.devices) for wave in waves)),
        begun_at_s=now_s,
        since_s=now_s,
    )


def round_size(rollout: FirmwareRollout, strategy: Strategy) -> int:
    """How many machines the next round may take: the wave that as many gates have led to.

    >>> from control_plane.core.firmware_rollout import FirmwareRollout, round_size
    >>> new = FirmwareRollout(id="f1", bundle="", members="", model="", version="", waves=(9, 1000))
    >>> round_size(new, Strategy(cohorts=(1, 10, 0.05), max_new_failure_share=0.1))
    1
    """
    return largest_round(rollout.waves[-1], strategy.cohorts, rollout.earned)


def together(rollout: FirmwareRollout) -> int:
    """How many machines of a round may be down at the same time, at most.

    What is under way when the first one is found dead may be dead as well: so it grows with the gates.
    """
    if not rollout.earned:
        return 1
    most = limits.FIRMWARE_AT_ONCE * limits.FIRMWARE_SHARDS_AT_ONCE
    return int(min(limits.FIRMWARE_AT_FIRST * 2 ** (rollout.earned - 1), most))


def released(rollout: FirmwareRollout, *, through: int | None, by: str) -> FirmwareRollout | str:
    """The rollout after a person let waves go; or why there is nothing to let go.

    Args:
        rollout: as it stands.
        through: number of the last wave, from 1; `None` for the open one alone.
        by: who.
    """
    if rollout.state not in {FirmwareState.WAITING, FirmwareState.INSTALLING}:
        return f"{rollout.id} is {rollout.state}"
    least = rollout.wave + 1
    until = least if through is None else min(through, len(rollout.waves))
    if until <= rollout.released:
        return f"wave {rollout.released} of {rollout.id} is let go already"
    if until < least:
        return f"{rollout.id} is at wave {least}"
    return msgspec.structs.replace(rollout, released=until, released_by=by)


def continued(rollout: FirmwareRollout, *, by: str, now_s: float) -> FirmwareRollout | str:
    """The rollout after a person wants a halted one to go on, small again; or why it does not."""
    if rollout.state is not FirmwareState.HALTED:
        return f"{rollout.id} is {rollout.state}"
    return msgspec.structs.replace(
        rollout,
        state=FirmwareState.DONE if rollout.is_over else FirmwareState.WAITING,
        since_s=now_s,
        round=rollout.round + 1,
        seen_failures=len(rollout.failed),
        detail=f"continued by {by}",
    )


def superseded(rollout: FirmwareRollout, now_s: float) -> FirmwareRollout:
    """The rollout once it is not declared any more."""
    return msgspec.structs.replace(rollout, state=FirmwareState.SUPERSEDED, since_s=now_s)


def waits(rollout: FirmwareRollout, why: str) -> FirmwareRollout:
    """The same, and what it waits for; itself where that is known."""
    return (
        rollout if rollout.detail == why else msgspec.structs.replace(rollout, detail=why[:_CHARS])
    )


_CHARS = 300


def opened(rollout: FirmwareRollout, now_s: float) -> FirmwareRollout:
    """The rollout with its next round under way: kept before anybody is granted anything."""
    return msgspec.structs.replace(
        rollout, state=FirmwareState.INSTALLING, since_s=now_s, detail=""
    )


def not_begun(rollout: FirmwareRollout, now_s: float) -> FirmwareRollout:
    """The rollout whose round was opened and then had nobody to be granted to."""
    state = FirmwareState.DONE if rollout.is_over else FirmwareState.WAITING
    return msgspec.structs.replace(rollout, state=state, since_s=now_s)


def passed_by(rollout: FirmwareRollout, why: str, now_s: float) -> FirmwareRollout:
    """The rollout after a wave, or the rest of one, in which nothing is left to do."""
    if rollout.wave + 1 < len(rollout.waves):
        return msgspec.structs.replace(
            rollout,
            state=FirmwareState.WAITING,
            wave=rollout.wave + 1,
            round=0,
            since_s=now_s,
            detail=why,
        )
    return msgspec.structs.replace(
        rollout,
        state=FirmwareState.DONE,
        is_over=True,
        round=rollout.round + 1,
        since_s=now_s,
        detail=why,
    )


# --- gates -------------------------------------------------------------------------------------------

_BAD = frozenset({FlashStep.ROLLED_BACK, FlashStep.QUARANTINED})


def treated_of(entries: Iterable[FlashEntry]) -> dict[str, FlashEntry]:
    """Machines that an image left for, of the entries of a round."""
    return {entry.asset: entry for entry in entries if entry.attempt}


def failed_of(entries: Iterable[FlashEntry]) -> frozenset[str]:
    """Those that it did not end well for."""
    return frozenset(e.asset for e in entries if e.attempt and e.step in _BAD)


def is_lost(
    rollout: FirmwareRollout, entries: Collection[FlashEntry], max_new_failure_share: float
) -> bool:
    """Whether so many of a round have failed that the rest cannot make it pass.

    The control group is not asked: to wait for it would cost machines.
    """
    failed = failed_of(entries)
    share = len(failed) > max_new_failure_share * len(entries)
    return share or _is_too_much(rollout, {*rollout.failed, *failed})


def _is_too_much(rollout: FirmwareRollout, failed: Collection[str]) -> bool:
    """Whether more machines are lost than anybody has agreed to, whatever share they are."""
    return len(failed) - rollout.seen_failures > limits.FIRMWARE_LOST_MAX


def judged(
    rollout: FirmwareRollout,
    entries: Iterable[FlashEntry],
    *,
    now_s: float,
    ill: Collection[str],
    control: Collection[str],
    control_failed: Collection[str],
    max_new_failure_share: float,
) -> FirmwareRollout:
    """The rollout after the gate of a round.

    Args:
        rollout: with its round.
        entries: of the round, ended.
        now_s: policy time.
        ill: of those that ended well, who does not hash now.
        control: devices that the round did not touch and that were healthy when it began.
        control_failed: of those, who is not now.
        max_new_failure_share: of the treated, beyond the control group's own rate.
    """
    entries = tuple(entries)
    treated = treated_of(entries)
    failed = failed_of(entries) | (frozenset(ill) & treated.keys())
    if not treated:
        why = next((entry.detail for entry in entries if entry.detail), "nobody began it")
        return _halted(rollout, f"nothing was installed: {why}", now_s)
    gate = judge_gate(
        rollout.wave,
        at_s=now_s,
        treated=treated,
        control=control,
        failed=failed | frozenset(control_failed),
        max_new_failure_share=max_new_failure_share,
    )
    after = msgspec.structs.replace(
        rollout,
        gates=(*rollout.gates, gate),
        failed=tuple(sorted({*rollout.failed, *failed})),
    )
    if not gate.passed:
        return _halted(after, _why(failed, treated), now_s)
    if _is_too_much(rollout, after.failed):
        new = len(after.failed) - rollout.seen_failures
        return _halted(after, f"{new} machines failed since a person spoke last", now_s)
    return msgspec.structs.replace(
        after,
        state=FirmwareState.DONE if rollout.is_over else FirmwareState.WAITING,
        round=rollout.round + 1,
        since_s=now_s,
        detail="",
    )


def _why(failed: frozenset[str], treated: Mapping[str, FlashEntry]) -> str:
    first = min(failed)
    said = treated[first].detail or "it does not hash"
    return f"{len(failed)} of {len(treated)} failed: {first}: {said}"


def _halted(rollout: FirmwareRollout, why: str, now_s: float) -> FirmwareRollout:
    return msgspec.structs.replace(
        rollout, state=FirmwareState.HALTED, since_s=now_s, detail=why[:_CHARS]
    )
