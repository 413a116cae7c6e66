"""`gridplane chart`: what is known of the Helm charts that a platform installs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.provision.chart import UNVERIFIED, known_facts, read_facts
from control_plane.provision.chart_archive import Compared, NotAChart, compare, open_chart
from control_plane.provision.chart_docs import FactsDoc
from control_plane.views.table import counted, table


@click.group("chart")
def command() -> None:
    """Say what is known of Helm charts, and compare it with a chart.

    \b
    gridplane chart list
    gridplane chart facts gpu-operator
    helm pull gpu-operator --repo https://helm.ngc.nvidia.com/nvidia --version v26.7.0
    gridplane chart verify gpu-operator-v26.7.0.tgz
    """


@command.command("list")
@options.output
def list_command(*, output: str) -> int:
    """List the charts that something is known of, and whether that was compared with a published chart.

    \b
    gridplane chart list
    gridplane chart list -o json
    """
    rows = [
        {
            "chart": name,
            "written_for": facts.written_for,
            "kubernetes": "-".join(facts.kubernetes or ()),
            "keys": len(facts.keys),
            "refused": len(facts.refused),
            "verified": facts.verified,
        }
        for name, facts in known_facts().items()
    ]
    cells = [
        [row["verified"] or UNVERIFIED if key == "verified" else row[key] for key in row]
        for row in rows
    ]
    head = ("CHART", "WRITTEN FOR", "KUBERNETES", "KEYS", "RULES", "VERIFIED")
    emit(output, rows, table=table(head, cells), names=[str(row["chart"]) for row in rows])
    return Exit.OK


@command.command("facts")
@click.argument("chart")
@options.output
def facts_command(*, chart: str, output: str) -> int:
    """List the values of a chart that may be set: kind, default, what to know before setting it, source.

    \b
    gridplane chart facts gpu-operator
    """
    facts = _facts_of(chart)
    rows = [
        {
            "key": path,
            "type": key.type,
            "default": key.default if key.has_default else None,
            "rule": f"gone: {key.gone}" if key.gone else key.rule or "",
            "source": key.source,
        }
        for path, key in facts.keys.items()
    ]
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    head = ("KEY", "TYPE", "DEFAULT", "TO KNOW", "SOURCE")
    emit(output, rows, table=table(head, cells), names=[str(row["key"]) for row in rows])
    return Exit.OK


@command.command("verify")
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--facts",
    "facts_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Compare with this file; else with what gridplane knows of the chart.",
)
@options.output
def verify_command(*, archive: Path, facts_file: Path | None, output: str) -> int:
    """Compare what is known of a chart with its archive: keys, kinds, defaults, what is gone.

    Nothing of the archive is unpacked or run. Exit code 5 where a fact does not hold. For your own CI, where
    the published chart can be had.

    \b
    gridplane chart verify gpu-operator-v26.7.0.tgz
    gridplane chart verify kueue-0.19.2.tgz --facts my-kueue-facts.yaml -o json
    """
    data = archive.read_bytes()
    try:
        chart = open_chart(data)
    except NotAChart as error:
        raise Stop(f"{archive}: {error}", Exit.USAGE) from error
    if facts_file is not None:
        facts = read_facts(str(facts_file), facts_file.read_bytes())
    else:
        facts = _facts_of(chart.name)
    found = compare(facts, chart)
    seal = f"{archive.name} sha256:{hashlib.sha256(data).hexdigest()}"
    emit(
        output,
        {
            "chart": chart.name,
            "version": chart.version,
            "archive": seal,
            "differences": list(found.differences),
            "not_found": list(found.not_found),
            "unknown": list(found.unknown),
        },
        table=_said(f"{chart.name} {chart.version}", found, seal),
        names=list(found.differences),
    )
    return Exit.REFUSED if found.differences else Exit.OK


def _facts_of(chart: str) -> FactsDoc:
    known = known_facts()
    if chart not in known:
        raise Stop(f"nothing is known of the chart {chart}, only of {', '.join(known)}", Exit.USAGE)
    return known[chart]


def _said(name: str, found: Compared, seal: str) -> str:
    lines = [f"  {difference}" for difference in found.differences]
    head = f"{name}: facts that do not hold: {len(lines)}"
    if not lines:
        head = f"{name}: every fact holds; to say so in the file of facts: verified: {seal}"
    if found.not_found:
        lines.append(
            f"not set by the chart, only as comments or not at all: {', '.join(found.not_found)}"
        )
    if found.unknown:
        lines.append(
            f"{counted(len(found.unknown), 'value')} of the chart without a fact (-o json lists them)"
        )
    return "\n".join([head, *lines])
