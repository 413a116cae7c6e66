"""The page on adding a driver: its code is of the code's own names."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from control_plane.core import change, errors, observation, ports
from control_plane.core.change import Capabilities, ChangeKind
from control_plane.core.ports import Driver
from control_plane.drivers import driver, registry

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/how-to/add-a-driver.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def names_of(*modules: ModuleType) -> dict[str, object]:
    return {name: value for module in modules for name, value in vars(module).items()}


def test_the_module_that_it_shows_makes_capabilities() -> None:
    known: dict[str, object] = {**names_of(change, observation, ports), "Final": Final}
    exec(CODE[0], known)  # noqa: S102 - the page's own code
    made = known["CAPABILITIES"]
    assert isinstance(made, Capabilities)
    assert made.writes[ChangeKind.SET_POOLS].lost_s == 90.0


def test_the_line_of_the_registry_has_the_form_of_its_neighbours() -> None:
    shown: dict[str, tuple[str, str]] = eval(f"{{{CODE[1]}}}")  # noqa: S307 - the page's own code
    (module, name) = shown["acme_v1"]
    neighbours = registry._DRIVERS.values()
    assert module.rpartition(".")[0] in {one.rpartition(".")[0] for one, _ in neighbours}
    assert name.endswith("Driver")


@pytest.mark.parametrize("call", ["identify", "observe", "apply"])
def test_calls_take_what_the_page_says(call: str) -> None:
    shown = re.search(rf"`{call}\((.*?)\)`", PAGE)
    assert shown is not None
    parameters = list(inspect.signature(getattr(Driver, call)).parameters)[1:]
    assert shown[1].split(", ") == parameters


def test_helpers_and_errors_that_it_names_exist() -> None:
    table = PAGE.partition("| `drivers/driver.py` | |")[2].partition("\n\n")[0]
    helpers = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert len(helpers) > 10
    assert helpers <= set(vars(driver))
    assert set(re.findall(r"`([A-Z]\w+(?:Reply|Rejected|Unreachable))`", PAGE)) <= set(vars(errors))
