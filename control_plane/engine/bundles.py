"""Bundles of firmware by digest, and by what a device ran earlier: as the kept revisions declare them."""

from __future__ import annotations

from control_plane.core.firmware import Bundle, bundle_of, waves_by_bundle
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store


class Bundles:
    """Looks bundles up; each revision is gone through once."""

    def __init__(self, store: Store, revisions: Revisions) -> None:
        self._store, self._revisions = store, revisions
        self._known: dict[str, Bundle] = {}
        self._read: set[str] = set()

    def of(self, digest: str) -> Bundle | None:
        """The bundle of a digest; `None` where no revision that is kept declares it."""
        if digest not in self._known:
            for record in self._store.revisions():
                if record.digest not in self._read:
                    self._read.add(record.digest)
                    for bundle in waves_by_bundle(self._revisions.site(record.digest)):
                        self._known[bundle.digest] = bundle
        return self._known.get(digest)

    def that_ran(self, asset: str, version: str) -> Bundle | None:
        """What brings a device back to a version, as the latest revision declares that asked for it there."""
        for record in reversed(self._store.revisions()):
            site = self._revisions.site(record.digest)
            for device in site.devices:
                if device.asset == asset and device.intent.firmware == version:
                    return bundle_of(site, device)
        return None
