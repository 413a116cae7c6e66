"""The host behind a simulated BMC, as the BMC has power over it; and one without a machine."""

from __future__ import annotations

from typing import Protocol

from control_plane.simulator.machine import board_uuid


class Chassis(Protocol):
    """The host that a BMC has power over. The BMC alone gives and takes its power."""

    @property
    def serial(self) -> str:
        """As on the label."""
        ...

    @property
    def board(self) -> str:
        """UUID that the board's firmware has."""
        ...

    @property
    def is_on(self) -> bool:
        """Whether an operating system runs."""
        ...

    @property
    def boot_id(self) -> str:
        """Of the operating system that runs, or ran last."""
        ...

    @property
    def hears_button(self) -> bool:
        """Whether the operating system shuts down when it is asked to."""
        ...

    def draw_w(self) -> float:
        """What it draws now, with power on."""
        ...

    def boot(self) -> None:
        """Firmware is done: the operating system starts."""
        ...

    def cut(self) -> None:
        """The power is gone, or reset: nothing runs any more."""
        ...


class BareChassis:
    """A host without a machine: enough where nobody logs in to it."""

    def __init__(self, serial: str, *, idle_w: float = 2_000.0) -> None:
        self.serial = serial
        self.idle_w = idle_w
        self.is_on = False
        self.hears_button = True
        self.boots = 0

    @property
    def board(self) -> str:
        """Follows from its serial."""
        return board_uuid(self.serial)

    @property
    def boot_id(self) -> str:
        """Another one after each boot."""
        return f"boot-{self.boots}"

    def draw_w(self) -> float:
        """Half of it while firmware runs."""
        return self.idle_w if self.is_on else self.idle_w / 2

    def boot(self) -> None:
        """Run."""
        self.boots += 1
        self.is_on = True

    def cut(self) -> None:
        """Stop."""
        self.is_on = False
