"""A Kubernetes API server in memory, for virtual time: what a controller can rely on, and nothing else.

Its callers go through `api_client.py`, which has the faults of the line; `tests/kube/test_conformance.py`
holds both to a real API server. It does not validate objects, beyond the fields that it is told its schemas
do not have, and does not know which namespaces there are.
"""

from __future__ import annotations

import asyncio
import bisect
import datetime as dt
import itertools
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from control_plane.core.cluster import (
    PDB,
    POD,
    Body,
    ClusterAway,
    Conflict,
    Event,
    Exists,
    Gone,
    Invalid,
    Kind,
    NotFound,
    Object,
    Page,
)
from control_plane.core.ports import Clock
from control_plane.simulator.api_fields import (
    Owner,
    Owners,
    Tree,
    apply,
    update,
)
from control_plane.simulator.api_objects import (
    PLAIN_KINDS,
    UNCOUNTED,
    Stored,
    finalizers_of,
    object_of,
    place,
    require,
    sent,
    spec_of,
    within,
)
from control_plane.simulator.api_pods import (
    budget_over,
    budget_status_body,
    grace_of,
    needs_no_budget,
    spent,
)
from control_plane.simulator.api_selectors import Matches

HISTORY = 20_000
"""Changes that a watch can go back to."""
PAGE_LIFE_S = 300.0
"""How long the rest of a list is kept: etcd is compacted every five minutes."""
COLLECT_S = 1.0
"""When the garbage collector looks, after something was deleted or has an owner."""
UPSERTED = frozenset({"Lease"})
"""Kinds of which a replacement makes one that is not there."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the history."""

    version: int
    kind: Kind
    before: Object | None
    after: Object | None
    last: Object
    """As it is now, or as it was when it went: with the version of this change."""


Snapshot = tuple[int, Mapping[Kind, Mapping[str, Stored]]]
"""What there was at a version."""


class Watch:
    """What one watcher has still to be told."""

    def __init__(self, kind: Kind, matches: Matches, since: int) -> None:
        self.kind = kind
        self.since = since
        self._matches = matches
        self.events: deque[Event] = deque()
        self.news = asyncio.Event()

    def see(self, change: Change) -> None:
        """Take down what the change is to this watcher."""
        if change.kind != self.kind or change.version <= self.since:
            return
        was = change.before is not None and self._matches(change.before)
        if change.after is not None and self._matches(change.after):
            self.events.append(Event(type="MODIFIED" if was else "ADDED", object=change.after))
        elif was:
            self.events.append(Event(type="DELETED", object=change.last))
        if self.events:
            self.news.set()


