"""A pull request as a forge shows it: one comment, and a note beside each line that does something.

What stands in the inventory was written by whoever opened the pull request: it reaches the comment in code
blocks alone, where nobody is notified and nothing is a link, and a workflow command escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.against import Comparison, Total
from control_plane.core.blame import Blame
from control_plane.core.decision import Danger
from control_plane.core.findings import Finding, Severity, SourceRef
from control_plane.views.comparison import render_comparison
from control_plane.views.findings import render_findings
from control_plane.views.plan import DANGER
from control_plane.views.table import counted, hashrate, one_line, power, printable

MARK: Final = "<!-- gridplane-plan -->"
"""The first line of the comment, by which the next run finds it."""
_NOTES_MAX: Final = 10
"""Of each level: a forge shows no more of one step."""
_ROWS_MAX: Final = 100
_LINE_MAX: Final = 160
_LIST_MAX: Final = 4_000
_TITLE: Final = "### gridplane: what this change does to the hardware"
_CUT_OFF: Final = "\nMore than a comment holds: `gridplane plan --against` shows each site whole."
_WARNED: Final = frozenset({"pools", "owner", "firmware", "family", "gpu_remedies"})


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """One site that changes."""

    comparison: Comparison
    blames: tuple[Blame, ...]
    removed_at: tuple[SourceRef, ...] = ()
    """Where what leaves stood, the file of most devices first."""

    @property
    def leaving(self) -> int:
        """Devices that would be managed no more."""
        return len(self.comparison.removed) + len(self.comparison.retired)


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A whole pull request."""

    reference: str
    """What it is compared with."""
    sites: tuple[Reviewed, ...] = ()
    unchanged: int = 0
    """Sites that mean the same as before."""
    gone: Mapping[str, int] = {}
    """Sites that are no longer declared, with the devices that were managed there."""
    stacks: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Of the inventory as proposed; with an error among them nothing else is known."""
    base_is_broken: bool = False
    """What it is compared with does not load, so that there is nothing to compare with."""
    acknowledged: int | None = None
    """That exactly so many devices leave is meant."""

    @property
    def is_valid(self) -> bool:
        """Whether the proposed inventory loads."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)

    @property
    def leaving(self) -> int:
        """Devices that would be managed no more."""
        return sum(site.leaving for site in self.sites) + sum(self.gone.values())

    @property
    def refused(self) -> tuple[str, ...]:
        """Sites that shrink past the limit without a word that this is meant."""
        if self.acknowledged is not None and self.acknowledged == self.leaving:
            return ()
        return (
            *(site.comparison.site for site in self.sites if site.comparison.shrunk),
            *self.gone,
        )


# --- the comment ---------------------------------------------------------------------------------


def render_comment(review: Review) -> str:
    """Markdown of at most COMMENT_MAX_CHARS characters, whatever the fleet."""
    lines = [MARK, _TITLE, "", *_opening(review)]
    room = limits.COMMENT_MAX_CHARS - len("\n".join(lines)) - len(_CUT_OFF) - 1
    for block in _blocks(review):
        if len(block) + 1 > room:
            lines.append(_CUT_OFF)
            break
        lines.append(block)
        room -= len(block) + 1
    return "\n".join(lines)


def _opening(review: Review) -> list[str]:
    if not review.is_valid:
        errors = sum(finding.severity is Severity.ERROR for finding in review.findings)
        return [f"**Not valid**: {counted(errors, 'error')}. Nothing was compared.", ""]
    if review.base_is_broken:
        return ["What it is compared with does not load: there is nothing to compare with.", ""]
    if not review.sites and not review.gone:
        return ["Nothing: every site means the same as before.", ""]
    lines = []
    if review.sites:
        lines += [
            "| site | power | hash | devices to reach | leaving | danger |",
            "| --- | --- | --- | --- | --- | --- |",
            *map(_row, review.sites[:_ROWS_MAX]),
            "",
        ]
    if len(review.sites) > _ROWS_MAX:
        lines.append(f"... and {len(review.sites) - _ROWS_MAX:,} more sites.\n")
    if review.refused:
        domains = ", ".join(filter(None, (site.comparison.shrunk for site in review.sites)))
        lines.append(
            f"**Refused**: {counted(review.leaving, 'device')} would be managed no more, "
            f"{_code(domains or ', '.join(review.refused))}. If that is meant, say how many: "
            "`--acknowledge-removals`.\n"
        )
    for site in review.sites:
        lines += [
            f"**Not accepted**, unless its waves are still under way: {_code(words)}.\n"
            for words in site.comparison.steps_back
        ]
    if review.gone:
        lines.append(f"No longer declared: {_code(', '.join(review.gone))}\n")
    if review.unchanged:
        lines.append(f"{counted(review.unchanged, 'other site')}: no change of meaning.\n")
    if review.stacks:
        lines.append(f"Stacks to bring up: {_code(' '.join(review.stacks))}\n")
    return lines


