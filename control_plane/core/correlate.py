"""Correlated failure: many devices below one node lost together are one incident, not many faults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from control_plane.core import limits


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One cause, one page."""

    id: str
    node: str
    """The lowest node that explains it."""
    cause: str
    """`lost`, `pools` …"""
    since_s: float
    assets: int
    detail: str
    open: bool = True


def incident_above(open_at: Mapping[str, Incident], nodes: Iterable[str]) -> str | None:
    """The open incident that stops writes to a device, in words; `nodes` from the leaf up."""
    for node in nodes if open_at else ():
        incident = open_at.get(node)
        if incident is not None:
            return f"{incident.id}: {incident.detail}"
    return None


def lowest_common(
    failed: Iterable[str],
    paths: Mapping[str, Sequence[str]],
    population: Mapping[str, int],
    *,
    floor: int = limits.CORRELATED_FLOOR,
) -> tuple[str, int] | None:
    """The lowest node of which a large share failed, and how many of its devices did.

    Args:
        failed: assets that failed within `CORRELATED_WINDOW_S`.
        paths: asset → node ids from the leaf (rack, switch, PDU) up to the site.
        population: node id → devices below it that were healthy before.
        floor: fewer devices than that are single faults.

    A node explains a failure if at least `CORRELATED_SHARE` of its population failed and at least
    `floor` devices. Among such nodes the one that explains the most devices wins, and of
    equals the one nearest to the leaves.
    """
    counts: dict[str, int] = {}
    depth: dict[str, int] = {}
    for asset in failed:
        for level, node in enumerate(paths[asset]):
            counts[node] = counts.get(node, 0) + 1
            depth[node] = level
    suspects = [
        (-count, depth[node], node)
        for node, count in counts.items()
        if count >= floor and count >= limits.CORRELATED_SHARE * population.get(node, 0)
    ]
    if not suspects:
        return None
    count, _, node = min(suspects)
    return node, -count


def is_storm(count: int, population: int) -> bool:
    """Whether so many devices drift in the same way at once that rewriting them all is not a repair."""
    return count > max(limits.STORM_FLOOR, limits.STORM_SHARE * population)
