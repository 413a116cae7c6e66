"""`make bench ARGS=--write`: what is measured anew is written anew, and nothing else of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import page
from bench.figures import Figure
from tests.stock import ROOT

Measure = Callable[[], list[Figure]]


def figures(*values: float) -> Measure:
    return lambda: [Figure(name=f"row {n}", value=v, unit="s") for n, v in enumerate(values)]


def torn() -> list[Figure]:
    raise RuntimeError("no such machine")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of three areas, of which two have figures."""
    place = tmp_path / "performance.md"
    monkeypatch.setattr(bench, "PAGE", place)
    monkeypatch.setattr(bench, "passwords", lambda: None)
    measures = {"first": figures(1.5), "second": figures(2.5, 3.5), "third": figures(4.5)}
    monkeypatch.setattr(bench, "BENCHES", measures)
    assert bench.main(["first", "second", "--write"]) == 0
    return place


def test_one_area_is_written_and_the_others_stay(
    written: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = page.sections(written.read_text())
    assert list(before) == ["first", "second"]
    assert "| row 1 | 3.5 s |" in before["second"]
    again = {"first": torn, "second": figures(9.5), "third": torn}
    monkeypatch.setattr(bench, "BENCHES", again)
    assert bench.main(["second", "--write"]) == 0
    after = page.sections(written.read_text())
    assert after["first"] == before["first"]
    assert "| row 0 | 9.5 s |" in after["second"]
    assert "row 1" not in after["second"]
    assert "| row 0 | 9.5 s |" in capsys.readouterr().out


def test_areas_stand_in_the_order_of_the_benchmarks_and_one_that_is_gone_goes(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "BENCHES", {"third": figures(4.5), "first": figures(1.5)})
    assert bench.main(["third", "--write"]) == 0
    assert list(page.sections(written.read_text())) == ["third", "first"]


def test_without_an_area_all_are_written_and_without_write_nothing(written: Path) -> None:
    assert bench.main(["--write"]) == 0
    text = written.read_text()
    assert list(page.sections(text)) == ["first", "second", "third"]
    assert bench.main(["first"]) == 0
    assert written.read_text() == text


def test_what_was_measured_before_one_failed_is_kept(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "BENCHES", {"first": figures(7.5), "second": torn})
    with pytest.raises(RuntimeError):
        bench.main(["--write"])
    kept = page.sections(written.read_text())
    assert "| row 0 | 7.5 s |" in kept["first"]
    assert "| row 0 | 2.5 s |" in kept["second"]


def test_an_area_that_is_not_there_is_refused(written: Path) -> None:
    text = written.read_text()
    with pytest.raises(SystemExit) as ended:
        bench.main(["pol", "--write"])
    assert ended.value.code == 2
    assert written.read_text() == text


def test_the_page_of_the_tree_has_areas_that_are_measured() -> None:
    text = (ROOT / "docs/reference/performance.md").read_text()
    found = page.sections(text)
    assert found
    assert list(found) == [name for name in bench.BENCHES if name in found]
    assert page.whole(found, list(bench.BENCHES)) == text, "as it would be written"
