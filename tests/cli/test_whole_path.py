"""The whole path as people walk it: verbs in processes of their own, devices on loopback sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import VERBS, main
from tests.cli.workshop import FOREIGN, Workshop

NEW = "stratum+tcp://new.example.com:3333"


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


def test_who_moved_since_the_plan_was_shown_is_held_and_the_rest_goes_on(site: Workshop) -> None:
    site.declare(pool="new.example.com")
    plan = site.json("plan")
    assert len(plan["steps"]) == 12
    site.fault("lower", target={"asset": "a01-s1"})
    own = {"url": "stratum+tcp://backup.example.net:3333", "worker": "house.a01-s2"}
    site.fault("hijack", target={"asset": "a01-s2"}, **own)
    site.fault("hijack", target={"asset": "a01-s3"})
    site.run("apply", plan["digest"][:12], "--interval", "1")

    truth = site.truth()
    assert truth["a01-s1"]["mode"] == "low", "what a hand lowered stays lowered"
    assert truth["a01-s2"]["pools"][0][0] == own["url"], "somebody meant it: a person decides"
    assert truth["a01-s3"]["pools"][0][0] == NEW, "but a thief is not waited for"
    assert "Held        power_mode: manual_override" in site.run("explain", "a01-s1")
    assert "Held        pools: moved_since_plan" in site.run("explain", "a01-s2")
    assert {m["pools"][0][0] for a, m in truth.items() if a != "a01-s2"} == {NEW}
    site.assert_accounted()


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
