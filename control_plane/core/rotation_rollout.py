"""How a password, or addresses, reach the machines that are to have them: in waves that people let go. Pure.

A rotation has one aim. A password: who logs in, from which references to which, on which family. Addresses:
into which network, from where, of which family. Of the waves that a person let go the engine takes *rounds*,
as large as the rounds before have earned: one machine, then ten, and so on through the cohorts. A round in
which too many failed halts it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Final

import msgspec

from control_plane.core.change import Capabilities
from control_plane.core.digest import digest_of
from control_plane.core.fleet import Device, DeviceKind, Site, SlotState, Strategy
from control_plane.core.memory import Memory
from control_plane.core.renumbering import Addresses, addresses_of, is_there
from control_plane.core.rollout import round_size as largest_round
from control_plane.core.rollout import wave_members
from control_plane.core.rotation import (
    SENT,
    RotationEntry,
    RotationStep,
    Subject,
    lock_of,
    ref_in_use,
)


class RotationState(StrEnum):
    """Where a rotation stands."""

    WAITING = "waiting"
    """Its open wave waits until a person lets it go, or until a machine of it is fit."""
    ROTATING = "rotating"
    """Machines of a round are between two passwords, or about to be."""
    HALTED = "halted"
    """A round failed; a person decides."""
    DONE = "done"
    """No machine of it is left that has another password and did not fail."""
    SUPERSEDED = "superseded"
    """It is not declared any more. What is under way is finished, and nothing is begun."""


class Password(msgspec.Struct, frozen=True, kw_only=True, tag="password"):
    """A password that is rotated in: references, never a password."""

    family: str
    user: str
    secret_ref: str
    previous: tuple[str, ...]


Aim = Password | Addresses


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """One aim on its way."""

    id: str
    aim: Aim
    members: str
    """Digest over who is in which wave: with other members it is another rotation."""
    waves: tuple[int, ...]
    """Cumulative sizes."""
    wave: int = 0
    """The first that has a machine to do."""
    released: int = 0
    """Waves that a person let go: those below it."""
    released_by: str = ""
    state: RotationState = RotationState.WAITING
    begun_at_s: float = 0.0
    since_s: float = 0.0
    """When the state was entered, policy time."""
    round: tuple[str, ...] = ()
    """Machines of the open round: kept before any of them is begun."""
    rounds: int = 0
    """That ended."""
    earned: int = 0
    """Rounds that passed since the last that did not."""
    failed: tuple[str, ...] = ()
    """Machines that it failed on: it does not begin them again before a person says so."""
    detail: str = ""
    """What it waits for, or why it halted, in words."""
    awaits_person: bool = False
    """Whether it waits for nothing but a person who lets its open wave go."""

    @property
    def subject(self) -> Subject:
        """What changes of a machine."""
        return Subject.PASSWORD if isinstance(self.aim, Password) else Subject.ADDRESS

    @property
    def is_declared(self) -> bool:
        """Whether it is what the revision in force asks for."""
        return self.state is not RotationState.SUPERSEDED

    @property
    def has_ended(self) -> bool:
        """Whether nobody needs to think of it."""
        return self.state in {RotationState.DONE, RotationState.SUPERSEDED} and not self.failed

    @property
    def let_go(self) -> int:
        """How many machines the waves that were let go have."""
        return self.waves[min(self.released, len(self.waves)) - 1] if self.released else 0


class RotationEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What a declaration would rotate."""

    aim: Aim
    machines: int
    """Those that are not known to have it."""
    can: bool
    """Whether the family has it set over the network."""
    reboots: bool = False
    """Whether machines boot for it: so long they hash nothing."""


