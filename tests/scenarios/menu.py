"""The menu of faults, and what a seed draws from it: each class is on with p = 0.5."""

from __future__ import annotations

from tests.scenarios.people import PEOPLE
from tests.scenarios.script import Script
from tests.scenarios.troubles import TROUBLES

MENU = {**TROUBLES, **PEOPLE}
_CHANCE = {"foreign_revision": 0.1, "killer": 0.1, "rollback": 0.2}
"""A site of which every second revision kills its machines has no other troubles left to find."""


def draw(seed: int | str) -> Script:
    """All that happens in a seed."""
    script = Script(seed)
    script.classes = [name for name in MENU if script.rng.random() < _CHANCE.get(name, 0.5)]
    for name in script.classes:
        MENU[name](script)
    script.events.sort(key=lambda event: event.at_s)
    return script