class ApiServer:
    """All objects, their history, and who watches."""

    def __init__(
        self,
        clock: Clock,
        *,
        history: int = HISTORY,
        collects: bool = True,
        undeclared: Collection[str] = (),
    ) -> None:
        """Empty.

        Args:
            clock: the clock.
            history: changes that a watch can go back to.
            collects: whether it has the garbage collector of a controller manager as well.
            undeclared: fields that its CRDs are too old to have, as `.status.firmware`.
        """
        self.undeclared = undeclared
        self.version = 1_000
        self.watches: dict[Watch, None] = {}
        self.hears: list[Callable[[Change], None]] = []
        """Who is told of each change at once: what else there is in a cluster."""
        self._clock = clock
        self._collects = collects
        self._numbers = itertools.count(1)
        self._objects: dict[Kind, dict[str, Stored]] = {}
        self._history: deque[Change] = deque(maxlen=history)
        self._compacted = self.version
        self._pages: dict[str, tuple[float, int, tuple[Object, ...]]] = {}
        self._collecting = False

    # --- reading ---------------------------------------------------------------------------------

    def list_page(
        self,
        kind: Kind,
        matches: Matches,
        *,
        limit: int,
        page: str,
        says_remaining: bool,
        past: Snapshot | None = None,
    ) -> Page:
        """See `core.cluster.Cluster`; of a `past` there are whole lists only from their beginning."""
        now_s = self._clock.wire_s()
        if page:
            until_s, version, rest = self._pages.get(page, (0.0, 0, ()))
            if until_s <= now_s:
                raise Gone("the provided continue parameter is too old")
        else:
            version, stored = past or (self.version, self._objects)
            here = stored.get(kind, {})
            rest = tuple(here[key].object for key in sorted(here) if matches(here[key].object))
        items, rest = rest[:limit], rest[limit:]
        token = f"{version}-{next(self._numbers)}" if rest else ""
        if token:
            self._pages[token] = (now_s + PAGE_LIFE_S, version, rest)
            while self._pages[oldest := next(iter(self._pages))][0] <= now_s:
                del self._pages[oldest]
        return Page(
            items=items,
            resource_version=str(version),
            next=token,
            remaining=len(rest) if rest and says_remaining else None,
        )

    def get(self, kind: Kind, key: str) -> Object:
        """See `core.cluster.Cluster`."""
        return self._stored(kind, key).object

    def watch(self, kind: Kind, matches: Matches, *, resource_version: str) -> Watch:
        """A watch that knows already what has happened since; `close` it.

        One from a version that is still to come (of before a restore) tells nothing until then,
        not even bookmarks.

        Raises:
            Gone: the history does not reach back so far.
        """
        since = int(resource_version)
        if since < self._compacted:
            raise Gone(f"too old resource version: {since} ({self._compacted})")
        watch = Watch(kind, matches, since)
        start = bisect.bisect_right(self._history, since, key=lambda change: change.version)
        for change in itertools.islice(self._history, start, None):
            watch.see(change)
        self.watches[watch] = None
        return watch

    def close(self, watch: Watch) -> None:
        """Nobody listens any more."""
        self.watches.pop(watch, None)

    # --- writing ---------------------------------------------------------------------------------

    def create(self, kind: Kind, body: Body, *, manager: str) -> Object:
        """See `core.cluster.Cluster`."""
        key, meta = place(kind, body)
        if meta.get("resourceVersion"):
            raise ClusterAway("500: resourceVersion should not be set on objects to be created")
        if key in self._objects.get(kind, {}):
            raise Exists(f"{kind.plural} {key!r} already exists")
        wanted = sent(kind, body, "")
        return self._add(kind, meta, wanted, update({}, {}, wanted, Owner(manager, "Update")))

    def replace(self, kind: Kind, body: Body, *, manager: str, subresource: str) -> Object:
        """See `core.cluster.Cluster`."""
        key, meta = place(kind, body)
        if not meta.get("resourceVersion"):
            raise Invalid("metadata.resourceVersion: must be specified for an update")
        if kind.kind in UPSERTED and key not in self._objects.get(kind, {}):
            if meta.get("uid"):
                raise Conflict(f"{kind.plural} {key!r} is not there, and a certain one was meant")
            bare = {key: value for key, value in meta.items() if key != "resourceVersion"}
            return self.create(kind, {**body, "metadata": bare}, manager=manager)
        stored = self._stored(kind, key)
        require(stored, meta)
        wanted = within(stored.tree, sent(kind, body, subresource), subresource)
        who = Owner(manager, "Update", subresource)
        return self._put(kind, key, stored, wanted, update(stored.tree, stored.owners, wanted, who))

    def apply(
        self, kind: Kind, body: Body, *, manager: str, force: bool, subresource: str
    ) -> Object:
        """See `core.cluster.Cluster`."""
        key, meta = place(kind, body)
        self._require_declared(kind, key, body)
        wanted, who = sent(kind, body, subresource), Owner(manager, "Apply", subresource)
        stored = self._objects.get(kind, {}).get(key)
        if stored is None:
            if subresource:
                raise NotFound(f"{kind.plural} {key!r} not found")
            if meta.get("uid"):
                raise Conflict(f"{kind.plural} {key!r} is not there, and a certain one was meant")
            return self._add(kind, meta, *apply({}, {}, wanted, who, force=force))
        if not subresource and meta.get("uid", stored.system["uid"]) != stored.system["uid"]:
            raise Invalid(f"metadata.uid: {meta['uid']} is not that of {key!r}: field is immutable")
        require(stored, {**meta, "uid": ""})
        made, owners = apply(stored.tree, stored.owners, wanted, who, force=force)
        return self._put(kind, key, stored, made, owners)

    def delete(self, kind: Kind, key: str, *, uid: str = "", grace_s: int | None = None) -> None:
        """See `core.cluster.Cluster`; a kubelet says that a pod has ended by a grace of 0."""
        stored = self._stored(kind, key)
        require(stored, {"uid": uid})
        left_s = grace_of(kind, stored.tree, grace_s)
        if not left_s and not finalizers_of(stored.tree):
            self._remove(kind, key, stored)
        elif "deletionTimestamp" not in stored.system:
            system = stored.system | {
                "deletionTimestamp": self._now(left_s), "deletionGracePeriodSeconds": left_s,
            }  # fmt: skip
            if "generation" in system:
                system["generation"] += 1
            self._commit(kind, stored, system, stored.tree, stored.owners)

    def evict(self, key: str, *, uid: str = "") -> None:
        """See `core.cluster.Cluster`."""
        pod = self.get(POD, key)
        if not needs_no_budget(pod):
            budget = budget_over(pod, [one.object for one in self._objects.get(PDB, {}).values()])
            left = None if budget is None else spent(budget, pod, self._now())
            if budget is not None and left is not None:
                body = budget_status_body(budget, left)
                self.replace(PDB, body, manager="kube-apiserver", subresource="status")
        self.delete(POD, key, uid=uid)

    # --- what happens to a server ----------------------------------------------------------------

    def compact(self) -> None:
        """Forget the history, and the lists that are under way."""
        self._history.clear()
        self._pages.clear()
        self._compacted = self.version

    def snapshot(self) -> Snapshot:
        """All there is, as a backup of etcd has it."""
        return self.version, {kind: dict(here) for kind, here in self._objects.items()}

    def restore(self, past: Snapshot) -> None:
        """Go back to a snapshot, resource versions too; who watches should be cut off."""
        self.version, objects = past
        self._objects = {kind: dict(here) for kind, here in objects.items()}
        self.compact()

    # --- within ----------------------------------------------------------------------------------

    def _stored(self, kind: Kind, key: str) -> Stored:
        stored = self._objects.get(kind, {}).get(key)
        if stored is None:
            raise NotFound(f"{kind.plural} {key!r} not found")
        return stored

    def _require_declared(self, kind: Kind, key: str, body: Body) -> None:
        for path in sorted(self.undeclared):
            _, part, field = path.split(".")
            if field in body.get(part, {}):
                raise Invalid(
                    f"failed to create typed patch object ({key}; {kind.api_version}, "
                    f"Kind={kind.kind}): {path}: field not declared in schema"
                )

    def _now(self, ahead_s: int = 0) -> str:
        moment = dt.datetime.fromtimestamp(int(self._clock.wall_s()) + ahead_s, tz=dt.UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _add(self, kind: Kind, meta: Mapping[str, Any], wanted: Tree, owners: Owners) -> Object:
        system = {key: meta[key] for key in ("name", "namespace") if meta.get(key)}
        system["uid"] = str(uuid.UUID(int=next(self._numbers), version=4))
        system["creationTimestamp"] = self._now()
        if kind.kind not in PLAIN_KINDS | UNCOUNTED:
            system["generation"] = 1
        return self._commit(kind, None, system, wanted, owners)

    def _put(self, kind: Kind, key: str, stored: Stored, wanted: Tree, owners: Owners) -> Object:
        if wanted == stored.tree and owners == stored.owners:
            return stored.object
        system = stored.system
        if "deletionTimestamp" in system:
            if added := sorted(finalizers_of(wanted) - finalizers_of(stored.tree)):
                raise Invalid(f"no new finalizers can be added to what is being deleted: {added}")
            if not finalizers_of(wanted):
                return self._remove(kind, key, stored)
        if "generation" in system and spec_of(wanted) != spec_of(stored.tree):
            system = system | {"generation": system["generation"] + 1}
        return self._commit(kind, stored, system, wanted, owners)

    def _commit(
        self,
        kind: Kind,
        stored: Stored | None,
        system: dict[str, Any],
        wanted: Tree,
        owners: Owners,
    ) -> Object:
        self.version += 1
        made = object_of(kind, system, wanted, self.version)
        fresh = Stored(object=made, system=system, tree=wanted, owners=owners)
        self._objects.setdefault(kind, {})[made.key] = fresh
        self._tell(kind, None if stored is None else stored.object, made, made)
        owners_before = [] if stored is None else stored.object.metadata.owner_references
        if made.metadata.owner_references != owners_before:
            self._collect_soon()
        return made

    def _remove(self, kind: Kind, key: str, stored: Stored) -> Object:
        self.version += 1
        del self._objects[kind][key]
        last = object_of(kind, stored.system, stored.tree, self.version)
        self._tell(kind, stored.object, None, last)
        self._collect_soon()
        return last

    def _tell(self, kind: Kind, before: Object | None, after: Object | None, last: Object) -> None:
        change = Change(version=self.version, kind=kind, before=before, after=after, last=last)
        if len(self._history) == self._history.maxlen:
            self._compacted = self._history[0].version
        self._history.append(change)
        for watch in self.watches:
            watch.see(change)
        for hear in self.hears:
            hear(change)

    def _collect_soon(self) -> None:
        if self._collects and not self._collecting:
            self._collecting = True
            asyncio.get_running_loop().call_later(COLLECT_S, self._collect)

    def _collect(self) -> None:
        """Delete what has owners of which none is there: in its own namespace, or in none."""
        self._collecting = False
        present = {
            (stored.object.metadata.uid, stored.object.metadata.namespace)
            for here in self._objects.values()
            for stored in here.values()
        }
        for kind, here in self._objects.items():
            for key, stored in list(here.items()):
                meta = stored.object.metadata
                uids = [owner.uid for owner in meta.owner_references]
                if uids and not any(
                    (uid, place) in present for uid in uids for place in {meta.namespace, ""}
                ):
                    self.delete(kind, key)
