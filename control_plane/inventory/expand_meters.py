"""Declared meters, with where each is read and which node it measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from control_plane.core.meter import Meter
from control_plane.core.units import w_from_kw
from control_plane.inventory.tree import SiteTree

_RANGE_OF_RATING: Final = 1.25
"""Current transformers come in steps; the next one above the breaker is usual."""


def meters_of(tree: SiteTree) -> Mapping[str, Meter]:
    """By name. Of a tree without errors: a meter whose gateway is missing is left out."""
    if tree.power is None:
        return {}
    hosts = {host.name: host.address for file in tree.hosts for host in file.data.hosts}
    nodes = {node.meter: node for node in tree.power.data.nodes if node.meter is not None}
    found: dict[str, Meter] = {}
    for index, doc in enumerate(tree.power.data.meters):
        address = doc.address or hosts.get(doc.gateway or "")
        node = nodes.get(doc.name)
        if address is None:
            continue
        range_kw = doc.range_kw or (node.rating_kw * _RANGE_OF_RATING if node else 0.0)
        found[doc.name] = Meter(
            name=doc.name,
            node=node.id if node else None,
            address=address,
            port=doc.port,
            unit=doc.unit,
            model=doc.model,
            gateway=doc.gateway,
            accuracy_class=doc.accuracy_class,
            interval_s=doc.interval_s,
            scale=doc.scale,
            is_reversed=doc.reversed,
            is_two_way=doc.two_way,
            range_w=w_from_kw(range_kw),
            register_offset=doc.register_offset,
            where=tree.power.doc.ref(tree.power.doc.spot("meters", index)),
        )
    return found
