"""Buildings as data → feed tree, rack files, placement records. Equal seed, equal bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

import msgspec

from control_plane.api.v1alpha1 import PLACEMENT_COLUMNS

DEAD_SHARE = 0.03
BOARD_SHARE = 0.02
VACANT_SHARE = 0.01
"""The daily truth of a site (design §3: some per cent of a real site is always broken)."""
FIRST_HOST = 10
"""Offset of a building's first machine in its network."""
REPAIRS = (
    ("no response", "out_of_service"),
    ("control board dead", "out_of_service"),
    ("PSU fault", "out_of_service"),
    ("sent to the maker", "in_repair"),
    ("fan replacement", "in_repair"),
)
BINS = (0.96, 0.975, 1.0, 1.0, 1.0, 1.025)
"""Hashrate bins as sold, as shares of the nominal one."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator has to know of a device type."""

    type: str
    profile: str
    hashrate_ths: float
    boards: int
    oui: str
    """First three bytes of the MACs."""


class Building(msgspec.Struct, frozen=True, kw_only=True):
    """A hall or a container: equal racks, one PDU each."""

    id: str
    racks: int
    slots: int
    owner: str
    model: Model
    network: str
    """Its /22."""
    dhcp: bool = False
    eco_racks: int = 0
    """The last so many racks run the eco profile."""
    comment: str = ""


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator remembers of a machine that it placed."""

    asset: str
    rack: str
    slot: int
    owner: str
    state: str


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one building, and who stands in it."""

    racks_yaml: str
    placement_csv: str
    assets: tuple[Asset, ...]


def place(building: Building, *, prefix: str, first: int, seed: int) -> Placed:
    """Fill a building.

    Args:
        building: what stands there.
        prefix: of asset ids and serials.
        first: number of its first asset.
        seed: draws states, bins and dates.
    """
    rng = random.Random(f"{seed}/{building.id}")
    states = _states(building.racks * building.slots, rng)
    rows, assets = [",".join(PLACEMENT_COLUMNS)], []
    number = first
    for index in range(building.racks * building.slots):
        rack, slot = rack_id(building, index // building.slots + 1), index % building.slots + 1
        state, reason, boards = states[index]
        since = f"2026-{rng.randint(1, 9):02d}-{rng.randint(1, 28):02d}"
        if state == "vacant":
            rows.append(f",{rack},{slot},,,,,vacant,,,{since},")
            continue
        asset = f"{prefix}-{number:06d}"
        bin_ths = round(building.model.hashrate_ths * rng.choice(BINS), 1)
        ticket = f"OPS-{rng.randint(1000, 9999)}" if reason else ""
        mac = f"{building.model.oui}:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        serial = f"{prefix.upper()}{number:010d}"
        cells = (
            asset,
            rack,
            slot,
            serial,
            mac,
            "",
            f"{bin_ths:g}",
            state,
            reason,
            boards or "",
            since,
        )
        rows.append(",".join(map(str, cells)) + f",{ticket}")
        assets.append(Asset(asset=asset, rack=rack, slot=slot, owner=building.owner, state=state))
        number += 1
    return Placed(
        racks_yaml=_racks(building),
        placement_csv="\n".join(rows) + "\n",
        assets=tuple(assets),
    )


def _states(count: int, rng: random.Random) -> list[tuple[str, str, int]]:
    """State, reason and missing boards of each slot: exact shares, drawn places."""
    states: list[tuple[str, str, int]] = [("in_service", "", 0)] * count
    dead, board = round(count * DEAD_SHARE), round(count * BOARD_SHARE)
    hit = rng.sample(range(count), dead + board + round(count * VACANT_SHARE))
    for position, index in enumerate(hit):
        if position < dead:
            reason, state = rng.choice(REPAIRS)
            states[index] = (state, reason, 0)
        elif position < dead + board:
            states[index] = ("degraded", "hash board missing", 1)
        else:
            states[index] = ("vacant", "", 0)
    return states


def rack_id(building: Building, number: int) -> str:
    """The name of a rack: `ga-a1-r07`."""
    return f"{building.id}-r{number:02d}"


def _racks(building: Building) -> str:
    lines = [f"# {building.comment}"] if building.comment else []
    lines.append("racks:")
    base = IPv4Address(building.network.partition("/")[0]) + FIRST_HOST
    for number in range(1, building.racks + 1):
        eco = number > building.racks - building.eco_racks
        profile = building.model.profile.replace("normal", "eco") if eco else building.model.profile
        address = base + (number - 1) * building.slots
        where = f"dhcp: {building.network}" if building.dhcp else f"static_by_slot: {address}"
        lines += [
            f"  - id: {rack_id(building, number)}",
            f"    feed: {building.id}-p{number}",
            f"    switch: {building.id}-sw{(number + 3) // 4}",
            f"    slots: {building.slots}",
            f"    owner: {building.owner}",
            f"    type: {building.model.type}",
            f"    profile: {profile}",
            f"    addressing: {{{where}}}",
        ]
    return "\n".join(lines) + "\n"


def flow(**cells: object) -> str:
    """A mapping on one line; what is `None` is left out."""
    return "{" + ", ".join(f"{k}: {v}" for k, v in cells.items() if v is not None) + "}"


def feeds(nodes: Sequence[str], comment: str) -> str:
    """A `power.yaml` of nodes that are one line each."""
    return "\n".join([f"# {comment}", "nodes:", *(f"  - {node}" for node in nodes)]) + "\n"


def numbered(buildings: Sequence[Building]) -> Iterator[tuple[Building, int]]:
    """Buildings with the number of their first asset: each has room for all its slots."""
    number = 1
    for building in buildings:
        yield building, number
        number += building.racks * building.slots
