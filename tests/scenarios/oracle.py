"""The invariants, checked after every event, against the devices' own ledger and the declaration.

It sees what processes are told (looks), what they make durable (intents), and what arrives at
devices (writes). Of the engine it believes nothing but the stage of an operation, which it needs to
know what is in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from control_plane.core import limits
from control_plane.core.change import (
    Change,
    Failed,
    Outcome,
    RefusedByDevice,
    SetPools,
    StopMining,
    kind_of,
)
from control_plane.core.decision import Why
from control_plane.core.fleet import Device, Site
from control_plane.core.observation import Depth, Observation, Settings
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.verify import OPEN_STAGES, Operation, Stage
from control_plane.engine.records import Event, OrderKind
from control_plane.simulator.ledger import Direction, Ledger, Write
from control_plane.simulator.site import SimSite
from control_plane.simulator.whatsminer_unit import Unit as WhatsMinerUnit
from control_plane.simulator.whatsminer_unit import WriteApi
from tests.scenarios import facts
from tests.scenarios.latches import NOTICE_S, Latches, reads_as
from tests.scenarios.process import ACTING, Process

TRIP_S = 0.025
"""Wire seconds that bytes are on their way at most: the network's longest latency, and a bit."""
TOLERANCE_W = 1.0
"""A write that cannot be let through, sent to learn whether writes are on; it changes nothing."""


class Sent:
    """One intent, and what of it reached a device."""

    def __init__(self, process: Process, operation: Operation, at_s: float) -> None:
        self.process, self.operation, self.at_s = process, operation, at_s
        self.stage = operation.stage
        self.sends = 0
        self.kinds: set[str] = set()


