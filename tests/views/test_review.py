"""The comment of a pull request: its size, and what a stranger's text may do in it."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.against import Comparison, FieldChange, Total
from control_plane.core.blame import Blame, changed_lines
from control_plane.core.decision import Danger
from control_plane.core.findings import Finding, SourceRef
from control_plane.views.review import Review, Reviewed, notes_of, render_comment, render_notes

WHERE = SourceRef("inventory/owners/house.yaml", 4, 9)
HOSTILE = "x\n::error::pwned `@everyone` <!-- --> </details> ```\n# big [link](http://evil.example)"


def a_site(
    name: str, *, changes: int = 1, text: str = "low", danger: Danger = Danger.D1
) -> Reviewed:
    total = Total(devices=15_000, managed=14_000, power_w=50e6, miners_w=49e6, hashrate_ths=2.7e6)
    made = tuple(
        FieldChange(asset=f"m-{n}", field=f"field_{n % 25}", before=f"{text} {n}", after=text * 20)
        for n in range(changes)
    )
    return Reviewed(
        comparison=Comparison(
            site=name, before=total, after=total, added=(), removed=(), retired=(), changes=made,
            subjects=changes, waves=(1, changes), power_changed_w=0.0, danger=danger,
        ),
        blames=(Blame(where=WHERE, field="pools", devices=changes, before=text, after=text),),
    )  # fmt: skip


@pytest.mark.parametrize("sites", [1, 20, 400])
def test_it_fits_into_a_comment_whatever_changes(sites: int) -> None:
    review = Review(
        reference="main",
        sites=tuple(a_site(f"site-{n:03}", changes=300, text="pool " * 30) for n in range(sites)),
        stacks=tuple(f"site-{n:03}.fleet" for n in range(sites)),
        gone={f"gone-{n:04}": 1 for n in range(2_000)},
    )
    comment = render_comment(review)
    assert len(comment) <= limits.COMMENT_MAX_CHARS
    assert comment.count("```") % 2 == 0, "every block is closed"
    assert ("More than a comment holds" in comment) == (sites > 1)
    assert f"`site-{min(sites, 100) - 1:03}`" in comment


def test_findings_fit_too() -> None:
    found = Finding(code="E0101", where=WHERE, what="wrong " * 200, fix="right " * 200)
    comment = render_comment(Review(reference="main", findings=(found,) * 500))
    assert len(comment) <= limits.COMMENT_MAX_CHARS
    assert "**Not valid**: 500 errors" in comment


def test_what_a_stranger_wrote_stays_text() -> None:
    review = Review(
        reference="main",
        sites=(a_site("s", text=HOSTILE),),
        findings=(
            Finding(
                code="E0301",
                where=SourceRef("inventory/<b>@team.yaml", 1, 1),
                what=HOSTILE,
                fix="no",
            ),
        ),
    )
    valid = msgspec.structs.replace(review, findings=())
    for comment in (render_comment(review), render_comment(valid)):
        outside = "".join(comment.split("```")[::2])
        for word in ("@everyone", "evil.example", "@team", "<b>", "pwned"):
            assert word not in outside
    lines = render_notes(notes_of(review)).splitlines()
    assert len(lines) == 2, "no line of it begins a command of its own"
    assert all(line.startswith(("::error file=", "::warning file=")) for line in lines)


def test_one_line_that_changes_many_sites_is_one_note() -> None:
    review = Review(
        reference="main", sites=tuple(a_site(f"s{n}", changes=50, text="low") for n in range(20))
    )
    (note,) = notes_of(review)
    assert (note.title, note.where) == ("20 sites: pools", WHERE)
    assert note.text.startswith("1,000 devices: low -> low")


def test_no_more_notes_than_a_forge_shows() -> None:
    blames = tuple(
        Blame(
            where=SourceRef("inventory/a.yaml", n, 1), field=field, devices=1, before="a", after="b"
        )
        for n in range(1, 30)
        for field in ("pools", "power_mode")
    )
    site = msgspec.structs.replace(a_site("s"), blames=blames)
    levels = [note.level for note in notes_of(Review(reference="main", sites=(site,)))]
    assert levels == ["warning"] * 10 + ["notice"] * 10


def test_changed_lines_are_those_that_the_other_version_has_not() -> None:
    before = {"a.yaml": b"one\ntwo\ntwo\n", "same.yaml": b"x\n"}
    after = {"a.yaml": b"two\none\ntwo\ntwo\nnew\n", "same.yaml": b"x\n", "b.yaml": b"y\n"}
    assert changed_lines(before, after, prefix="inventory/") == {
        "inventory/a.yaml": frozenset({4, 5}),
        "inventory/b.yaml": frozenset({1}),
    }
