"""The four forms of output."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec


def emit(form: str, data: object, *, table: str, names: Sequence[str] = ()) -> None:
    """Print a result.

    Args:
        form: `table`, `json`, `yaml` or `name`.
        data: what scripts get; anything that msgspec can turn into plain values.
        table: what people get.
        names: what `-o name` prints, one a line.
    """
    match form:
        case "json":
            raw = msgspec.json.encode(data, order="deterministic")
            click.echo(msgspec.json.format(raw, indent=2).decode())
        case "yaml":
            import yaml

            plain = msgspec.to_builtins(data)
            click.echo(
                yaml.dump(plain, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True),
                nl=False,
            )
        case "name":
            for name in names:
                click.echo(name)
        case _:
            click.echo(table)
