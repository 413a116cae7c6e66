"""The generated pages of commands and drivers, and the help that they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import VERBS, root
from control_plane.core.change import ChangeKind
from control_plane.core.gpu import AlertKind
from control_plane.core.gpu_cap import CapState
from control_plane.core.xid import FACTS
from control_plane.drivers.registry import FAMILIES
from control_plane.inventory.load import load
from tools.cli_page import cli_page
from tools.drivers_page import drivers_page
from tools.gpu_page import gpu_page

ROOT = Path(__file__).resolve().parent.parent.parent


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


def test_examples_name_what_the_example_fleet_has() -> None:
    fleet = load(ROOT / "inventory").fleet
    assert fleet is not None
    known = set(fleet.sites)
    for site in fleet.sites.values():
        known |= {*site.feeds, *site.racks, *(device.asset for device in site.devices)}
        known |= {*site.meters, *(host.name for host in site.hosts)}
    named = {
        name
        for _, command in everything()
        for part in (command.help or "").split("\b\n")[1:]
        for name in re.findall(r"(?<![\w/.-])((?:ga|lab|wa|m)-[\w-]+)(?![\w/])", part)
    }
    assert len(named) > 5
    assert named <= known


def test_every_alert_and_every_xid_is_on_the_page_of_gpu_nodes() -> None:
    page = gpu_page("")
    assert [kind for kind in AlertKind if f"| `{kind}` | " not in page] == []
    assert [xid for xid in FACTS if f"\n| {xid} | " not in page] == []
    assert [
        state
        for state in CapState
        if state not in {"lowered", "raised"} and f"`{state}`" not in page
    ] == []
