"""The site `lab` as a snapshot: simulated machines, read by a perfect driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from control_plane.core.fleet import Site
from control_plane.core.memory import Memory, Pin
from control_plane.core.observation import Observation, Unseen, UnseenReason
from control_plane.core.plan import make_plan
from control_plane.core.rollout import Rollout
from control_plane.core.world import World
from control_plane.drivers.registry import all_capabilities
from control_plane.inventory.load import load
from control_plane.kube.snapshot import Snapshot
from control_plane.simulator.build import build_site
from control_plane.simulator.clock import ManualSimClock
from tests.stock import ROOT, seen

NOW_S = 1_800_000_000.0
REVISION = "a" * 64


def lab() -> Site:
    loaded = load(ROOT / "inventory", sites={"lab"})
    assert loaded.fleet is not None
    return loaded.fleet.sites["lab"]


def converged(site: Site) -> World:
    """Every miner as declared, and pinned."""
    sim = build_site(site, clock=ManualSimClock(), start="converged")
    there = [d for d in site.devices if d.asset in sim.stations]
    sightings: dict[str, Observation | Unseen] = {d.asset: seen(d, sim) for d in there}
    memories = {
        d.asset: Memory(
            asset=d.asset, pin=Pin(mac=sim.truth(d.asset).mac, serial=None, source="ann")
        )
        for d in there
    }
    return World(now_s=0.0, sightings=sightings, memories=memories, capabilities=all_capabilities())


def snapshot(site: Site, world: World, rollout: Rollout | None = None) -> Snapshot:
    plan = make_plan(site, REVISION, world)
    return Snapshot(site=site, plan=plan, world=world, rollout=rollout)


def seeing(world: World, **sightings: Observation | Unseen) -> World:
    """The world with other sightings; `_` in a name stands for `-`."""
    more = {name.replace("_", "-"): sighting for name, sighting in sightings.items()}
    return msgspec.structs.replace(world, sightings={**world.sightings, **more})


def unreachable(asset: str) -> Unseen:
    return Unseen(asset=asset, at_s=0.0, reason=UnseenReason.UNREACHABLE, detail="no answer")


def changed(world: World, asset: str, **settings: Any) -> World:
    """The world in which a device reads otherwise."""
    found = world.sightings[asset]
    assert isinstance(found, Observation)
    other = msgspec.structs.replace(found.settings, **settings)
    sightings: Mapping[str, Observation | Unseen] = {
        **world.sightings,
        asset: msgspec.structs.replace(found, settings=other),
    }
    return msgspec.structs.replace(world, sightings=sightings)
