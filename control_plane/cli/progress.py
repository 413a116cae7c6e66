"""Progress of long work on stderr: count, rate and time left; one line on a terminal, few lines elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import click

from control_plane.views.table import span

_TERMINAL_EVERY_S = 0.1
_LOG_EVERY_S = 5.0
T = TypeVar("T")
R = TypeVar("R")


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


async def each(label: str, items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """What came of all of them, in their order, worked on at once and counted as they end."""
    done = 0
    with ProgressLine(label) as line:

        async def one(item: T) -> R:
            nonlocal done
            result = await work(item)
            done += 1
            line.count(done, len(items))
            return result

        return list(await asyncio.gather(*map(one, items)))


class TimeLeft:
    """Rate and time left of work of which only the rest is known, and which may grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = clock()
        self._most = 0

    def text(self, left: int) -> str:
        """At the rate since there was most to do; empty while nothing is known or left."""
        now_s = self._clock()
        if left > self._most:
            self._most, self._began_s = left, now_s
        done, seconds = self._most - left, now_s - self._began_s
        if not left or done <= 0 or seconds <= 0:
            return ""
        return f"{done / seconds:,.1f}/s, about {span(seconds * left / done)} left"
