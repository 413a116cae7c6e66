"""The generated pages of commands and drivers, and the help that they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import click
import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import VERBS, root
from control_plane.core.change import ChangeKind
from control_plane.drivers.registry import FAMILIES
from tools.cli_page import cli_page
from tools.drivers_page import drivers_page


def everything() -> Iterator[tuple[str, click.Command]]:
    """Every command there is, by its words."""
    yield "gridplane", root
    for name, (module, _) in VERBS.items():
        command = import_module(module).command
        yield f"gridplane {name}", command
        if isinstance(command, click.Group):
            yield from ((f"gridplane {name} {sub}", c) for sub, c in command.commands.items())


@pytest.mark.parametrize(("name", "command"), list(everything()), ids=lambda one: str(one)[:40])
def test_examples_stand_on_lines_of_their_own(name: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=name))
    assert "\\b" not in text
    examples = [
        line for part in (command.help or "").split("\b\n")[1:] for line in part.split("\n")
    ]
    assert {line.strip() for line in examples} <= {line.strip() for line in text.splitlines()}


def test_every_verb_and_every_exit_code_is_on_the_page() -> None:
    page = cli_page("")
    assert [line for line in page.splitlines() if line.startswith("## ")][2:] == [
        f"## {verb}" for verb in VERBS
    ]
    for code in Exit:
        assert f"| `{code.value}` | " in page


def test_every_family_and_every_kind_of_write_is_in_the_matrix() -> None:
    page = drivers_page("")
    assert f"|  | {' | '.join(f'`{family}`' for family in FAMILIES)} |" in page
    for kind in ChangeKind:
        assert f"| `{kind}` | " in page
