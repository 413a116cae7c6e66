"""The whole path as people walk it: verbs in processes of their own, devices on loopback sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import VERBS, main
from tests.cli.workshop import FOREIGN, Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """What `init` makes, on a floor as a new manager finds it."""
    shop = Workshop(tmp_path, "first-site")
    shop.run("init")
    with shop.devices(start="stock", seed=3):
        yield shop


def test_a_rack_converges_is_hijacked_repaired_and_held(workshop: Workshop) -> None:
    assert workshop.json("plan")["steps"] == [], "nothing is written to machines that nobody trusts"
    workshop.run("observe")
    workshop.run("trust", "r01", "--yes")
    workshop.run("simulate", "fault", "hijack", "rack:r01")
    plan = workshop.json("plan")
    assert len({step["asset"] for step in plan["steps"]}) == 8
    done = workshop.json("apply", plan["digest"][:12], "--interval", "1")
    assert (done["end"], done["plan"], done["revision"]) == (
        "converged", plan["digest"], plan["revision"],
    )  # fmt: skip
    assert done["after"]["steps"] == []
    assert FOREIGN not in workshop.pools()
    assert workshop.json("plan")["steps"] == []

    workshop.run("hold", "r01", "--kind", "safety", "--by", "ann", "--reason", "hands in the rack")
    workshop.run("simulate", "fault", "hijack", "rack:r01")
    held = workshop.json("plan")
    assert held["steps"] == []
    assert {h["reason"] for h in held["held"]} >= {"hold"}
    workshop.run("apply", "--yes", "--interval", "1")
    assert workshop.pools() == {FOREIGN}, "a person's hold wins"
    workshop.refused("release", "h0001", "--by", "bob")
    workshop.run("release", "h0001", "--by", "ann")
    workshop.run("apply", "--yes", "--interval", "1")
    assert FOREIGN not in workshop.pools()


def test_a_plan_that_nobody_saw_is_not_accepted(workshop: Workshop) -> None:
    assert "run `gridplane plan` again" in workshop.refused("apply", "0123456789ab")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == Exit.OK
    text = capsys.readouterr().out
    assert "Usage: gridplane" in text
    assert "gridplane " in text.split("Options:")[0].partition("\n")[2] or verb in {
        "version",
        "completion",
    }


def test_a_typing_error_is_met_with_the_nearest_verb(tmp_path: Path) -> None:
    assert "Did you mean 'apply'" in Workshop(tmp_path).refused("aply", code=Exit.USAGE)
