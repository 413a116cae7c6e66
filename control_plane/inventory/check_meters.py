"""What must hold of a site's meters: each measures one node, and can be reached, understood and in time."""

from __future__ import annotations

from control_plane.api.v1alpha1 import FeedDoc, MeterDoc, PowerDoc
from control_plane.core import limits
from control_plane.core.findings import SourceRef
from control_plane.core.meter_maps import MAPS
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.shape import File
from control_plane.inventory.source import quoted
from control_plane.inventory.tree import SiteTree


def check_meters(tree: SiteTree, problems: Problems) -> None:
    """Check the meters of power.yaml against its nodes and the site's hosts."""
    if tree.power is None:
        return
    nodes = _measured(tree.power, problems)
    for index, meter in enumerate(tree.power.data.meters):
        _place(tree, tree.power, index, meter, problems)
        _meter(tree.power, index, meter, nodes.get(meter.name), problems)
    _names(tree.power, problems)
    _places(tree.power, problems)
    _lines(tree.power, problems)


def _measured(power: File[PowerDoc], problems: Problems) -> dict[str, FeedDoc]:
    """Meter → the node that names it; of several the first, the others are found elsewhere."""
    declared = {meter.name for meter in power.data.meters}
    nodes: dict[str, FeedDoc] = {}
    for index, node in enumerate(power.data.nodes):
        if node.meter is None:
            continue
        nodes.setdefault(node.meter, node)
        if node.meter not in declared:
            what = f"meter {quoted(node.meter)} of feed {quoted(node.id)} is not declared"
            spot = power.doc.spot("nodes", index, "meter")
            problems.add(
                errors.UNKNOWN_METER, power.doc, spot, what, word=node.meter, known=declared
            )
    return nodes


def _meter(
    power: File[PowerDoc], index: int, meter: MeterDoc, node: FeedDoc | None, problems: Problems
) -> None:
    doc = power.doc
    if node is None:
        what = f"no node has the meter {quoted(meter.name)}"
        problems.add(errors.UNUSED_METER, doc, doc.spot("meters", index, "name"), what)
    elif meter.range_kw is not None and meter.range_kw < node.rating_kw:
        what = (
            f"meter {quoted(meter.name)} measures up to {meter.range_kw:g} kW, "
            f"feed {quoted(node.id)} carries {node.rating_kw:g} kW"
        )
        problems.add(errors.METER_RANGE, doc, doc.spot("meters", index, "range_kw"), what)
    if meter.model not in MAPS:
        what = f"meter {quoted(meter.name)} is a {quoted(meter.model)}, of which there is no map"
        spot = doc.spot("meters", index, "model")
        problems.add(
            errors.UNKNOWN_METER_MODEL, doc, spot, what, word=meter.model, known=list(MAPS)
        )
    low, high = limits.METER_INTERVAL_MIN_S, limits.METER_INTERVAL_MAX_S
    if not low <= meter.interval_s <= high:
        what = f"meter {quoted(meter.name)} is read each {meter.interval_s:g} s, outside {low:g}-{high:g} s"
        problems.add(errors.METER_INTERVAL, doc, doc.spot("meters", index, "interval_s"), what)


def _place(
    tree: SiteTree, power: File[PowerDoc], index: int, meter: MeterDoc, problems: Problems
) -> None:
    doc, name = power.doc, quoted(meter.name)
    if (meter.gateway is None) == (meter.address is None):
        both = "both a gateway and an address" if meter.gateway else "neither gateway nor address"
        spot = doc.spot("meters", index)
        problems.add(errors.METER_GATEWAY, doc, spot, f"meter {name} has {both}")
        return
    if meter.gateway is None or "hosts" in tree.torn:
        return
    roles = {host.name: host.role for file in tree.hosts for host in file.data.hosts}
    role, spot = roles.get(meter.gateway), doc.spot("meters", index, "gateway")
    if role is None:
        what = f"gateway {quoted(meter.gateway)} of meter {name} is no host of the site"
        known = [host for host, its in roles.items() if its == "meter_gateway"]
        problems.add(errors.METER_GATEWAY, doc, spot, what, word=meter.gateway, known=known)
    elif role != "meter_gateway":
        what = f"host {quoted(meter.gateway)}, the gateway of meter {name}, is of role {role}"
        problems.add(errors.METER_GATEWAY, doc, spot, what)


def _names(power: File[PowerDoc], problems: Problems) -> None:
    seen: dict[str, SourceRef] = {}
    for index, meter in enumerate(power.data.meters):
        spot = power.doc.spot("meters", index, "name")
        if meter.name in seen:
            what = f"meter {quoted(meter.name)} stands at {seen[meter.name]} already"
            problems.add(errors.DUPLICATE_NAME, power.doc, spot, what)
        seen.setdefault(meter.name, power.doc.ref(spot))


def _places(power: File[PowerDoc], problems: Problems) -> None:
    seen: dict[tuple[str, int, int], str] = {}
    for index, meter in enumerate(power.data.meters):
        where = meter.gateway or meter.address
        if where is None:
            continue
        other = seen.setdefault((where, meter.port, meter.unit), meter.name)
        if other != meter.name:
            what = (
                f"meter {quoted(meter.name)} is unit {meter.unit} at {where}:{meter.port}, "
                f"which is {quoted(other)}"
            )
            spot = power.doc.spot("meters", index)
            problems.add(errors.METER_PLACE_TWICE, power.doc, spot, what)


def _lines(power: File[PowerDoc], problems: Problems) -> None:
    """Whether each gateway's line has the time for all meters on it."""
    busy: dict[tuple[str, int], float] = {}
    for index, meter in enumerate(power.data.meters):
        if meter.gateway is None:
            continue
        line = (meter.gateway, meter.port)
        before = busy.get(line, 0.0)
        busy[line] = before + limits.METER_SERIAL_READ_S / meter.interval_s
        if busy[line] > 1.0 >= before:
            what = (
                f"with meter {quoted(meter.name)} the line of gateway {quoted(meter.gateway)} has no time "
                f"left: {limits.METER_SERIAL_READ_S:g} s for each look"
            )
            fix = "read its meters less often, or put some behind another gateway"
            spot = power.doc.spot("meters", index)
            problems.add(errors.METER_INTERVAL, power.doc, spot, what, fix=fix)
