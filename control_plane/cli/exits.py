"""Exit codes, and what is printed with them. Documented in `docs/reference/cli.md`."""

from __future__ import annotations

import os
import sys
import traceback
from enum import IntEnum

import click

from control_plane.core.errors import (
    ControlPlaneError,
    DeclarationError,
    StoreError,
)
from control_plane.views.table import printable


class Exit(IntEnum):
    """What the shell is told."""

    OK = 0
    """Done, or there was nothing to do."""
    FAILED = 1
    """Something that gridplane did not expect: a bug of ours."""
    USAGE = 2
    """The command line is wrong, or names something that does not exist."""
    INVALID = 3
    """The inventory has errors; nothing was done."""
    ACTIONABLE = 4
    """With `plan --exit-code`: there are steps to take. From `apply`: it ended with some left."""
    REFUSED = 5
    """A rule said no: another's hold, a plan of other content, a shrunken site, no fence."""
    STATE = 6
    """The Store is damaged, full or not writable: nothing is written to devices."""
    HALTED = 7
    """A gate stopped the rollout, or an incident stops writes: a person decides."""
    UNPROVEN = 8
    """`demo`: something that it shows did not hold."""
    INTERRUPTED = 130
    """Ctrl-C: what was under way is finished or recorded."""


class Stop(click.ClickException):
    """Ends a verb with a sentence and a code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code

    def show(self, file: object = None) -> None:
        """One line on stderr."""
        click.echo(f"gridplane: {printable(self.message)}", err=True)


def report(error: BaseException) -> int:
    """Print an error as its kind deserves; the exit code."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return report(error.exceptions[0])
    if isinstance(error, DeclarationError):
        from control_plane.views.findings import render_findings

        click.echo(render_findings(error.findings, color=colored(sys.stderr)), err=True)
        return Exit.INVALID
    if isinstance(error, ControlPlaneError):
        click.echo(f"gridplane: {printable(str(error))}", err=True)
        return Exit.STATE if isinstance(error, StoreError) else Exit.REFUSED
    if os.environ.get("GRIDPLANE_TRACEBACK"):
        traceback.print_exception(error)
    else:
        click.echo(
            f"gridplane: a bug of ours: {type(error).__name__}: {printable(str(error))}. "
            "Set GRIDPLANE_TRACEBACK=1 and send us what it prints.",
            err=True,
        )
    return Exit.FAILED


def colored(stream: object) -> bool:
    """Whether to write colours: on a terminal, and not against NO_COLOR."""
    return not os.environ.get("NO_COLOR") and bool(getattr(stream, "isatty", lambda: False)())
