"""The four forms of output."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from control_plane.views.table import printable


def emit(
    form: str, data: object, *, table: str, names: Sequence[str] = (), is_safe: bool = False
) -> None:
    """Print a result.

    Args:
        form: `table`, `json`, `yaml` or `name`.
        data: what scripts get; anything that msgspec can turn into plain values.
        table: what people get.
        names: what `-o name` prints, one a line.
        is_safe: whether the table's codes are its own: colours.
    """
    match form:
        case "json":
            raw = msgspec.json.encode(data, order="deterministic")
            click.echo(msgspec.json.format(raw, indent=2).decode())
        case "yaml":
            import yaml

            plain = msgspec.to_builtins(data, order="deterministic")
            click.echo(
                yaml.dump(plain, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True),
                nl=False,
            )
        case "name":
            for name in names:
                say(name)
        case _ if is_safe:
            click.echo(table)
        case _:
            say(table)


def say(text: str, *, err: bool = False) -> None:
    """Print text that may hold what a device said."""
    click.echo(printable(text), err=err)
