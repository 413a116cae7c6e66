"""What the engine holds in memory of each device while it runs. Mutable; owned by the engine alone."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.core.change import Capabilities
from control_plane.core.decision import Decision, Step
from control_plane.core.fleet import Device, Owner, Site
from control_plane.core.memory import Memory
from control_plane.core.observation import Depth, Observation, Unseen
from control_plane.core.overlay import nodes_above, path_above
from control_plane.core.ports import Driver
from control_plane.core.renumbering import first_place, places_of
from control_plane.core.rotation import ref_in_use, refs_of
from control_plane.core.verify import Operation

NEVER = float("-inf")
_BLIND_DOUBLINGS = 8


@dataclass(slots=True, eq=False)
class Slot:
    """One managed device."""

    device: Device
    owner: Owner
    driver: Driver | None
    capabilities: Capabilities | None
    memory: Memory
    nodes: frozenset[str]
    """Every node id that covers it."""
    path: tuple[str, ...]
    """Rack, switch and feed nodes from the leaf up: where a correlated failure is looked for."""
    budget_nodes: tuple[str, ...]
    """Nodes whose in-flight budgets it uses."""
    address: str | None
    assigned: bool = True

    seen: Observation | None = None
    unseen: Unseen | None = None
    seen_wire_s: float = NEVER
    full_at_s: float = NEVER
    full_wanted: bool = True
    hurried: bool = False
    """Somebody waits for its next look."""
    blind: int = 0
    """FULL looks in a row that could not read all that is declared: a miner that restarts tells half."""
    full_at_poll: int = 0
    """After such a look, when the next one is due: twice as late each time, unreadable may be for good."""
    polls: int = 0
    failures: int = 0
    due_s: float = NEVER
    busy: bool = False
    """A look or a write is under way: one at a time per device."""

    op: Operation | None = None
    sending: bool = False
    """Its operation's call has not come back yet."""
    reserved_w: float = 0.0
    """Watts of an admitted raise that is not yet an operation."""
    decision: Decision | None = None
    wish: Step | None = None
    """A raise that waits for admission."""
    misses: int = 0
    """Writes in a row that did not stick or did not leave: the next one waits longer."""
    refusals: int = 0
    """Times in a row that the gate said no."""
    retry_wire_s: float = NEVER
    """No write before that."""
    wrote_wire_s: float = NEVER
    """When the last write was sent."""
    locked: str = ""
    """Under which grant firmware is being installed on it, or by which rotation its password changes: nothing
    else is written to it."""
    login: str = ""
    """Reference to the password that is tried after another was refused; empty while none was."""
    is_gone: bool = False
    """It left the declaration; a look or a write of it may still be under way."""

    @property
    def asset(self) -> str:
        """The asset id."""
        return self.device.asset

    @property
    def sighting(self) -> Observation | Unseen | None:
        """What the last look gave: a failed one hides the older success."""
        return self.unseen or self.seen

    @property
    def secret_ref(self) -> str | None:
        """Reference to the password that looks and writes log in with."""
        given = self.device.intent.credentials
        if given is None:
            return None
        return self.login or ref_in_use(given, self.memory.login)

    def note_refused(self) -> None:
        """Its password was refused: the next look tries the next that is declared, or logged in before."""
        given, used = self.device.intent.credentials, self.secret_ref
        if given is None or used is None:
            return
        refs = tuple(dict.fromkeys((*refs_of(given), self.memory.login or given.secret_ref)))
        after = refs.index(used) + 1 if used in refs else 0
        self.login = refs[after % len(refs)] if len(refs) > 1 else ""

    def note_elsewhere(self) -> None:
        """It is not where it was looked for: the next look is where else it may be."""
        places = places_of(self.device, self.memory.located)
        if self.device.renumbering is not None and self.address in places:
            self.address = places[(places.index(self.address) + 1) % len(places)]

    def note_full(self, *, is_whole: bool) -> None:
        """A FULL look came back, whole or with fields that could not be read."""
        self.blind = 0 if is_whole else self.blind + 1
        self.full_at_poll = self.polls + 2 ** min(self.blind, _BLIND_DOUBLINGS)

    def next_depth(self, *, pools_every: int, full_every: int) -> Depth:
        """How deep the next look has to go."""
        if self.full_wanted or self.seen is None or self.polls % full_every == 0:
            return Depth.FULL
        if self.blind and self.polls >= self.full_at_poll:
            return Depth.FULL
        return Depth.POOLS if self.polls % pools_every == 0 else Depth.TELEMETRY


def make_slot(
    site: Site,
    device: Device,
    memory: Memory,
    driver: Driver | None,
    capabilities: Capabilities | None,
) -> Slot:
    """A fresh slot for a device."""
    feeds = site.path(device.feed)
    return Slot(
        device=device,
        owner=site.owners[device.intent.owner],
        driver=driver,
        capabilities=capabilities,
        memory=memory,
        nodes=nodes_above(site, device),
        path=path_above(site, device),
        budget_nodes=(device.rack, *(node.id for node in feeds if node.kind in _BUDGETED)),
        address=first_place(device, memory.located),
        # Deep looks of a site are spread over the hour: not every device is in the same round.
        polls=zlib.crc32(device.asset.encode()),
    )


_BUDGETED = frozenset({"pdu", "container", "hall", "pad"})


class Budgets:
    """In-flight writes per rack, per feed node and per site: never more than declared."""

    def __init__(self, site: Site) -> None:
        self._taken: dict[str, tuple[str, ...]] = {}
        self._in_flight: dict[str, int] = {}
        self.adopt(site)

    def adopt(self, site: Site) -> None:
        """Go by the limits of another revision; what is in flight stays counted."""
        self._limits = site.budgets
        self._racks: Mapping[str, object] = site.racks

    @property
    def total(self) -> int:
        """Writes in flight on the site."""
        return len(self._taken)

    def acquire(self, slot: Slot) -> bool:
        """Take one unit on every node of the slot, or nothing."""
        if slot.asset in self._taken or self.total >= self._limits.in_flight_per_site:
            return False
        if any(self._in_flight.get(node, 0) >= self._limit(node) for node in slot.budget_nodes):
            return False
        self.take(slot)
        return True

    def take(self, slot: Slot) -> None:
        """Count a write that is in flight already, limits or not: an earlier process sent it."""
        self.release(slot)
        self._taken[slot.asset] = slot.budget_nodes
        for node in slot.budget_nodes:
            self._in_flight[node] = self._in_flight.get(node, 0) + 1

    def release(self, slot: Slot) -> None:
        """Give back what was taken; safe to call twice."""
        for node in self._taken.pop(slot.asset, ()):
            self._in_flight[node] -= 1

    def _limit(self, node: str) -> int:
        limits = self._limits
        return limits.in_flight_per_rack if node in self._racks else limits.in_flight_per_feed
