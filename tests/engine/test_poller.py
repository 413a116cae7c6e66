"""One look at one device: at the address that is its own when the look ends."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.core.errors import Unreachable
from control_plane.core.memory import Memory
from control_plane.core.observation import Depth, Identity, Observation
from control_plane.core.ports import Target
from control_plane.engine.poller import look
from control_plane.engine.slots import Slot, make_slot
from tests.core.builders import CAPABILITIES, IDENTITY, PIN, device, seen, site
from tests.engine.test_reconciler import Machine, NoSecrets
from tests.engine.test_rollouts import StillClock

OLD, NEW = "10.0.0.1", "10.0.0.2"
STRANGER = Identity(mac="02:00:00:00:00:99", serial="X", model="Antminer S21", family="fam")


class Moving(Machine):
    """While somebody looks at its old address, it is found at a new one."""

    slot: Slot

    def __init__(self, *, answers: bool) -> None:
        super().__init__(seen().settings)
        self.answers = answers

    async def observe(self, target: Target, depth: Depth) -> Observation:
        if target.address == NEW:
            return seen(identity=IDENTITY)
        self.slot.address = NEW
        if not self.answers:
            raise Unreachable("nobody there")
        return seen(identity=STRANGER)


@pytest.mark.parametrize("answers", [True, False], ids=["a stranger answers", "nobody answers"])
def test_what_is_found_elsewhere_during_a_look_is_looked_at_there(answers: bool) -> None:
    machine = Moving(answers=answers)
    site_ = site((device(address=OLD),))
    memory = Memory(asset="d1", pin=PIN)
    machine.slot = slot = make_slot(site_, site_.devices[0], memory, machine, CAPABILITIES)
    sighting = asyncio.run(look(slot, Depth.FULL, secrets=NoSecrets(), clock=StillClock()))
    assert isinstance(sighting, Observation)
    assert sighting.identity == IDENTITY
