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
        self._read: dict[str, frozenset[str]] = {}
        """Revision → the bundles that it declares."""

    def of(self, digest: str) -> Bundle | None:
        """The bundle of a digest; `None` where no revision that is kept declares it."""
        if digest not in self._known:
            self._read_new()
        return self._known.get(digest)

    def declared(self) -> frozenset[str]:
        """Digests of all bundles that a revision that is kept now declares."""
        self._read_new()
        kept = {record.digest for record in self._store.revisions()}
        return frozenset(
            bundle for digest in kept for bundle in self._read.get(digest, frozenset())
        )

    def _read_new(self) -> None:
        for record in self._store.revisions():
            if record.digest not in self._read:
                found = {b.digest: b for b in waves_by_bundle(self._revisions.site(record.digest))}
                self._known.update(found)
                self._read[record.digest] = frozenset(found)

    def that_ran(self, asset: str, version: str) -> Bundle | None:
        """What brings a device back to a version, as the latest revision declares that asked for it there."""
        for record in reversed(self._store.revisions()):
            site = self._revisions.site(record.digest)
            for device in site.devices:
                if device.asset == asset and device.intent.firmware == version:
                    return bundle_of(site, device)
        return None
