"""The journal of a management host: what is said is on disk, and what cannot be read holds the site."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from control_plane.core.errors import StoreBusy, StoreError
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.engine import said

SITE, NOW_S = "lab", 1_790_000_000.0


def hold(number: int) -> Overlay:
    return Overlay(
        id=f"h-{number}",
        kind=OverlayKind.SAFETY_HOLD,
        node="lab-r1",
        owner="ann",
        reason="PDU swap",
        since_s=NOW_S,
        assets=frozenset({"lab-r1-s1"}),
    )


def pending(folder: Path) -> list[Overlay]:
    return said.pending(folder, SITE, node="mgmt-1", now_s=NOW_S)


def test_what_was_said_is_there_until_it_stands_in_the_cluster(tmp_path: Path) -> None:
    assert pending(tmp_path) == []
    for number in range(3):
        said.say(tmp_path, SITE, hold(number))
    assert pending(tmp_path) == [hold(0), hold(1), hold(2)]
    said.note_kept(tmp_path, SITE, ["h-0", "h-2"])
    assert pending(tmp_path) == [hold(1)]
    said.say(tmp_path, SITE, hold(3))
    assert pending(tmp_path) == [hold(1), hold(3)]
    assert said.pending(tmp_path, "ga-macon", node="mgmt-1", now_s=NOW_S) == []


def test_every_single_damaged_byte_is_noticed_and_holds_the_site(tmp_path: Path) -> None:
    for number in range(2):
        said.say(tmp_path, SITE, hold(number))
    path = said.file_of(tmp_path, SITE)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :])
        found = pending(tmp_path)
        assert [o for o in found if o.owner == said.OWNER and o.node == SITE], at


@pytest.mark.parametrize("at", [1, 50, -1, -30])
def test_a_line_that_was_cut_off_holds_the_site_and_stays_one_line(tmp_path: Path, at: int) -> None:
    for number in range(2):
        said.say(tmp_path, SITE, hold(number))
    path = said.file_of(tmp_path, SITE)
    whole = path.read_bytes()
    path.write_bytes(whole[:at])
    if at == -1:
        assert pending(tmp_path) == [hold(0), hold(1)], "the line itself is whole"
    else:
        (damage,) = [o for o in pending(tmp_path) if o.owner == said.OWNER]
        assert "damaged" in damage.reason
    before = len(pending(tmp_path))
    said.say(tmp_path, SITE, hold(9))
    assert pending(tmp_path)[-1] == hold(9)
    assert len(pending(tmp_path)) == before + 1


def test_a_damaged_line_that_a_person_has_looked_at_holds_no_more(tmp_path: Path) -> None:
    for number in range(2):
        said.say(tmp_path, SITE, hold(number))
    path = said.file_of(tmp_path, SITE)
    path.write_bytes(b"rubbish\n" + path.read_bytes().splitlines(keepends=True)[1])
    damage, kept = pending(tmp_path)
    assert kept == hold(1)
    said.note_kept(tmp_path, SITE, [damage.id])
    assert pending(tmp_path) == [hold(1)]


def test_lines_that_are_missing_are_noticed(tmp_path: Path) -> None:
    for number in range(4):
        said.say(tmp_path, SITE, hold(number))
    path = said.file_of(tmp_path, SITE)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[3]]))
    gap = next(o for o in pending(tmp_path) if o.owner == said.OWNER)
    assert "lines are missing" in gap.reason


def test_a_line_of_a_newer_release_is_no_line_that_can_be_passed_over(tmp_path: Path) -> None:
    line = said.Line(version=said.VERSION + 1, number=0, said=hold(0))
    said.file_of(tmp_path, SITE).write_bytes(said._encoded(line))
    (damage,) = pending(tmp_path)
    assert damage.owner == said.OWNER


def test_a_folder_that_is_not_there_is_no_empty_journal(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        pending(tmp_path / "not mounted")
    with pytest.raises(StoreError):
        said.say(tmp_path / "not mounted", SITE, hold(0))


def test_who_finds_it_locked_says_so_and_keeps_nothing(tmp_path: Path) -> None:
    said.say(tmp_path, SITE, hold(0))
    with said.file_of(tmp_path, SITE).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreBusy):
            pending(tmp_path)
        with pytest.raises(StoreBusy):
            said.say(tmp_path, SITE, hold(1))
    assert pending(tmp_path) == [hold(0)]


def test_the_group_may_write_whatever_the_umask_is(tmp_path: Path) -> None:
    said.say(tmp_path, SITE, hold(0))
    assert said.file_of(tmp_path, SITE).stat().st_mode & 0o777 == 0o660
