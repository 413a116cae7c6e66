"""Progress of long work on stderr: count, rate and time left; one line on a terminal, few lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import click

_TERMINAL_EVERY_S = 0.1
_LOG_EVERY_S = 5.0


class ProgressLine:
    """A line that is rewritten in place."""

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self._label = label
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._shown = float("-inf")
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal and self._width:
            click.echo(err=True)

    def count(self, done: int, total: int) -> None:
        """So many of so many, with rate and time left."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        rate = done / seconds
        left = f"{(total - done) / rate:.0f} s left" if rate > 0 and done < total else "done"
        self.say(
            f"{done:,} of {total:,} ({done / max(total, 1):.0%}), {rate:,.0f}/s, {left}",
            force=done >= total,
        )

    def say(self, text: str, *, force: bool = False) -> None:
        """Any text, if enough time has passed since the last."""
        now = time.monotonic()
        every_s = _TERMINAL_EVERY_S if self._terminal else _LOG_EVERY_S
        if self._quiet or (not force and now - self._shown < every_s):
            return
        self._shown = now
        line = f"{self._label}: {text}"
        if self._terminal:
            click.echo(f"\r{line.ljust(self._width)}", err=True, nl=False)
            self._width = len(line)
        else:
            click.echo(line, err=True)
