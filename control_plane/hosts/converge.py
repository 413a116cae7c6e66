"""Items → a machine that is as they say: read first, write what differs, tell what was changed.

What is written is whole or not there: content goes beside its place and is renamed once all of it has
arrived. An interrupted run is taken up by the next one.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import assert_never

import msgspec

from control_plane.core.errors import UnexpectedReply
from control_plane.hosts.connection import Command, Connection, check, heads
from control_plane.hosts.errors import LineBroke
from control_plane.hosts.items import File, Item, Payload, Sysctl, Unit

WRITE_S = 120.0
"""Deadline of a small write, or of a unit's start, in wire seconds."""
_BYTES_PER_S = 2_000_000
"""A payload may be as slow as this: 100 MB within a minute, on top of `WRITE_S`."""
_UNIT_FILES = "/etc/systemd/system/"
_INBOX = "/var/lib/gridplane/inbox"
_GZIP = ".gz"
_STAMP_BYTES = 200
_ACTIVE = frozenset({"active", "activating", "reloading"})


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One item that is not as wanted."""

    item: Item
    what: str
    """In words, for people: never any content."""


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read, of all items at once."""

    digests: Mapping[str, str]
    """Path → SHA-256 of what is there; missing files are missing here."""
    modes: Mapping[str, int]
    stamps: Mapping[str, str]
    """Path of a stamp → its content."""
    units: Mapping[str, Mapping[str, str]]
    sysctls: Mapping[str, str]


def survey(connection: Connection, items: Sequence[Item]) -> tuple[Difference, ...]:
    """What differs, by reading alone.

    Raises:
        DeadlinePassed: the host does not answer in time.
    """
    seen = _read(connection, items)
    return tuple(
        Difference(item=item, what=what) for item in items if (what := _differs(item, seen))
    )


def converge(connection: Connection, items: Sequence[Item]) -> tuple[str, ...]:
    """Bring the items about, in their order.

    Returns:
        What was changed, in words; empty where all was as wanted.

    Raises:
        CommandFailed: the host refuses something; what came before it is done.
        DeadlinePassed: as `survey`.
    """
    differences = survey(connection, items)
    if not differences:
        return ()
    woken: set[str] = set()
    told: list[str] = []
    is_stale = False
    for difference in differences:
        item = difference.item
        if isinstance(item, Unit):
            continue
        _bring(connection, item)
        told.append(difference.what)
        if isinstance(item, File | Payload):
            woken.update(item.wakes)
        is_stale = is_stale or isinstance(item, Payload) or _is_unit_file(item)
    if is_stale:
        check(connection, ("systemctl", "daemon-reload"), deadline_s=WRITE_S)
    # After the files: a unit may have come with them.
    units = [item for item in items if isinstance(item, Unit)]
    for difference in survey(connection, units):
        _bring(connection, difference.item)
        told.append(difference.what)
        if isinstance(difference.item, Unit):
            woken.discard(difference.item.name)
    for unit in units:
        if unit.name in woken:
            check(connection, ("systemctl", "try-restart", unit.name), deadline_s=WRITE_S)
            told.append(f"{unit.name}: restarted")
    return tuple(told)


def write(connection: Connection, file: File) -> None:
    """Put a file in its place; readers see the old one or the new one.

    Raises:
        CommandFailed: the disk is full or read-only, most likely.
        DeadlinePassed: the host does not answer in time.
    """
    content = file.content.encode()
    _place(connection, file.path, file.mode, content, secrets=(file.content,))


# --- reading ---------------------------------------------------------------------------------


def _read(connection: Connection, items: Sequence[Item]) -> _Seen:
    files = [item for item in items if isinstance(item, File)]
    payloads = [item for item in items if isinstance(item, Payload)]
    placed = [item for item in payloads if item.kind == "file"]
    stamps = [f.stamp for f in files if f.is_shared] + [
        p.stamp for p in payloads if p not in placed
    ]
    return _Seen(
        digests=_digests(connection, [f.path for f in files] + [p.target for p in placed]),
        modes=_modes(connection, [f.path for f in files] + [p.target for p in placed]),
        stamps=_stamps(connection, stamps),
        units=_units(connection, [item.name for item in items if isinstance(item, Unit)]),
        sysctls=_sysctls(connection, [item.key for item in items if isinstance(item, Sysctl)]),
    )


def _digests(connection: Connection, paths: Sequence[str]) -> dict[str, str]:
    if not paths:
        return {}
    # It ends with 1 where one is missing, and tells of the others all the same.
    lines = connection.run(("sha256sum", "--", *paths)).out.splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def _modes(connection: Connection, paths: Sequence[str]) -> dict[str, int]:
    if not paths:
        return {}
    lines = connection.run(("stat", "--format=%a %n", "--", *paths)).out.splitlines()
    return {path: int(mode, 8) for mode, _, path in (line.partition(" ") for line in lines)}


def _stamps(connection: Connection, paths: Sequence[str]) -> dict[str, str]:
    if not paths:
        return {}
    return heads(connection, paths, _STAMP_BYTES)


def _units(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    asked = "--property=Id,LoadState,ActiveState,UnitFileState"
    blocks = check(connection, ("systemctl", "show", asked, "--", *names)).split("\n\n")
    shown = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks
    ]
    return dict(zip(names, shown, strict=False))


