"""What the engine learned and did, on its way to the Store: collected, then written in one transaction.

Intents do not come this way: the gate makes them durable before anything is sent. What is lost here
in a crash is the end of an operation; it is then found open, and the device is looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from control_plane.core.change import Outcome
from control_plane.core.memory import Memory
from control_plane.core.observation import Sighting
from control_plane.core.ports import Clock
from control_plane.core.verify import Operation
from control_plane.engine.audit import AuditFile
from control_plane.engine.records import Event
from control_plane.engine.store import Store

_PAGES_KEPT = 200


class Journal:
    """Collects until `flush`."""

    def __init__(self, *, store: Store, audit: AuditFile | None, clock: Clock) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._memories: dict[str, Memory] = {}
        self._operations: dict[str, Operation] = {}
        self._sightings: dict[str, Sighting] = {}
        self._events: list[Event] = []
        self._records: list[dict[str, object]] = []
        self.pages: deque[str] = deque(maxlen=_PAGES_KEPT)
        """Texts of the last pages, for callers that show them; the Store keeps them as events."""
        self.paged = 0
        """Pages since the start."""

    def memory(self, memory: Memory) -> None:
        """Keep a device's memory."""
        self._memories[memory.asset] = memory

    def memory_of(self, asset: str) -> Memory:
        """The memory of a device that has no slot: as collected, as stored, or a new one."""
        return self._memories.get(asset) or self._store.memory(asset) or Memory(asset=asset)

    def operation(self, operation: Operation) -> None:
        """Keep an operation's new stage."""
        self._operations[operation.id] = operation

    def outcome(self, operation: Operation, outcome: Outcome) -> None:
        """Keep what a device answered to a write."""
        self._operations[operation.id] = operation
        record = {
            "at_s": self._clock.wall_s(),
            "kind": "outcome",
            "operation": operation.id,
            "asset": operation.asset,
            "outcome": outcome,
        }
        self._records.append(record)

    def sightings(self, sightings: Iterable[Sighting]) -> None:
        """Keep what was seen, for other processes."""
        for sighting in sightings:
            self._sightings[sighting.asset] = sighting

    def event(
        self, kind: str, text: str, *, asset: str | None = None, node: str | None = None
    ) -> None:
        """Note something that happened."""
        self._events.append(
            Event(at_s=self._clock.wall_s(), kind=kind, text=text, asset=asset, node=node)
        )

    def page(self, text: str, *, asset: str | None = None, node: str | None = None) -> None:
        """Note something that a person has to look at."""
        self.pages.append(text)
        self.paged += 1
        self.event("page", text, asset=asset, node=node)
        self._records.append({"at_s": self._clock.wall_s(), "kind": "page", "text": text})

    def flush(self) -> None:
        """Write all that was collected, in one transaction.

        Raises:
            StoreError: nothing was written; the engine stops.
        """
        if not (
            self._memories or self._operations or self._sightings or self._events or self._records
        ):
            return
        with self._store.transaction():
            self._store.put_memories(self._memories.values())
            self._store.put_operations(self._operations.values())
            self._store.put_sightings(self._sightings.values())
            self._store.put_events(self._events)
            if self._records and self._audit is not None:
                self._audit.append(self._records)
        self._memories, self._operations, self._sightings, self._events = {}, {}, {}, []
        self._records = []
