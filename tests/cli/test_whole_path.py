"""The whole path as people walk it: verbs in processes of their own, devices on loopback sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import VERBS

SITE = "first-site"
FOREIGN = "stratum+tcp://pool.attacker.example:3333"


class Workshop:
    """An inventory, its simulated devices, and the command line beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GRIDPLANE_")},
            "GRIDPLANE_ANTMINER_PASSWORD": "root",
            "GRIDPLANE_SITE": SITE,
        }

    def run(self, *arguments: str, code: int = Exit.OK) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "control_plane.cli", *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "-o", "json"))

    def pools(self) -> list[str]:
        return [m["pools"][0][0] for m in self.json("simulate", "truth")]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    shop = Workshop(tmp_path)
    shop.run("init")
    process = subprocess.Popen(
        [sys.executable, "-m", "control_plane.cli", "simulate", "serve", "--start", "stock",
         "--seed", "3", "--time-scale", "600"],
        cwd=tmp_path,
        env=shop.env,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    found = tmp_path / ".gridplane" / "sim" / SITE / "network-map.json"
    until = time.monotonic() + 30
    while not found.exists():
        assert process.poll() is None, "the simulator ended"
        assert time.monotonic() < until
        time.sleep(0.05)
    shop.env["GRIDPLANE_NETWORK_MAP"] = str(found)
    yield shop
    process.terminate()
    process.wait()


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
    assert set(workshop.pools()) == {FOREIGN}, "a person's hold wins"
    workshop.run("release", "h0001", "--by", "bob", code=Exit.REFUSED)
    workshop.run("release", "h0001", "--by", "ann")
    workshop.run("apply", "--yes", "--interval", "1")
    assert FOREIGN not in workshop.pools()


def test_a_plan_that_nobody_saw_is_not_accepted(workshop: Workshop) -> None:
    workshop.run("apply", "0123456789ab", code=Exit.REFUSED)


def test_a_broken_inventory_stops_every_verb(workshop: Workshop) -> None:
    racks = workshop.folder / "inventory/sites/first-site/racks/r01.yaml"
    racks.write_text(racks.read_text().replace("owner: me", "owner: mee"))
    for verb in ("validate", "plan", "apply"):
        workshop.run(verb, code=Exit.INVALID)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, tmp_path: Path) -> None:
    text = Workshop(tmp_path).run(verb, "--help")
    assert "Usage: gridplane" in text
    assert "gridplane " in text.split("Options:")[0].partition("\n")[2] or verb in {
        "version",
        "completion",
    }


def test_a_typing_error_is_met_with_the_nearest_verb(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "control_plane.cli", "aply"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == Exit.USAGE
    assert "Did you mean 'apply'" in done.stderr
