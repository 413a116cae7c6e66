"""The chain of the audit file: whole, or broken at a known line."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.core.errors import StoreError
from control_plane.engine.audit import AuditFile


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


def test_a_line_torn_by_a_crash_stays_visible_and_the_record_goes_on(audit: AuditFile) -> None:
    with audit._path.open("ab") as file:
        file.write(b'{"kind":"inte')
    audit.append([{"kind": "intent", "n": 6}])
    lines = audit._path.read_bytes().splitlines()
    assert len(lines) == 7
    assert audit.verify()[1] == 6, "the torn line is named"


def test_without_an_audit_record_nothing_is_done(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="audit"):
        AuditFile(tmp_path / "missing" / "audit.jsonl").append([{"kind": "x"}])
