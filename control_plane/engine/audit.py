"""The audit file: what was intended, what came of it, who held and released; chained by hash.

One JSON line a record; each line carries the SHA-256 of the line before it, so that an edit, a
deletion or a reordering breaks the chain at that line.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from control_plane.core.errors import StoreError

GENESIS = "0" * 64
_encoder = msgspec.json.Encoder(order="sorted")


class AuditFile:
    """Appends records; one writer at a time: the fence's holder, or a verb of the CLI under its lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, records: Iterable[Mapping[str, object]]) -> None:
        """Append records and wait until they are on disk.

        Raises:
            StoreError: the file cannot be written; nothing may be done then.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
            try:
                os.lockf(descriptor, os.F_LOCK, 0)
                head, torn = _head(descriptor)
                lines = [b"\n"] if torn else []
                for record in records:
                    line = _encoder.encode({**record, "prev": head})
                    head = hashlib.sha256(line).hexdigest()
                    lines.append(line + b"\n")
                data = b"".join(lines)
                if os.write(descriptor, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(
                f"{self._path}: {error.strerror}; nothing is done without an audit record"
            ) from error

    def records(self) -> Iterator[Mapping[str, Any]]:
        """Every record, oldest first; of a damaged file, up to the damage."""
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            for line in lines:
                try:
                    yield msgspec.json.decode(line)
                except msgspec.DecodeError:
                    return

    def verify(self) -> tuple[int, int | None]:
        """(number of records, 1-based line of the first broken link or `None`)."""
        head, count = GENESIS, 0
        if not self._path.exists():
            return 0, None
        with self._path.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                line = raw.rstrip(b"\n")
                if not line:
                    continue
                try:
                    record = msgspec.json.decode(line)
                except msgspec.DecodeError:
                    return count, number
                if record.get("prev") != head:
                    return count, number
                head = hashlib.sha256(line).hexdigest()
                count += 1
        return count, None


def _head(descriptor: int) -> tuple[str, bool]:
    """(hash of the last whole line, whether a torn line follows it)."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return GENESIS, False
    chunk = min(size, 1 << 16)
    tail = os.pread(descriptor, chunk, size - chunk)
    torn = not tail.endswith(b"\n")
    lines = [line for line in tail.split(b"\n") if line]
    if torn and lines:
        # A crash in the middle of a line: the torn bytes stay, visible, and the chain goes on from them.
        return hashlib.sha256(lines[-1]).hexdigest(), True
    return (hashlib.sha256(lines[-1]).hexdigest() if lines else GENESIS), False
