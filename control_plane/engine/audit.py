"""The audit file: what was intended, what came of it, who held and released; chained by hash.

One JSON line a record; each line carries the SHA-256 of the line before it, so that an edit, a
deletion or a reordering breaks the chain at that line. The Store remembers how far the file had come,
so that a file that was cut is noticed too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from control_plane.core.errors import StoreError
from control_plane.engine.records import AuditMark
from control_plane.engine.store import Store

GENESIS = "0" * 64
_TAIL_BYTES = 1 << 16
"""No record is longer."""
_encoder = msgspec.json.Encoder(order="sorted")


class AuditFile:
    """Appends records. Writers of one host take turns: in the Store's transaction, then at a file lock."""

    def __init__(self, path: Path, store: Store | None = None) -> None:
        """`store` remembers how far the file has come; readers need none."""
        self._path = path
        self._store = store

    def append(self, records: Iterable[Mapping[str, object]]) -> None:
        """Append records and wait until they are on disk.

        Raises:
            StoreError: the file cannot be written; nothing may be done then.
        """
        with self._turn() as known:
            try:
                with self._opened() as descriptor:
                    mark = _append(descriptor, records, known)
            except OSError as error:
                raise self._failure(error) from error
            if self._store is not None and mark is not None:
                self._store.put_audit_mark(mark)

    def take_over(self) -> None:
        """What the holder of the fence does first: refuse a damaged file, void what was never done.

        Raises:
            StoreError: somebody cut or changed the file; a person looks, and no device is written to.
        """
        with self._turn() as known:
            if not self._path.exists():
                return
            try:
                with self._opened() as descriptor:
                    _cut_torn(descriptor, known)
                    is_whole = known is None or _reaches(descriptor, known)
            except OSError as error:
                raise self._failure(error) from error
            self._refuse_damage(is_whole=is_whole, broken_at=self.verify()[1])
            self.append([])

    def records(self) -> Iterator[Mapping[str, Any]]:
        """Every record, oldest first; of a damaged file, up to the damage."""
        for line in self._lines():
            record = _decoded(line)
            if record is None:
                return
            yield record

    def verify(self) -> tuple[int, int | None]:
        """(number of records, 1-based line of the first broken link or `None`)."""
        head, count = GENESIS, 0
        for number, line in enumerate(self._lines(), 1):
            record = _decoded(line)
            if record is None or record.get("prev") != head:
                return count, number
            head = _hash(line)
            count += 1
        return count, None

    @contextlib.contextmanager
    def _turn(self) -> Iterator[AuditMark | None]:
        """Nobody else appends meanwhile; what the Store remembers of the file."""
        if self._store is None:
            yield None
            return
        with self._store.transaction():
            yield self._store.audit_mark()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            os.lockf(descriptor, os.F_LOCK, 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def _lines(self) -> Iterator[bytes]:
        if self._path.exists():
            with self._path.open("rb") as lines:
                yield from lines

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self._path}: {error.strerror}; nothing is done without an audit record"
        )

    def _refuse_damage(self, *, is_whole: bool, broken_at: int | None) -> None:
        if is_whole and broken_at is None:
            return
        what = "it was cut" if broken_at is None else f"its chain is broken at line {broken_at}"
        raise StoreError(
            f"{self._path} is not as it was left: {what}. Nothing is written to devices. Find "
            f"out what happened, then move it aside (mv {self._path} {self._path}.damaged) and start "
            "again: the new file begins with where this one had come to."
        )


def _append(
    descriptor: int, records: Iterable[Mapping[str, object]], known: AuditMark | None
) -> AuditMark | None:
    """The new mark; `None` where the file is not the one that the Store remembers."""
    end = _cut_torn(descriptor, known)
    first: list[Mapping[str, object]] = []
    is_known = True
    if known is not None and end == 0:
        first.append({"kind": "continues", "after": known.head})
    elif known is not None:
        is_known = _reaches(descriptor, known)
        first += _void(descriptor, known.size, end) if is_known else ()
    head = _head(descriptor, end)
    data = bytearray()
    for record in (*first, *records):
        line = _encoder.encode({**record, "prev": head}) + b"\n"
        head = _hash(line)
        data += line
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, end)
        raise
    return AuditMark(size=end + len(data), head=head) if is_known else None


def _void(descriptor: int, start: int, end: int) -> Iterator[Mapping[str, object]]:
    """What stands beyond the Store's memory was said in a transaction that never ended: it is not so.

    An intent among it was never sent.
    """
    for line in os.pread(descriptor, end - start, start).splitlines():
        record = _decoded(line) or {}
        told: dict[str, object] = {k: record[k] for k in ("operation", "asset") if k in record}
        yield {"kind": "void", "of": record.get("kind"), "line": _hash(line)} | told


def _cut_torn(descriptor: int, known: AuditMark | None) -> int:
    """Cut off a line that a crash tore: nobody was ever told that it is on disk. The file's size."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    end = size - len(tail) + tail.rfind(b"\n") + 1
    if end < size and (known is None or end >= known.size):
        os.ftruncate(descriptor, end)
        return end
    return size


def _reaches(descriptor: int, known: AuditMark) -> bool:
    """Whether the file still holds all that the Store remembers of it."""
    return (
        os.fstat(descriptor).st_size >= known.size and _head(descriptor, known.size) == known.head
    )


def _head(descriptor: int, end: int) -> str:
    """Hash of the line that ends at `end`."""
    tail = os.pread(descriptor, min(end, _TAIL_BYTES), max(0, end - _TAIL_BYTES))
    return _hash(tail.rstrip(b"\n").rpartition(b"\n")[2]) if tail else GENESIS


def _hash(line: bytes) -> str:
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