def _sysctls(connection: Connection, keys: Sequence[str]) -> dict[str, str]:
    if not keys:
        return {}
    lines = connection.run(("sysctl", "--ignore", "--", *keys)).out.splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


# --- comparing -------------------------------------------------------------------------------


def _differs(item: Item, seen: _Seen) -> str | None:
    """How the item is not as wanted, in words."""
    match item:
        case File():
            return _file_differs(item, seen)
        case Payload(kind="file"):
            found = seen.digests.get(item.target)
            if found == item.sha256 and seen.modes.get(item.target) == item.mode:
                return None
            return f"{item.target}: {'replaced' if found else 'brought'}"
        case Payload():
            return None if seen.stamps.get(item.stamp) == item.sha256 else f"{item.name}: brought"
        case Sysctl():
            found = seen.sysctls.get(item.key)
            return None if found == item.value else f"{item.key}: {found} → {item.value}"
        case Unit():
            state = seen.units.get(item.name, {})
            if state.get("UnitFileState") != "enabled":
                return f"{item.name}: enabled"
            if item.is_running and state.get("ActiveState") not in _ACTIVE:
                return f"{item.name}: started"
            return None
        case _:
            assert_never(item)


def _file_differs(file: File, seen: _Seen) -> str | None:
    found = seen.digests.get(file.path)
    if found is None:
        return f"{file.path}: written"
    if file.is_shared:
        return None if seen.stamps.get(file.stamp) == file.digest else f"{file.path}: rewritten"
    if found != file.digest:
        return f"{file.path}: rewritten"
    return None if seen.modes.get(file.path) == file.mode else f"{file.path}: mode {file.mode:o}"


def _is_unit_file(item: Item) -> bool:
    return isinstance(item, File) and item.path.startswith(_UNIT_FILES)


# --- writing ---------------------------------------------------------------------------------


def _bring(connection: Connection, item: Item) -> None:
    match item:
        case File():
            write(connection, item)
            if item.is_shared:
                _stamp(connection, item.stamp, item.digest)
        case Payload():
            _carry(connection, item)
        case Sysctl():
            check(connection, ("sysctl", "--write", f"{item.key}={item.value}"))
        case Unit():
            now = ("--now",) if item.is_running else ()
            check(connection, ("systemctl", "enable", *now, item.name), deadline_s=WRITE_S)
        case _:
            assert_never(item)


def _place(
    connection: Connection,
    path: str,
    mode: int,
    content: bytes | Path,
    *,
    deadline_s: float = WRITE_S,
    secrets: Collection[str] = (),
) -> None:
    """Put content at a path; once more where the line breaks."""
    first, again = f"{path}.gridplane-new", f"{path}.gridplane-again"
    fresh: str = first
    leftover: tuple[Command, ...] = ()
    try:
        _bring_beside(connection, first, content, deadline_s, secrets)
    except LineBroke:
        # By another name: what was begun over there may still write to the first.
        fresh, leftover = again, (("rm", "-f", first),)
        _bring_beside(connection, again, content, deadline_s, secrets)
    # Only now: to a program a broken line is the end of the file, and a part would be named as the whole.
    named = ("chmod", f"{mode:04o}", fresh), ("mv", "-fT", fresh, path)
    check(connection, *named, *leftover, deadline_s=deadline_s)


def _bring_beside(
    connection: Connection,
    fresh: str,
    content: bytes | Path,
    deadline_s: float,
    secrets: Collection[str],
) -> None:
    check(
        connection,
        ("install", "-d", posixpath.dirname(fresh)),
        # Private until it is whole, whatever its mode is to be.
        ("install", "-m", "0600", "/dev/null", fresh),
        ("dd", f"of={fresh}", "conv=notrunc,fsync", "status=none", "bs=64K"),
        stdin=content,
        deadline_s=deadline_s,
        secrets=secrets,
    )


def _stamp(connection: Connection, path: str, digest: str) -> None:
    _place(connection, path, 0o644, digest.encode())


def _carry(connection: Connection, payload: Payload) -> None:
    source = Path(payload.source)
    limit_s = WRITE_S + source.stat().st_size / _BYTES_PER_S
    if payload.kind == "file":
        _place(connection, payload.target, payload.mode, source, deadline_s=limit_s)
        return
    inbox = f"{_INBOX}/{payload.name}"
    _place(connection, inbox, 0o600, source, deadline_s=limit_s)
    arrived = check(connection, ("sha256sum", "--", inbox), deadline_s=limit_s).split()
    if arrived[:1] != [payload.sha256]:
        raise UnexpectedReply(
            f"host {connection.name}: {source} did not arrive as its bundle says (SHA-256 "
            f"{payload.sha256:.16}…): make the bundle anew, or find out who changed it"
        )
    use: list[Command]
    if payload.kind == "tree":
        use = [
            (
                "tar",
                "--extract",
                "--preserve-permissions",
                "--keep-directory-symlink",
                "--file",
                inbox,
                "--directory",
                payload.target,
            )
        ]
    else:
        use = []
        if payload.source.endswith(_GZIP):
            use += [("mv", "-fT", inbox, inbox + _GZIP), ("gzip", "--decompress", inbox + _GZIP)]
        use += [("ctr", "--namespace", "k8s.io", "images", "import", inbox)]
    check(connection, *use, ("rm", "-f", inbox), deadline_s=limit_s)
    _stamp(connection, payload.stamp, payload.sha256)
