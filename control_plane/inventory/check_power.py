"""What must hold of the feed tree, by itself and under the loads that are declared on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from control_plane.api.v1alpha1 import PowerDoc
from control_plane.core.contingency import flows_w, overloads, path, single_losses
from control_plane.core.fleet import FeedKind, FeedNode
from control_plane.inventory import errors
from control_plane.inventory.expand import W_PER_KW, contingencies, feed_nodes
from control_plane.inventory.problems import Problems
from control_plane.inventory.shape import File
from control_plane.inventory.source import Spot, quoted

_LEVEL: Final = {
    FeedKind.UTILITY: 0,
    FeedKind.CONTRACT: 0,
    FeedKind.TRANSFORMER: 1,
    FeedKind.FEEDER: 2,
    FeedKind.PAD: 3,
    FeedKind.CONTAINER: 4,
    FeedKind.HALL: 4,
    FeedKind.PDU: 5,
}
_TRIMMED_ABOVE: Final = _LEVEL[FeedKind.PAD]
"""From here up over-subscription is allowed: caps bind there, and somebody trims."""
_ROOTS: Final = frozenset({FeedKind.UTILITY, FeedKind.CONTRACT})
_SLACK_W: Final = 0.5
_SHOWN: Final = 8
"""Nodes of a ring that a finding names."""


def check_feeds(
    power: File[PowerDoc], *, is_hosted: bool | None, problems: Problems
) -> Mapping[str, FeedNode] | None:
    """The nodes by id; `None` where they are no tree. `is_hosted`: `None` where nobody knows."""
    nodes: dict[str, FeedNode] = {}
    before = problems.errors
    for node in feed_nodes(power):
        if node.id in nodes:
            what = f"feed {quoted(node.id)} stands at {nodes[node.id].where} already"
            spot = Spot(node.where.line, node.where.column)
            problems.add(errors.DUPLICATE_NAME, power.doc, spot, what)
            continue
        nodes[node.id] = node
    _parents(power, nodes, problems)
    _roots(power, nodes, is_hosted=is_hosted, problems=problems)
    _meters(power, problems)
    for node in nodes.values():
        if node.usable_w <= 0:
            what = (
                f"feed {quoted(node.id)}: {node.rating_w / W_PER_KW:g} kW × {node.derate:g} less "
            )
            what += f"{node.unmanaged_w / W_PER_KW:g} kW unmanaged leaves nothing"
            _at(power, node, errors.NO_CAPACITY, what, problems)
    is_tree = problems.errors == before
    if is_tree:
        _pairs(power, nodes, problems)
        _declared_losses(power, nodes, problems)
        _curves(power, problems)
    return nodes if is_tree else None


def _at(
    power: File[PowerDoc], node: FeedNode, code: errors.Code, what: str, problems: Problems
) -> None:
    problems.add(code, power.doc, Spot(node.where.line, node.where.column), what)


def _parents(power: File[PowerDoc], nodes: Mapping[str, FeedNode], problems: Problems) -> None:
    for ring in _rings(nodes):
        for place, name in enumerate(ring):
            shown = range(min(len(ring), _SHOWN))
            chain = " < ".join(ring[(place + step) % len(ring)] for step in shown)
            chain += f" < ... < {name}" if len(ring) > _SHOWN else f" < {name}"
            what = f"feed {quoted(name)} is above itself: {chain}"
            _at(power, nodes[name], errors.FEED_CYCLE, what, problems)
    doc = power.doc
    for index, written in enumerate(power.data.nodes):
        if written.parent is None:
            continue
        spot = doc.spot("nodes", index, "parent")
        parent = nodes.get(written.parent)
        if parent is None:
            what = f"parent {quoted(written.parent)} of feed {quoted(written.id)} is not declared"
            problems.add(errors.UNKNOWN_FEED, doc, spot, what, word=written.parent, known=nodes)
        elif _LEVEL[FeedKind(written.kind)] <= _LEVEL[parent.kind]:
            what = (
                f"{written.kind} {quoted(written.id)} hangs under {parent.kind} {quoted(parent.id)}"
            )
            problems.add(errors.FEED_ORDER, doc, spot, what)
        if written.pdus and written.kind == "pdu":
            what = f"pdu {quoted(written.id)} has PDUs"
            problems.add(errors.FEED_ORDER, doc, doc.spot("nodes", index, "pdus"), what)


def _rings(nodes: Mapping[str, FeedNode]) -> Iterator[list[str]]:
    """The cycles among parents, each once, from the leaf up; each node is walked over once."""
    walk_of: dict[str, str] = {}
    """Node → from which start it was first reached."""
    for start in nodes:
        current: str | None = start
        while current is not None and current in nodes and current not in walk_of:
            walk_of[current] = start
            current = nodes[current].parent
        if current is None or walk_of.get(current) != start:
            continue
        ring, above = [current], nodes[current].parent
        while above is not None and above != current:
            ring.append(above)
            above = nodes[above].parent
        yield ring


def _roots(
    power: File[PowerDoc],
    nodes: Mapping[str, FeedNode],
    *,
    is_hosted: bool | None,
    problems: Problems,
) -> None:
    roots = [node for node in nodes.values() if node.parent is None]
    if len(roots) != 1:
        names = ", ".join(quoted(node.id) for node in roots[:5]) or "none"
        what = f"{len(roots)} nodes have no parent: {names}"
        problems.add(errors.FEED_ROOTS, power.doc, power.doc.spot("nodes"), what)
    for node in nodes.values():
        if (node.kind in _ROOTS) != (node.parent is None) and len(roots) == 1:
            what = f"{node.kind} {quoted(node.id)} {'has' if node.parent else 'has no'} parent"
            _at(power, node, errors.FEED_ORDER, what, problems)
        if is_hosted is None:
            continue
        if is_hosted and node.meter is not None:
            what = f"feed {quoted(node.id)} of a hosted site has the meter {quoted(node.meter)}"
            _at(power, node, errors.CONTRACT, what, problems)
        if is_hosted is (node.kind is FeedKind.UTILITY) and node.kind in _ROOTS:
            tenure = "a hosted" if is_hosted else "an owned"
            what = f"{tenure} site has the {node.kind} node {quoted(node.id)}"
            _at(power, node, errors.CONTRACT, what, problems)


def _meters(power: File[PowerDoc], problems: Problems) -> None:
    seen: dict[str, str] = {}
    for index, node in enumerate(power.data.nodes):
        if node.meter is None:
            continue
        if node.meter in seen:
            what = f"meter {quoted(node.meter)} is at feed {quoted(seen[node.meter])} too"
            spot = power.doc.spot("nodes", index, "meter")
            problems.add(errors.DUPLICATE_METER, power.doc, spot, what)
        seen.setdefault(node.meter, node.id)


def _pairs(power: File[PowerDoc], nodes: Mapping[str, FeedNode], problems: Problems) -> None:
    for node in nodes.values():
        if node.pair is None:
            continue
        other = nodes.get(node.pair)
        what = None
        if other is None:
            what = f"the other side {quoted(node.pair)} of feed {quoted(node.id)} is not declared"
        elif other.id == node.id:
            what = f"feed {quoted(node.id)} is its own other side"
        elif other.pair != node.id:
            what = f"feed {quoted(node.id)} names {quoted(other.id)}, which names "
            what += quoted(other.pair) if other.pair else "nobody"
        elif other.kind is not node.kind:
            what = f"{node.kind} {quoted(node.id)} is paired with {other.kind} {quoted(other.id)}"
        elif any(above.id == other.id for above in path(nodes, node.id)):
            what = f"feed {quoted(node.id)} hangs under its other side {quoted(other.id)}"
        if what:
            _at(power, node, errors.PAIR, what, problems)


def _declared_losses(
    power: File[PowerDoc], nodes: Mapping[str, FeedNode], problems: Problems
) -> None:
    for index, loss in enumerate(power.data.contingencies):
        for place, name in enumerate(loss.lost):
            if name in nodes:
                continue
            spot = power.doc.spot("contingencies", index, "lost", place)
            what = f"feed {quoted(name)}, lost in {quoted(loss.name)}, is not declared"
            problems.add(errors.UNKNOWN_FEED, power.doc, spot, what, word=name, known=nodes)


def _curves(power: File[PowerDoc], problems: Problems) -> None:
    for index, node in enumerate(power.data.nodes):
        for place, (low, high) in enumerate(pairwise(node.breaker)):
            if high.load > low.load and high.seconds < low.seconds:
                continue
            what = (
                f"the breaker of feed {quoted(node.id)} bears {high.load:g} times its rating for "
            )
            what += f"{high.seconds:g} s, after {low.load:g} times for {low.seconds:g} s"
            spot = power.doc.spot("nodes", index, "breaker", place + 1)
            problems.add(errors.TRIP_CURVE, power.doc, spot, what)


def check_loads(
    power: File[PowerDoc],
    nodes: Mapping[str, FeedNode],
    declared_w: Mapping[str, float],
    problems: Problems,
) -> None:
    """Hold the declared draw of everything against the ratings.

    `declared_w` is by feed: what hangs directly on it.
    """
    sums = dict.fromkeys(nodes, 0.0)
    for feed, watts in declared_w.items():
        for node in path(nodes, feed):
            sums[node.id] += watts
    for node in nodes.values():
        for above in list(path(nodes, node.id))[1:]:
            sums[above.id] += node.unmanaged_w
    for node in nodes.values():
        load = sums[node.id]
        if _LEVEL[node.kind] > _TRIMMED_ABOVE and load > node.usable_w + _SLACK_W:
            what = f"{node.kind} {quoted(node.id)} carries {load / W_PER_KW:,.1f} kW as declared; "
            what += f"usable are {node.usable_w / W_PER_KW:,.1f} kW "
            what += f"({node.rating_w / W_PER_KW:g} kW × {node.derate:g}"
            what += f" less {node.unmanaged_w / W_PER_KW:g} kW" if node.unmanaged_w else ""
            _at(power, node, errors.OVER_RATING, f"{what})", problems)
    _losses(power, nodes, declared_w, problems)


def _losses(
    power: File[PowerDoc],
    nodes: Mapping[str, FeedNode],
    declared_w: Mapping[str, float],
    problems: Problems,
) -> None:
    flows = flows_w(nodes, declared_w)
    every = (*single_losses(nodes), *contingencies(power))
    for over in overloads(nodes, flows, every, slack_w=_SLACK_W):
        node = nodes[over.node]
        what = f"{node.kind} {quoted(node.id)} would carry {over.carried_w / W_PER_KW:,.1f} kW "
        what += f"{over.contingency.name}, instead of {flows[node.id] / W_PER_KW:,.1f} kW; "
        what += f"it bears {over.bears_w / W_PER_KW:g} kW"
        _at(power, node, errors.CONTINGENCY, what, problems)
