"""A published chart's archive, held against what we know of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import yaml

from control_plane.provision.chart import at, known_type
from control_plane.provision.chart_docs import FactsDoc

ARCHIVE_MAX_BYTES: Final = 64 * 1024 * 1024
"""Of one file in it. A chart's values are some ten kilobytes, its definitions some megabytes."""


class NotAChart(ValueError):
    """The archive is none, or has no chart in it. Whoever named it acts."""


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """What Helm would take from it."""

    name: str
    version: str
    values: Mapping[str, Any]
    """The values of charts inside it stand under their names, as Helm has them."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a comparison."""

    differences: tuple[str, ...]
    """Facts that do not hold."""
    not_found: tuple[str, ...]
    """Keys without a known default that the chart does not set: written as comments there, or gone."""
    unknown: tuple[str, ...]
    """What the chart has and no fact is about: it is refused in `stacks/charts` until one is."""


def open_chart(data: bytes) -> Archive:
    """Read an archive; nothing of it is unpacked or run.

    Raises:
        NotAChart: it cannot be read, or is no chart.
    """
    files: dict[str, Any] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for member in archive:
                if not member.isfile() or not member.name.endswith(("/Chart.yaml", "/values.yaml")):
                    continue
                if member.size > ARCHIVE_MAX_BYTES:
                    raise NotAChart(f"{member.name} has {member.size:,} bytes")
                content = archive.extractfile(member)
                if content is not None:
                    files[member.name] = yaml.load(content.read(), Loader=yaml.CSafeLoader)
    except (tarfile.TarError, OSError, EOFError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise NotAChart(f"it cannot be read: {error}") from error
    tops = [name for name in files if name.count("/") == 1 and name.endswith("/Chart.yaml")]
    if len(tops) != 1 or not isinstance(files[tops[0]], Mapping):
        raise NotAChart("it has no Chart.yaml of one chart")
    about, folder = files[tops[0]], tops[0].partition("/")[0]
    if not {"name", "version"} <= about.keys():
        raise NotAChart("its Chart.yaml has no name or no version")
    return Archive(
        name=str(about["name"]), version=str(about["version"]), values=_values(files, folder, about)
    )


def compare(facts: FactsDoc, chart: Archive) -> Compared:
    """Every fact, held against the chart."""
    differences: list[str] = []
    not_found: list[str] = []
    if chart.version.removeprefix("v") != facts.written_for.removeprefix("v"):
        differences.append(
            f"version: the facts are about {facts.written_for}, this is {chart.version}"
        )
    for path, key in facts.keys.items():
        found, value = at(chart.values, path)
        if key.gone is not None:
            if found:
                differences.append(f"{path}: said to be gone, and it is there")
        elif not found:
            if key.has_default:
                differences.append(f"{path}: not there; the facts have {key.default!r}")
            else:
                not_found.append(path)
        elif value is not None and not known_type(key, value):
            differences.append(f"{path}: {value!r}, and the facts say {key.type}")
        elif key.has_default and value != key.default:
            differences.append(f"{path}: {value!r}, and the facts say {key.default!r}")
    return Compared(
        differences=tuple(differences),
        not_found=tuple(not_found),
        unknown=tuple(_unknown(facts, chart.values, "")),
    )


def _values(files: Mapping[str, Any], folder: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """A chart's values over those of the charts inside it."""
    values: dict[str, Any] = {}
    for inside in about.get("dependencies") or ():
        name = str(inside.get("name"))
        below = f"{folder}/charts/{name}"
        if f"{below}/Chart.yaml" in files:
            values[str(inside.get("alias") or name)] = _values(
                files, below, files[f"{below}/Chart.yaml"] or {}
            )
    return _over(values, files.get(f"{folder}/values.yaml") or {})


def _over(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        before = merged.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _over(before, value) if both else value  # type: ignore[arg-type]
    return merged


def _unknown(facts: FactsDoc, values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path in facts.keys:
            continue
        if isinstance(value, Mapping) and value:
            yield from _unknown(facts, value, f"{path}.")
        else:
            yield path
