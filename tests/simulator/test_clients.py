"""Clients that others wrote identify the simulated machines and read them correctly.

pyasic and pyasic-rs run in their own environment, on the families' true ports, in a network
namespace where those are free; without namespaces this needs root and free ports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.clients

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
POOLS = ["stratum+tcp://one.pool.test:3333", "stratum+tcp://two.pool.test:443"]
NAMES = ["S21", "S21+", "S19 XP", "S19K Pro", "S19J Pro", "asleep", "two boards", "M60S", "M50S"]
Told = dict[str, dict[str, Any]]


def look(client: str, python: Path, cast: str = "factory") -> Told:
    """By machine's name: what the client told, and under `truth` what is so."""
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        alone = []
    stage = [sys.executable, str(HERE / "clients/stage.py")]
    done = subprocess.run(
        [*alone, *stage, str(python), str(HERE / f"clients/{client}.py"), cast],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rc"] == 0, done.stderr
    return {
        truth["name"]: {**told["told"][address], "truth": truth}
        for address, truth in told["truth"].items()
        if address in told["told"]
    }


@pytest.fixture(scope="module")
def pyasic(clients_python: Path) -> Told:
    return look("read_pyasic", clients_python)


@pytest.fixture(scope="module")
def pyasic_rs(clients_python: Path) -> Told:
    return look("read_pyasic_rs", clients_python)


MODELS = {
    "pyasic": {
        "S21": "S21",
        "S21+": "S21+",
        "S19 XP": "S19 XP",
        "S19K Pro": "S19K Pro",
        "S19J Pro": "S19j Pro",
        "asleep": "S21",
        "two boards": "S21",
        "M60S": "M60S VK30",
        "M50S": "M50S VH20",
    },
    "pyasic_rs": {
        "S21": "S21",
        "S21+": "S21Plus",
        "S19 XP": "S19XP",
        "S19K Pro": "S19KPro",
        "S19J Pro": "S19jPro",
        "asleep": "S21",
        "two boards": "S21",
        "M60S": "M60SVK30",
        "M50S": "M50SVH20",
    },
}


@pytest.fixture(params=["pyasic", "pyasic_rs"])
def told(request: pytest.FixtureRequest) -> Told:
    seen: Told = request.getfixturevalue(request.param)
    return {"client": {"name": request.param}} | seen


def test_make_model_and_firmware_are_recognised(told: Told) -> None:
    client = told["client"]["name"]
    assert {name: told[name]["model"] for name in NAMES} == MODELS[client]
    for name in NAMES:
        make = "antminer" if "S" in name[:1] or name in {"asleep", "two boards"} else "whatsminer"
        assert told[name]["make"].lower() == make
        assert told[name]["firmware"].endswith("Stock")
    assert told["S21"]["fw_ver"] == "Thu Mar 28 15:30:22 CST 2024"
    assert told["M50S"]["fw_ver"] == "20230803.11.REL"


def test_mac_and_pools_are_read(told: Told) -> None:
    for name in NAMES:
        one = told[name]
        assert one["mac"].lower() == one["truth"]["mac"]
        worker = f"acct.{int(one['truth']['mac'][-2:], 16)}"
        assert one["pools"] == [[url, worker] for url in POOLS]


def test_hashrate_is_right_within_the_noise_of_its_window(told: Told) -> None:
    for name in NAMES:
        one = told[name]
        assert one["hashrate_ths"] == pytest.approx(one["truth"]["hashrate_ths"], rel=0.03)
        assert one["is_mining"] is (name != "asleep")


def test_boards_and_chips_are_told_apart(told: Told) -> None:
    for name in NAMES:
        one = told[name]
        working = [b["slot"] for b in one["boards"] if b["chips"]]
        assert working == one["truth"]["boards"]
        assert {b["chips"] for b in one["boards"] if b["chips"]} == {one["truth"]["chips"]}
        total = sum(b["ths"] or 0.0 for b in one["boards"])
        assert total == pytest.approx(one["hashrate_ths"], rel=0.03, abs=0.1)
    assert len(told["two boards"]["boards"]) == 3


def test_fans_turn(told: Told) -> None:
    for name in NAMES:
        count = 2 if name.startswith("M") else 4
        assert len(told[name]["fans"]) == count
        assert all(rpm > 1000 for rpm in told[name]["fans"])


def test_a_missing_board_is_reported(pyasic: Told, pyasic_rs: Told) -> None:
    assert "hash board" in pyasic["two boards"]["errors"][0]
    assert "hash board" in pyasic_rs["two boards"]["messages"][0]
    assert pyasic["S21"]["errors"] == pyasic_rs["S21"]["messages"] == []


def test_watts_and_limits_are_read_where_the_client_can(pyasic: Told, pyasic_rs: Told) -> None:
    # pyasic does not read the watts of stock Antminers (asic-devices §6).
    for name in NAMES:
        truth = pyasic_rs[name]["truth"]["reported_w"]
        assert pyasic_rs[name]["watts"] == pytest.approx(truth, rel=0.02, abs=1)
    for name in ("M60S", "M50S"):
        truth = pyasic[name]["truth"]["reported_w"]
        assert pyasic[name]["watts"] == pytest.approx(truth, rel=0.02, abs=1)
        assert abs(truth / 3000 - 1) < 0.07
        assert pyasic[name]["limit_w"] == 3000
        assert "3000" in pyasic_rs[name]["target"]
    assert "Normal" in pyasic_rs["S21"]["target"]
