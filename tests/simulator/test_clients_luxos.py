"""Clients that others wrote read the simulated LuxOS machines, and write to them; the vendor's own too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.simulator.test_clients import POOLS, Told, look

pytestmark = pytest.mark.clients

NAMES = ["S21", "S19K Pro", "S19J Pro", "asleep", "two boards", "atm"]
NEW = ["stratum+tcp://three.pool.test:3333", "acct.new"]


@pytest.fixture(scope="module")
def pyasic(clients_python: Path) -> Told:
    return look("read_pyasic", clients_python, "luxos")


@pytest.fixture(scope="module")
def pyasic_rs(clients_python: Path) -> Told:
    return look("read_pyasic_rs", clients_python, "luxos")


@pytest.fixture(params=["pyasic", "pyasic_rs"])
def told(request: pytest.FixtureRequest) -> Told:
    seen: Told = request.getfixturevalue(request.param)
    return seen


def test_firmware_and_model_are_recognised(pyasic: Told, pyasic_rs: Told) -> None:
    names = NAMES[:3]
    assert [pyasic[n]["model"] for n in names] == ["S21", "S19k Pro", "S19j Pro"]
    assert [pyasic_rs[n]["model"] for n in names] == ["S21", "S19KPro", "S19jPro"]
    for seen in (pyasic, pyasic_rs):
        assert {seen[name]["firmware"] for name in NAMES} == {"LuxOS"}
        assert seen["S21"]["fw_ver"] == "2026.4.3.192353"


def test_pools_and_hashrate_are_read(told: Told) -> None:
    for name in NAMES:
        one = told[name]
        worker = f"acct.{int(one['truth']['mac'][-2:], 16)}"
        assert one["pools"] == [[url, worker] for url in POOLS]
        assert one["hashrate_ths"] == pytest.approx(one["truth"]["hashrate_ths"], rel=0.03)


def test_boards_chips_fans_and_watts_are_read(told: Told) -> None:
    for name in NAMES:
        one, truth = told[name], told[name]["truth"]
        assert [b["slot"] for b in one["boards"] if b["chips"]] == truth["boards"]
        assert {b["chips"] for b in one["boards"] if b["chips"]} == {truth["chips"]}
        assert sum(b["ths"] for b in one["boards"]) == pytest.approx(one["hashrate_ths"], rel=0.03)
        assert len(one["fans"]) == 4
        assert one["watts"] == pytest.approx(truth["reported_w"], rel=0.02, abs=1)


def test_mac_and_serial_are_read_by_the_one_that_reads_them(pyasic_rs: Told) -> None:
    # pyasic 0.79.0 never returns the MAC of a LuxOS machine: its reader ends before it.
    for name in NAMES:
        one = pyasic_rs[name]
        assert (one["mac"], one["serial"]) == (one["truth"]["mac"], one["truth"]["serial"])


def test_the_profile_in_force_has_this_units_own_watts(pyasic: Told, pyasic_rs: Told) -> None:
    limits = [pyasic[name]["limit_w"] for name in ("S21", "asleep", "two boards", "atm")]
    assert len(set(limits)) == 4  # One model at one profile: four units, four figures.
    assert all(abs(watts / 3500 - 1) <= 0.031 for watts in limits)
    assert f"{limits[0]}" in pyasic_rs["S21"]["target"]


def written(client: str, python: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the client told of its writes to one machine, and the truth about that afterwards."""
    one = look(client, python, "luxos")["S21"]
    return one, one["truth"]


def test_pyasic_writes(clients_python: Path) -> None:
    told, truth = written("write_pyasic", clients_python)
    assert (told["stop"], told["asleep"], told["resume"]) == (True, "Sleep", True)
    assert (told["limit"], told["light"], told["restart"]) == (True, True, True)
    assert told["presets"] == 25
    assert 2900 < told["active_w"] <= 3100
    assert (truth["mode"], truth["mining"], truth["boots"]) == ("under-3", True, 0)
    assert truth["pools"][1:] == [NEW]
    assert all(honoured for _, honoured in truth["writes"])


def test_pyasic_rs_writes(clients_python: Path) -> None:
    told, truth = written("write_pyasic_rs", clients_python)
    assert all(told[write] is True for write in ("pools", "stop", "resume", "light", "restart"))
    assert (truth["pools"], truth["mining"], truth["boots"]) == ([NEW], True, 1)
    kinds = [kind for kind, _ in truth["writes"]]
    assert kinds[:3] == ["removegroup", "addgroup", "addpool"]


def test_the_vendors_own_client_reads_and_writes(clients_python: Path) -> None:
    told, truth = written("write_luxos", clients_python)
    assert told["version"]["LUXminer"] == "2026.4.3.192353-6ab4e5077"
    assert told["config"]["MACAddr"] == truth["mac"]
    assert (told["groups"]["Name"], told["chips"]) == ("default", truth["chips"])
    # By watts the profile is chosen that is not above them.
    assert truth["mode"] == "under-4"
    assert (told["atm"], told["atm after"]) == (True, False)
    assert told["second logon"] == "refused"
    assert (told["sleep"], told["switch"], told["reboot"]) == ("sleep mode", 27, "S")
    # Sleep outlives a boot.
    assert (truth["mining"], truth["boots"]) == (False, 1)
    assert [url for url, _ in truth["pools"]] == POOLS[::-1]
