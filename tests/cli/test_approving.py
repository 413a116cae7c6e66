"""What an owner keeps to himself is in a plan once he, and nobody else, has approved it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.cli.workplace import Workplace
from control_plane.core.memory import Memory, Pin
from control_plane.core.observation import (
    Activity,
    Depth,
    Field,
    Identity,
    Observation,
    PoolSetting,
    Settings,
    Telemetry,
)

ASSET = "r01-s1"
SLEEPS = Observation(
    asset=ASSET,
    at_s=0.0,
    depth=Depth.FULL,
    source="test",
    identity=Identity(mac="02:00:00:00:00:01", model="Antminer S21", family="antminer_stock"),
    settings=Settings(
        pools=(
            PoolSetting(url="stratum+tcp://pool.example.com:3333", worker=f"mycompany.{ASSET}"),
            PoolSetting(url="stratum+tcp://backup.example.net:3333", worker=f"mycompany.{ASSET}"),
        ),
        mining=True,
        power_mode="low",
        firmware="antminer_stock",
    ),
    asked=frozenset({Field.POOLS, Field.MINING, Field.POWER_MODE}),
    telemetry=Telemetry(hashrate_ths=160.0, power_w=2_560.0, activity=Activity.HASHING),
)


@pytest.fixture
def asking(home: Path) -> None:
    """One machine in a lower mode than declared; its owner wants to be asked about modes."""
    owner = home / "inventory/owners/me.yaml"
    owner.write_text(owner.read_text() + "approvals: {power_mode: [dora], pools: [eli]}\n")
    store = Workplace(site="first-site", state=None, creates=True).store
    store.put_memories(
        [Memory(asset=ASSET, pin=Pin(mac="02:00:00:00:00:01", serial=None, source="test"))]
    )
    store.put_sightings([msgspec.structs.replace(SLEEPS, at_s=time.time())])


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["plan", "--no-look", "-o", "json", *words]) == Exit.OK
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plan


@pytest.mark.usefixtures("asking")
def test_the_shown_plan_has_the_approved_steps(capsys: pytest.CaptureFixture[str]) -> None:
    before = planned(capsys)
    assert before["steps"] == []
    assert "owner_approval" in {held["reason"] for held in before["held"]}
    after = planned(capsys, "--approve", "me:power_mode", "--by", "dora")
    assert [step["asset"] for step in after["steps"]] == [ASSET]
    assert after["digest"] != before["digest"]
    (record,) = Workplace(site="first-site", state=None).store.shown_plans(after["digest"])
    assert [(a.owner, a.field, a.by) for a in record.approvals] == [("me", "power_mode", "dora")]


@pytest.mark.usefixtures("asking")
def test_nobody_else_approves(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--no-look", "--approve", "me:power_mode", "--by", "ann")
    assert main(["plan", *words]) == Exit.REFUSED
    assert "only dora may" in capsys.readouterr().err


@pytest.mark.usefixtures("asking")
def test_apply_takes_no_approval_that_its_plan_was_not_shown_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    digest = planned(capsys)["digest"]
    words = ("apply", digest, "--approve", "me:power_mode", "--by", "dora")
    assert main(words) == Exit.REFUSED
    assert "shown without that approval" in capsys.readouterr().err
    assert Workplace(site="first-site", state=None).store.accepted() is None
