"""What must hold of a site's own files: tenure, networks, hosts and the feed tree."""

from __future__ import annotations

import ipaddress
import zoneinfo
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from control_plane.api.v1alpha1 import GpuRackDoc, NetworkDoc, RackDoc, SiteDoc
from control_plane.core.findings import SourceRef
from control_plane.inventory import errors
from control_plane.inventory.addresses import (
    Network,
    ambiguous,
    read_address,
    read_network,
    read_searched,
)
from control_plane.inventory.check_bmc import check_bmcs
from control_plane.inventory.check_renumbering import check_gateways, check_renumbering
from control_plane.inventory.choices import RackSource
from control_plane.inventory.expand import gpu_sources, rack_sources
from control_plane.inventory.problems import Problems
from control_plane.inventory.shape import File
from control_plane.inventory.source import Source, Spot, quoted
from control_plane.inventory.tree import SiteTree

_NAMED: Final = 8
"""Networks that a finding names."""
_FENCED: Final = frozenset({"miners", "bmc", "management", "metering"})


class _Range(NamedTuple):
    """Addresses that somebody claims."""

    first: int
    last: int
    who: str
    purpose: str
    source: Source
    spot: Spot

    @property
    def ref(self) -> SourceRef:
        return self.source.ref(self.spot)


def check_site(tree: SiteTree, problems: Problems) -> None:
    """Check site.yaml, the hosts, and that no two things share a name or an address."""
    networks: list[tuple[NetworkDoc, Network]] = []
    if tree.site:
        _tenure(tree.site, problems)
        networks = _networks(tree.site, problems)
        _jump_host(tree.site, tree, problems)
    check_bmcs(tree, problems)
    _host_names(tree, problems)
    _rack_names(tree, problems)
    ranges = sorted(_ranges(tree, problems))
    _overlaps(ranges, problems)
    whole = tree.site is not None and len(networks) == len(tree.site.data.networks)
    if whole:
        _inside(ranges, networks, problems)
        check_gateways(tree, problems)
        check_renumbering(tree, problems)


