"""The plan in the README is what the commands above it print, as far as no chance of a machine is in it."""

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
from control_plane.core.plan import World, make_plan
from control_plane.drivers.registry import all_capabilities
from control_plane.inventory.load import load
from control_plane.simulator.build import build_site
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.floor import load_floor
from control_plane.simulator.site import SimSite
from control_plane.views.plan import render_plan
from tests.docs.walk import unseen

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_plan_in_the_readme_is_of_the_committed_inventory_and_floor() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("$ gridplane plan --site ga-macon\n")[2].partition("```")[0]
    loaded = load(ROOT / "inventory", sites={"ga-macon"})
    assert loaded.fleet is not None
    site, floor = loaded.fleet.sites["ga-macon"], load_floor(ROOT / "examples/floor/ga-macon.yaml")
    sim = build_site(site, clock=ManualSimClock(), start="stock", floor=floor)
    stands = {one: other for pair in floor.swapped for one, other in (pair, pair[::-1])}
    capabilities = all_capabilities()
    world = World(
        now_s=0.0,
        sightings={
            d.asset: seen(d, stands.get(d.asset, d.asset), sim, capabilities[d.intent.family].reads)
            for d in site.devices
            if d.is_managed and d.asset in sim.stations
        },
        memories={},
        capabilities=capabilities,
    )
    plan = make_plan(site, loaded.digests["ga-macon"], world)
    printed = render_plan(plan, command="x")
    lines = tuple(line for line in shown.splitlines() if not line.startswith("Accept it:"))
    assert unseen((*lines, "..."), printed) is None, printed


def seen(device: Device, standing: str, sim: SimSite, reads: frozenset[Field]) -> Observation:
    """What a perfect driver says of the machine that stands in a device's slot."""
    truth = sim.truth(standing)
    return Observation(
        asset=device.asset,
        at_s=0.0,
        depth=Depth.FULL,
        source="truth",
        identity=Identity(mac=truth.mac),
        settings=Settings(
            pools=tuple(PoolSetting(url=url, worker=worker) for url, worker in truth.pools),
            mining=truth.mining,
            power_mode=truth.mode,
            addressing="static" if device.address else "dhcp",
        ),
        asked=reads - {Field.POWER_LIMIT_W, Field.FIRMWARE},
        telemetry=Telemetry(hashrate_ths=truth.hashrate_ths),
    )
