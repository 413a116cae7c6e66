"""What the engine touches the world through: the ports, bound for one process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from control_plane.core.change import Capabilities
from control_plane.core.ports import Bmc, Clock, Driver, Rng, Secrets
from control_plane.core.work_order import Speaks

Recognise = Callable[[str], Awaitable[Speaks | None]]
"""Which family answers at an address; asks without a password, and raises nothing of the error tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Real adapters in production, in-memory twins in simulations."""

    clock: Clock
    rng: Rng
    secrets: Secrets
    drivers: Mapping[str, Driver]
    """By firmware family."""
    capabilities: Mapping[str, Capabilities]
    bmc: Bmc | None = None
    """`None`: no BMC is commanded."""
    recognise: Recognise | None = None
    """`None`: who does not speak the declared family is not asked which one it speaks."""