def _tenure(site: File[SiteDoc], problems: Problems) -> None:
    doc, tenure = site.doc, site.data.tenure
    at = doc.spot("tenure")
    if tenure.kind == "hosted_in" and not tenure.host:
        problems.add(errors.BAD_TENURE, doc, at, "a hosted site names no host")
    if tenure.kind == "owned" and (tenure.host or tenure.host_actions):
        what = "an owned site names a host, or actions that only a host may take"
        problems.add(errors.BAD_TENURE, doc, at, what)
    try:
        zoneinfo.ZoneInfo(site.data.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zone = site.data.time_zone
        what = f"time zone {quoted(zone)} is not known here"
        problems.add(
            errors.UNKNOWN_TIME_ZONE,
            doc,
            doc.spot("time_zone"),
            what,
            word=zone,
            known=zoneinfo.available_timezones(),
        )


def _networks(site: File[SiteDoc], problems: Problems) -> list[tuple[NetworkDoc, Network]]:
    doc = site.doc
    good: list[tuple[NetworkDoc, Network]] = []
    spots: list[Spot] = []
    purposes = {network.name: network.purpose for network in site.data.networks}
    taken: set[str] = set()
    for index, network in enumerate(site.data.networks):
        spot = doc.spot("networks", index, "cidr")
        parsed = read_network(network.cidr, doc, spot, problems)
        if network.name in taken:
            what = f"network {quoted(network.name)} stands twice"
            problems.add(errors.DUPLICATE_NAME, doc, doc.spot("networks", index, "name"), what)
        taken.add(network.name)
        for place, other in enumerate(network.may_reach):
            at = doc.spot("networks", index, "may_reach", place)
            if other not in purposes:
                what = f"network {quoted(network.name)} may reach {quoted(other)}"
                problems.add(errors.UNKNOWN_NETWORK, doc, at, what, word=other, known=purposes)
            elif network.purpose in {"gpu", "pods"} and purposes[other] in _FENCED:
                what = f"{network.purpose} network {quoted(network.name)} may reach {quoted(other)}"
                problems.add(errors.UNSAFE_ROUTE, doc, at, f"{what}, a {purposes[other]} network")
        if parsed is not None:
            good.append((network, parsed))
            spots.append(spot)
    for late, early in _nested([parsed for _, parsed in good]):
        (network, parsed), (before, theirs) = good[late], good[early]
        what = (
            f"network {quoted(network.name)} ({parsed}) overlaps {quoted(before.name)} ({theirs})"
        )
        problems.add(errors.NETWORK_OVERLAP, doc, spots[late], what)
    return good


def _nested(networks: list[Network]) -> Iterator[tuple[int, int]]:
    """Which network overlaps which: the later and the earlier place of each with what is around it.

    Two networks are apart, or one lies in the other: in the order of their first addresses, wider ones
    first, whatever is still open lies around.
    """
    order = sorted(range(len(networks)), key=lambda n: (networks[n], n))
    around: list[int] = []
    for place in order:
        while around and not networks[place].subnet_of(networks[around[-1]]):
            around.pop()
        if around:
            yield max(place, around[-1]), min(place, around[-1])
        around.append(place)


def _jump_host(site: File[SiteDoc], tree: SiteTree, problems: Problems) -> None:
    jump = site.data.jump_host
    names = {host.name for file in tree.hosts for host in file.data.hosts}
    if jump is not None and jump not in names and "hosts" not in tree.torn:
        what = f"no host of the site is named {quoted(jump)}"
        spot = site.doc.spot("jump_host")
        problems.add(errors.UNKNOWN_HOST, site.doc, spot, what, word=jump, known=names)


def _host_names(tree: SiteTree, problems: Problems) -> None:
    seen: dict[str, SourceRef] = {}
    for file in tree.hosts:
        for index, host in enumerate(file.data.hosts):
            spot = file.doc.spot("hosts", index, "name")
            if host.name in seen:
                what = f"host {quoted(host.name)} stands at {seen[host.name]} already"
                problems.add(errors.DUPLICATE_NAME, file.doc, spot, what)
            seen.setdefault(host.name, file.doc.ref(spot))


def _rack_names(tree: SiteTree, problems: Problems) -> None:
    seen: dict[str, SourceRef] = {}
    sources: list[RackSource[RackDoc | GpuRackDoc]] = [*rack_sources(tree), *gpu_sources(tree)]
    for source in sources:
        name = source.rack.id
        if name in seen:
            what = f"rack {quoted(name)} stands at {seen[name]} already"
            problems.add(errors.DUPLICATE_NAME, source.doc, source.spot("id"), what)
        seen.setdefault(name, source.ref("id"))


# --- addresses -------------------------------------------------------------------------------


def _ranges(tree: SiteTree, problems: Problems) -> Iterator[_Range]:
    """Every address that is declared, as ranges; one range per DHCP network, whoever shares it."""
    dhcp: dict[Network, tuple[_Range, int]] = {}
    for source in rack_sources(tree):
        rack, doc = source.rack, source.doc
        given = rack.addressing
        if how := ambiguous(given):
            what = f"rack {quoted(rack.id)} has {how}"
            problems.add(errors.EXCLUSIVE, doc, source.spot("addressing"), what)
        elif given.static_by_slot is not None:
            spot = source.spot("addressing", "static_by_slot")
            first = read_address(given.static_by_slot, doc, spot, problems)
            if first is not None:
                last = first + rack.slots - 1
                yield _Range(first, last, f"rack '{rack.id}'", "miners", doc, spot)
        elif given.dhcp is not None:
            spot = source.spot("addressing", "dhcp")
            network = read_searched(given.dhcp, doc, spot, problems)
            if network is None:
                continue
            low, high = int(network.network_address), int(network.broadcast_address)
            claim = _Range(low, high, f"DHCP network {network}", "miners", doc, spot)
            before, slots = dhcp.get(network, (claim, 0))
            dhcp[network] = (before, slots + rack.slots)
            free = network.num_addresses - 3  # network, broadcast, gateway
            if slots <= free < slots + rack.slots:
                what = f"DHCP network {network} has {max(0, free)} addresses to lease for "
                what += f"{slots + rack.slots} slots or more"
                problems.add(errors.ADDRESS_OUTSIDE, doc, spot, what)
    for claim, _ in dhcp.values():
        yield claim
    for gpu in gpu_sources(tree):
        rack_gpu = gpu.rack
        for key, purpose in (("first_address", "gpu"), ("first_bmc", "bmc")):
            first = read_address(getattr(rack_gpu, key), gpu.doc, gpu.spot(key), problems)
            if first is not None:
                last = first + rack_gpu.nodes - 1
                who = f"{key} of rack '{rack_gpu.id}'"
                yield _Range(first, last, who, purpose, gpu.doc, gpu.spot(key))
    yield from _meter_ranges(tree, problems)
    for file in tree.hosts:
        for index, host in enumerate(file.data.hosts):
            for key, text, purpose in (
                ("address", host.address, "management"),
                ("bmc", host.bmc, "bmc"),
            ):
                spot = file.doc.spot("hosts", index, key)
                first = read_address(text, file.doc, spot, problems) if text else None
                if first is not None:
                    yield _Range(
                        first, first, f"{key} of host '{host.name}'", purpose, file.doc, spot
                    )


def _meter_ranges(tree: SiteTree, problems: Problems) -> Iterator[_Range]:
    """Each address of meters once: several units may stand at one."""
    seen: set[str] = set()
    for index, meter in enumerate(tree.power.data.meters if tree.power else ()):
        if tree.power is None or meter.address is None or meter.address in seen:
            continue
        seen.add(meter.address)
        spot = tree.power.doc.spot("meters", index, "address")
        first = read_address(meter.address, tree.power.doc, spot, problems)
        if first is not None:
            who = f"address of meter '{meter.name}'"
            yield _Range(first, first, who, "metering", tree.power.doc, spot)


def _overlaps(ranges: list[_Range], problems: Problems) -> None:
    widest: _Range | None = None
    for one in ranges:
        if widest is not None and one.first <= widest.last:
            address = ipaddress.IPv4Address(one.first)
            what = f"{address} of {one.who} is also of {widest.who} at {widest.ref}"
            problems.add(errors.ADDRESS_OVERLAP, one.source, one.spot, what)
        if widest is None or one.last > widest.last:
            widest = one


def _inside(
    ranges: list[_Range], networks: list[tuple[NetworkDoc, Network]], problems: Problems
) -> None:
    spans = {purpose: _Spans(networks, purpose) for purpose in {one.purpose for one in ranges}}
    for one in ranges:
        fitting = spans[one.purpose]
        if fitting.hold(one.first, one.last):
            continue
        first = ipaddress.IPv4Address(one.first)
        last = one.last if one.last < 1 << 32 else (1 << 32) - 1
        span = f"{first}" if last == one.first else f"{first}-{ipaddress.IPv4Address(last)}"
        what = f"{span} of {one.who} is outside the networks for {one.purpose} ({fitting.names})"
        problems.add(errors.ADDRESS_OUTSIDE, one.source, one.spot, what)


class _Spans:
    """The addresses of the networks of one purpose."""

    def __init__(self, networks: Iterable[tuple[NetworkDoc, Network]], purpose: str) -> None:
        mine = sorted(((n, doc.name) for doc, n in networks if doc.purpose == purpose))
        self._first = [int(n.network_address) for n, _ in mine]
        # The last address up to each place: of nested networks the wider one comes first.
        self._last = list(accumulate((int(n.broadcast_address) for n, _ in mine), max))
        names = sorted(name for _, name in mine)
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        self.names = ", ".join(names[:_NAMED]) + more if names else "there is none"

    def hold(self, first: int, last: int) -> bool:
        """Whether one network holds all addresses from `first` to `last`."""
        place = bisect_right(self._first, first)
        return place > 0 and last <= self._last[place - 1]
