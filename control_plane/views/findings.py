"""Findings as people read them: place, fact, the line itself, the fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from control_plane.core.findings import Finding, Severity

_COLOR: Final = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[1;33m"}
_DIM, _END = "\x1b[2m", "\x1b[0m"
_WIDTH: Final = 100
"""Columns of an excerpt around the place."""


def render_findings(findings: Sequence[Finding], *, color: bool) -> str:
    """All findings, each with its excerpt and fix, and a closing count."""
    parts = [_one(finding, color=color) for finding in findings]
    counts = Counter(finding.severity for finding in findings)
    told = [
        f"{counts[severity]} {severity}{'s' if counts[severity] != 1 else ''}"
        for severity in Severity
        if counts[severity]
    ]
    return "\n\n".join([*parts, ", ".join(told)])


def findings_data(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "code": finding.code,
            "severity": finding.severity.value,
            "path": finding.where.path,
            "line": finding.where.line,
            "column": finding.where.column,
            "what": finding.what,
            "suggestion": finding.suggestion,
            "fix": finding.fix,
        }
        for finding in findings
    ]


def _one(finding: Finding, *, color: bool) -> str:
    lines = [finding.headline()]
    if color:
        mark = f"{finding.severity}[{finding.code}]"
        lines = [lines[0].replace(mark, f"{_COLOR[finding.severity]}{mark}{_END}", 1)]
    if finding.excerpt is not None and finding.where.line:
        number = str(finding.where.line)
        start = max(0, finding.where.column - _WIDTH // 2) if finding.where.column > _WIDTH else 0
        shown = finding.excerpt[start : start + _WIDTH]
        lines.append(f"  {number} | {shown}")
        place = finding.where.column - 1 - start
        if finding.where.column and 0 <= place < max(1, len(shown)):
            span = max(1, min(finding.span, len(shown) - place))
            lines.append(f"  {' ' * len(number)} | {' ' * place}{'^' * span}")
    if color:
        lines[1:] = [f"{_DIM}{line}{_END}" for line in lines[1:]]
    lines.append(f"  fix: {finding.fix}")
    return "\n".join(lines)
