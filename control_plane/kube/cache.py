"""The objects of one kind as this process knows them, and whether it knows its own writes yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from control_plane.core.cluster import ClusterError, Event, Gone, Kind, Object
from control_plane.engine.bugs import in_words

Handler = Callable[[Object | None, Object | None], None]
"""Is told what was and what is; one of the two may be `None`. It notes, and returns at once."""

Bug = Callable[[str, str], None]
"""Is told whose turn a bug of ours cost, and which bug, in words without secrets."""


def number(version: str) -> int:
    """A resource version as a number.

    Within one kind they are integers that grow, of any API server since Kubernetes 1.35 (KEP-5504), and
    were so before: docs/decisions/0010.

    Raises:
        ClusterError: it is none; no kube-apiserver of ours sends such.
    """
    if not (version.isascii() and version.isdecimal()):
        raise ClusterError(f"resource version {version!r} is no number: not from a kube-apiserver")
    return int(version)


class Cache:
    """Filled by one reflector; read by everybody. Nobody changes an object."""

    def __init__(self, kind: Kind, *, bug: Bug) -> None:
        self.kind = kind
        self.version = 0
        """How far it has come: every change of the kind up to this one is in."""
        self._bug = bug
        self._objects: dict[str, Object] = {}
        self._own: dict[str, int] = {}
        self._handlers: list[Handler] = []

    def __len__(self) -> int:
        """Objects."""
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        """Every object, in no order that means anything."""
        return iter(self._objects.values())

    def get(self, key: str) -> Object | None:
        """The object of a key."""
        return self._objects.get(key)

    def tell(self, handler: Handler) -> None:
        """Tell a handler of every change from now on, and of what is there already."""
        self._handlers.append(handler)
        for each in self._objects.values():
            self._told(handler, None, each)

    def wrote(self, written: Object) -> None:
        """This process changed an object: its key is behind until the cache has come that far.

        A write whose reply was lost cannot be noted: who makes such a one reads from the server before
        it goes on.
        """
        version = number(written.metadata.resource_version)
        self._own[written.key] = max(version, self._own.get(written.key, 0))

    def is_behind(self, key: str) -> bool:
        """Whether a write of this process to the key is not in the cache yet: nothing is decided from it."""
        own = self._own.get(key)
        if own is None or own > self.version:
            return own is not None
        del self._own[key]
        return False

    def replace(self, objects: Iterable[Object], version: int) -> None:
        """Take in a whole list; what is not in it any more is told as deleted."""
        if version < self.version:
            # The store was restored from a backup: numbers from before mean nothing any more.
            self._own.clear()
        before, self._objects = self._objects, {each.key: each for each in objects}
        self.version = version
        for key, old in before.items():
            if key not in self._objects:
                self._changed(old, None)
        for key, new in self._objects.items():
            self._became(before.get(key), new)

    def take(self, event: Event) -> None:
        """Take in one event.

        Raises:
            Gone: it is older than what is here: the server's store went back in time. List anew.
        """
        version = number(event.object.metadata.resource_version)
        if version < self.version:
            raise Gone(f"{self.kind.plural}: the server went back from {self.version} to {version}")
        self.version = version
        if event.type == "BOOKMARK":
            return
        key = event.object.key
        old = self._objects.get(key)
        if event.type == "DELETED":
            if old is not None:
                del self._objects[key]
                self._changed(old, None)
            return
        self._objects[key] = event.object
        self._became(old, event.object)

    def _became(self, old: Object | None, new: Object) -> None:
        """Tell of a change, if it is one; another object of the same name is a deletion before."""
        if old is not None and old.metadata.uid != new.metadata.uid:
            self._changed(old, None)
            old = None
        if old is None or old.metadata.resource_version != new.metadata.resource_version:
            self._changed(old, new)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        for handler in self._handlers:
            self._told(handler, old, new)

    def _told(self, handler: Handler, old: Object | None, new: Object | None) -> None:
        try:
            handler(old, new)
        except Exception as bug:  # noqa: BLE001 - costs one handler one object, not the cache
            one = new or old
            self._bug(f"{self.kind.plural}/{one.key if one else ''}", in_words(bug))
