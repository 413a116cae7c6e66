"""What the engine touches the world through: the ports, bound for one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.core.change import Capabilities
from control_plane.core.ports import Clock, Driver, Rng, Secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Real adapters in production, in-memory twins in simulations."""

    clock: Clock
    rng: Rng
    secrets: Secrets
    drivers: Mapping[str, Driver]
    """By firmware family."""
    capabilities: Mapping[str, Capabilities]
