"""Tables and quantities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.views.table import hashrate, listed, one_line, power, printable, span, table


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() -> None:
    assert table(("NAME", "W"), [("a", 5), ("long-name", 1_234_567)]).splitlines() == [
        "NAME               W",
        "a                  5",
        "long-name  1,234,567",
    ]


def test_what_is_not_known_is_a_dash_and_never_zero() -> None:
    assert table(("A", "B"), [(None, True), (0, False)]).splitlines()[1:] == ["-  yes", "0   no"]


def test_without_rows_there_is_a_header() -> None:
    assert table(("A", "B"), []) == "A  B"


@pytest.mark.parametrize(
    ("watts", "text"),
    [(0, "0 W"), (999, "999 W"), (3_520, "3.5 kW"), (41_800_000, "41.80 MW"), (-3_520, "-3.5 kW")],
)
def test_power(watts: float, text: str) -> None:
    assert power(watts) == text


@pytest.mark.parametrize(
    ("ths", "text"), [(110, "110 TH/s"), (21_400, "21.4 PH/s"), (2_310_000, "2.310 EH/s")]
)
def test_hashrate(ths: float, text: str) -> None:
    assert hashrate(ths) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(42, "42 s"), (180, "3 min"), (18_000, "5 h"), (172_800, "2 d")]
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_counts_are_listed_largest_first_and_cut_short() -> None:
    assert listed([("b", 1), ("a", 1), ("c", 7)]) == "7 c · 1 a · 1 b"
    assert listed([(f"r{n}", n) for n in range(1, 12)]).endswith(" · 3 more kinds")


@given(st.text())
def test_no_text_moves_a_cursor_or_breaks_its_line(said: str) -> None:
    shown = one_line(said)
    assert len(shown.splitlines()) <= 1
    assert all(char.isprintable() or char.isspace() or ord(char) >= 0xA0 for char in shown)
    assert "\x1b" not in printable(said)
    assert printable("plain\ntext, é, ✓") == "plain\ntext, é, ✓"


@given(st.lists(st.tuples(st.text(), st.one_of(st.none(), st.integers(), st.floats(), st.text()))))
def test_a_table_has_a_line_for_each_row(rows: list[tuple[object, ...]]) -> None:
    assert len(table(("A", "B"), rows).split("\n")) == len(rows) + 1
