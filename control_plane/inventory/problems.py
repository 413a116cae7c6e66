"""Collects findings: every problem of a tree at once, up to a cap, each from the register."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from control_plane.core import limits
from control_plane.core.findings import Finding, Severity, SourceRef
from control_plane.inventory.errors import TOO_MANY, Code
from control_plane.inventory.source import WHOLE_FILE, Source, Spot


class Problems:
    """The findings of one load."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._errors = 0
        self._dropped = 0
        self._nearest: dict[tuple[str, frozenset[str]], str | None] = {}

    @property
    def full(self) -> bool:
        """Whether more findings would only be counted: time to stop looking."""
        return len(self._findings) >= limits.FINDINGS_MAX

    @property
    def errors(self) -> int:
        """How many errors were found so far."""
        return self._errors

    def add(
        self,
        code: Code,
        source: Source,
        spot: Spot,
        what: str,
        *,
        fix: str | None = None,
        word: str | None = None,
        known: Collection[str] = (),
    ) -> None:
        """Note a problem.

        Args:
            code: its entry in the register.
            source: the file.
            spot: where in it.
            what: the thing, the fact and the expectation.
            fix: a better next step than the register's.
            word: what the author wrote, where a name was not found.
            known: the names that would have been right; the nearest one is suggested.
        """
        if code.severity is Severity.ERROR:
            self._errors += 1
        if self.full:
            self._dropped += 1
            return
        self._findings.append(
            Finding(
                code=code.code,
                where=source.ref(spot),
                what=what,
                fix=fix or code.fix,
                severity=code.severity,
                suggestion=self._suggest(word, known) if word else None,
                excerpt=source.excerpt(spot),
                span=max(1, spot.span),
            )
        )

    def add_file(
        self,
        code: Code,
        path: str,
        what: str,
        *,
        fix: str | None = None,
        word: str | None = None,
        known: Collection[str] = (),
    ) -> None:
        """Note a problem of a whole file, or of one that is not there."""
        self.add(code, Source(path, ""), WHOLE_FILE, what, fix=fix, word=word, known=known)

    def found(self) -> tuple[Finding, ...]:
        """All findings in the order of files and lines, and a closing one if some were left out."""
        ordered = sorted(self._findings, key=lambda f: (f.where, f.code, f.what))
        if self._dropped:
            ordered.append(
                Finding(
                    code=TOO_MANY.code,
                    where=SourceRef(ordered[-1].where.path),
                    what=f"at least {self._dropped:,} more findings are not shown",
                    fix=TOO_MANY.fix,
                )
            )
        return tuple(ordered)

    def _suggest(self, word: str, known: Collection[str]) -> str | None:
        key = (word, frozenset(known))
        if key not in self._nearest:
            near = [name for name in known if abs(len(name) - len(word)) <= _LENGTH_GAP]
            matches = difflib.get_close_matches(word[:100], near, n=1)
            self._nearest[key] = matches[0] if matches else None
        return self._nearest[key]


_LENGTH_GAP = 4
"""Words that differ more in length are no typing errors; comparing them would only take time."""