def _row(site: Reviewed) -> str:
    made = site.comparison
    cells = (
        f"`{made.site}`",
        _arrow(made.before, made.after, lambda total: power(total.power_w)),
        _arrow(made.before, made.after, lambda total: hashrate(total.hashrate_ths)),
        f"{made.subjects:,}",
        f"{site.leaving:,}",
        f"{made.danger} ({DANGER[made.danger]})",
    )
    return f"| {' | '.join(cells)} |"


def _arrow(before: Total | None, after: Total, show: Callable[[Total], str]) -> str:
    return f"{show(before) if before else '-'} -> {show(after)}"


def _blocks(review: Review) -> Iterable[str]:
    # One a block: as many as there is room for.
    for finding in review.findings:
        yield _details(
            f"{finding.code} in <code>{_in_html(str(finding.where))}</code>",
            render_findings([finding], color=False),
        )
    for site in review.sites:
        text = render_comparison(site.comparison, reference=review.reference)
        yield _details(f"<code>{site.comparison.site}</code>", text)


def _details(title: str, text: str) -> str:
    """A block that opens on a click; what is in it is text, whatever it says."""
    shown = "\n".join(_cut(line) for line in printable(text).splitlines()).replace("`", "'")
    return f"<details><summary>{title}</summary>\n\n```text\n{shown}\n```\n\n</details>"


def _cut(line: str, most: int = _LINE_MAX) -> str:
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _code(text: str) -> str:
    return f"`{_cut(one_line(text).replace('`', chr(39)), _LIST_MAX)}`"


def _in_html(text: str) -> str:
    return _cut(one_line(text)).replace("&", "&amp;").replace("<", "&lt;").replace("@", "&#64;")


# --- notes beside lines --------------------------------------------------------------------------


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence beside one line."""

    level: str
    """`error`, `warning` or `notice`."""
    where: SourceRef
    """Path from the top of the repository."""
    title: str
    text: str


def notes_of(review: Review) -> list[Note]:
    """At most ten of each level, what matters most first."""
    found = [_finding_note(finding) for finding in review.findings]
    refused = frozenset(review.refused)
    found += [
        _removal_note(site)
        for site in review.sites
        if site.comparison.site in refused and site.removed_at
    ]
    found += _blame_notes(review.sites)
    return [
        note
        for level in ("error", "warning", "notice")
        for note in [each for each in found if each.level == level][:_NOTES_MAX]
    ]


def _finding_note(finding: Finding) -> Note:
    return Note(
        level="error" if finding.severity is Severity.ERROR else "warning",
        where=finding.where,
        title=finding.code,
        text=f"{finding.what}. Fix: {finding.fix}",
    )


def _removal_note(site: Reviewed) -> Note:
    return Note(
        level="error",
        where=site.removed_at[0],
        title=f"{site.comparison.site}: mass removal",
        text=f"{site.comparison.shrunk} would be managed no more: "
        "more than a change may release without a word",
    )


def _blame_notes(sites: Sequence[Reviewed]) -> list[Note]:
    """One for each line and field: a shared file changes many sites by one line."""
    groups: dict[tuple[SourceRef, str], list[tuple[Reviewed, Blame]]] = {}
    for site in sites:
        for blame in site.blames:
            groups.setdefault((blame.where, blame.field), []).append((site, blame))
    return [_blame_note(where, field, found) for (where, field), found in groups.items()]


def _blame_note(where: SourceRef, field: str, found: Sequence[tuple[Reviewed, Blame]]) -> Note:
    names = [site.comparison.site for site, _ in found]
    danger = max(site.comparison.danger for site, _ in found)
    devices = counted(sum(blame.devices for _, blame in found), "device")
    changes = {(blame.before, blame.after) for _, blame in found}
    change = "differs per device"
    if len(changes) == 1:
        ((before, after),) = changes
        if before is not None and after is not None:
            change = f"{_cut(before)} -> {_cut(after)}"
    at = names[0] if len(names) == 1 else counted(len(names), "site")
    return Note(
        level="warning" if field in _WARNED or danger >= Danger.D3 else "notice",
        where=where,
        title=f"{at}: {field}",
        text=f"{devices}: {change}; danger {danger} ({DANGER[danger]})",
    )


def render_notes(notes: Sequence[Note]) -> str:
    """As workflow commands of GitHub, which shows them beside the lines of the pull request."""
    return "\n".join(map(_command, notes))


def _command(note: Note) -> str:
    place = [f"file={_property(note.where.path)}"]
    if note.where.line:
        place.append(f"line={note.where.line}")
    if note.where.column:
        place.append(f"col={note.where.column}")
    place.append(f"title={_property(note.title)}")
    return f"::{note.level} {','.join(place)}::{_escaped(printable(note.text))}"


def _escaped(text: str) -> str:
    """GitHub's own escapes: a line break would end the command, and begin another."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
