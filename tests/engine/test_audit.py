"""The chain of the audit file: whole, or broken at a known line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane.core.errors import StoreError
from control_plane.engine.audit import AuditFile
from control_plane.engine.store import Store


@pytest.fixture
def audit(tmp_path: Path) -> AuditFile:
    file = AuditFile(tmp_path / "audit.jsonl")
    for n in range(5):
        file.append([{"kind": "intent", "n": n}])
    return file


def test_a_whole_chain_verifies(audit: AuditFile) -> None:
    assert audit.verify() == (5, None)


@pytest.mark.parametrize(
    ("change", "broken_at"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b'"n":2', b'"n":9'), *lines[3:]], 4),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
        (lambda lines: [b"{torn", *lines], 1),
    ],
    ids=["edited", "deleted", "reordered", "prepended"],
)
def test_tampering_breaks_the_chain(audit: AuditFile, change: object, broken_at: int) -> None:
    lines = audit._path.read_bytes().splitlines()
    audit._path.write_bytes(b"\n".join(change(lines)) + b"\n")  # type: ignore[operator]
    assert audit.verify()[1] == broken_at


def test_a_line_torn_by_a_crash_is_cut_off_and_the_record_goes_on(audit: AuditFile) -> None:
    """Nobody was told that it is on disk: the append that wrote it never returned."""
    with audit._path.open("ab") as file:
        file.write(b'{"kind":"inte')
    audit.append([{"kind": "intent", "n": 6}])
    assert audit.verify() == (6, None)


class Site:
    """A Store and the audit file beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.jsonl"
        self.store = Store(folder / "state.sqlite")
        self.audit = AuditFile(self.path, self.store)
        for n in range(5):
            self.audit.append([{"kind": "intent", "operation": f"o{n}", "asset": f"d{n}"}])

    def kinds(self) -> list[str]:
        return [record["kind"] for record in self.audit.records()]


@pytest.fixture
def kept(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_untouched_file_is_taken_over_as_it_is(kept: Site) -> None:
    before = kept.path.read_bytes()
    kept.audit.take_over()
    assert kept.path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda data: data[: len(data) // 2], "line 3"),
        (lambda data: data[: data[:-1].rindex(b"\n") + 1], "cut"),
        (lambda data: data.replace(b'"o2"', b'"oX"'), "line 4"),
        (lambda data: data.replace(b'"o4"', b'"oX"'), "cut"),
        (lambda data: b"\xff\x00garbage\n" * 20, "line 1"),
        (lambda data: data.replace(b"\n", b""), "line 1"),
    ],
    ids=["halved", "last record gone", "edited", "last record edited", "garbage", "one line"],
)
def test_a_file_that_somebody_changed_is_not_acted_upon(
    kept: Site, damage: Callable[[bytes], bytes], what: str
) -> None:
    kept.path.write_bytes(damage(kept.path.read_bytes()))
    with pytest.raises(StoreError, match=f"{what}.*move it aside"):
        kept.audit.take_over()
    kept.audit.append([{"kind": "hold"}])
    with pytest.raises(StoreError, match="not as it was left"):
        kept.audit.take_over()


def test_a_file_moved_aside_is_followed_by_one_that_says_so(kept: Site) -> None:
    mark = kept.store.audit_mark()
    assert mark is not None
    kept.path.rename(kept.path.with_suffix(".damaged"))
    kept.audit.take_over()
    kept.audit.append([{"kind": "accept"}])
    kept.audit.take_over()
    assert kept.kinds() == ["continues", "accept"]
    assert next(kept.audit.records())["after"] == mark.head
    assert kept.audit.verify() == (2, None)


def test_what_was_said_in_a_transaction_that_failed_is_declared_void(kept: Site) -> None:
    with pytest.raises(RuntimeError), kept.store.transaction():  # noqa: PT012 - one transaction
        kept.audit.append([{"kind": "intent", "operation": "o9", "asset": "d9"}])
        raise RuntimeError("the process dies here")
    kept.audit.take_over()
    assert kept.kinds() == ["intent"] * 6 + ["void"]
    void = list(kept.audit.records())[-1]
    assert (void["of"], void["operation"]) == ("intent", "o9")
    assert kept.audit.verify() == (7, None)
    kept.audit.take_over()
    assert kept.kinds() == ["intent"] * 6 + ["void"], "once"


def test_a_full_disk_leaves_no_half_record(kept: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept.path.read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:10]))
    with pytest.raises(StoreError, match="No space left"):
        kept.audit.append([{"kind": "intent"}])
    assert kept.path.read_bytes() == before


def test_without_an_audit_record_nothing_is_done(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="audit"):
        AuditFile(tmp_path / "missing" / "audit.jsonl").append([{"kind": "x"}])
