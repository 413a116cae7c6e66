"""One fault of many nodes, told from many faults: below an incident nothing is remedied.

A rack's PDU that trips takes eight nodes away at once. Each of them alone would be rebooted, and then
power-cycled for it; together they are one cause, above them. First look at feed and curtailment (gpu-nodes
§14.6).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from control_plane.core import limits
from control_plane.core.correlate import Incident, lowest_common


def incidents_after(
    open_now: Iterable[Incident],
    *,
    unwell: Mapping[str, float],
    on_purpose: Collection[str] = (),
    paths: Mapping[str, Sequence[str]],
    population: Mapping[str, int],
    now_s: float,
) -> tuple[Incident, ...]:
    """The open incidents after a look at all nodes.

    Args:
        open_now: those before it.
        unwell: node → since when it is.
        on_purpose: those that are so by somebody's work: a cure in its grace, an upgrade, a flash, a ticket,
            a person. They begin no incident, and end none. That one is cordoned or drained is no such work.
        paths: node → ids of what is above it, from the rack up to the site.
        population: id → nodes below it.
        now_s: policy time.

    An incident lasts until fewer than `CORRELATED_SHARE` of the nodes that it began with are unwell: what is
    left then are single faults.
    """
    kept = [one for one in open_now if _lasts(one, unwell, paths)]
    single = {node: at_s for node, at_s in unwell.items() if node not in on_purpose}
    while True:
        above = {one.node for one in kept}
        single = {node: at_s for node, at_s in single.items() if above.isdisjoint(paths[node])}
        found = _largest(single, paths, population)
        if found is None:
            return tuple(kept)
        place, count = found
        nodes = f"{count} of {population.get(place, count)} GPU nodes"
        kept.append(
            Incident(
                id=f"{place}-{int(now_s)}",
                node=place,
                cause="lost",
                since_s=now_s,
                assets=count,
                detail=f"{nodes} below {place} were lost together",
            )
        )


def _largest(
    troubled: Mapping[str, float],
    paths: Mapping[str, Sequence[str]],
    population: Mapping[str, int],
) -> tuple[str, int] | None:
    """The place below which most nodes fell ill within one window, whenever that was.

    Whoever was away while it happened finds the same as who looked on.
    """
    best: tuple[str, int] | None = None
    ended_s = float("-inf")
    for began_s in sorted(set(troubled.values())):
        together = {
            node: at_s
            for node, at_s in troubled.items()
            if began_s <= at_s <= began_s + limits.CORRELATED_WINDOW_S
        }
        if max(together.values()) <= ended_s:
            continue  # all of these were in the window before
        ended_s = max(together.values())
        found = lowest_common(
            sorted(together), paths, population, floor=limits.GPU_CORRELATED_FLOOR
        )
        if found is not None and (best is None or found[1] > best[1]):
            best = found
    return best


def _lasts(
    incident: Incident, unwell: Mapping[str, float], paths: Mapping[str, Sequence[str]]
) -> bool:
    still = sum(incident.node in paths[node] for node in unwell)
    return still >= max(1.0, limits.CORRELATED_SHARE * incident.assets)
