"""What a simulated machine keeps in its flash, and what happens while it is written.

The image is checked while the machine runs; then it boots and writes itself, and for that time nothing
answers. Power that goes away meanwhile leaves a board that never answers again, unless the family has a
second bank to boot from.
"""

from __future__ import annotations

from typing import NamedTuple

from control_plane.simulator.images import Conduct, SimImage
from control_plane.simulator.machine import Machine

WRITE_S = (60.0, 150.0)
"""Device seconds that writing takes, before the boot. The maker's page asks to wait for 120."""
WEAK = 0.67


class Bank(NamedTuple):
    """One firmware, and this unit's hash under it as a share of nameplate."""

    version: str
    hash_share: float


class Flash:
    """The firmware of one machine."""

    __slots__ = ("_bin", "before", "has_two_banks", "machine", "now", "written")

    def __init__(self, machine: Machine, version: str, *, has_two_banks: bool = False) -> None:
        self.machine = machine
        self.now = Bank(version, machine.hash_share)
        self.before: Bank | None = None
        """What it ran before the last write; where there are two banks it can go back to it."""
        self.has_two_banks = has_two_banks
        self.written = 0
        """How often it was written."""
        self._bin = machine.hash_share

    @property
    def version(self) -> str:
        """What runs."""
        return self.now.version

    def fits(self, image: SimImage, family: str, control_board: str | None) -> bool:
        """Whether an image is for this machine."""
        return (
            image.family == family
            and self.machine.model.model.casefold() in image.models
            and image.control_board in {None, control_board}
        )

    def write(self, image: SimImage) -> None:
        """Write an image that was found good, and boot into it."""
        share = {Conduct.IDLE: 0.0, Conduct.WEAK: WEAK}.get(image.conduct, 1.0)
        self.before, self.now = self.now, Bank(image.version, self._bin * share)
        self._boot()
        if image.conduct is Conduct.BRICKS:
            self.machine.is_dead = True

    def roll_back(self) -> bool:
        """Boot what ran before; false where there is nothing to go back to."""
        if self.before is None or not self.has_two_banks:
            return False
        self.now, self.before = self.before, None
        self._boot()
        return True

    def _boot(self) -> None:
        self.written += 1
        self.machine.hash_share = self.now.hash_share
        self.machine.flash(WRITE_S, survives_cut=self.has_two_banks)
