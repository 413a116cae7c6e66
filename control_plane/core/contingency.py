"""What a feed tree carries after a loss: paired loads move to their other side, and nobody acts in time.

A pair's two sides feed the same load, each a part of it. Where one side goes dark, whether by itself or with
anything above it, all that hung on it hangs on the other side within milliseconds: the change-over is in
power supplies and transfer switches, and no software is asked. So it has to fit beforehand, against
`FeedNode.emergency_w`, at the other side and at everything above that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from control_plane.core.fleet import Contingency, FeedNode

Feeds = Mapping[str, FeedNode]


class Overload(msgspec.Struct, frozen=True, kw_only=True):
    """A node that would carry more than it bears."""

    node: str
    contingency: Contingency
    carried_w: float
    bears_w: float


def path(feeds: Feeds, node: str) -> Iterator[FeedNode]:
    """A node and its ancestors, leaf first."""
    current: str | None = node
    while current is not None:
        yield feeds[current]
        current = feeds[current].parent


def flows_w(feeds: Feeds, declared_w: Mapping[str, float]) -> dict[str, float]:
    """What each node carries, its own unmanaged load with it, once all caps are kept.

    Args:
        feeds: the tree.
        declared_w: by feed: what hangs directly on it, as declared.

    Where more is declared than a node may carry only what it may carry is drawn: its cap keeps it so, at all
    times. What nobody manages below it no cap trims.
    """
    flows, standing = dict.fromkeys(feeds, 0.0), dict.fromkeys(feeds, 0.0)
    for node in _leaves_first(feeds):
        drawn_w = min(flows[node.id] + declared_w.get(node.id, 0.0), node.usable_w)
        flows[node.id] = max(drawn_w, standing[node.id]) + node.unmanaged_w
        standing[node.id] += node.unmanaged_w
        if node.parent is not None:
            flows[node.parent] += flows[node.id]
            standing[node.parent] += standing[node.id]
    return flows


def single_losses(feeds: Feeds) -> tuple[Contingency, ...]:
    """Each node by whose loss some load moves: a side of a pair, or anything above one side of it."""
    found: dict[str, None] = {}
    for node in feeds.values():
        if node.pair is None or node.pair not in feeds:
            continue
        of_other = {above.id for above in path(feeds, node.pair)}
        for above in path(feeds, node.id):
            if above.id in of_other:
                break
            found[above.id] = None
    return tuple(Contingency(name=f"without {one}", lost=(one,)) for one in sorted(found))


def carried_w(
    feeds: Feeds, flows: Mapping[str, float], contingency: Contingency
) -> dict[str, float]:
    """What each node that is left carries after a loss.

    Args:
        feeds: the tree.
        flows: as by `flows_w`, or as metered.
        contingency: what is lost.
    """
    dark = _dark(feeds, contingency)
    after = {n: w for n, w in flows.items() if n not in dark}
    for top in _tops(feeds, dark):
        for above in _above(feeds, top.id):
            if above.id in after:
                after[above.id] -= flows[top.id]
    for side in _moved(feeds, dark):
        # Its own unmanaged load is fed from both sides like all of it.
        for above in path(feeds, str(side.pair)):
            if above.id in after:
                after[above.id] += flows[side.id]
    return after


def moved_sides(feeds: Feeds, contingency: Contingency) -> tuple[FeedNode, ...]:
    """The sides whose load moves to their other side, by id; of sides above one another the upper one."""
    found = _moved(feeds, _dark(feeds, contingency))
    return tuple(sorted(found, key=lambda side: side.id))


def overloads(
    feeds: Feeds,
    flows: Mapping[str, float],
    contingencies: Iterable[Contingency],
    *,
    slack_w: float,
) -> list[Overload]:
    """Of each node the worst that it would have to carry, where it cannot; in order of the tree."""
    worst: dict[str, Overload] = {}
    for one in contingencies:
        for node, watts in carried_w(feeds, flows, one).items():
            bears_w = feeds[node].emergency_w or feeds[node].rating_w
            moved = watts > flows[node] + slack_w
            if not moved or watts <= bears_w + slack_w:
                continue
            if node not in worst or watts > worst[node].carried_w:
                worst[node] = Overload(node=node, contingency=one, carried_w=watts, bears_w=bears_w)
    return [worst[node] for node in feeds if node in worst]


def _dark(feeds: Feeds, contingency: Contingency) -> set[str]:
    lost = set(contingency.lost)
    return {n for n in feeds if any(above.id in lost for above in path(feeds, n))}


def _above(feeds: Feeds, node: str) -> Iterator[FeedNode]:
    parent = feeds[node].parent
    return iter(()) if parent is None else path(feeds, parent)


def _tops(feeds: Feeds, dark: set[str]) -> Iterator[FeedNode]:
    """The uppermost nodes of what is dark."""
    for node in dark:
        parent = feeds[node].parent
        if parent is None or parent not in dark:
            yield feeds[node]


def _moved(feeds: Feeds, dark: set[str]) -> Iterator[FeedNode]:
    """The uppermost sides that are dark while their other side is not: with them all below them moves."""
    for name in dark:
        node = feeds[name]
        if not _moves(node, feeds, dark):
            continue
        if not any(_moves(above, feeds, dark) for above in _above(feeds, name)):
            yield node


def _moves(node: FeedNode, feeds: Feeds, dark: set[str]) -> bool:
    return (
        node.id in dark and node.pair is not None and node.pair in feeds and node.pair not in dark
    )


def _leaves_first(feeds: Feeds) -> list[FeedNode]:
    depth = {name: sum(1 for _ in path(feeds, name)) for name in feeds}
    return sorted(feeds.values(), key=lambda node: -depth[node.id])
