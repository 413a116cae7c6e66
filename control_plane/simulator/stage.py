"""A simulated site and all ports that an engine needs, in one process and in virtual time.

def main(loop):
    stage = set_stage(site, loop, seed=7, start="stock")
    ...  # build drivers on stage.net and stage.clock, run the engine, inject faults

run_virtual(main)
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from control_plane.core.fleet import Site
from control_plane.simulator.build import Start, build_site
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.floor import Floor
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.site import SimSite
from control_plane.simulator.virtual import EPOCH_S, VirtualClock, VirtualLoop, seeded


class Stage(NamedTuple):
    """The machines, and what stands for the network, time and chance."""

    site: SimSite
    net: MemoryNet
    clock: VirtualClock
    rng: random.Random


def set_stage(
    site: Site,
    loop: VirtualLoop,
    *,
    seed: int = 0,
    scale: float = 1.0,
    start: Start = "converged",
    floor: Floor | None = None,
    passwords: Mapping[str, str] | None = None,
) -> Stage:
    """Build a site on a virtual loop.

    `scale` is device and policy seconds per wire second; all else as in `build_site`. Whatever
    differs between two stages follows from `seed`.
    """
    machines = build_site(
        site,
        clock=LoopSimClock(loop, time_scale=scale),
        seed=seed,
        floor=floor,
        start=start,
        passwords=passwords,
        epoch_s=EPOCH_S,
    )
    return Stage(
        site=machines,
        net=MemoryNet(machines.network, seed=seed),
        clock=VirtualClock(loop, scale=scale, epoch_s=EPOCH_S),
        rng=seeded(f"stage/{seed}"),
    )
