"""Writes the status of objects: only what changed, the newest of each, at a pace the API server can bear.

What is wanted is compared with the cache when it is handed in and again right before it is sent: a write
that changes nothing costs the server as much as one that does. While the server is away one value per
object waits, and nothing else is remembered. A status that it will never take is sent once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from control_plane.core import limits
from control_plane.core.cluster import Cluster, ClusterAway, Invalid, NotFound, Object, Unauthorized
from control_plane.core.ports import Clock, Rng
from control_plane.engine.queue import Priority
from control_plane.kube.cache import Bug, Cache
from control_plane.kube.waiting import Bucket, api_backoff
from control_plane.kube.workers import Workers

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_NOT_LIVE_S = 2.0
"""While another process is the one that writes, it is looked that often whether this one is."""
_INSTANT_S = 0.001
_SAID_MAX = 100
"""Kinds of refusals that are said: words that differ without end are said no more after that."""


class Wanted(msgspec.Struct, frozen=True):
    """The status that one object should have."""

    uid: str
    status: bytes
    priority: Priority


class Written(msgspec.Struct, frozen=True):
    """What this process wrote last to one object."""

    uid: str
    status: bytes
    version: str
    at_s: float


class StatusWriter:
    """One for all kinds: they share the API server. `run` never ends by itself."""

    def __init__(
        self,
        cluster: Cluster,
        caches: Iterable[Cache],
        *,
        manager: str,
        clock: Clock,
        rng: Rng,
        bug: Bug,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """Nothing is sent before `run`.

        Args:
            cluster: the API server.
            caches: of the kinds whose status is written.
            manager: field manager of what is written.
            clock: the clock.
            rng: for jitter.
            bug: is told of bugs of ours.
            may_write: whether this process is the one that writes; asked before each request.
        """
        self.requests = 0
        """Requests that were sent."""
        self.spared = 0
        """Statuses that were handed in and stood there already."""
        self.trouble = ""
        """Why the last request failed, in words; empty after one that did not."""
        self._cluster = cluster
        self._caches = {cache.kind.plural: cache for cache in caches}
        self._manager = manager
        self._clock = clock
        self._may_write = may_write
        self._bucket = Bucket(clock, per_s=limits.STATUS_WRITES_PER_S, burst=limits.STATUS_BURST)
        self._backoff = api_backoff(rng)
        self._away_until_s = 0.0
        self._wanted: dict[str, Wanted] = {}
        self._written: dict[str, Written] = {}
        self._refused: dict[str, tuple[Wanted, str]] = {}
        self._said: set[str] = set()
        self._bug = bug
        self._workers = Workers(
            self._write, clock=clock, rng=rng, bug=bug, count=limits.STATUS_WRITERS
        )
        for cache in self._caches.values():
            cache.tell(lambda old, new, cache=cache: self._changed(cache, old, new))  # type: ignore[misc]

    def __len__(self) -> int:
        """Objects whose status waits to be written; never more than there are objects."""
        return len(self._wanted)

    @property
    def troubles(self) -> Mapping[str, str]:
        """What the server had against the last write of one object, which is tried again, ever later."""
        return self._workers.troubles

    @property
    def refused(self) -> Mapping[str, str]:
        """Objects whose status the server will never take, and its words.

        It is not sent again until other content is wanted of it, or this process is another one.
        """
        return {key: words for key, (_, words) in self._refused.items()}

    async def run(self) -> None:
        """Write what is wanted, for ever."""
        await self._workers.run()

    def want(
        self, cache: Cache, about: Object, status: Any, priority: Priority = Priority.DRIFT
    ) -> None:
        """The status that an object should have; the last one handed in is the one that counts.

        Args:
            cache: of its kind.
            about: the object as it was when the status was worked out.
            status: all of it: what is not in it any more goes.
            priority: safety and change are written at once, others at most each STATUS_SPACING_S.

        Raises:
            ValueError: it says that it knows more of the spec than `about` has: a bug of ours.
        """
        encoded = _ENCODER.encode(status)
        _refuse_ahead(about, encoded)
        now = cache.get(about.key)
        if now is None or now.metadata.uid != about.metadata.uid:
            return
        key = f"{cache.kind.plural}/{about.key}"
        if (refused := self._refused.get(key)) is not None:
            if (refused[0].uid, refused[0].status) == (about.metadata.uid, encoded):
                return
            del self._refused[key]
        waiting = self._wanted.get(key)
        if waiting is None and self._is_written(key, cache, now, encoded):
            self.spared += 1
            return
        if waiting is not None:
            priority = min(priority, waiting.priority)
        self._wanted[key] = Wanted(about.metadata.uid, encoded, priority)
        written = self._written.get(key)
        rest_s = 0.0
        if written is not None and priority >= Priority.DRIFT:
            rest_s = written.at_s + limits.STATUS_SPACING_S - self._clock.wire_s()
        if rest_s > 0:
            self._workers.push_after(key, priority, after_s=rest_s)
        else:
            self._workers.push(key, priority)

    async def _write(self, key: str) -> float | None:
        """One turn of an object: the newest that is wanted, however long the server is away."""
        plural, _, name = key.partition("/")
        cache = self._caches[plural]
        while (wanted := self._wanted.get(key)) is not None:
            now = cache.get(name)
            is_same = now is not None and now.metadata.uid == wanted.uid
            if now is None or not is_same or self._is_written(key, cache, now, wanted.status):
                self._done(key, wanted)
                continue
            if not self._may_write():
                await self._clock.wire_sleep(_NOT_LIVE_S)
                continue
            if (left_s := self._away_until_s - self._clock.wire_s()) >= _INSTANT_S:
                await self._clock.wire_sleep(left_s)
                continue
            await self._bucket.take()
            is_newest = self._wanted.get(key) is wanted and cache.get(name) is now
            if is_newest and self._may_write():
                await self._send(key, cache, now, wanted)
        return None

    async def _send(self, key: str, cache: Cache, now: Object, wanted: Wanted) -> None:
        meta = now.metadata
        own = self._last(key, now) if cache.is_behind(now.key) else None
        # The version keeps it from another object of the name; of a uid the server takes no notice here.
        version = own.version if own else meta.resource_version
        metadata = {"name": meta.name, "resourceVersion": version}
        if meta.namespace:
            metadata["namespace"] = meta.namespace
        body = {
            "apiVersion": cache.kind.api_version,
            "kind": cache.kind.kind,
            "metadata": metadata,
            "status": msgspec.json.decode(wanted.status),
        }
        self.requests += 1
        try:
            written = await self._cluster.apply(
                cache.kind, body, manager=self._manager, subresource="status"
            )
        except NotFound:
            self._done(key, wanted)
            return
        except Invalid as error:
            self._refuse(key, now, wanted, str(error))
            return
        except (ClusterAway, Unauthorized) as error:
            # Not this object's trouble: everybody waits, in place, and the newest values with them.
            self.trouble = str(error)
            if self._clock.wire_s() >= self._away_until_s:
                self._away_until_s = self._clock.wire_s() + self._backoff.next_s(error)
            return
        self.trouble = ""
        self._backoff.reset()
        cache.wrote(written)
        self._written[key] = Written(
            meta.uid, wanted.status, written.metadata.resource_version, self._clock.wire_s()
        )
        self._done(key, wanted)

    def _refuse(self, key: str, about: Object, wanted: Wanted, words: str) -> None:
        """Put a status aside that will never be taken; of many objects alike, say it once."""
        self.trouble = words
        self._done(key, wanted)
        if key not in self._wanted:
            self._refused[key] = (wanted, words)
        alike = f"{key.partition('/')[0]}: {words.replace(about.metadata.name, '')}"
        if alike not in self._said and len(self._said) < _SAID_MAX:
            self._said.add(alike)
            self._bug(
                key,
                f"the API server will never take this status: {words}. It is not sent again until it "
                "changes. Where the CRDs are older than this release, apply manifests/crds, then restart "
                "the controller",
            )

    def _last(self, key: str, now: Object) -> Written | None:
        written = self._written.get(key)
        return written if written and written.uid == now.metadata.uid else None

    def _done(self, key: str, wanted: Wanted) -> None:
        if self._wanted.get(key) is wanted:
            del self._wanted[key]

    def _is_written(self, key: str, cache: Cache, now: Object, status: bytes) -> bool:
        """Whether an object has a status: by what was written last and not changed since, or by itself."""
        written = self._last(key, now)
        has, wants = msgspec.json.decode(now.status), msgspec.json.decode(status)
        if written is None:
            return bool(has == wants)
        if written.version == now.metadata.resource_version or cache.is_behind(now.key):
            return written.status == status
        # Others may own fields beside ours; ours that went are in what was written last.
        return bool(has == wants) or (written.status == status and _covers(has, wants))

    def _changed(self, cache: Cache, old: Object | None, new: Object | None) -> None:
        if old is not None and new is None:
            key = f"{cache.kind.plural}/{old.key}"
            self._wanted.pop(key, None)
            self._written.pop(key, None)
            self._refused.pop(key, None)


def _covers(has: Any, wants: Any) -> bool:
    """Whether all that is wanted is there."""
    if isinstance(has, dict) and isinstance(wants, dict):
        return all(key in has and _covers(has[key], value) for key, value in wants.items())
    if _are_conditions(has) and _are_conditions(wants):
        by_type = {one["type"]: one for one in has}
        return all(one["type"] in by_type and by_type[one["type"]] == one for one in wants)
    return bool(has == wants)


def _are_conditions(value: Any) -> bool:
    """A list that several managers share, each of them its own types."""
    return isinstance(value, list) and all(isinstance(v, dict) and "type" in v for v in value)


def _refuse_ahead(about: Object, status: bytes) -> None:
    """A status must not claim a generation that its object never had.

    Raises:
        ValueError: it does.
    """
    seen = msgspec.json.decode(status, type=_Generations)
    newest = max(
        [seen.observed_generation, *(each.observed_generation for each in seen.conditions)]
    )
    if newest > about.metadata.generation:
        raise ValueError(
            f"{about.key}: observedGeneration {newest} of generation {about.metadata.generation}"
        )


class _Generation(msgspec.Struct, rename="camel"):
    observed_generation: int = 0


class _Generations(msgspec.Struct, rename="camel"):
    observed_generation: int = 0
    conditions: list[_Generation] = []
