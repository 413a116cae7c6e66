"""What a seed makes happen, and when."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.site import Target
from tests.scenarios.declared import RACKS
from tests.scenarios.scene import Scene

SAFETY_S = 120.0
"""Wire seconds of the phase in which things go wrong."""

Act = Callable[[Any], Awaitable[None] | None]
"""What it does to a stage."""


class Event(msgspec.Struct, frozen=True):
    """One thing that happens."""

    at_s: float
    text: str
    act: Act


class Script:
    """All that happens in one seed."""

    def __init__(self, seed: int | str) -> None:
        self.rng = rng = random.Random(f"{seed}/script")
        self.seed = seed
        self.events: list[Event] = []
        self.scale = rng.choice([40.0, 60.0, 100.0])
        self.start = rng.choice(["stock", "stock", "converged"])
        self.classes: list[str] = []
        """The classes of fault that are on."""

    def at(self, text: str, act: Act, *, at_s: float | None = None) -> float:
        """Let something happen, at a moment that is drawn unless given."""
        moment = self.rng.uniform(0.0, SAFETY_S) if at_s is None else at_s
        self.events.append(Event(moment, text, act))
        return moment

    def asset(self) -> str:
        """Some machine of the site."""
        rack = self.rng.choice(RACKS)
        return f"{rack.id}-s{self.rng.randrange(1, rack.slots + 1)}"

    def node(self) -> str:
        """Something that a person may name."""
        return self.rng.choice(
            [
                self.asset(),
                self.asset(),
                self.rng.choice(RACKS).id,
                "pad-a",
                "pdu-4",
                "sw-pdu-2",
                "seed",
            ]
        )

    def fault(self, kind: FaultKind, **more: object) -> None:
        """A fault of the simulator's own menu, on one machine."""
        target = Target(asset=self.asset())
        fault = Fault(kind=kind, target=target, seed=self.rng.getrandbits(16), **more)  # type: ignore[arg-type]
        self.at(f"{kind} {target.asset}", lambda stage: hit(stage, fault))


def hit(stage: Scene, fault: Fault) -> None:
    """Inject a fault, if the machine is there."""
    if fault.target.asset is None or fault.target.asset in stage.sim.stations:
        inject(stage.sim, fault)
