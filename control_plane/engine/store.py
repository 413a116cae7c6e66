"""Durable state of a site in one SQLite file: the only truth of `gridplane run`.

Every process may read, and may write what people say (holds, trust, accepted revisions). Only the
holder of the fence writes what the engine does: its epoch is checked inside each intent transaction.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from itertools import islice, takewhile
from typing import Any

import msgspec

from control_plane.core import limits
from control_plane.core.correlate import Incident
from control_plane.core.errors import FenceLost, StoreError
from control_plane.core.memory import Memory
from control_plane.core.observation import Observation, Unseen
from control_plane.core.overlay import Overlay
from control_plane.core.rollout import Rollout
from control_plane.core.verify import OPEN_STAGES, Operation
from control_plane.engine.records import (
    AuditMark,
    EngineStatus,
    Event,
    Order,
    Released,
    RevisionRecord,
    ShownPlan,
)
from control_plane.engine.store_work import WorkStore
from control_plane.inventory.bundle import DamagedBundle, pack, unpack

_EVENTS_KEPT = 200_000
_PLANS_KEPT = 20
_OPERATIONS_KEPT = 200_000
_ROLLOUTS_KEPT = 50
# A type form; to mypy only a class is a type.
_SIGHTING: Any = Observation | Unseen

_encode = msgspec.json.Encoder().encode


def operation_id(epoch: int, sequence: int) -> str:
    """In the order of intents, also as text."""
    return f"{epoch:06d}-{sequence:09d}"


class Store(WorkStore):
    """The state of one site. Not for use from several threads."""

    # --- fence ---------------------------------------------------------------------------------

    def next_number(self, name: str) -> int:
        """The next number of a series, from 1; never given twice. Inside the transaction that uses it."""
        with self.transaction() as db:
            number = self._number(f"number.{name}") + 1
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"number.{name}", number))
        return number

    def put_number(self, name: str, number: int) -> None:
        """Go on with a series after the number that was given last in another Store."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"number.{name}", number))

    def numbers(self) -> dict[str, int]:
        """The last number of every series, by name."""
        rows = self._rows("SELECT key, value FROM meta WHERE key LIKE 'number.%'")
        return {str(key).removeprefix("number."): int(value) for key, value in rows}

    def epoch(self) -> int:
        """The epoch of the last take-over; 0 before the first."""
        return self._number("epoch")

    def take_over(self, epoch: int | None = None) -> int:
        """Begin a new epoch and return it; every older holder is fenced off from now on.

        Args:
            epoch: given by an election that reaches further than this Store; else the next one.
        """
        with self.transaction() as db:
            epoch = epoch or self.epoch() + 1
            db.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (epoch,))
        return epoch

    def check_fence(self, epoch: int) -> None:
        """Inside a transaction: refuse unless `epoch` is the current one.

        Raises:
            FenceLost: another process took over.
        """
        current = self.epoch()
        if current != epoch:
            raise FenceLost(f"epoch {epoch} was taken over by epoch {current}")

    def audit_mark(self) -> AuditMark | None:
        """How far the audit file had come; `None` before its first record."""
        found = self._docs(AuditMark, "meta", "WHERE key = 'audit'")
        return found[0] if found else None

    def put_audit_mark(self, mark: AuditMark) -> None:
        """Remember it; in the transaction that the records belong to."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('audit', ?)", (_encode(mark),))

    # --- revisions -----------------------------------------------------------------------------

    def put_revision(self, record: RevisionRecord, files: Mapping[str, bytes]) -> None:
        """Keep an accepted revision with the bytes of its files, as written.

        Raises:
            StoreError: another revision has its number; that one stays.
        """
        blob = pack(files)
        with self.transaction() as db:
            db.execute(
                "INSERT INTO revision VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET seq = excluded.seq, doc = excluded.doc, files = excluded.files",
                (record.digest, record.seq, _encode(record), blob),
            )

    def revisions(self) -> list[RevisionRecord]:
        """Accepted revisions, the one in force last."""
        return self._docs(RevisionRecord, "revision", "ORDER BY seq")

    def accepted(self) -> RevisionRecord | None:
        """The revision in force."""
        found = self._docs(RevisionRecord, "revision", "ORDER BY seq DESC LIMIT 1")
        return found[0] if found else None

    def revision_files(self, digest: str) -> dict[str, bytes]:
        """The files of an accepted revision, as written.

        Raises:
            StoreError: no such revision is kept.
        """
        rows = self._rows("SELECT files FROM revision WHERE digest = ?", (digest,))
        if not rows:
            raise StoreError(f"revision {digest[:12]} is not in the Store")
        try:
            return unpack(rows[0][0])
        except DamagedBundle as error:
            raise self._damaged("revision", digest, error) from error

    def put_shown_plan(self, plan: ShownPlan) -> None:
        """Remember a plan that was shown; the oldest are forgotten."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO shown_plan VALUES (?, ?, ?)",
                (plan.digest, plan.at_s, _encode(plan)),
            )
            db.execute(
                "DELETE FROM shown_plan WHERE digest NOT IN "
                "(SELECT digest FROM shown_plan ORDER BY at_s DESC LIMIT ?)",
                (_PLANS_KEPT,),
            )

    def shown_plans(self, prefix: str) -> list[ShownPlan]:
        """Shown plans whose digest begins with `prefix`, newest first."""
        pattern = prefix.replace("%", "").replace("_", "") + "%"
        return self._docs(
            ShownPlan,
            "shown_plan",
            "WHERE digest LIKE ? ORDER BY at_s DESC",
            (pattern,),
        )

    # --- what is known of devices ----------------------------------------------------------------

    def memories(self) -> dict[str, Memory]:
        """Every device's memory."""
        return {m.asset: m for m in self._docs(Memory, "memory")}

    def memory(self, asset: str) -> Memory | None:
        """The memory of one device."""
        found = self._docs(Memory, "memory", "WHERE asset = ?", (asset,))
        return found[0] if found else None

    def put_memories(self, memories: Iterable[Memory]) -> None:
        """Keep memories."""
        with self.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO memory VALUES (?, ?)",
                ((m.asset, _encode(m)) for m in memories),
            )

    def sightings(self) -> dict[str, Observation | Unseen]:
        """The last flushed sighting of every device."""
        found = self._docs(_SIGHTING, "sighting")
        return {s.asset: s for s in found}

    def sighting(self, asset: str) -> Observation | Unseen | None:
        """The last flushed sighting of one device."""
        found = self._docs(_SIGHTING, "sighting", "WHERE asset = ?", (asset,))
        return found[0] if found else None

    def put_sightings(self, sightings: Iterable[Observation | Unseen]) -> None:
        """Flush sightings for other processes to read; observed state, no fence needed."""
        with self.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO sighting VALUES (?, ?)",
                ((s.asset, _encode(s)) for s in sightings),
            )

    def released(self) -> list[Released]:
        """Devices that left the declaration and still count."""
        return self._docs(Released, "released", "ORDER BY asset")

    def put_released(self, devices: Iterable[Released]) -> None:
        """Release devices."""
        with self.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO released VALUES (?, ?)",
                ((d.asset, _encode(d)) for d in devices),
            )

    def drop_released(self, assets: Iterable[str]) -> None:
        """Forget released devices: declared again, or unplugged by a person's word."""
        with self.transaction() as db:
            db.executemany("DELETE FROM released WHERE asset = ?", ((a,) for a in assets))

    # --- overlays --------------------------------------------------------------------------------

    def overlays(self) -> tuple[Overlay, ...]:
        """Every overlay in force, expired ones included, by id."""
        return tuple(self._docs(Overlay, "overlay", "ORDER BY id"))

    def put_overlay(self, overlay: Overlay) -> None:
        """Set an overlay."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO overlay VALUES (?, ?)", (overlay.id, _encode(overlay))
            )

    def drop_overlay(self, overlay_id: str) -> None:
        """Release an overlay."""
        with self.transaction() as db:
            db.execute("DELETE FROM overlay WHERE id = ?", (overlay_id,))

    # --- orders of people ---------------------------------------------------------------------------

    def put_order(self, order: Order) -> None:
        """Leave an order for the engine (or for the next process that acts)."""
        with self.transaction() as db:
            db.execute("INSERT INTO standing_order (doc) VALUES (?)", (_encode(order),))

    def orders(self) -> list[tuple[int, Order]]:
        """Orders that nobody carried out yet, oldest first."""
        return self._keyed(Order, "standing_order", "ORDER BY seq")

    def drop_orders(self, numbers: Iterable[int]) -> None:
        """Forget orders that were carried out; in the transaction that keeps their effect."""
        with self.transaction() as db:
            db.executemany("DELETE FROM standing_order WHERE seq = ?", ((n,) for n in numbers))

    # --- operations --------------------------------------------------------------------------------

    def put_operations(self, operations: Iterable[Operation]) -> None:
        """Keep operations in their present stage."""
        with self.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO operation VALUES (?, ?, ?, ?)",
                ((o.id, o.asset, int(o.stage in OPEN_STAGES), _encode(o)) for o in operations),
            )

    def open_operations(self) -> list[Operation]:
        """Operations whose end is not known, in the order of their ids."""
        return self._docs(Operation, "operation", "WHERE open = 1 ORDER BY id")

    def last_sequence(self, epoch: int) -> int:
        """The number of the last operation under an epoch; 0 before the first."""
        between = (operation_id(epoch, 0), operation_id(epoch + 1, 0))
        rows = self._rows("SELECT MAX(id) FROM operation WHERE id > ? AND id < ?", between)
        last = rows[0][0]
        return int(str(last).rpartition("-")[2]) if last else 0

    def operations(self, asset: str | None = None, limit: int = 50) -> list[Operation]:
        """The last operations, newest first."""
        where, args = ("WHERE asset = ? ", (asset, limit)) if asset else ("", (limit,))
        return self._docs(Operation, "operation", f"{where}ORDER BY rowid DESC LIMIT ?", args)

    def operations_at(self, assets: Collection[str], limit: int) -> list[Operation]:
        """The last operations on any of the devices, newest first."""
        rows = self._select("operation", "ORDER BY id DESC", ())
        newest_first = (operation for _, operation in self._decoded(Operation, "operation", rows))
        return [*islice((o for o in newest_first if o.asset in assets), limit)]

    def operations_since(self, at_s: float) -> list[Operation]:
        """Operations intended at or after a policy time, oldest first."""
        rows = self._select("operation", "ORDER BY id DESC", ())
        newest_first = (operation for _, operation in self._decoded(Operation, "operation", rows))
        return [*takewhile(lambda o: o.sent_at_s >= at_s, newest_first)][::-1]

    # --- rollouts, incidents, events, status -----------------------------------------------------

    def put_rollout(self, rollout: Rollout) -> None:
        """Keep a rollout."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO rollout VALUES (?, (SELECT COALESCE(MAX(seq), 0) + 1 FROM rollout), ?) "
                "ON CONFLICT (id) DO UPDATE SET doc = excluded.doc",
                (rollout.id, _encode(rollout)),
            )

    def rollouts(self) -> list[Rollout]:
        """Rollouts, the newest last."""
        return self._docs(Rollout, "rollout", "ORDER BY seq")

    def judged_since_s(self) -> float:
        """Writes since then are those that a gate will judge; infinite where no wave is open."""
        return min((r.since_s for r in self.rollouts() if r.is_open), default=math.inf)

    def rollout_to(self, digest: str) -> Rollout | None:
        """The last rollout to a revision."""
        return next((r for r in reversed(self.rollouts()) if r.to == digest), None)

    # --- incidents ------------------------------------------------------------------------------------

    def put_incident(self, incident: Incident) -> None:
        """Keep an incident."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO incident VALUES (?, ?, ?)",
                (incident.id, int(incident.open), _encode(incident)),
            )

    def incidents(self, *, open_only: bool = True) -> list[Incident]:
        """Incidents by id."""
        where = "WHERE open = 1 " if open_only else ""
        return self._docs(Incident, "incident", f"{where}ORDER BY id")

    def put_events(self, events: Iterable[Event]) -> None:
        """Append events; the oldest beyond a bound are forgotten (the audit file keeps all)."""
        with self.transaction() as db:
            db.executemany(
                "INSERT INTO event (asset, doc) VALUES (?, ?)",
                ((e.asset, _encode(e)) for e in events),
            )
            db.execute(
                "DELETE FROM event WHERE seq <= (SELECT MAX(seq) FROM event) - ?", (_EVENTS_KEPT,)
            )

    def events(
        self, asset: str | None = None, limit: int = 20, after: int = 0
    ) -> list[tuple[int, Event]]:
        """(sequence number, event), newest first; of one asset, or of all."""
        where, args = ("AND asset = ? ", (after, asset, limit)) if asset else ("", (after, limit))
        return self._keyed(Event, "event", f"WHERE seq > ? {where}ORDER BY seq DESC LIMIT ?", args)

    def events_at(self, names: Collection[str], limit: int) -> list[tuple[int, Event]]:
        """(sequence number, event) of any of the devices or nodes, newest first."""
        rows = self._select("event", "ORDER BY seq DESC", ())
        newest_first = self._decoded(Event, "event", rows)
        found = (pair for pair in newest_first if pair[1].asset in names or pair[1].node in names)
        return [*islice(found, limit)]

    def put_status(self, status: EngineStatus) -> None:
        """The heartbeat of the engine."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('engine', ?)", (_encode(status),))

    def drop_status(self) -> None:
        """The engine ends in good order."""
        with self.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = 'engine'")

    def status(self) -> EngineStatus | None:
        """The last heartbeat, however old."""
        found = self._docs(EngineStatus, "meta", "WHERE key = 'engine'")
        return found[0] if found else None

    # --- what is forgotten -------------------------------------------------------------------------

    def prune(self, *, since_s: float) -> None:
        """Forget what nobody will ask for again; the audit file keeps all.

        Closed operations go beyond a bound, but for those since `since_s`, by which the open wave is
        judged. Rollouts go beyond a bound, and then the revisions to which none of those left refers.
        """
        kept = self.operations_since(since_s)
        with self.transaction() as db:
            db.execute(
                "DELETE FROM operation WHERE open = 0 AND id < ? AND id < "
                "(SELECT id FROM operation ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (kept[0].id if kept else "~", _OPERATIONS_KEPT - 1),
            )
            db.execute(
                "DELETE FROM rollout WHERE seq <= (SELECT MAX(seq) FROM rollout) - ?",
                (_ROLLOUTS_KEPT,),
            )
            referred = {
                digest
                for rollout in self.rollouts()
                for digest in (rollout.to, rollout.origin, *rollout.behind.values())
            }
            gone = [
                (record.digest,)
                for record in self.revisions()[: -limits.REVISIONS_KEPT]
                if record.digest not in referred
            ]
            db.executemany("DELETE FROM revision WHERE digest = ?", gone)
