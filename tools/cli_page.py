"""The reference page of the command line, from the commands themselves."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator

import click

from control_plane.cli import exits, options
from control_plane.cli.main import VERBS

Record = tuple[str, str]
_AS_IT_IS = "\b\n"
"""By which click keeps the lines of a paragraph."""


def cli_page(made: str) -> str:
    """Every verb with its options; what several verbs share, and the exit codes, once."""
    parts = [
        "# Commands\n",
        made,
        (
            "`gridplane VERB --help` says the same. What is meant for people goes to stdout as a table, "
            "progress and\nquestions to stderr; `-o json` and `-o yaml` are stable for scripts. "
            "`NO_COLOR` is honoured.\n"
        ),
        "## Exit codes\n",
        _table(("code", "meaning"), ((str(code), text) for code, text in _exits())),
        "## Options of every verb that works on a site\n",
        _table(("option", ""), _shared()),
    ]
    for name, (module, _) in VERBS.items():
        command = importlib.import_module(module).command
        parts += _verb(command, f"gridplane {name}", 2)
    return "\n".join(parts)


def _exits() -> Iterator[tuple[int, str]]:
    """Code and meaning: the text below each member of `Exit`."""
    tree = ast.parse(inspect.getsource(exits.Exit)).body[0]
    assert isinstance(tree, ast.ClassDef)
    for member, text in zip(tree.body, tree.body[1:], strict=False):
        match member, text:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                yield exits.Exit[name].value, " ".join(words.split())
            case _:
                continue


def _shared() -> list[Record]:
    @click.command
    @options.of_site
    def example() -> None:
        pass

    return _options(example)


def _options(command: click.Command) -> list[Record]:
    context = click.Context(command, info_name=command.name, max_content_width=100)
    records = (p.get_help_record(context) for p in command.params)
    # An argument has no text of its own: the verb's says what it is.
    return [record for record in records if record is not None and record[1]]


def _verb(command: click.Command, name: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, max_content_width=100)
    yield f"{'#' * level} {name.removeprefix('gridplane ')}\n"
    usage = command.get_usage(context).removeprefix("Usage: ").split()
    yield f"```\n{' '.join(usage)}\n```\n"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith(_AS_IT_IS):
            example = paragraph.removeprefix(_AS_IT_IS).strip()
            yield f"```sh\n{example}\n```\n"
        else:
            yield f"{paragraph}\n"
    if isinstance(command, click.Group):
        for sub, below in command.commands.items():
            yield from _verb(below, f"{name} {sub}", level + 1)
        return
    shared = _shared()
    own = [record for record in _options(command) if record not in shared]
    if any(record in shared for record in _options(command)):
        yield "Works on a site: see [above](#options-of-every-verb-that-works-on-a-site).\n"
    if own:
        yield _table(("option", ""), own)


def _table(head: Record, rows: Iterator[Record] | list[Record]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    lines += [f"| `{_cell(left)}` | {_cell(right)} |" for left, right in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
