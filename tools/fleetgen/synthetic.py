"""Fleets of any size: sites of equal air buildings of two families, on the example's shared files."""

from __future__ import annotations

from pathlib import Path

from tools.fleetgen.example import M60S, S21
from tools.fleetgen.spec import Building, feeds, flow, numbered, place

SLOTS = 40
RACKS = 25
SHARED = (
    "owners/house.yaml",
    "device-types/antminer-s21.yaml",
    "device-types/whatsminer-m60s.yaml",
    "profiles/antminer-normal.yaml",
    "profiles/whatsminer-normal.yaml",
)
FLEET = """\
# {devices} slots on {sites} sites, made for benchmarks.
api_version: gridplane.dev/v1alpha1
name: synthetic
"""
SITE = """\
name: Synthetic site {number}
tenure: {{kind: owned}}
location: {{country: US, region: Georgia, place: Macon}}
time_zone: America/New_York
networks:
  - {{name: miners, cidr: 10.0.0.0/8, purpose: miners}}
"""


def files(devices: int, sites: int, seed: int, inventory: Path) -> dict[str, str]:
    """Path → content below the new inventory.

    `inventory`: where the shared files are taken from.
    """
    out = {name: (inventory / name).read_text(encoding="utf-8") for name in SHARED}
    out["fleet.yaml"] = FLEET.format(devices=f"{devices:,}", sites=sites)
    for number in range(1, sites + 1):
        share = devices * number // sites - devices * (number - 1) // sites
        site = f"s{number:02d}"
        buildings = _buildings(site, share)
        base = f"sites/{site}"
        out[f"{base}/site.yaml"] = SITE.format(number=number)
        out[f"{base}/power.yaml"] = _power(site, buildings)
        for building, first in numbered(buildings):
            placed = place(building, prefix=site, first=first, seed=seed)
            out[f"{base}/racks/{building.id}.yaml"] = placed.racks_yaml
            out[f"{base}/placement/{building.id}.csv"] = placed.placement_csv
    return out


def _buildings(site: str, devices: int) -> list[Building]:
    """Full buildings, then one of full racks, then one rack with what is left."""
    sizes = [(RACKS, SLOTS)] * (devices // (RACKS * SLOTS))
    left = devices % (RACKS * SLOTS)
    sizes += [(left // SLOTS, SLOTS)] if left >= SLOTS else []
    sizes += [(1, left % SLOTS)] if left % SLOTS else []
    return [
        Building(
            id=f"{site}-b{n}",
            racks=racks,
            slots=slots,
            owner="house",
            model=M60S if n % 2 else S21,
            network=f"10.{n // 64}.{n % 64 * 4}.0/22",
        )
        for n, (racks, slots) in enumerate(sizes)
    ]


def _power(site: str, buildings: list[Building]) -> str:
    total_kw = 200 * sum(building.racks for building in buildings)
    nodes = [flow(id=f"{site}-grid", kind="utility", rating_kw=total_kw, derate="1.0")]
    for number, building in enumerate(buildings):
        pad = f"{site}-pad{number}"
        nodes.append(
            flow(id=pad, kind="pad", parent=f"{site}-grid", rating_kw=200 * building.racks)
        )
        pdus = flow(count=building.racks, rating_kw=200)
        nodes.append(
            flow(id=building.id, kind="hall", parent=pad, rating_kw=200 * building.racks, pdus=pdus)
        )
    return feeds(nodes, "A pad per building, a PDU per rack.")
