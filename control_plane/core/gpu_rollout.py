"""Software that reaches GPU nodes in waves: one first, then twice as many each time, a gate after each. Pure.

Within a wave a node goes when every failure domain that it is in has room (`core.domain_budget`), so that
waves and remedies spend one budget. Nodes are taken from one rack after the other: what a driver does to a
kind of rack shows early, and no rack waits for another one of the same wave. A wave counts whom it has
treated: a node that cannot go now is passed by and comes when it can, one that ran the software before is no
evidence. Who failed is kept: that a node got well by itself lifts no halt (gpu-operator#2549).

Sources: gpu-nodes §5, §14.4, §14.12.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.domain_budget import Books, Cause, refusal, taken
from control_plane.core.gpu_software import Want
from control_plane.core.rollout import GateResult, judge_gate

_CHARS: Final = 300


class Stand(StrEnum):
    """How a node stands towards what is declared of it."""

    DONE = "done"
    """It runs that, and is seen well."""
    ILL = "ill"
    """It runs that, and is not seen well."""
    BEHIND = "behind"
    """It runs something else, is well, and may go."""
    UNASKED = "unasked"
    """It runs something else, and the operator was not told of another one yet."""
    BARRED = "barred"
    """Somebody's word or work is in the way."""
    UNKNOWN = "unknown"
    """Nobody tells what it runs."""
    GOING = "going"
    """It is out for it."""
    RECALLED = "recalled"
    """It was let go, nobody has begun, and something came in the way."""
    FAILED = "failed"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Of one node."""

    stand: Stand
    treated: bool = False
    """Whether this very rollout has let it go."""
    detail: str = ""


class SoftwareState(StrEnum):
    """Where a rollout is."""

    RUNNING = "running"
    SOAKING = "soaking"
    HALTED = "halted"
    """Nothing begins; a person lets it go on, or another one is declared."""
    DONE = "done"


class SoftwareRollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What outlives a leader of it; how far each node is stands on the node."""

    id: str
    profile: str
    want: Want
    waves: tuple[int, ...] = ()
    """Cumulative; the last one takes whoever is left."""
    wave: int = 0
    state: SoftwareState = SoftwareState.RUNNING
    since_s: float = 0.0
    """When the open wave opened."""
    soak_until_s: float | None = None
    failed: tuple[str, ...] = ()
    """Since a person spoke last."""
    forgiven: tuple[str, ...] = ()
    """Failed before that: they may go again."""
    gates: tuple[GateResult, ...] = ()
    detail: str = ""

    @property
    def is_last(self) -> bool:
        """Whether no wave follows the open one."""
        return self.wave + 1 >= len(self.waves)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from one look at all nodes of a rollout."""

    rollout: SoftwareRollout
    begin: tuple[str, ...] = ()
    """In order; each was counted before the next."""
    again: tuple[str, ...] = ()
    """Failed, and forgiven by a person: their marks go."""
    waits: Mapping[str, str] = {}
    """Nodes that could go, and what they wait for."""


def wave_ends(subjects: int) -> tuple[int, ...]:
    """Cumulative sizes of waves that double.

    >>> wave_ends(8), wave_ends(1), wave_ends(0)
    ((1, 3, 7, 8), (1,), ())
    """
    ends: list[int] = []
    while subjects and (not ends or ends[-1] < subjects):
        ends.append(min(subjects, 2 ** (len(ends) + 1) - 1))
    return tuple(ends)


def spread(rollout: str, racks: Mapping[str, str]) -> tuple[str, ...]:
    """Nodes in the order in which they go: one of each rack, then another one of each.

    Args:
        rollout: its id; another one begins with other nodes.
        racks: node → its rack.
    """
    of: defaultdict[str, list[str]] = defaultdict(list)
    for node, rack in racks.items():
        of[rack].append(node)
    place = {
        node: place
        for nodes in of.values()
        for place, node in enumerate(sorted(nodes, key=lambda node: _rank(rollout, node)))
    }
    return tuple(sorted(place, key=lambda node: (place[node], _rank(rollout, node))))


def _rank(rollout: str, node: str) -> bytes:
    return hashlib.blake2b(f"{rollout}:{node}".encode(), digest_size=8).digest()


def begun(
    profile: str, want: Want, stands: Mapping[str, Standing], *, now_s: float
) -> SoftwareRollout:
    """A new rollout, for whoever does not run what is declared."""
    behind = sum(one.stand not in {Stand.DONE, Stand.ILL} for one in stands.values())
    return SoftwareRollout(
        id=f"gpu-{profile}-{int(now_s)}", profile=profile, want=want, waves=wave_ends(behind),
        state=SoftwareState.RUNNING if behind else SoftwareState.DONE, since_s=now_s,
    )  # fmt: skip


def continued(rollout: SoftwareRollout, *, by: str, now_s: float) -> SoftwareRollout:
    """A halted one after a person has looked: who failed may go again."""
    return msgspec.structs.replace(
        rollout, state=SoftwareState.RUNNING, since_s=now_s, soak_until_s=None, failed=(),
        forgiven=rollout.failed, detail=f"continued by {by}",
    )  # fmt: skip


def turn(
    rollout: SoftwareRollout,
    stands: Mapping[str, Standing],
    *,
    books: Books,
    racks: Mapping[str, str],
    max_failure_share: float,
    now_s: float,
) -> Turn:
    """What comes of a rollout, and which nodes go now.

    Args:
        rollout: as it is kept.
        stands: of every node of the profile.
        books: who is down now, for whatever cause; nodes that are out for this among them.
        racks: node → rack, of the same nodes.
        max_failure_share: of those that were treated; more halts it.
        now_s: policy time.
    """
    ended = {name for name, one in stands.items() if one.stand is Stand.FAILED}
    again = tuple(sorted(ended.intersection(rollout.forgiven)))
    rollout = msgspec.structs.replace(
        rollout,
        failed=tuple(sorted({*rollout.failed, *ended} - {*again})),
        forgiven=again,
    )
    if rollout.state is SoftwareState.HALTED:
        return Turn(rollout=rollout, again=again)
    treated = {name for name, one in stands.items() if one.treated} - {*again}
    if len(rollout.failed) > max_failure_share * len(treated | {*rollout.failed}):
        first = rollout.failed[0]
        why = stands[first].detail if first in stands else ""
        words = f"{len(rollout.failed)} of {len(treated)} failed: {first}: {why}"
        return Turn(rollout=_halted(rollout, words, now_s), again=again)
    left = {n for n, one in stands.items() if one.stand not in {Stand.DONE, Stand.ILL}}
    left -= {*rollout.failed}
    if rollout.state is SoftwareState.DONE:
        # One that says nothing for a while has not stepped back: it was seen with it.
        if all(stands[name].stand is Stand.UNKNOWN for name in left):
            return Turn(rollout=rollout, again=again)
        # Who comes late has no wave to wait for: all of them have passed.
        rollout = _at(rollout, SoftwareState.RUNNING, now_s)
    going = {n for n in left if stands[n].stand in {Stand.GOING, Stand.RECALLED}}
    room = None if rollout.is_last else rollout.waves[rollout.wave] - len(treated)
    if not going and (not left or (room is not None and room <= 0)):
        return _gate(
            rollout, stands, treated=treated, is_more=bool(left),
            max_failure_share=max_failure_share, now_s=now_s, again=again,
        )  # fmt: skip
    rollout = msgspec.structs.replace(
        rollout, state=SoftwareState.RUNNING, soak_until_s=None, detail=_in_words(stands, left)
    )
    begin: list[str] = []
    waits: dict[str, str] = {}
    for name in spread(rollout.id, racks):
        if name not in left or stands[name].stand is not Stand.BEHIND:
            continue
        if room is not None and len(begin) >= room:
            waits[name] = f"wave {rollout.wave + 1} of {len(rollout.waves)} is full"
            continue
        no = refusal(books=books, node=name, cause=Cause.DRIVER_UPGRADE)
        if no is not None:
            waits[name] = no.detail
            continue
        begin.append(name)
        books = taken(books=books, node=name, cause=Cause.DRIVER_UPGRADE)
    return Turn(rollout=rollout, begin=tuple(begin), again=again, waits=waits)


def _gate(
    rollout: SoftwareRollout,
    stands: Mapping[str, Standing],
    *,
    treated: set[str],
    is_more: bool,
    max_failure_share: float,
    now_s: float,
    again: tuple[str, ...],
) -> Turn:
    """The wave is through: it soaks, and is judged by who is ill of it and of the others."""
    if rollout.soak_until_s is None:
        until_s = now_s + limits.GPU_SOFTWARE_SOAK_S
        return Turn(
            rollout=msgspec.structs.replace(
                rollout, state=SoftwareState.SOAKING, soak_until_s=until_s, detail=""
            ),
            again=again,
        )
    if now_s < rollout.soak_until_s:
        return Turn(rollout=rollout, again=again)
    ill = {name for name, one in stands.items() if one.stand is Stand.ILL}
    gate = judge_gate(
        rollout.wave,
        at_s=now_s,
        treated=treated,
        control=stands.keys() - treated,
        failed=ill | {*rollout.failed},
        max_new_failure_share=max_failure_share,
    )
    before = (one for one in rollout.gates if one.wave != gate.wave)
    rollout = msgspec.structs.replace(rollout, gates=(*before, gate))
    if not gate.passed:
        return Turn(rollout=_halted(rollout, gate.detail, now_s), again=again)
    if not is_more:
        return Turn(rollout=_at(rollout, SoftwareState.DONE, now_s), again=again)
    after = msgspec.structs.replace(rollout, wave=rollout.wave + 1)
    return Turn(rollout=_at(after, SoftwareState.RUNNING, now_s), again=again)


def _in_words(stands: Mapping[str, Standing], left: set[str]) -> str:
    """What stands in the way, the commonest first."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(left):
        one = stands[name]
        if one.stand in {Stand.BARRED, Stand.UNKNOWN, Stand.UNASKED}:
            found[one.detail].append(name)
    parts = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {why}"
        for why, names in sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))
    ]
    return "; ".join(parts)[:_CHARS]


def _at(rollout: SoftwareRollout, state: SoftwareState, now_s: float) -> SoftwareRollout:
    last = max(len(rollout.waves) - 1, 0)
    wave = last if state is SoftwareState.DONE else rollout.wave
    return msgspec.structs.replace(
        rollout, state=state, wave=wave, since_s=now_s, soak_until_s=None, detail=""
    )


def _halted(rollout: SoftwareRollout, why: str, now_s: float) -> SoftwareRollout:
    return msgspec.structs.replace(
        rollout, state=SoftwareState.HALTED, since_s=now_s, soak_until_s=None, detail=why[:_CHARS]
    )
