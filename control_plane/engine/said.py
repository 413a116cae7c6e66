"""What was said on a management host with nothing else up: an append-only file per site and host.

Each line carries its checksum and its number. `said` is an overlay that is in force from the moment when
the line is on disk; `kept` names one that stands in the cluster as well, and is looked for there from then
on. A line that cannot be read, or is missing, may have been a hold: the whole site is held until a person
has looked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from control_plane.core.errors import StoreBusy, StoreError
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.engine.durable import sync_folder

VERSION = 1
OWNER = "gridplane"
_CHECK = 8
"""Hexadecimal digits of a checksum."""
_MODE = 0o660
"""Who speaks and the controller are two users of one group."""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line."""

    version: int = VERSION
    number: int
    said: Overlay | None = None
    kept: str = ""
    """Id of what was said, or of what stands for a line that cannot be read."""


_Numbered = Callable[[int], Line]


class _Read(msgspec.Struct, frozen=True):
    """What stands in a journal."""

    said: dict[str, Overlay]
    kept: frozenset[str]
    numbers: int
    """Of lines so far, readable or not."""


def file_of(folder: Path, site: str) -> Path:
    """Where the journal of a site is."""
    return folder / f"{site}.journal"


def say(folder: Path, site: str, overlay: Overlay) -> None:
    """Keep an overlay on this host; on disk when this returns.

    Raises:
        StoreBusy: another process is writing; nothing was kept.
        StoreError: it is not kept: say so to whoever stands at the rack.
    """
    _append(folder, site, [lambda number: Line(number=number, said=overlay)])


def note_kept(folder: Path, site: str, ids: Iterable[str]) -> None:
    """These stand in the cluster now: what becomes of them is decided there.

    Raises:
        StoreError: as `say`.
    """
    _append(
        folder,
        site,
        [lambda number, kept=one: Line(number=number, kept=kept) for one in ids],  # type: ignore[misc]
    )


def pending(folder: Path, site: str, *, node: str, now_s: float) -> list[Overlay]:
    """What was said on this host and is not known to stand in the cluster.

    Args:
        folder: of the journal.
        site: whose.
        node: this host, for the names of what stands for lines that cannot be read.
        now_s: seconds since the epoch.

    Raises:
        StoreBusy: another process is writing to it: at once again.
        StoreError: it cannot be read at all: see `unreadable`.
    """
    try:
        with _opened(folder, site, os.O_RDONLY, fcntl.LOCK_SH) as file:
            content = b"" if file is None else _content(file)
    except OSError as error:
        raise _failure(folder, site, error) from error
    found = _read(content, site=site, node=node, now_s=now_s)
    return [overlay for id_, overlay in found.said.items() if id_ not in found.kept]


def unreadable(site: str, *, node: str, why: str, now_s: float) -> Overlay:
    """What stands for a journal that cannot be read at all."""
    return _held(site, f"journal-{node}-unreadable", f"the journal of {node}: {why}", now_s)


def _append(folder: Path, site: str, lines: list[_Numbered]) -> None:
    try:
        path = file_of(folder, site)
        is_new = not path.exists()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        with _opened(folder, site, flags, fcntl.LOCK_EX) as file:
            assert file is not None  # noqa: S101 - it is made where it is not there
            content = _content(file)
            number = _read(content, site=site, node="", now_s=0.0).numbers
            encoded = b"".join(_encoded(line(number + n)) for n, line in enumerate(lines))
            # A line that was cut off stays a line of its own.
            cut = b"\n" if content and not content.endswith(b"\n") else b""
            _write(file, cut + encoded)
            os.fsync(file)
        if is_new:
            sync_folder(folder)
    except OSError as error:
        raise _failure(folder, site, error) from error


@contextlib.contextmanager
def _opened(folder: Path, site: str, flags: int, lock: int) -> Iterator[int | None]:
    """The file, locked; `None` where nobody has said anything yet in a folder that is there."""
    try:
        file = os.open(file_of(folder, site), flags | os.O_CLOEXEC, _MODE)
    except FileNotFoundError:
        folder.stat()
        yield None
        return
    try:
        if flags & os.O_CREAT and os.fstat(file).st_uid == os.geteuid():
            os.fchmod(file, _MODE)
        fcntl.flock(file, lock | fcntl.LOCK_NB)
        yield file
    finally:
        os.close(file)


def _write(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _content(file: int) -> bytes:
    content = b""
    while piece := os.pread(file, 1 << 20, len(content)):
        content += piece
    return content


def _encoded(line: Line) -> bytes:
    text = msgspec.json.encode(line)
    return b"%0*x %s\n" % (_CHECK, zlib.crc32(text), text)


def _decoded(line: bytes) -> Line | None:
    """A line; `None` where it cannot be read."""
    text = line[_CHECK + 1 :]
    if line[: _CHECK + 1] != b"%0*x " % (_CHECK, zlib.crc32(text)):
        return None
    try:
        found = msgspec.json.decode(text, type=Line)
    except msgspec.DecodeError:
        return None
    return found if found.version <= VERSION else None


def _read(content: bytes, *, site: str, node: str, now_s: float) -> _Read:
    said: dict[str, Overlay] = {}
    kept: set[str] = set()
    number = 0
    lines = content.split(b"\n")
    for each in lines if lines[-1] else lines[:-1]:
        line = _decoded(each)
        if line is None:
            id_ = f"journal-{node}-line-{zlib.crc32(each):08x}"
            said[id_] = _held(
                site, id_, f"line {number + 1} of the journal of {node} is damaged", now_s
            )
            number += 1
            continue
        if line.number != number:
            id_ = f"journal-{node}-gap-{number}-{line.number}"
            said[id_] = _held(site, id_, f"lines are missing in the journal of {node}", now_s)
        number = line.number + 1
        if line.said is not None:
            said[line.said.id] = line.said
        if line.kept:
            kept.add(line.kept)
    return _Read(said, frozenset(kept), number)


def _held(site: str, id_: str, why: str, now_s: float) -> Overlay:
    return Overlay(
        id=id_,
        kind=OverlayKind.MAINTENANCE_HOLD,
        node=site,
        owner=OWNER,
        reason=f"{why}: a hold may be lost; ask at that host, then release this",
        since_s=now_s,
    )


def _failure(folder: Path, site: str, error: OSError) -> StoreError:
    path = file_of(folder, site)
    if isinstance(error, BlockingIOError):
        return StoreBusy(f"another process is writing to {path}")
    return StoreError(f"{path}: {error.strerror or error}")
