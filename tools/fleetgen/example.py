"""The bulk of the example fleet: ga-macon's feeds, racks, GPU racks and records, wa-hosted's racks.

What people edit (fleet, owners, types, profiles, site and host files) is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from tools.fleetgen.spec import Building, Model, Placed, feeds, flow, numbered, place

MADE = (
    "Made by `python -m tools.fleetgen --preset example`; from then on edited like any other file."
)

S21 = Model(
    type="antminer-s21", profile="antminer-normal", hashrate_ths=200, boards=3, oui="02:15:51"
)
S19XP = Model(
    type="antminer-s19-xp", profile="antminer-normal", hashrate_ths=140, boards=3, oui="02:15:52"
)
S21HYD = Model(
    type="antminer-s21-hyd", profile="antminer-normal", hashrate_ths=335, boards=3, oui="02:15:53"
)
M60S = Model(
    type="whatsminer-m60s", profile="whatsminer-normal", hashrate_ths=186, boards=3, oui="02:c4:11"
)
M50S = Model(
    type="whatsminer-m50s", profile="whatsminer-normal", hashrate_ths=126, boards=3, oui="02:c4:12"
)
M66S = Model(
    type="whatsminer-m66s", profile="whatsminer-normal", hashrate_ths=298, boards=4, oui="02:c4:13"
)
A1566 = Model(type="avalon-a1566", profile="avalon", hashrate_ths=185, boards=3, oui="02:b0:01")


def _air(index: int, model: Model, racks: int, owner: str, **more: int | bool | str) -> Building:
    comment = str(more.pop("comment", "")) or f"Air building {index}."
    return Building(
        id=f"ga-a{index}", racks=racks, slots=42, owner=owner, model=model,
        network=f"10.20.{index * 4}.0/22", comment=comment,
        dhcp=bool(more.get("dhcp")), eco_racks=int(more.get("eco_racks", 0)),
    )  # fmt: skip


AIR = (
    _air(1, S21, 20, "house"),
    _air(2, S21, 20, "house"),
    _air(3, S21, 20, "northstar"),
    _air(4, S21, 20, "northstar"),
    _air(5, S19XP, 24, "house", eco_racks=6, comment="Air building 5; its last row runs eco."),
    _air(6, S19XP, 24, "house", eco_racks=6, comment="Air building 6; its last row runs eco."),
    _air(7, S19XP, 24, "bluepine"),
    _air(8, S19XP, 24, "bluepine"),
    _air(9, M60S, 20, "northstar"),
    _air(10, M60S, 20, "keystone"),
    _air(11, M60S, 20, "house", dhcp=True, comment="Air building 11, the older switches: DHCP."),
    _air(12, M50S, 20, "house"),
    _air(13, M50S, 20, "keystone"),
    _air(
        14,
        A1566,
        18,
        "house",
        comment="Air building 14: Avalons, for which there is no driver yet.",
    ),
)
HYDRO = tuple(
    Building(
        id=f"ga-h{n}", racks=4, slots=42, owner="house", model=S21HYD,
        network=f"10.20.{56 + n * 4}.0/22", comment=f"Hydro container {n}.",
    )
    for n in range(1, 6)
)  # fmt: skip
IMMERSION = (
    Building(
        id="ga-i1", racks=14, slots=42, owner="house", model=M66S, network="10.20.80.0/22",
        comment="Immersion hall: a rack is a row of tanks on one PDU.",
    ),
)  # fmt: skip
MACON = (*AIR, *HYDRO, *IMMERSION)
GPU_HALL, GPU_RACKS = "ga-g1", 128
NODES_PER_RACK = 4
WA = tuple(
    Building(
        id=f"wa-c{n}", racks=6, slots=36, owner="house", model=S19XP,
        network=f"10.60.{(n - 1) * 4}.0/22", comment=f"Container {n} at the host's.",
    )
    for n in (1, 2)
)  # fmt: skip

PADS_PER_FEEDER = 3
OUTDATED = (
    *(f"ga-a2-r{n:02d}" for n in range(11, 15)),
    *(f"ga-a9-r{n:02d}" for n in range(1, 3)),
    "ga-a13-r05",
    "ga-i1-r02",
)
"""Racks that the last change of worker names never reached."""
SWAPPED = (("ga-a1", 7), ("ga-a5", 3), ("ga-a9", 12))
"""Building and rack in which two machines stand in each other's slot."""
OTHERS = (("ga-a2", 9), ("ga-a4", 2))
"""Two racks of two owners: a machine of each stands in the other's."""
STRANGERS = (("ga-a2", 4), ("ga-a7", 9), ("ga-a10", 15), ("ga-h2", 1))
"""Building and rack in which a machine works for somebody who is not its owner."""


