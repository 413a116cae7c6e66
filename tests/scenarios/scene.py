"""A simulated site in virtual time, with bad lines to its machines and an oracle that watches it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from control_plane.core.change import Outcome
from control_plane.core.fleet import Site
from control_plane.core.verify import Operation
from control_plane.engine.gate import Intent
from control_plane.engine.loop import Engine, Pace
from control_plane.engine.store import Store
from control_plane.simulator.build import build_site
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.ledger import Write
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.site import Target
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, seeded
from control_plane.simulator.whatsminer_unit import Unit as WhatsMinerUnit
from control_plane.simulator.whatsminer_unit import WriteApi
from tests.scenarios.declared import Revision
from tests.scenarios.line import Noise, NoisyStation
from tests.scenarios.oracle import Oracle, WatchedLedger
from tests.scenarios.process import Process, ended_well

BUSY = Pace(interval_s=5.0, concurrency=16)
"""As on a large site: a first round of looks takes the whole interval."""


class Scene:
    """One run. `found` is what the machines are set to, where that is not what is declared."""

    def __init__(
        self,
        loop: VirtualLoop,
        revision: Revision,
        *,
        seed: str,
        scale: float,
        start: Any = "stock",
        found: Site | None = None,
        pace: Pace = BUSY,
    ) -> None:
        self.loop, self.seed, self.scale, self.pace = loop, seed, scale, pace
        self.rng = seeded(f"{seed}/stage")
        self.clock = VirtualClock(loop, scale=scale)
        self.sim = build_site(
            found or revision.site,
            clock=LoopSimClock(loop, time_scale=scale),
            seed=self.rng.getrandbits(32),
            start=start,
            epoch_s=self.clock.wall_s(),
        )
        self.noise = Noise(rng=seeded(f"{seed}/line"))
        stations = {
            asset: NoisyStation(asset, station.address, station.device, self.noise)
            for asset, station in self.sim.stations.items()
        }
        self.sim.stations = stations
        for station in stations.values():
            self.sim.network.add(station)
        self.net = MemoryNet(self.sim.network, seed=self.rng.getrandbits(32))
        self._hash = hashlib.blake2b(digest_size=16)
        self.lines: list[str] | None = None
        self.oracle = Oracle(sim=self.sim, site=revision.site, loop=loop)
        self.oracle.trace = self.trace
        self.oracle.about_to = self._about_to
        self.after_write: list[Callable[[Write], None]] = []
        """Told of each write that an asset got, once it has acted on it."""
        self.before_sends: list[Callable[[str], None]] = []
        """Told of an asset that a driver is told to write to."""
        self.before_intents: list[Callable[[Sequence[Intent]], None]] = []
        """Told of writes that are about to ask the gate."""
        self.sim.world.ledger = WatchedLedger(self._wrote)
        self.starts = 0
        """Processes that were started."""
        self.store: Store | None = None
        """What is known of the site, by who acts on it."""
        self.faults: list[asyncio.TimerHandle] = []
        """What would still go wrong, or end, by itself."""
        self.revision, self.accepted_s = revision, 0.0
        loop.set_exception_handler(self._escaped)

    def _about_to(self, asset: str) -> None:
        for act in self.before_sends:
            act(asset)

    def _wrote(self, write: Write) -> None:
        self.oracle.wrote(write)
        for act in self.after_write:
            self.loop.call_soon(act, write)

    # --- trace ------------------------------------------------------------------------------------

    def trace(self, text: str) -> None:
        """Note an event: the same seed gives the same trace in every process."""
        line = f"{self.loop.time():.6f} {text}"
        self._hash.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def digest(self) -> str:
        """The hash of the trace so far."""
        return self._hash.hexdigest()

    def _escaped(self, _: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not ended_well(error):
            self.oracle.violate("escape", f"{context.get('message')}: {error!r}")

    def listen(self, process: Process, engine: Engine) -> None:
        """Tell the oracle what an engine takes to be so."""
        journal, staged = engine.journal, self.oracle.staged
        keep, answer = journal.operation, journal.outcome

        def moved(operation: Operation) -> None:
            staged(process, operation)
            keep(operation)

        def answered(operation: Operation, outcome: Outcome) -> None:
            staged(process, operation)
            answer(operation, outcome)

        journal.operation = moved  # type: ignore[method-assign]
        journal.outcome = answered  # type: ignore[method-assign]
        gate = engine.reconciler._gate
        intend = gate.intend

        def asked(intents: Sequence[Intent], now_s: float) -> list[Any]:
            for act in self.before_intents:
                act(intents)
            return intend(intents, now_s)

        gate.intend = asked  # type: ignore[method-assign]

    def faults_over(self) -> None:
        """Lines and machines are well."""
        self.trace("faults are over")
        for timer in self.faults:
            timer.cancel()
        self.noise.calm()
        self.noise.dark.clear()
        self.after_write.clear()
        self.before_intents.clear()
        self.before_sends.clear()
        for device in self.revision.site.devices:
            if device.is_managed and device.asset in self.sim.stations:
                machine, born = self.sim.machine(device.asset), self.sim.born[device.asset]
                machine.is_off = machine.is_off or machine.mac != born.mac
                inject(self.sim, Fault(kind=FaultKind.CLEAR, target=Target(asset=device.asset)))
                unit = self.sim.device(device.asset).unit
                if isinstance(unit, WhatsMinerUnit) and unit.write_api is WriteApi.DISABLED:
                    unit.write_api = WriteApi.OPEN
                    unit.reboot()
