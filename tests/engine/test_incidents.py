"""Many at once are one incident: it stops writes, survives a restart, and ends when its cause does."""

from __future__ import annotations

import msgspec

from control_plane.core import limits
from control_plane.core.memory import Memory
from control_plane.core.observation import Field, Unseen, UnseenReason
from control_plane.engine.incidents import Incidents
from control_plane.engine.journal import Journal
from control_plane.engine.slots import Slot, make_slot
from control_plane.engine.store import Store
from tests.core.builders import CAPABILITIES, NOW_S, PIN, device, seen, site
from tests.engine.test_rollouts import StillClock

COUNT = 400
SITE = site(
    tuple(
        device(f"d{n:03}", rack=f"r{n % 10}", address=f"10.0.{n // 250}.{n % 250}")
        for n in range(COUNT)
    )
)
RACK = "r3"


class Floor:
    """400 devices in ten racks, all seen and well."""

    def __init__(self) -> None:
        self.store, self.clock = Store(None), StillClock()
        self.slots: dict[str, Slot] = {}
        for one in SITE.devices:
            slot = make_slot(SITE, one, Memory(asset=one.asset, pin=PIN), None, CAPABILITIES)
            slot.seen = seen(asset=one.asset)
            self.slots[one.asset] = slot
        self.start()
        self.watch()

    def start(self) -> None:
        """As a new process does: from the Store alone."""
        self.journal = Journal(store=self.store, audit=None, clock=self.clock)
        self.incidents = Incidents(
            site="t", store=self.store, clock=self.clock, journal=self.journal
        )

    def watch(self) -> frozenset[str]:
        return self.incidents.watch(self.slots)

    def below(self, rack: str) -> list[Slot]:
        return [slot for slot in self.slots.values() if slot.device.rack == rack]

    def silence(self, slots: list[Slot]) -> None:
        for slot in slots:
            slot.unseen = Unseen(
                asset=slot.asset, at_s=NOW_S, reason=UnseenReason.UNREACHABLE, detail=""
            )

    def drift(self, count: int) -> None:
        for number, slot in enumerate(self.slots.values()):
            drifting = frozenset({Field.POOLS}) if number < count else frozenset()
            slot.memory = msgspec.structs.replace(slot.memory, drifting=drifting)

    @property
    def open(self) -> list[tuple[str, str]]:
        return [(i.node, i.cause) for i in self.incidents.open.values()]


def test_a_rack_that_falls_silent_is_one_incident_and_ends_when_it_is_back() -> None:
    floor = Floor()
    rack = floor.below(RACK)
    floor.silence(rack)
    assert floor.watch() == {RACK}
    assert floor.open == [(RACK, "lost")]
    assert len(floor.journal.pages) == 1
    assert floor.incidents.of(rack[0]) is not None
    assert floor.incidents.of(floor.below("r4")[0]) is None
    for slot in rack:
        slot.unseen = None
    floor.watch()
    assert floor.open == []


def test_a_restart_does_not_end_an_incident_whose_devices_are_still_silent() -> None:
    floor = Floor()
    floor.silence(floor.below(RACK))
    floor.watch()
    sightings = {slot.asset: (slot.seen, slot.unseen) for slot in floor.slots.values()}
    for slot in floor.slots.values():
        slot.seen = slot.unseen = None
    floor.start()
    floor.watch()
    assert floor.open == [(RACK, "lost")], "nothing was looked at yet"
    for slot in floor.slots.values():
        slot.seen, slot.unseen = sightings[slot.asset]
    floor.watch()
    assert floor.open == [(RACK, "lost")], "all of them are still silent"


def test_a_few_silent_devices_are_single_faults() -> None:
    floor = Floor()
    floor.silence(floor.below(RACK)[: limits.CORRELATED_FLOOR - 1])
    assert floor.watch() == frozenset()


def test_a_storm_that_a_person_released_is_repaired_and_does_not_open_again() -> None:
    floor = Floor()
    floor.drift(limits.STORM_FLOOR + 1)
    floor.watch()
    assert floor.open == [("t", "pools")]
    released = next(iter(floor.incidents.open.values())).id
    assert floor.incidents.release(released, "ann") == "t"
    floor.watch()
    assert floor.open == []
    floor.drift(0)
    floor.watch()
    floor.drift(limits.STORM_FLOOR + 1)
    floor.watch()
    assert floor.open == [("t", "pools")], "the next storm is a new one"