def files(seed: int) -> dict[str, str]:
    """Path → content, below the repository's root."""
    out: dict[str, str] = {"inventory/sites/ga-macon/power.yaml": for_editors("power") + _power()}
    placed: dict[str, Placed] = {}
    for building, first in numbered(MACON):
        placed[building.id] = one = place(building, prefix="m", first=first, seed=seed)
        racks = for_editors("racks", below=1) + one.racks_yaml
        out[f"inventory/sites/ga-macon/racks/{building.id}.yaml"] = racks
        out[f"inventory/sites/ga-macon/placement/{building.id}.csv"] = one.placement_csv
    gpu = for_editors("gpu-racks", below=1) + _gpu()
    out[f"inventory/sites/ga-macon/gpu/{GPU_HALL}.yaml"] = gpu
    for building, first in numbered(WA):
        one = place(building, prefix="w", first=first, seed=seed)
        racks = for_editors("racks", below=1) + one.racks_yaml
        out[f"inventory/sites/wa-hosted/racks/{building.id}.yaml"] = racks
        out[f"inventory/sites/wa-hosted/placement/{building.id}.csv"] = one.placement_csv
    out["examples/floor/ga-macon.yaml"] = _floor(placed)
    return out


def for_editors(kind: str, *, below: int = 0) -> str:
    """The line by which editors find the schema of a file in a site's folder, or `below` it."""
    up = "../" * (3 + below)
    return f"# yaml-language-server: $schema={up}docs/reference/schema/v1alpha1/{kind}.json\n"


# --- power -----------------------------------------------------------------------------------

_HALL_KW = {"a": 4000, "h": 1250, "i": 4300, "g": 7200}
_FANS_KW = {"a": 60, "h": 25, "i": 40, "g": 300}
_PAD_KW = {"ga-i1": 3600, GPU_HALL: 7200}
"""Where it is not the common size: the GPU hall's pad is two units in parallel."""
_PDU_KW = {"a": 200, "h": 300, "i": 300, "g": 60}


