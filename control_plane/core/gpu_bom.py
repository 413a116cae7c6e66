"""What a GPU node should be made of, held against what it is made of. Pure.

What could not be read is a finding of its own: a node is never taken for the right one because nobody looked.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core import limits


class Part(StrEnum):
    """What is compared."""

    SERIAL = "serial"
    GPUS = "gpus"
    GPU_MODEL = "gpu_model"
    MEMORY = "memory_gib"
    NICS = "nics"


UNACCEPTABLE: Final = (Part.SERIAL, Part.GPUS)
"""What no person accepts for a machine: which one it is, and how many GPUs count in budgets, quota and gate.
Those are declared."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """As declared; `None` is not declared, and not compared."""

    serial: str | None = None
    """Of the system board's chassis, as its BMC and DMI tell it."""
    gpus: int
    gpu_model: str | None = None
    """As NVML names it."""
    memory_gib: int | None = None
    """That it is sold with. A kernel sees up to `BOM_MEMORY_KEPT` less."""
    nics: frozenset[str] | None = None
    """MAC addresses, lower case."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """As inspected; `None` is unknown."""

    serial: str | None = None
    gpu_models: tuple[str | None, ...] | None = None
    """One for each GPU that answers."""
    memory_gib: float | None = None
    nics: frozenset[str] | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One part that is not as declared, or that nobody could read."""

    part: Part
    expected: str
    found: str | None
    """`None`: unknown."""

    def __str__(self) -> str:
        """For people."""
        seen = "could not be read" if self.found is None else f"is {self.found}"
        return f"{self.part} {seen}, declared is {self.expected}"


def in_words(differ: Iterable[Difference]) -> str:
    """All differences, as they are kept and shown."""
    return "; ".join(map(str, differ))


def is_acceptable(words: str) -> bool:
    """Whether a person may accept what was found in these words (`in_words`)."""
    return not any(one.startswith(f"{part} ") for one in words.split("; ") for part in UNACCEPTABLE)


def compare(*, expected: Expected, found: Found) -> tuple[Difference, ...]:
    """Every difference, in the order of `Part`; empty where the node is what it should be."""
    differ: list[Difference] = []

    def note(part: Part, want: object, have: object | None) -> None:
        seen = None if have is None else str(have)
        differ.append(Difference(part=part, expected=str(want), found=seen))

    if expected.serial is not None and found.serial != expected.serial:
        note(Part.SERIAL, expected.serial, found.serial)
    models = found.gpu_models
    if models is None or len(models) != expected.gpus:
        note(Part.GPUS, expected.gpus, None if models is None else len(models))
    if expected.gpu_model is not None and models:
        others = sorted({model or "unknown" for model in models} - {expected.gpu_model})
        if others:
            note(Part.GPU_MODEL, expected.gpu_model, ", ".join(others))
    if expected.memory_gib is not None and not _is_memory(expected.memory_gib, found.memory_gib):
        note(Part.MEMORY, expected.memory_gib, found.memory_gib)
    if expected.nics is not None and found.nics != expected.nics:
        note(Part.NICS, _listed(expected.nics), None if found.nics is None else _listed(found.nics))
    return tuple(differ)


def _is_memory(expected_gib: int, found_gib: float | None) -> bool:
    return (
        found_gib is not None
        and expected_gib * (1 - limits.BOM_MEMORY_KEPT) <= found_gib <= expected_gib
    )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"
