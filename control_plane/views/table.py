"""Plain tables and quantities as people read them. Own writer: a table library costs 200 times more a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from control_plane.core.units import THS_PER_EHS, THS_PER_PHS, W_PER_KW, W_PER_MW

_CODES: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns aligned by their widest cell; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = (
        [
            bool(cells) and all(isinstance(row[column], int | float) for row in rows)
            for column in range(len(header))
        ]
        if isinstance(rows, Sequence)
        else [False] * len(header)
    )
    widths = [
        max(len(title), *(len(row[column]) for row in cells)) if cells else len(title)
        for column, title in enumerate(header)
    ]
    lines = []
    for row in (list(header), *cells):
        parts = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return one_line(str(value))


def one_line(text: str) -> str:
    """What a device or a person said, in one line."""
    return printable(text.replace("\n", "\\n"))


def printable(text: str) -> str:
    """Text with every code that moves a cursor, colours or reorders spelled out: devices may send any."""
    return _CODES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def power(watts: float) -> str:
    """`3.52 kW`, `41.8 MW`."""
    if abs(watts) >= W_PER_MW:
        return f"{watts / W_PER_MW:,.2f} MW"
    if abs(watts) >= W_PER_KW:
        return f"{watts / W_PER_KW:,.1f} kW"
    return f"{watts:,.0f} W"


def hashrate(ths: float) -> str:
    """`110 TH/s`, `21.4 PH/s`, `2.31 EH/s`."""
    if abs(ths) >= THS_PER_EHS:
        return f"{ths / THS_PER_EHS:,.3f} EH/s"
    if abs(ths) >= THS_PER_PHS:
        return f"{ths / THS_PER_PHS:,.1f} PH/s"
    return f"{ths:,.0f} TH/s"


def counted(number: int, noun: str) -> str:
    """`1 device`, `3,364 devices`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(seconds: float) -> str:
    """`42 s`, `3 min`, `5 h`, `2 d`."""
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def listed(counts: Iterable[tuple[str, int]], most: int = 8) -> str:
    """`612 no_headroom · 420 out_of_service · 3 more kinds`, the largest first."""
    ordered = sorted(counts, key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} {name}" for name, count in ordered[:most]]
    if len(ordered) > most:
        parts.append(f"{len(ordered) - most} more kinds")
    return " · ".join(parts)
