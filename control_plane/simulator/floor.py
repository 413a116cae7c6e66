"""What stands on the floor otherwise than the record says: `examples/floor/<site>.yaml`."""

from __future__ import annotations

from pathlib import Path

import msgspec


class ForeignPool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that somebody pointed at a pool of his own."""

    asset: str
    url: str
    worker: str


class Floor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deviations between the placement record and the hall."""

    swapped: tuple[tuple[str, str], ...] = ()
    """Pairs of assets that stand in each other's slot."""
    foreign_pools: tuple[ForeignPool, ...] = ()
    outdated_racks: tuple[str, ...] = ()
    """Racks whose machines still use the worker names of last year."""

    def standing(self) -> dict[str, str]:
        """Slot's asset → machine that stands there, for the swapped ones."""
        return {slot: machine for pair in self.swapped for slot, machine in (pair, pair[::-1])}


def load_floor(path: Path) -> Floor:
    """Read a floor file.

    Raises:
        OSError: it cannot be read; who named it acts.
        msgspec.ValidationError: it is not a floor; its author acts.
    """
    return msgspec.yaml.decode(path.read_bytes(), type=Floor)
