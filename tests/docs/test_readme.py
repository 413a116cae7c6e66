"""The plan in the README is what the commands above it print, as far as no chance of a machine is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.core.digest import short
from control_plane.views.plan import render_plan
from tests.docs.walk import unseen
from tests.stock import stock_plan

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_the_plan_in_the_readme_is_of_the_committed_inventory_and_floor() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("$ gridplane plan --site ga-macon\n")[2].partition("```")[0]
    plan = stock_plan("ga-macon")
    printed = render_plan(plan, command="x")
    lines = tuple(line for line in shown.splitlines() if not line.startswith("Accept it:"))
    assert unseen((*lines, "..."), printed) is None, printed
    assert f"revision {short(plan.revision)} " in shown