def rotation_effects(
    site: Site, memories: Mapping[str, Memory], capabilities: Mapping[str, Capabilities]
) -> tuple[RotationEffect, ...]:
    """What is to be rotated, and of how many machines; nothing where all have it.

    Args:
        site: as it would be in force.
        memories: asset → what is remembered of it.
        capabilities: by family.
    """
    counts: dict[Aim, int] = {}
    for device in site.devices:
        if device.state is SlotState.VACANT:
            continue
        memory = memories.get(device.asset)
        password, addresses = password_of(device), addresses_of(device)
        if password is not None and not has_it(device, memory.login if memory else None):
            counts[password] = counts.get(password, 0) + 1
        if addresses is not None and not is_there(device, memory.located if memory else None):
            counts[addresses] = counts.get(addresses, 0) + 1
    return tuple(
        _effect(aim, machines, capabilities.get(aim.family))
        for aim, machines in sorted(counts.items(), key=lambda item: _readable(item[0]))
    )


def _effect(aim: Aim, machines: int, known: Capabilities | None) -> RotationEffect:
    if isinstance(aim, Password):
        can = known is not None and known.passwords is not None
        return RotationEffect(aim=aim, machines=machines, can=can)
    ways = known.network if known else None
    return RotationEffect(
        aim=aim, machines=machines, can=ways is not None, reboots=ways is not None and ways.reboots
    )


def _readable(aim: Aim) -> tuple[bool, str]:
    return isinstance(aim, Addresses), repr(aim)


def password_of(device: Device) -> Password | None:
    """What a device is rotated to; `None` where its profile names no password before."""
    given = device.intent.credentials
    if given is None or not given.previous or device.type.kind is not DeviceKind.MINER:
        return None
    return Password(
        family=device.intent.family,
        user=given.user,
        secret_ref=given.secret_ref,
        previous=given.previous,
    )


def aims_of(
    site: Site, aim_of: Callable[[Device], Aim | None]
) -> Mapping[Aim, tuple[tuple[str, ...], ...]]:
    """Every aim of a site, with its waves in cohort order; a vacant slot has no machine."""
    found: dict[Aim, list[str]] = {}
    for device in site.devices:
        aim = aim_of(device)
        if aim is not None and device.state is not SlotState.VACANT:
            found.setdefault(aim, []).append(device.asset)
    return {
        aim: tuple(
            tuple(wave) for wave in wave_members(digest_of(aim), assets, site.strategy.cohorts)
        )
        for aim, assets in sorted(found.items(), key=lambda item: _readable(item[0]))
    }


def members_of(waves: Iterable[Sequence[str]]) -> str:
    """Digest over who is in which wave."""
    return digest_of([list(wave) for wave in waves])


def begun(rotation_id: str, aim: Aim, waves: Sequence[Sequence[str]], now_s: float) -> Rotation:
    """The rotation of what was just declared."""
    return Rotation(
        id=rotation_id,
        aim=aim,
        members=members_of(waves),
        waves=tuple(accumulate(map(len, waves))),
        begun_at_s=now_s,
        since_s=now_s,
    )


def released(rotation: Rotation, *, through: int | None, by: str, now_s: float) -> Rotation | str:
    """The rotation after a person lets waves go, or has it go on; or why there is nothing to let go.

    One that halted, or ended with machines that failed, begins small again, and with those too.

    Args:
        rotation: as it stands.
        through: number of the last wave, from 1; `None` for the open one alone.
        by: who.
        now_s: policy time.
    """
    if rotation.state is RotationState.SUPERSEDED:
        return f"{rotation.id} is {rotation.state}"
    again = rotation.state is RotationState.HALTED or bool(
        rotation.failed and rotation.state is not RotationState.ROTATING
    )
    until = rotation.wave + 1 if through is None else min(through, len(rotation.waves))
    if until <= rotation.released and not again:
        return f"wave {until} of {rotation.id} is let go already"
    after = msgspec.structs.replace(
        rotation,
        released=max(until, rotation.released),
        released_by=by,
        detail="",
        awaits_person=False,
    )
    if not again:
        return after
    return msgspec.structs.replace(
        after, state=RotationState.WAITING, since_s=now_s, failed=(), earned=0
    )


