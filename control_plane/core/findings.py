"""A problem as data: collected, sorted, shown all at once."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The declaration is not accepted."""
    WARNING = "warning"
    """Accepted; a person should look."""


class SourceRef(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in the declaration. `path` is relative to the inventory's parent folder."""

    path: str
    line: int = 0
    """1-based; 0 stands for the whole file."""
    column: int = 0
    """1-based; 0 stands for the whole line."""

    def __str__(self) -> str:
        if not self.line:
            return self.path
        return (
            f"{self.path}:{self.line}:{self.column}" if self.column else f"{self.path}:{self.line}"
        )


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One problem in a declaration."""

    code: str
    """Stable code `E0xxx`, listed in the error reference."""
    where: SourceRef
    """Where the author has to look."""
    what: str
    """The thing, the fact and the expectation, in one sentence."""
    fix: str
    """The next step for the author."""
    severity: Severity = Severity.ERROR
    suggestion: str | None = None
    """The nearest valid word, where a name was not found."""
    excerpt: str | None = None
    """The source line, without control characters."""
    span: int = 1
    """Characters to underline from the column on."""

    def headline(self) -> str:
        """The first line as people and editors read it."""
        hint = f" (did you mean '{self.suggestion}'?)" if self.suggestion else ""
        return f"{self.where}: {self.severity}[{self.code}] {self.what}{hint}"