def _power() -> str:
    """Interconnection → two transformers → feeders → pads → halls and containers → a PDU per rack."""
    nodes = [flow(id="ga-grid", kind="utility", rating_kw=50000, derate="1.0", meter="ga-m0")]
    top = {"kind": "transformer", "parent": "ga-grid", "rating_kw": 31500, "derate": 0.9}
    nodes += [flow(id=f"ga-t{n}", **top, meter=f"ga-mt{n}") for n in (1, 2)]
    pads: list[list[tuple[str, int]]] = [[(b.id, b.racks)] for b in AIR]
    hydro = [(b.id, b.racks) for b in HYDRO]
    pads += [hydro[:2], hydro[2:4], [hydro[4]]]
    pads += [[(b.id, b.racks)] for b in IMMERSION]
    pads += [[(GPU_HALL, GPU_RACKS)]]
    # Alternately on either transformer, so that each carries a mix of old, new, theirs and ours.
    for number in range(1, len(pads) // PADS_PER_FEEDER + 2):
        parent = f"ga-t{(number - 1) % 2 + 1}"
        feeder = {"kind": "feeder", "parent": parent, "rating_kw": 9000, "derate": 0.9}
        nodes.append(flow(id=f"ga-f{number}", **feeder, meter=f"ga-mf{number}"))
    for number, halls in enumerate(pads, 1):
        pad, above = f"ga-pad-{number}", f"ga-f{(number - 1) // PADS_PER_FEEDER + 1}"
        rating = _PAD_KW.get(halls[0][0], 3150)
        nodes.append(
            flow(
                id=pad,
                kind="pad",
                parent=above,
                rating_kw=rating,
                derate=0.95,
                meter=f"ga-mp{number}",
            )
        )
        for hall, racks in halls:
            letter = hall[3]
            kind = "container" if letter == "h" else "hall"
            nodes.append(
                flow(
                    id=hall, kind=kind, parent=pad, rating_kw=_HALL_KW[letter],
                    unmanaged_kw=_FANS_KW[letter], pdus=flow(count=racks, rating_kw=_PDU_KW[letter]),
                )
            )  # fmt: skip
    # Management and control plane hang on a pad of their own.
    nodes.append(flow(id="ga-pad-ops", kind="pad", parent="ga-f7", rating_kw=150, meter="ga-mops"))
    ops = {"kind": "hall", "parent": "ga-pad-ops", "rating_kw": 120, "unmanaged_kw": 10}
    nodes.append(flow(id="ga-ops", **ops, pdus=flow(count=3, rating_kw=20)))
    return feeds(nodes, MADE) + "".join(["meters:\n", *(f"  - {one}\n" for one in _meters(pads))])


def _meters(pads: list[list[tuple[str, int]]]) -> Iterator[str]:
    """High up meters with an address each, read every second; pads' hang on the line of a gateway."""
    first = IPv4Address("10.22.0.10")
    yield flow(name="ga-m0", address=first, model="sunspec-213", accuracy_class=0.2)
    above = [*(f"ga-mt{n}" for n in (1, 2))]
    above += [f"ga-mf{n}" for n in range(1, len(pads) // PADS_PER_FEEDER + 2)]
    for number, name in enumerate(above, 1):
        yield flow(name=name, address=first + number, model="schneider-pm5000", accuracy_class=0.2)
    line = {"gateway": "ga-meter-1"}
    for number, halls in enumerate(pads, 1):
        model = "eastron-sdm630" if halls[0][0].startswith("ga-h") else "janitza-umg96"
        yield flow(name=f"ga-mp{number}", **line, unit=number, model=model, interval_s=5)
    yield flow(name="ga-mops", **line, unit=len(pads) + 1, model="sunspec-203", interval_s=5)


# --- GPU racks and the floor -----------------------------------------------------------------


def _gpu() -> str:
    lines = [f"# The GPU hall. {MADE}", "racks:"]
    node, bmc = IPv4Address("10.24.0.10"), IPv4Address("10.25.4.10")
    for number in range(1, GPU_RACKS + 1):
        offset = (number - 1) * NODES_PER_RACK
        lines += [
            f"  - id: {GPU_HALL}-r{number:03d}",
            f"    feed: {GPU_HALL}-p{number}",
            f"    switch: {GPU_HALL}-sw{(number + 7) // 8}",
            f"    nodes: {NODES_PER_RACK}",
            "    owner: house",
            "    type: gpu-hgx-h200",
            "    profile: gpu-inference",
            f"    first_address: {node + offset}",
            f"    first_bmc: {bmc + offset}",
        ]
    return "\n".join(lines) + "\n"


def _floor(placed: dict[str, Placed]) -> str:
    lines = [
        "# What stands on the simulated floor of ga-macon otherwise than the record says.",
        "swapped:  # two machines that stand in each other's slot",
    ]
    for building, rack in SWAPPED:
        one, other = _in_service(placed[building], f"{building}-r{rack:02d}")[4:6]
        lines.append(f"  - [{one}, {other}]")
    one, other = (_in_service(placed[b], f"{b}-r{rack:02d}")[7] for b, rack in OTHERS)
    lines.append(f"  - [{one}, {other}]  # of two owners")
    lines.append("foreign_pools:  # machines that work for somebody who is not their owner")
    for number, (building, rack) in enumerate(STRANGERS, 1):
        asset = _in_service(placed[building], f"{building}-r{rack:02d}")[10]
        lines += [
            f"  - asset: {asset}",
            "    url: stratum+tcp://stratum.elsewhere.example.net:3333",
            f"    worker: visitor.{number}",
        ]
    lines.append("outdated_racks:  # machines that still use the worker names of last year")
    lines += [f"  - {rack}" for rack in OUTDATED]
    return "\n".join(lines) + "\n"


def _in_service(placed: Placed, rack: str) -> list[str]:
    return [a.asset for a in placed.assets if a.rack == rack and a.state == "in_service"]
