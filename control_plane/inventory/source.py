"""A file as its author sees it: places in it, and lines to show beside a finding."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from control_plane.core.findings import SourceRef

_EXCERPT_MAX: Final = 160
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)
"""Control codes, line breaks that editors do not show, and codes that reorder what a reviewer reads."""


class Spot(NamedTuple):
    """A piece of one line; line and column are 1-based, `span` counts characters."""

    line: int
    column: int
    span: int = 1


WHOLE_FILE: Final = Spot(0, 0, 0)


class Source:
    """One decoded file."""

    __slots__ = ("_lines", "path", "text")

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._lines: list[str] | None = None

    def ref(self, spot: Spot) -> SourceRef:
        """The spot as the core knows it."""
        return SourceRef(self.path, spot.line, spot.column)

    def excerpt(self, spot: Spot) -> str | None:
        """The line of a spot, safe to print; `None` for a whole file."""
        line = self.line(spot.line).replace("\t", " ")
        return _UNPRINTABLE.sub("\ufffd", line[:_EXCERPT_MAX]) or None

    def line(self, number: int) -> str:
        """A line, 1-based; empty where there is none."""
        if self._lines is None:
            self._lines = self.text.splitlines()
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""


def unprintable(text: str) -> re.Match[str] | None:
    """The first character that no declaration may hold."""
    return _UNPRINTABLE.search(text)


def spot_of(text: str, offset: int) -> Spot:
    """Line and column of an offset in a text."""
    line = text.count("\n", 0, offset)
    return Spot(line + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1)


def quoted(value: object) -> str:
    """A value of the author's, cut to a sensible length, in quotes and safe to print."""
    text = _UNPRINTABLE.sub("\ufffd", str(value)).replace("\n", " ")
    return f"'{text[:60]}…'" if len(text) > 60 else f"'{text}'"  # noqa: PLR2004 - what fits a line
