"""The charts of a platform, checked before Helm sees them.

Helm itself takes what it does not know without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final, TypeVar

import msgspec

from control_plane.api.v1alpha1 import Document as Doc
from control_plane.core.errors import DeclarationError
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.shape import File, read_shape
from control_plane.inventory.source import quoted
from control_plane.inventory.text import Document, read_yaml
from control_plane.provision.chart_docs import ChartDoc, ChartsDoc, FactsDoc, KeptDoc, KeyDoc

D = TypeVar("D", bound=Doc)
Facts = Mapping[str, FactsDoc]
Steps = tuple[str, ...]

UNVERIFIED: Final = "not verified against the published chart"


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """One chart to install."""

    name: str
    doc: ChartDoc
    facts: FactsDoc

    def kept(self) -> Iterator[tuple[KeptDoc, dict[str, Any]]]:
        """Each object that the chart makes, and what of our values has to be in it."""
        for kept in self.facts.kept:
            wanted: dict[str, Any] = {}
            for value, place in kept.fields.items():
                found = _at(self.doc.values, tuple(value.split(".")))
                if found is not _NOTHING:
                    _put(wanted, tuple(place.split(".")), found)
            yield kept, wanted


@cache
def known_facts() -> Facts:
    """Chart → what is known of it: the files of this package."""
    found: dict[str, FactsDoc] = {}
    folder = resources.files("control_plane.provision") / "charts"
    for path in sorted(folder.iterdir(), key=lambda one: one.name):
        facts = read_facts(f"{__package__}/charts/{path.name}", path.read_bytes())
        found[facts.chart] = facts
    return found


def read_facts(path: str, data: bytes) -> FactsDoc:
    """What is known of a chart.

    Raises:
        DeclarationError: the file is not as it has to be.
    """
    return _read(path, data, FactsDoc)[0].data


def read_charts(path: str, data: bytes, facts: Facts) -> tuple[Chart, ...]:
    """The charts of a platform, in the order in which they are installed.

    Args:
        path: how findings name the file.
        data: its bytes.
        facts: what is known of charts.

    Raises:
        DeclarationError: unknown charts or values, values of the wrong kind, combinations that a chart
            refuses; all of them at once.
    """
    file, problems = _read(path, data, ChartsDoc)
    charts: dict[str, Chart] = {}
    for name, doc in file.data.charts.items():
        where = file.doc.key("charts", name)
        if name not in facts:
            what = f"nothing is known of the chart {quoted(name)}"
            problems.add(errors.UNKNOWN_CHART, file.doc, where, what, word=name, known=facts)
            continue
        if (doc.repository is None) == (doc.path is None):
            what = f"chart {quoted(name)} has " + (
                "no source" if doc.repository is None else "both a repository and a path"
            )
            problems.add(errors.UNPINNED_CHART, file.doc, where, what)
        charts[name] = Chart(name=name, doc=doc, facts=facts[name])
        _check_values(file.doc, charts[name], problems)
    for chart in charts.values():
        _check_combinations(file.doc, chart, charts, problems)
    if problems.errors:
        raise DeclarationError(problems.found())
    return tuple(charts.values())


def refuse_skips(
    path: str, data: bytes, charts: tuple[Chart, ...], standing: Mapping[str, str]
) -> None:
    """Nothing, unless a chart goes further than one release line from what stands.

    Raises:
        DeclarationError: naming the line between, at the chart's version.
    """
    file, problems = _read(path, data, ChartsDoc)
    for chart in charts:
        before = standing.get(chart.name)
        lines = chart.facts.lines
        if before is None or not lines:
            continue
        was, now = line_of(before), line_of(chart.doc.version)
        if was == now:
            continue
        spot = file.doc.spot("charts", chart.name, "version")
        if was not in lines or now not in lines:
            missing = now if was in lines else was
            what = f"release line {missing} of {chart.name} is not among {', '.join(lines)}"
            problems.add(errors.SKIPPED_RELEASE, file.doc, spot, what)
        elif lines.index(now) != lines.index(was) + 1:
            between = ", ".join(lines[lines.index(was) + 1 : lines.index(now)]) or "a downgrade"
            what = f"{chart.name} {before} stands and {chart.doc.version} is wanted; between: {between}"
            problems.add(errors.SKIPPED_RELEASE, file.doc, spot, what)
    if problems.errors:
        raise DeclarationError(problems.found())


def line_of(version: str) -> str:
    """`v26.7.1` → `26.7`."""
    return ".".join(version.removeprefix("v").split(".")[:2])


def at(values: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    """Whether a dotted path is set, and to what."""
    found = _at(values, tuple(path.split(".")))
    return (False, None) if found is _NOTHING else (True, found)


def effective(chart: Chart, path: str) -> Any:
    """A value as the chart will have it: ours, else its own; `None` where neither is known."""
    found = _at(chart.doc.values, tuple(path.split(".")))
    if found is not _NOTHING:
        return found
    key = chart.facts.keys.get(path)
    return key.default if key is not None and key.has_default else None


# --- values ----------------------------------------------------------------------------------


def _check_values(doc: Document, chart: Chart, problems: Problems) -> None:
    base = ("charts", chart.name, "values")
    for path, value in _leaves(chart.doc.values, chart.facts, ()):
        dotted = ".".join(path)
        key = chart.facts.keys.get(dotted)
        spot = doc.key(*base, *path)
        if key is None:
            what = f"{chart.name} {chart.facts.written_for} has no value {quoted(dotted)}"
            problems.add(errors.UNKNOWN_VALUE, doc, spot, what, word=dotted, known=chart.facts.keys)
        elif key.gone is not None:
            what = f"{chart.name} has no value {quoted(dotted)} any more"
            problems.add(errors.UNKNOWN_VALUE, doc, spot, what, fix=key.gone)
        elif not known_type(key, value):
            choices = f": {', '.join(key.choices)}" if key.choices else ""
            what = f"{dotted} of {chart.name} is {value!r}; expected {key.type}{choices}"
            problems.add(errors.BAD_VALUE, doc, doc.spot(*base, *path), what)


def _leaves(values: Mapping[str, Any], facts: FactsDoc, path: Steps) -> Iterator[tuple[Steps, Any]]:
    """Each value with its path; below what is known as a map nothing is looked at."""
    for key, value in values.items():
        here = (*path, key)
        known = facts.keys.get(".".join(here))
        if known is None and isinstance(value, Mapping) and _is_parent(here, facts):
            yield from _leaves(value, facts, here)
        else:
            yield here, value


def _is_parent(path: Steps, facts: FactsDoc) -> bool:
    prefix = ".".join(path) + "."
    return any(key.startswith(prefix) for key in facts.keys)


def known_type(key: KeyDoc, value: Any) -> bool:
    """Whether a value is of the kind, and of the choices, that the chart takes."""
    match key.type:
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "text":
            return isinstance(value, str) and (not key.choices or value in key.choices)
        case "list":
            return isinstance(value, list)
        case "map":
            return isinstance(value, Mapping)


def _check_combinations(
    doc: Document, chart: Chart, charts: Mapping[str, Chart], problems: Problems
) -> None:
    for rule in chart.facts.refused:
        at: tuple[str, ...] | None = None
        for path, refused in rule.values.items():
            other, _, own = path.rpartition("/")
            whose = charts.get(other) if other else chart
            if whose is None or effective(whose, own) != refused:
                break
            if _at(whose.doc.values, tuple(own.split("."))) is not _NOTHING:
                at = ("charts", whose.name, "values", *own.split("."))
        else:
            spot = doc.key(*at) if at else doc.key("charts", chart.name)
            told = " and ".join(f"{path}: {_told(value)}" for path, value in rule.values.items())
            what = f"{chart.name} with {told}: {rule.why.rstrip('.')}"
            problems.add(errors.BAD_COMBINATION, doc, spot, what)


def _told(value: Any) -> str:
    return "true" if value is True else "false" if value is False else repr(value)


# --- paths -----------------------------------------------------------------------------------

_NOTHING: Final = object()


def _at(values: Any, path: Steps) -> Any:
    for step in path:
        if not isinstance(values, Mapping) or step not in values:
            return _NOTHING
        values = values[step]
    return values


def _put(target: dict[str, Any], path: Steps, value: Any) -> None:
    for step in path[:-1]:
        target = target.setdefault(step, {})
    target[path[-1]] = value


def _read(path: str, data: bytes, kind: type[D]) -> tuple[File[D], Problems]:
    problems = Problems()
    doc = read_yaml(path, data, problems)
    file = read_shape(doc, kind, problems) if doc is not None else None
    if file is None or problems.errors:
        raise DeclarationError(problems.found())
    return file, problems
