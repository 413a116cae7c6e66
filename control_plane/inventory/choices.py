"""Owner, type and profile of each slot: the rack's word, or that of an override."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from control_plane.api.v1alpha1 import GpuRackDoc, RackDoc
from control_plane.core.findings import SourceRef
from control_plane.inventory.source import Spot
from control_plane.inventory.text import Document, Step

R_co = TypeVar("R_co", bound=RackDoc | GpuRackDoc, covariant=True)
Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class RackSource(Generic[R_co]):
    """One rack and where it stands."""

    doc: Document
    index: int
    rack: R_co

    def spot(self, *steps: Step) -> Spot:
        """Where a part of the rack stands."""
        return self.doc.spot("racks", self.index, *steps)

    def ref(self, *steps: Step) -> SourceRef:
        """The same, as the core knows it."""
        return self.doc.ref(self.spot(*steps))


class Choice(NamedTuple):
    """What a slot is declared to be, and which key of the rack says so."""

    owner: str | None
    type: str
    profile: str
    owner_path: Path = ("owner",)
    type_path: Path = ("type",)
    profile_path: Path = ("profile",)


def slot_ranges(text: str) -> Iterator[tuple[int, int]]:
    """`1-4,7` → (1, 4), (7, 7)."""
    for part in text.split(","):
        low, _, high = part.partition("-")
        yield int(low), int(high or low)


def choices_of(source: RackSource[RackDoc]) -> list[Choice]:
    """The choice of every slot, in order. Of overrides that overlap the last one counts."""
    rack = source.rack
    choices = [Choice(rack.owner, rack.type, rack.profile)] * rack.slots
    for index, override in enumerate(rack.overrides):
        base: Path = ("overrides", index)
        for low, high in slot_ranges(override.slots):
            for slot in range(max(low, 1), min(high, rack.slots) + 1):
                before = choices[slot - 1]
                choices[slot - 1] = Choice(
                    owner=override.owner or before.owner,
                    type=override.type or before.type,
                    profile=override.profile or before.profile,
                    owner_path=(*base, "owner") if override.owner else before.owner_path,
                    type_path=(*base, "type") if override.type else before.type_path,
                    profile_path=(*base, "profile") if override.profile else before.profile_path,
                )
    return choices
