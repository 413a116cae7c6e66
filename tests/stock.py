"""A plan of an example site as a new manager finds it: simulated machines, read by a perfect driver."""

from __future__ import annotations

from pathlib import Path

from control_plane.core.fleet import Device
from control_plane.core.observation import (
    Depth,
    Field,
    Identity,
    Observation,
    PoolSetting,
    Settings,
    Telemetry,
)
from control_plane.core.plan import Plan, make_plan
from control_plane.core.world import World
from control_plane.drivers.driver import pool_url
from control_plane.drivers.registry import all_capabilities
from control_plane.inventory.load import load
from control_plane.simulator.build import build_site
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.floor import Floor, load_floor
from control_plane.simulator.site import SimSite

ROOT = Path(__file__).resolve().parent.parent
TOLD = frozenset({Field.POOLS, Field.MINING, Field.POWER_MODE, Field.ADDRESSING})
"""The settings that the truth of a simulated machine has."""


def stock_plan(name: str) -> Plan:
    """What `simulate serve --start stock` and `plan` show of a site, with its floor where it has one."""
    loaded = load(ROOT / "inventory", sites={name})
    assert loaded.fleet is not None
    site, path = loaded.fleet.sites[name], ROOT / f"examples/floor/{name}.yaml"
    floor = load_floor(path) if path.exists() else Floor()
    sim = build_site(site, clock=ManualSimClock(), start="stock", floor=floor)
    stands = floor.standing()
    capabilities = all_capabilities()
    sightings = {
        d.asset: seen(d, sim, standing=stands.get(d.asset))
        for d in site.devices
        if d.is_managed and d.asset in sim.stations
    }
    world = World(now_s=0.0, sightings=sightings, memories={}, capabilities=capabilities)
    return make_plan(site, loaded.digests[name], world)


def seen(device: Device, sim: SimSite, *, standing: str | None = None) -> Observation:
    """What a perfect driver says of a device's machine, or of the one of another that stands in its slot."""
    truth = sim.truth(standing or device.asset)
    return Observation(
        asset=device.asset,
        at_s=0.0,
        depth=Depth.FULL,
        source="truth",
        identity=Identity(mac=truth.mac),
        settings=Settings(
            pools=tuple(
                PoolSetting(url=pool_url(url), worker=worker) for url, worker in truth.pools
            ),
            mining=truth.mining,
            power_mode=truth.mode,
            addressing="static" if device.address else "dhcp",
        ),
        asked=TOLD,
        telemetry=Telemetry(hashrate_ths=truth.hashrate_ths),
    )
