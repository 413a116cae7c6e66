"""What persons set in force for many GPU nodes at once, in words: emergencies and break-glass."""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.core.remedy_case import BreakGlass, Emergency
from control_plane.core.remedy_urgent import persons_missing
from control_plane.views.table import counted, one_line, span


def said_in_words(words: Iterable[Emergency | BreakGlass], now_s: float) -> list[str]:
    """Of each, in two lines, who said it and for how long, and what a person may do next."""
    return [_said(word, now_s) for word in words]


def _said(word: Emergency | BreakGlass, now_s: float) -> str:
    left = span(max(word.until_s - now_s, 0.0))
    if isinstance(word, Emergency):
        by = one_line(word.by or f"standing order {word.plan}")
        head = (
            f"{word.kind.capitalize()} emergency {word.id} in {', '.join(sorted(word.domains))}, "
            f"{left} more: {by}{_why(word.reason)}"
        )
        return f"{head}\n  next  `gridplane remedy end {word.id} --reason ...` once it is over"
    of = f"{counted(len(word.nodes), 'GPU node')}, {word.watts / 1e6:.2f} MW"
    by = f"{one_line(' and '.join(word.by))}{_why(word.reason)}"
    if persons_missing(word):
        then = f"`gridplane remedy approve {word.id} --reason ...` by another person"
        waits = f"Break-glass {word.id} of {of} waits for a second person, {left} more: {by}"
        return f"{waits}\n  next  {then}"
    head = f"Break-glass {word.id} of {of}, {left} more: {by}"
    return f"{head}\n  next  `gridplane remedy end {word.id} --reason ...` once it is not needed"


def _why(reason: str) -> str:
    return f" ({one_line(reason)})" if reason else ""
