"""Accepted revisions, read back from the bytes that the Store keeps of them."""

from __future__ import annotations

from pathlib import Path

from control_plane.core.errors import StoreError
from control_plane.core.fleet import Site
from control_plane.engine.store import Store
from control_plane.inventory.load import load_files


class Revisions:
    """The sites of accepted revisions; each is loaded once."""

    def __init__(self, store: Store, site: str, root: Path = Path("inventory")) -> None:
        """Read from a Store; `root` is how people know the inventory that it was accepted from."""
        self._store = store
        self._site = site
        self._root = root
        self._known: dict[str, Site] = {}

    def over(self, store: Store) -> Revisions:
        """The same revisions, for another thread with its own connection to the same Store."""
        other = Revisions(store, self._site, self._root)
        other._known = self._known
        return other

    def learn(self, digest: str, site: Site) -> None:
        """Take over a site that was loaded already."""
        self._known[digest] = site

    def site(self, digest: str) -> Site:
        """The site as a revision declares it.

        Raises:
            StoreError: it is not kept, or this release does not understand it; the operator acts.
        """
        if digest not in self._known:
            files = self._store.revision_files(digest)
            loaded = load_files(files, sites={self._site}, root=self._root)
            if loaded.fleet is None:
                first = loaded.findings[0].headline() if loaded.findings else "it is empty"
                raise StoreError(
                    f"accepted revision {digest[:12]} does not load in this release: {first}. "
                    "Nothing is written to devices; use the release that accepted it."
                )
            self._known[digest] = loaded.fleet.sites[self._site]
        return self._known[digest]
