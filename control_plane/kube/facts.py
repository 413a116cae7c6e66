"""What one controller process knows of itself, for who asks over HTTP: read only, nothing is asked for it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from control_plane import __version__
from control_plane.core import metrics
from control_plane.core.metrics import Sample
from control_plane.engine.loop import Engine
from control_plane.kube.counting import Counted
from control_plane.kube.elector import Elector
from control_plane.kube.events import EventWriter
from control_plane.kube.ledger import Ledger
from control_plane.kube.projector import Projector
from control_plane.kube.reflector import Reflector
from control_plane.kube.writer import StatusWriter

_STARTED_S = time.time()
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Facts:
    """Of one controller; made by it, once."""

    def __init__(
        self,
        *,
        site: str,
        cluster: Counted,
        reflectors: Sequence[Reflector],
        elector: Elector,
        writer: StatusWriter,
        projector: Projector,
        events: EventWriter,
        engine: Callable[[], Engine | None],
        ledger: Callable[[], Ledger | None],
        store: Callable[[], Path | None],
    ) -> None:
        """`engine` is the one that runs now; `store` the file of the Store that it works on, or did."""
        self.site = site
        self.elector = elector
        self.store = store
        self._cluster, self._reflectors = cluster, reflectors
        self._writer, self._projector, self._events = writer, projector, events
        self._engine, self._ledger = engine, ledger

    def trouble(self) -> str:
        """Why this process does not know what the API server has; empty while it does."""
        words = []
        for each in self._reflectors:
            if each.is_fresh():
                continue
            since = (
                f"nothing heard for {each.silent_s():.0f} s"
                if each.synced.is_set()
                else "not listed yet"
            )
            words.append(
                f"{each.cache.kind.plural}: {since}{f': {each.trouble}' * bool(each.trouble)}"
            )
        return "; ".join(words)

    def text(self) -> bytes:
        """Every metric, as Prometheus reads it."""
        return metrics.exposition(self._samples(), {"site": self.site})

    def _samples(self) -> Iterator[Sample]:
        yield Sample(metrics.BUILD, 1, (__version__,))
        yield Sample(metrics.READY, not self.trouble())
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield Sample(metrics.CPU, usage.ru_utime + usage.ru_stime)
        yield Sample(metrics.RESIDENT, _resident_bytes())
        yield Sample(metrics.STARTED, _STARTED_S)
        yield from self._of_the_server()
        engine, fence = self._engine(), self.elector.fence
        yield Sample(metrics.LEADER, fence is not None)
        if fence is not None:
            yield Sample(metrics.FENCE, fence)
        yield Sample(metrics.TENURES, self.elector.tenures)
        yield Sample(metrics.LEASE_ERRORS, self.elector.errors)
        ledger = self._ledger()
        if ledger is not None:
            yield Sample(metrics.STATE_WRITES, ledger.requests)
            yield Sample(metrics.STATE_BEHIND, ledger.behind)
            yield Sample(metrics.STATE_FAILING, bool(ledger.trouble))
        if engine is not None:
            yield from engine.samples()
        else:
            yield Sample(metrics.GATE, 0)

    def _of_the_server(self) -> Iterator[Sample]:
        for each in self._reflectors:
            kind = (each.cache.kind.plural,)
            yield Sample(metrics.SILENCE, each.silent_s(), kind)
            yield Sample(metrics.CACHED, len(each.cache), kind)
            yield Sample(metrics.LISTS, each.lists, kind)
            yield Sample(metrics.CACHE_ERRORS, each.errors, kind)
        for labels, count in sorted(self._cluster.results.items()):
            yield Sample(metrics.REQUESTS, count, labels)
        yield Sample(metrics.STATUS_WRITES, self._writer.requests)
        yield Sample(metrics.STATUS_SPARED, self._writer.spared)
        yield Sample(metrics.OBJECTS_REFUSED, len(self._writer.refused), ("status",))
        yield Sample(metrics.OBJECTS_REFUSED, self._projector.refused, ("spec",))
        yield Sample(metrics.QUEUE, len(self._writer), ("statuses",))
        yield Sample(metrics.QUEUE, len(self._events), ("events",))
        yield Sample(metrics.EVENTS, self._events.written, ("written",))
        yield Sample(metrics.EVENTS, self._events.dropped, ("dropped",))


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except OSError:  # not a Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
