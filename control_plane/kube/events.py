"""Writes Events: at a pace of their own, and without stubbornness: what was not taken in time is dropped.

They are for people who read along: nothing is ever decided from one, and the API server forgets them after an
hour.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque

import msgspec

from control_plane.api.conditions import shortened
from control_plane.core import limits
from control_plane.core.cluster import (
    Body,
    Cluster,
    ClusterAway,
    ClusterError,
    Kind,
    Object,
    Unauthorized,
)
from control_plane.core.ports import Clock, Rng
from control_plane.engine.bugs import in_words
from control_plane.kube.cache import Bug
from control_plane.kube.lease import micro_time
from control_plane.kube.waiting import Bucket, api_backoff

EVENT = Kind(group="events.k8s.io", version="v1", kind="Event", plural="events")
REPORTER = "gridplane.dev/controller"
_INSTANCE_MAX = 128
"""Of the API server's own checks."""


class _Waiting(msgspec.Struct, frozen=True):
    body: Body
    since_s: float


class EventWriter:
    """One per process. `run` never ends by itself."""

    def __init__(
        self, cluster: Cluster, *, namespace: str, identity: str, clock: Clock, rng: Rng, bug: Bug
    ) -> None:
        self.written = 0
        """Events that the API server took."""
        self.dropped = 0
        """Events that it did not take, or not in time."""
        self._cluster, self._namespace, self._identity = cluster, namespace, identity
        self._clock, self._bug = clock, bug
        self._bucket = Bucket(clock, per_s=limits.EVENTS_PER_S, burst=limits.EVENT_BURST)
        self._backoff = api_backoff(rng)
        self._numbers = itertools.count()
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """Events that wait to be written."""
        return len(self._waiting)

    def post(
        self, kind: Kind, about: Object, reason: str, note: str, *, warns: bool = False
    ) -> None:
        """Tell of an object; returns at once.

        Args:
            kind: of the object.
            about: the object.
            reason: one CamelCase word.
            note: for people, in one sentence.
            warns: whether somebody should look.
        """
        meta, now_s = about.metadata, self._clock.wall_s()
        body = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                # As client-go names them: by the time, so that no two are alike.
                "name": f"{meta.name}.{int(now_s * 1e6):x}{next(self._numbers) % 0x1000:03x}",
                "namespace": self._namespace,
            },
            "eventTime": micro_time(now_s),
            "type": "Warning" if warns else "Normal",
            "reason": reason,
            "action": "Reconcile",
            "note": shortened(note),
            "regarding": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
            },
            "reportingController": REPORTER,
            "reportingInstance": self._identity[:_INSTANCE_MAX],
        }
        self._waiting.append(_Waiting(body, self._clock.wire_s()))
        if len(self._waiting) > limits.EVENTS_WAITING_MAX:
            self._waiting.popleft()
            self.dropped += 1
        self._news.set()

    async def run(self) -> None:
        """Write what was posted, for ever."""
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            await self._bucket.take()
            # While it waited for a token, the oldest may have made room for others.
            if self._waiting:
                await self._write(self._waiting.popleft())

    async def _write(self, event: _Waiting) -> None:
        while self._clock.wire_s() - event.since_s < limits.EVENT_AGE_MAX_S:
            try:
                await self._cluster.create(EVENT, event.body)
            except (ClusterAway, Unauthorized) as error:
                await self._clock.wire_sleep(self._backoff.next_s(error))
                continue
            except ClusterError:
                # It is there already: the reply to an earlier try was lost. Or it will never be taken.
                break
            except Exception as bug:  # noqa: BLE001 - costs one Event, not all that follow
                self._bug("events", in_words(bug))
                break
            self._backoff.reset()
            self.written += 1
            return
        self.dropped += 1
