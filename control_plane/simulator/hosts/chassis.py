"""A machine of the hall as the host behind a BMC: its power is the BMC's to give and to take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.simulator.machine import seed_of

if TYPE_CHECKING:
    from control_plane.simulator.hosts.machine import Machine
    from control_plane.simulator.hosts.sshd import Hall

IDLE_W, FIRMWARE_W = 2_300.0, 1_100.0
"""Of a host with eight GPUs that do nothing; an assumption, in the range of makers' calculators."""


class MachineChassis:
    """See `simulator.bmc.Chassis`."""

    def __init__(self, hall: Hall, name: str, *, draw_w: float = IDLE_W) -> None:
        self._hall, self._name = hall, name
        self.serial = f"S{seed_of(name) % 10**11:011d}"
        self.hears_button = True
        self._draw_w = draw_w

    @property
    def machine(self) -> Machine:
        """The machine itself."""
        return self._hall.machines[self._name]

    @property
    def is_on(self) -> bool:
        """Whether its operating system runs."""
        return self.machine.is_on

    @property
    def boot_id(self) -> str:
        """As `/proc/sys/kernel/random/boot_id` has it."""
        return self.machine.boot_id

    def draw_w(self) -> float:
        """Less while firmware runs."""
        return self._draw_w if self.is_on else FIRMWARE_W

    def boot(self) -> None:
        """The operating system starts: a new boot id, and SSH answers."""
        self.machine.boot()

    def cut(self) -> None:
        """The power is gone, and every connection with it."""
        self.machine.cut()
        self._hall.hang_up(self._name)
