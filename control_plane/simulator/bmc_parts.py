"""What a simulated BMC keeps: its tasks, log, sessions, and what is wrong with it."""

from __future__ import annotations

import msgspec


class BmcFaults(msgspec.Struct, kw_only=True):
    """What is wrong with a BMC."""

    serial: str | None = None
    """It tells another serial: a swapped board, a label of somebody else."""
    overheats: bool = False
    """Its inlet is beyond what its maker allows."""
    shows_power: str | None = None
    """It tells this `PowerState`, whatever is so."""
    ignores_resets: bool = False
    """It acknowledges resets, and does nothing."""
    stuck_post: bool = False
    """The host never gets beyond memory training."""
    task_stuck_at: int | None = None
    """Tasks stop at this per cent."""
    task_fails: bool = False
    task_slower: float = 0.0
    """Tasks that begin now take so many times as long; 0: as long as ever."""
    lag_s: float = 0.0
    """Wire seconds before each answer."""
    mute: frozenset[str] = frozenset()
    """Methods that are acted upon and never answered."""
    breaks: frozenset[str] = frozenset()
    """Methods that are acted upon; then the connection breaks."""
    garbage: frozenset[str] = frozenset()
    """Ends of paths that answer noise."""
    missing: frozenset[str] = frozenset()
    """Ends of paths that answer 404."""
    lockout: bool = False
    """Every login is refused, as after too many wrong ones."""
    dead: bool = False
    """Nothing answers; the host runs on."""
    no_power: bool = False
    """Its feed is gone, and the host's: nothing answers."""


class Task(msgspec.Struct, kw_only=True):
    """Something that takes time."""

    id: str
    state: str = "Running"
    status: str = "OK"
    percent: int = 0
    messages: list[str] = msgspec.field(default_factory=list)


class Entry(msgspec.Struct, frozen=True):
    """Of the event log."""

    id: str
    at_s: float
    severity: str
    message: str


class Session(msgspec.Struct, kw_only=True):
    """Somebody who logged in."""

    id: str
    token: str
    used_s: float


class Boot(msgspec.Struct, kw_only=True):
    """`Boot` of the system."""

    target: str = "None"
    enabled: str = "Disabled"
    mode: str = "UEFI"