class Oracle:
    """Knows what must never happen; `violations` stays empty."""

    def __init__(self, *, sim: SimSite, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self._sim, self._loop = sim, loop
        self.violations: list[str] = []
        self.broken = asyncio.Event()
        self.trace: Callable[[str], None] = lambda _: None
        self.looks = self.intents = self.writes = self.notes = 0
        self.epoch = 0
        self.site = site
        self.overlays: dict[str, tuple[Overlay, float]] = {}
        self._dropped: list[tuple[Overlay, float]] = []
        """What was taken off again, and when."""
        """Id → overlay and the wire time at which it was set; those in force."""
        self.devices: dict[str, Device] = {}
        self.released: dict[str, Device] = {}
        """Machines that left the declaration; they run on."""
        self.owed: set[str] = set()
        """Devices that a person's decision entitles to more power: adoption, revision, release."""
        self.sent: dict[str, Sent] = {}
        """Asset → its last intent."""
        self._told: dict[str, Settings] = {}
        self._told_full_s: dict[tuple[str, str], float] = {}
        self._began_w: dict[str, float] = {}
        self.latches = Latches(site, self.now, self.violate)
        self.reach: Callable[[str], int | None] = lambda _: None
        """How many devices the open wave of the rollout may have reached."""
        self.about_to: Callable[[str], None] = lambda _: None
        """Told of an asset that a driver is told to write to."""
        self.accepted(site)
        for asset, device in self.devices.items():
            if asset in sim.stations and device.state in facts.MANAGED:
                self._began_w[asset] = sim.machine(asset).permitted_w()

    def now(self) -> float:
        """Wire seconds."""
        return self._loop.time()

    def violate(self, rule: str, text: str) -> None:
        """Note that something happened that must never happen."""
        self.trace(f"VIOLATION {rule}: {text}")
        self.violations.append(f"{self.now():.3f} {rule}: {text}")
        self.broken.set()

    # --- what people decide -----------------------------------------------------------------------

    def accepted(self, site: Site, shown: Collection[str] = ()) -> None:
        """A revision is in force; `shown` had steps in the plan that was approved with it."""
        self._accepted_s = self.now()
        before = self.devices
        self.released |= {asset: device for asset, device in before.items() if _is_managed(device)}
        self.site = site
        self.devices = {device.asset: device for device in site.devices}
        self.owed |= {
            asset
            for asset, device in self.devices.items()
            if asset not in before or before[asset].desired() != device.desired()
        }
        for asset in self.devices:
            self.released.pop(asset, None)
        self.owed |= set(shown)
        self.latches.accepted(site)
        self.latches.overlaid(set(shown) - self.latches.subjects)

    def overlay_set(self, overlay: Overlay) -> None:
        """A person (or a signal) put something on top of the declaration."""
        self.overlays[overlay.id] = (overlay, self.now())
        self._owe_below(overlay)

    def overlay_dropped(self, overlay: Overlay) -> None:
        """It is gone."""
        del self.overlays[overlay.id]
        self._dropped.append((overlay, self.now()))
        self._owe_below(overlay)

    def _owe_below(self, overlay: Overlay) -> None:
        if overlay.kind is OverlayKind.CURTAILMENT:
            below = {
                asset
                for asset, device in self.devices.items()
                if overlay.node in facts.cover(self.site, device)
            }
            self.owed |= below
            self.latches.overlaid(below)

    def ordered(self, kind: OrderKind, target: str) -> None:
        """A person wants a device to come back to its declaration, or an incident to be over."""
        if target in self.devices:
            self.owed.add(target)
        self.latches.ordered(kind, target)

    def started(self, epoch: int) -> None:
        """An engine took over."""
        self.epoch = epoch
        self.latches.started()

    def _over(self, device: Device) -> list[tuple[Overlay, float]]:
        nodes = facts.cover(self.site, device)
        return [entry for entry in self.overlays.values() if entry[0].node in nodes]

    # --- what processes are told and make durable ---------------------------------------------------

    def told(self, process: Process, seen: Observation, address: str) -> None:
        """A look at an address came back."""
        self.looks += 1
        asset, have = seen.asset, seen.settings
        self.trace(f"told {process.name} {asset} {seen.depth} {have.mining} {have.power_mode}")
        station = self._sim.network.at(address)
        if station is None or station.asset != asset or not self._is_born(asset):
            return  # Another machine has the address now.
        if seen.depth is Depth.FULL:
            self._told_full_s[process.name, asset] = self.now()
        else:
            have = facts.newest(self._told.get(asset, Settings()), have)
        self._told[asset] = have
        device = self.devices.get(asset)
        if device is None or have.mining is None:
            return
        self.latches.told(device, have)
        sent = self.sent.get(asset)
        if sent is not None and reads_as(have, sent.operation.change):
            self.latches.as_written(asset, sent.operation.change)
        over = [overlay for overlay, _ in self._over(device)]
        if facts.runs_as(have, facts.wanted(device, over)):
            self.owed.discard(asset)

    def silent(self, process: Process, asset: str) -> None:
        """A look got no answer."""
        self.trace(f"silent {process.name} {asset}")
        if process.epoch == self.epoch:
            self.latches.silent(asset)

    def noted(self, process: Process, event: Event) -> None:
        """An event of the engine is durable."""
        self.notes += 1
        self.trace(f"note {process.name} {event.kind} {event.asset} {event.text}")
        if event.kind == "refused" and event.asset in self.devices:
            self._judge_refusal(self.devices[event.asset], event.text)

    def _judge_refusal(self, device: Device, text: str) -> None:
        """Two guards: what the gate has to refuse, the decision before it did not see coming.

        That is right for what came in the last moment, and for pools that no validation would pass.
        """
        if "is not on the list" in text:
            return
        recent_s = limits.HOLD_EFFECT_S + NOTICE_S
        if "another revision" in text and self.now() - self._accepted_s < recent_s:
            return
        nodes = facts.cover(self.site, device)
        gone = [entry for entry in self._dropped if entry[0].node in nodes]
        if any(self.now() - at_s < recent_s for _, at_s in (*self._over(device), *gone)):
            return
        self.violate("two guards", f"{device.asset}: the gate had to refuse: {text}")

    def moved(self, process: Process, operation: Operation) -> None:
        """A later stage of an operation is durable."""
        self.trace(f"stage {process.name} {operation.id} {operation.stage} {operation.detail}")

    def staged(self, process: Process, operation: Operation) -> None:
        """The engine takes an operation to be at a stage."""
        sent = self.sent.get(operation.asset)
        if process.epoch != self.epoch:
            return  # It does not know yet that another took over, and keeps nothing any more.
        if sent is not None and sent.operation.id == operation.id:
            sent.stage = operation.stage

    def intended(self, process: Process, operation: Operation) -> None:
        """An intent is durable: this is the moment at which everything has to be in order."""
        self.intents += 1
        asset, change = operation.asset, operation.change
        what = f"{kind_of(change)} to {asset} ({operation.why})"
        self.trace(f"intent {process.name} {operation.id} {what}")
        device = self.devices.get(asset)
        if device is None or not _is_managed(device):
            self.violate("declared", f"{what}, which is not managed")
            return
        if operation.epoch != self.epoch:
            self.violate("fence", f"{what} under epoch {operation.epoch}, it is {self.epoch}")
        looked_s = self._told_full_s.get((process.name, asset), float("-inf"))
        if self.now() - looked_s > limits.WRITE_READ_TTL_S:
            self.violate("stale", f"{what}, last looked at {self.now() - looked_s:.1f} s ago")
        earlier = self.sent.get(asset)
        if earlier is not None and earlier.stage in OPEN_STAGES:
            self.violate("one at a time", f"{what} while {earlier.operation.id} is open")
        before = self._told.get(asset, Settings())
        self.sent[asset] = Sent(process, operation, self.now())
        raises_to_w = self._judge_power(device, change, before, what)
        self._judge_overlays(device, change, raises_to_w is None, what)
        if isinstance(change, SetPools):
            self._judge_pools(device, {(p.url, p.worker) for p in change.pools}, what)
        lowers = facts.watts(device, facts.after(before, change)) < facts.watts(device, before)
        if lowers and operation.why in {Why.ROLLOUT, Why.CAP}:
            self.owed.add(asset)  # What the engine took by a rule, a rollout may give back.
        self.latches.intended(operation, device, lowers=lowers, reach=self.reach(asset))
        if not _is_exempt(operation):
            self._judge_budgets(device, what)

    def _judge_power(
        self, device: Device, change: Change, before: Settings, what: str
    ) -> float | None:
        """The watts of a raise, `None` for a write that permits no more than before."""
        asset = device.asset
        was_w, will_w = (
            facts.watts(device, before),
            facts.watts(device, facts.after(before, change)),
        )
        if will_w <= was_w:
            return None
        if asset not in self.owed:
            self.violate("drift raises", f"{what}: {was_w:.0f} → {will_w:.0f} W, nobody decided so")
        for node in facts.feed_path(self.site, device):
            drawing = (*self.site.devices, *self.released.values())
            below = [d for d in drawing if node in facts.feed_path(self.site, d)]
            total_w = sum(self._counted_w(d) for d in below)
            usable_w = self.site.feeds[node].rating_w * self.site.feeds[node].derate
            if total_w > usable_w + TOLERANCE_W:
                self.violate("cap", f"{what}: {node} permits {total_w:.0f} of {usable_w:.0f} W")
        return will_w

    def _counted_w(self, device: Device) -> float:
        asset = device.asset
        if asset in self.released:
            return self._sim.machine(asset).permitted_w()
        if not _is_managed(device):
            return facts.idle_w(device)
        sent, told = self.sent.get(asset), self._told.get(asset)
        if told is None:
            return self._began_w.get(asset, 0.0)
        told_w = facts.watts(device, told)
        if sent is not None and sent.stage in OPEN_STAGES:
            # Until it reads as written it may be at either.
            return max(told_w, facts.watts(device, sent.operation.after))
        return told_w

    def _judge_overlays(self, device: Device, change: Change, lowers: bool, what: str) -> None:
        for overlay, _ in self._over(device):
            if overlay.kind in facts.HOLD_KINDS and not isinstance(change, StopMining):
                self.violate("hold", f"{what} under the {overlay.kind} hold {overlay.id}")
            pools = isinstance(change, SetPools)
            if overlay.kind is OverlayKind.FREEZE and (pools or not lowers):
                self.violate("freeze", f"{what} under the freeze {overlay.id}")

    def _judge_pools(self, device: Device, pools: set[tuple[str, str]], what: str) -> None:
        if not pools:
            self.violate("zero pools", f"{what} leaves no pool")
        owner = self.site.owners[device.intent.owner]
        for pool in sorted(pools - facts.owned(device, owner)):
            self.violate("foreign pool", f"{what}: {pool} is not {owner.id}'s")

    def _judge_budgets(self, device: Device, what: str) -> None:
        budgets = self.site.budgets
        flying = [
            self.devices[asset]
            for asset, sent in self.sent.items()
            if sent.stage is Stage.SENT and asset in self.devices and not _is_exempt(sent.operation)
        ]
        if len(flying) > budgets.in_flight_per_site:
            self.violate("budget", f"{what}: {len(flying)} in flight on the site")
        on_rack = sum(1 for d in flying if d.rack == device.rack)
        if on_rack > budgets.in_flight_per_rack:
            self.violate("budget", f"{what}: {on_rack} in flight on {device.rack}")
        for node in facts.feed_path(self.site, device)[:-1]:
            count = sum(1 for d in flying if node in facts.feed_path(self.site, d))
            if count > budgets.in_flight_per_feed:
                self.violate("budget", f"{what}: {count} in flight on {node}")

    def _is_born(self, asset: str) -> bool:
        """Whether the machine in the slot is the pinned one."""
        machine, born = self._sim.machine(asset), self._sim.born[asset]
        return (machine.mac, machine.serial) == (born.mac, born.serial)

    def _is_turned_away(self, write: Write) -> bool:
        """Whether the device let no write through: it told that nothing was written."""
        unit = self._sim.device(write.asset).unit
        return isinstance(unit, WhatsMinerUnit) and unit.write_api is not WriteApi.OPEN

    # --- what is sent and arrives -------------------------------------------------------------------

    def sending(self, process: Process, asset: str, change: Change) -> None:
        """A driver was told to write."""
        sent = self.sent.get(asset)
        what = f"{kind_of(change)} to {asset}"
        if sent is None or sent.process is not process or sent.operation.change != change:
            self.violate("intent", f"{what} without an intent of this process")
            return
        sent.sends += 1
        if sent.sends > 1:
            self.violate("intent", f"{what}: {sent.operation.id} is sent {sent.sends} times")
        self.about_to(asset)

    def answered(self, process: Process, asset: str, outcome: Outcome) -> None:
        """A driver's verdict on a write; of an answer that was lost on the way there is none."""
        if isinstance(outcome, Failed | RefusedByDevice):
            self.latches.told_off(process.name, asset)

    def wrote(self, write: Write) -> None:
        """A write arrived at a device."""
        self.writes += 1
        self.trace(f"write {write.asset} {write.kind} {write.summary} {write.honoured}")
        what = f"{write.kind} at {write.asset}"
        acting = ACTING.get()
        if acting is None:
            self.violate("intent", f"{what}, and nobody meant to write")
            return
        if acting.asset != write.asset or not self._is_born(write.asset):
            self.violate("wrong device", f"{what}, meant for {acting.asset}")
            return
        sent = self.sent[write.asset]
        if write.kind in sent.kinds:
            self.violate("intent", f"{what} arrives twice for {sent.operation.id}")
        if self._is_turned_away(write):
            self.latches.turned_away(sent.process.name, write)
        elif not sent.kinds:
            self.latches.wrote(write.asset, sent.operation.change)
        sent.kinds.add(write.kind)
        device = self.devices.get(write.asset)
        if device is None:
            return
        self._judge_arrival(device, write, sent, what)

    def _judge_arrival(self, device: Device, write: Write, sent: Sent, what: str) -> None:
        raises = write.direction is Direction.RAISE
        for overlay, since_s in self._over(device):
            late_s = self.now() - since_s
            if (
                overlay.kind in facts.HOLD_KINDS
                and late_s > TRIP_S
                and not isinstance(sent.operation.change, StopMining)
            ):
                self.violate("hold", f"{what} arrives {late_s:.1f} s after hold {overlay.id}")
        if raises and isinstance(sent.operation.change, SetPools | StopMining):
            self.violate(
                "drift raises", f"{what} raises, and was to {kind_of(sent.operation.change)}"
            )
        if write.pools is not None:
            if not write.pools:
                self.violate("zero pools", what)
            allowed = facts.owned(device, self.site.owners[device.intent.owner])
            if not set(write.pools) <= {url for url, _ in allowed}:
                self.violate("foreign pool", f"{what}: {write.pools}")


def _is_managed(device: Device) -> bool:
    return device.state in facts.MANAGED


def _is_exempt(operation: Operation) -> bool:
    """What saves a feed or stops a thief does not wait for a budget."""
    return isinstance(operation.change, StopMining) or operation.why == Why.CAP


class WatchedLedger(Ledger):
    """The ledger of the simulated devices, read by the oracle line by line."""

    def __init__(self, wrote: Callable[[Write], None]) -> None:
        super().__init__()
        self._wrote = wrote

    def add(self, write: Write) -> None:
        super().add(write)
        self._wrote(write)
