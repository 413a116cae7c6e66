"""From a power mode to the commands of LuxOS that make it so. Pure: what was read in, commands out.

With ATM on, the device's own controller brings a pinned profile back to its ceiling within the hour, so
the ceiling is set too, and first: between the two commands nothing permits more than either mode.
"""

from __future__ import annotations

from typing import NamedTuple

from control_plane.core.change import Failed
from control_plane.drivers.driver import clean
from control_plane.drivers.luxos_reads import Atm, Config, Ladder, mode_of, step_of


class Power(NamedTuple):
    """What a write of power is decided from."""

    config: Config
    ladder: Ladder
    atm: Atm | None


class Command(NamedTuple):
    """One privileged command of a write."""

    name: str
    values: tuple[str, ...] = ()
    step_before: int | None = None
    """The profile that has to be in force when it leaves."""


def to_mode(power: Power, mode: str) -> list[Command] | Failed:
    """The commands that make a power mode the one that settings permit."""
    step = step_of(mode)
    if step is None:
        return Failed(f"no mode {clean(mode)!r}: normal, under-N or over-N", retryable=False)
    name = power.ladder.names.get(step)
    if name is None:
        known = bool(power.ladder.names)
        told = f"this unit has no profile {mode}" if known else "its profiles cannot be read"
        return Failed(told, retryable=not known)
    if "," in name or name in {"0", "1", "2", "3"}:
        # The device would take such a name for more than one value, or for the board of an older form.
        return Failed(f"profile {clean(name)!r} cannot be named to the device", retryable=False)
    config, atm = power.config, power.atm
    running = config.step
    if running is None and config.profile is not None:
        running = power.ladder.steps.get(config.profile)
    if config.has_atm is None or config.profile is None or atm is None:
        return Failed("whether its own controller moves the profile cannot be read", retryable=True)
    pin = Command("profileset", (name,))
    if not atm.enabled:
        return [] if running == step else [pin]
    if atm.lowest is not None and atm.lowest > step:
        lowest = mode_of(atm.lowest)
        return Failed(f"ATM may not go below {lowest}: a person lowers that", retryable=False)
    commands = [] if atm.highest == step else [Command("atmset", (f"max_profile={name}",))]
    if running is None or running > step:
        # It would come down by itself, but not at once; up it goes by itself as heat allows.
        commands.append(pin)
    return commands


def to_start(power: Power, mode: str | None) -> list[Command] | Failed:
    """The mode first, and waking only once that reads so: else it would draw the old mode's watts."""
    config = power.config
    if config.mining is None:
        return Failed("whether it sleeps cannot be read", retryable=True)
    commands = [] if mode is None else to_mode(power, mode)
    if isinstance(commands, Failed) or config.mining:
        return commands
    pins = any(command.name == "profileset" for command in commands)
    step = step_of(mode) if mode is not None and pins else None
    return [*commands, Command("curtail", ("wakeup",), step_before=step)]
