"""How a simulated LuxOS unit comes to other firmware: it fetches an image from the source that it was told.

Documented (Luxor): `updaterun` triggers the action that is set for a user's wish, by default a full update;
it answers 333, or 334 where the process that does it is not there; `config` shows the settings. That nobody
can push an image to it is inferred: no such command is listed.

Not documented, and ours: what a source serves, how an image is checked, how long it takes, and that a second
slot takes it, so that a power cut in the middle leaves the old one to boot.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from control_plane.simulator.machine import Machine

FETCH_S = 60.0
"""Device seconds from the trigger until the image is there and checked."""
WRITE_S = 90.0
"""Device seconds until it is written and the board boots from it."""
ACTIONS = frozenset({"none", "check", "update"})


class Fate(StrEnum):
    """What becomes of a unit that boots from an image."""

    RUNS = "runs"
    DEAD = "dead"
    """It never comes back."""
    NO_HASH = "no_hash"
    """It comes back, tells the new version and does not hash."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What a source serves."""

    version: str
    commit: str
    models: frozenset[str]
    """Models that it is for, as the device prints them."""
    is_whole: bool = True
    """False: cut off or changed on its way; its signature does not fit."""
    fate: Fate = Fate.RUNS


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The update settings in `config`."""

    source: str = ""
    on_startup: str = "none"
    on_timeout: str = "none"
    on_user: str = "update"
    timeout_minutes: int = 10


class Update:
    """One unit's way to other firmware."""

    __slots__ = ("_began_s", "_boots", "_image", "is_running", "said", "settings", "sources")

    def __init__(self) -> None:
        self.settings = Settings()
        self.sources: Mapping[str, Image] = {}
        """What stands at which address: the world outside, set by whoever simulates it."""
        self.is_running = True
        """Whether the process that updates is there."""
        self.said = ""
        """What came of the last try, in words."""
        self._image: Image | None = None
        self._began_s = 0.0
        self._boots = 0

    def offered(self) -> Image | None:
        """What the source serves; `None` where nobody answers there."""
        return self.sources.get(self.settings.source)

    def begin(self, machine: Machine) -> None:
        """Start to fetch; a second trigger changes nothing of an update on its way."""
        if self._image is not None:
            return
        image = self.offered()
        if image is None:
            self.said = "the source does not answer"
        elif self.settings.on_user == "update":
            self._image, self.said = image, ""
            self._began_s, self._boots = machine.world.clock.device_s(), machine.boots

    def is_writing(self, machine: Machine) -> bool:
        """Whether a power cut now would fall into the write."""
        age_s = machine.world.clock.device_s() - self._began_s
        return self._image is not None and age_s >= FETCH_S

    def take(self, machine: Machine) -> Image | None:
        """The image that is to be booted now, once; refusals and interruptions end here too."""
        image = self._image
        if image is None:
            return None
        age_s = machine.world.clock.device_s() - self._began_s
        if machine.boots != self._boots:
            self._image, self.said = None, "interrupted"
        elif age_s >= FETCH_S and not image.is_whole:
            self._image, self.said = None, "the image is damaged"
        elif age_s >= FETCH_S and machine.model.model not in image.models:
            self._image, self.said = None, "the image is for another model"
        elif age_s >= FETCH_S + WRITE_S:
            self._image, self.said = None, f"updated to {image.version}"
            return image
        return None
