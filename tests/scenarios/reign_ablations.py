"""Each safeguard of a controller switched off: crash points, failovers or seeds have to notice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from unittest import mock

from control_plane.kube import ledger as ledgers
from control_plane.kube import takeover
from control_plane.kube.elector import Elector
from control_plane.kube.ledger import Ledger, Shard
from tests.scenarios.ablations import Cut
from tests.scenarios.cluster import ClusterScene
from tests.scenarios.play import Report
from tests.scenarios.reigns import play

SEEDS = 100


class Reigning(NamedTuple):
    """One safeguard, or several that guard the same, switched off."""

    name: str
    cuts: Callable[[], Iterable[Cut]]
    rules: frozenset[str]
    """The rules of the oracle of which one has to break; empty: nobody can notice."""
    always: tuple[str, ...] = ()
    """What goes wrong in each of its seeds: without that nobody needs the safeguard."""


class Noticed(NamedTuple):
    """How it was noticed."""

    name: str
    seed: int | None
    violation: str


async def _nothing(*_: object, **__: object) -> None:
    """In place of something that is waited for."""


async def _read_only(place: Any, part: str, there: Any) -> Shard:
    """A take-over that leaves the state under the old fence."""
    return ledgers._shard_of(place, part, there)


_PUT = ledgers._Place.put


async def _put_over(self: Any, shard: Shard) -> None:
    """A write that takes whatever stands there for its own."""
    there = await self.read(shard.part)
    shard.resource_version = there.metadata.resource_version if there else ""
    await _PUT(self, shard)


_COLLECT = Ledger._collect


def _without_memories(self: Ledger) -> None:
    _COLLECT(self)
    for shard in self._shards.values():
        shard.rows.pop("memory", None)


IS_LIVE: tuple[Cut, ...] = (
    (ClusterScene, "believes", True),
    (Elector, "is_live", lambda self: self._fence is not None),
)
"""A leader that takes it for granted that it still is one: nothing but the server is in its way."""
_TWO = frozenset({"two leaders", "fence", "one at a time", "durable", "intent"})
_STALE = frozenset({"drift raises", "contest", "stuck"})
ABLATIONS: tuple[Reigning, ...] = (
    Reigning(
        "keep before send", lambda: [(Ledger, "keep", _nothing)], frozenset({"intent", "durable"})
    ),
    Reigning("gate asks whether the lease is held", lambda: [IS_LIVE[0]], frozenset()),
    Reigning(
        "lease, and all shards are claimed",
        lambda: [*IS_LIVE, (ledgers, "_claim", _read_only)],
        _TWO,
        ("stop", "revision"),
    ),
    Reigning(
        "lease, and writes name a resource version",
        lambda: [*IS_LIVE, (ledgers._Place, "put", _put_over)],
        _TWO,
        ("stop", "revision"),
    ),
    Reigning("memories are kept", lambda: [(Ledger, "_collect", _without_memories)], _STALE),
    Reigning(
        "lost state holds the site",
        lambda: [(takeover, "_lost", lambda *_, **__: "")],
        _STALE,
        ("state_deleted", "kill"),
    ),
    Reigning(
        "a fence above all that was written",
        lambda: [(Elector, "_next_fence", lambda self: self._seen.highest_fence + 1)],
        frozenset(),
        ("lease_deleted",),
    ),
    Reigning(
        "a revision that devices stand on is waited for",
        lambda: [(takeover, "_refuse_missing", lambda *_: None)],
        frozenset({"liveness", "escape"}),
        ("revision_deleted", "revision"),
    ),
)


def try_reign(nth: int, seeds: Iterable[int] = range(SEEDS)) -> Noticed:
    """Play seeds without a safeguard until one of its rules breaks."""
    cut = ABLATIONS[nth]
    with contextlib.ExitStack() as stack:
        for target, name, instead in cut.cuts():
            stack.enter_context(mock.patch.object(target, name, instead))
        for seed in seeds if cut.rules else list(seeds)[:20]:
            found = _noticed(play(seed, always=cut.always), cut.rules)
            if found is not None:
                return Noticed(cut.name, seed, found)
    return Noticed(cut.name, None, "")


def _noticed(report: Report, rules: frozenset[str]) -> str | None:
    for violation in report.violations:
        rule = violation.partition(" ")[2].partition(":")[0]
        if rule in rules:
            return violation
    return None
