"""The part of the Store that keeps work of many steps: firmware, passwords and addresses, remedies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.flashing import Grant
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.rotation import RotationEntry, Subject
from control_plane.core.rotation_rollout import Rotation
from control_plane.engine.database import Database
from control_plane.engine.records import Event

REMEDY_SITE: Final = "site"
"""The one key of what is kept of all GPU nodes together: a Store has one site."""
DECIDED: Final = "decided"
"""Kind of the events that say what is done to a GPU node next, or why nothing is: `word: detail`."""
_ENTRIES: Mapping[Subject, str] = {Subject.PASSWORD: "login", Subject.ADDRESS: "address"}
_encode = msgspec.json.Encoder().encode


class WorkStore(Database):
    """How far each piece of such work has come. A `Store` has all the rest beside it."""

    _remedies: Mapping[Any, tuple[bytes, NodeKept]] = {}
    """Of the last look: row → as it was written, and decoded."""

    # --- firmware -----------------------------------------------------------------------------------

    def put_firmware(self, rollout: FirmwareRollout) -> None:
        """Keep a firmware rollout."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO firmware VALUES (?, ?)", (rollout.id, _encode(rollout))
            )

    def firmware(self) -> list[FirmwareRollout]:
        """Firmware rollouts, the newest last."""
        return self._docs(FirmwareRollout, "firmware", "ORDER BY id")

    def put_grant(self, grant: Grant) -> None:
        """Keep a grant with how far each of its devices has come; durable before this returns."""
        is_open = int(any(not entry.is_final for entry in grant.entries.values()))
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO flash VALUES (?, ?, ?)",
                (grant.operation, is_open, _encode(grant)),
            )

    def grants(self, *, open_only: bool = False) -> list[Grant]:
        """Grants, by the name of their operation; those alone that have a device that has not ended."""
        where = "WHERE open = 1 " if open_only else ""
        return self._docs(Grant, "flash", f"{where}ORDER BY id")

    def drop_grant(self, operation: str) -> None:
        """Forget a grant."""
        with self.transaction() as db:
            db.execute("DELETE FROM flash WHERE id = ?", (operation,))

    # --- passwords and addresses ------------------------------------------------------------------------

    def put_rotation(self, rotation: Rotation) -> None:
        """Keep a rotation."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO rotation VALUES (?, ?)", (rotation.id, _encode(rotation))
            )

    def rotations(self) -> list[Rotation]:
        """Rotations, the newest last."""
        return self._docs(Rotation, "rotation", "ORDER BY id")

    def put_rotating(self, entries: Iterable[RotationEntry]) -> None:
        """Keep how far devices have come with another password or address; durable before this returns."""
        with self.transaction() as db:
            for entry in entries:
                db.execute(
                    f"INSERT OR REPLACE INTO {_ENTRIES[entry.subject]} VALUES (?, ?, ?)",  # noqa: S608 - ours
                    (entry.asset, int(not entry.is_final), _encode(entry)),
                )

    def rotating(self, subject: Subject) -> list[RotationEntry]:
        """How far each device came with its last rotation of that."""
        return self._docs(RotationEntry, _ENTRIES[subject], "ORDER BY asset")

    # --- remedies of GPU nodes ---------------------------------------------------------------------------

    def put_remedies(self, nodes: Iterable[NodeKept]) -> None:
        """Keep what was tried on GPU nodes; durable before this returns, and before anything leaves."""
        with self.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO remedy VALUES (?, ?)",
                ((node.asset, _encode(node)) for node in nodes),
            )

    def remedies(self) -> dict[str, NodeKept]:
        """What is kept of each GPU node, by asset.

        Whoever remedies them asks several times a round: a row that is what it was is not decoded again.
        """
        rows = self._rows("SELECT asset, doc FROM remedy ORDER BY asset")
        before = self._remedies
        new = [(key, doc) for key, doc in rows if key not in before or before[key][0] != doc]
        decoded = dict(self._decoded(NodeKept, "remedy", new))
        self._remedies = {
            key: (doc, decoded[key]) if key in decoded else before[key] for key, doc in rows
        }
        return {node.asset: node for _, node in self._remedies.values()}

    def remedy(self, asset: str) -> NodeKept | None:
        """What is kept of one GPU node."""
        found = self._docs(NodeKept, "remedy", "WHERE asset = ?", (asset,))
        return found[0] if found else None

    def drop_remedies(self, assets: Iterable[str]) -> None:
        """Forget nodes of which nothing is left to remember."""
        with self.transaction() as db:
            db.executemany("DELETE FROM remedy WHERE asset = ?", ((a,) for a in assets))

    def remedy_said(self, asset: str) -> Event | None:
        """What was decided of a GPU node last, in the words of its event."""
        rows = self._select("event", "WHERE asset = ? ORDER BY seq DESC", (asset,))
        newest_first = (event for _, event in self._decoded(Event, "event", rows))
        return next((event for event in newest_first if event.kind == DECIDED), None)

    def put_remedy_site(self, kept: SiteKept) -> None:
        """Keep the breakers and incidents of all GPU nodes together; durable before this returns."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO remedy_site VALUES (?, ?)", (REMEDY_SITE, _encode(kept))
            )

    def remedy_site(self) -> SiteKept:
        """What is kept of all GPU nodes together; an empty one where there is none."""
        found = self._docs(SiteKept, "remedy_site", "WHERE id = ?", (REMEDY_SITE,))
        return found[0] if found else SiteKept()
