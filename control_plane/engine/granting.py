"""The port by which grants go out to whoever installs firmware: Jobs in a cluster, else this very process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from control_plane.core.errors import ControlPlaneError
from control_plane.core.firmware import Bundle
from control_plane.core.flashing import FlashEntry, Grant, Purpose
from control_plane.core.fleet import Device
from control_plane.core.memory import Pin


class NotGranted(ControlPlaneError):
    """There is no way to grant it: a Job or its files are not there. Whoever declares them acts."""


class Whom(msgspec.Struct, frozen=True, kw_only=True):
    """A machine as the engine knows it now."""

    pin: Pin
    address: str


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One round of a firmware rollout. The same round asked for again is the same work."""

    site: str
    rollout: str
    purpose: Purpose
    wave: int
    round: int
    bundle: Bundle
    members: tuple[Device, ...]
    """The whole wave in cohort order: its declared Job has these. Else just those that are granted."""
    granted: Mapping[str, Whom]
    """Asset → who it is: those that may be worked on."""
    fence: int
    at_once: int
    """Devices that may be down together, of each grant."""
    deadline_s: float
    """Policy seconds since the epoch: nothing is begun after it."""


class Granting(Protocol):
    """Where grants are kept. What is written by it is in `known` when a call has returned."""

    def known(self) -> Mapping[str, Grant] | None:
        """Every grant by its name, with how far its devices have come; `None` until that is known."""
        ...

    async def open(self, work: Work) -> None:
        """Grant it, durably, and have it begun. Asked again, it goes on where it was.

        Raises:
            NotGranted: it cannot be; nothing was granted.
            ControlPlaneError: perhaps a part of it was granted; nothing has begun. Ask again.
        """
        ...

    async def withdraw(self, operation: str, assets: frozenset[str]) -> None:
        """Take devices out of a grant that nothing has left for; those that are under way stay in it.

        Raises:
            ControlPlaneError: it is not known whether it was; ask again.
        """
        ...

    async def conclude(self, operation: str, entries: Sequence[FlashEntry]) -> None:
        """Keep how devices ended whose executor is gone for good.

        Raises:
            ControlPlaneError: it is not kept; somebody else may have.
        """
        ...

    async def run(self) -> None:
        """Do what has to be done beside, until stopped and for as long as an image leaves."""
        ...

    def stop(self) -> None:
        """Begin nothing more."""
        ...