def superseded(rotation: Rotation, now_s: float) -> Rotation:
    """The rotation once it is not declared any more."""
    return msgspec.structs.replace(
        rotation, state=RotationState.SUPERSEDED, since_s=now_s, failed=(), round=()
    )


def stands(
    rotation: Rotation,
    *,
    state: RotationState,
    wave: int,
    detail: str,
    now_s: float,
    awaits_person: bool = False,
) -> Rotation:
    """The rotation as it waits, or is done; itself where that is known."""
    detail = detail[:_CHARS]
    now = (rotation.state, rotation.wave, rotation.detail, rotation.awaits_person)
    if now == (state, wave, detail, awaits_person):
        return rotation
    since_s = rotation.since_s if rotation.state is state else now_s
    return msgspec.structs.replace(
        rotation,
        state=state,
        wave=wave,
        detail=detail,
        since_s=since_s,
        awaits_person=awaits_person,
    )


def round_size(rotation: Rotation, strategy: Strategy) -> int:
    """How many machines the next round may take: the wave that as many rounds have led to."""
    return largest_round(rotation.waves[-1], strategy.cohorts, rotation.earned)


def opened(rotation: Rotation, assets: Sequence[str], *, wave: int, now_s: float) -> Rotation:
    """The rotation with its next round under way: kept before any of its machines is begun."""
    return msgspec.structs.replace(
        rotation,
        state=RotationState.ROTATING,
        round=tuple(assets),
        wave=wave,
        since_s=now_s,
        detail="",
    )


def without(rotation: Rotation, assets: Collection[str]) -> Rotation:
    """The rotation whose round lets machines go that nothing has left for."""
    left = tuple(asset for asset in rotation.round if asset not in assets)
    return msgspec.structs.replace(rotation, round=left)


def is_lost(entries: Collection[RotationEntry], max_new_failure_share: float) -> bool:
    """Whether so many of a round have failed that the rest cannot make it pass."""
    failed = sum(entry.step is RotationStep.FAILED for entry in entries)
    return failed > max_new_failure_share * len(entries)


def judged(
    rotation: Rotation,
    entries: Collection[RotationEntry],
    *,
    max_new_failure_share: float,
    now_s: float,
) -> Rotation:
    """The rotation after its round; `entries` are those of the round, ended."""
    bad = [entry for entry in entries if entry.step is RotationStep.FAILED]
    after = msgspec.structs.replace(
        rotation,
        round=(),
        rounds=rotation.rounds + 1,
        since_s=now_s,
        failed=tuple(sorted({*rotation.failed, *(entry.asset for entry in bad)})),
    )
    if is_lost(entries, max_new_failure_share):
        first = min(bad, key=lambda entry: entry.asset)
        why = f"{len(bad)} of {len(entries)} failed: {first.asset}: {first.fault}: {first.detail}"
        return msgspec.structs.replace(
            after, state=RotationState.HALTED, earned=0, detail=why[:_CHARS]
        )
    return msgspec.structs.replace(
        after,
        state=RotationState.WAITING,
        earned=rotation.earned + (1 if entries else 0),
        detail="",
    )


def locks_of(rotations: Iterable[Rotation], entries: Mapping[str, RotationEntry]) -> dict[str, str]:
    """Devices that nobody else may write to → by what they are locked.

    Those that a change may have left for, and those of an open round that have not ended: whoever works on it
    may begin them this very moment.
    """
    locks = {a: lock_of(e.rotation, e.subject) for a, e in entries.items() if e.step in SENT}
    for rotation in rotations:
        for asset in rotation.round:
            entry = entries.get(asset)
            if entry is None or entry.rotation != rotation.id or not entry.is_final:
                locks[asset] = lock_of(rotation.id, rotation.subject)
    return locks


def has_it(device: Device, verified: str | None) -> bool:
    """Whether the password that a device is rotated to is the one that it is logged in with."""
    given = device.intent.credentials
    return given is None or ref_in_use(given, verified) == given.secret_ref


_CHARS: Final = 300
