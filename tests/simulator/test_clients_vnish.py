"""Clients that others wrote read a simulated VNish correctly, and their writes do what they ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.simulator.vnish_builds import BUILDS
from tests.simulator.test_clients import POOLS, Told, look

pytestmark = pytest.mark.clients

NEW = [["new.pool.test:3333", "n"]]
SETTINGS, STOP = ["settings", True], ["mining/stop", True]


@pytest.fixture(scope="module", params=["pyasic", "pyasic_rs"])
def told(request: pytest.FixtureRequest, clients_python: Path) -> Told:
    return look(f"read_{request.param}", clients_python, "vnish")


def test_each_build_is_recognised_and_read(told: Told) -> None:
    for name in BUILDS:
        one = told[name]
        truth = one["truth"]
        assert (one["make"].lower(), one["model"], one["fw_ver"]) == ("antminer", "S19", name)
        assert one["firmware"] == "VNish"
        assert one["mac"].lower() == truth["mac"]
        assert one["hashrate_ths"] == pytest.approx(truth["hashrate_ths"], rel=0.03)
        assert [board["chips"] for board in one["boards"]] == [76, 76, 76]
        assert len(one["fans"]) == 4
        assert one["is_mining"] is True


def test_pools_are_read_and_the_makers_own_is_not_ours(told: Told) -> None:
    for name in BUILDS:
        pools = [row for row in told[name]["pools"] if row[1] != "DevFee"]
        assert [url for url, _ in pools] == POOLS


def test_the_preset_and_the_watts_are_read(told: Told) -> None:
    for name in BUILDS:
        one = told[name]
        assert "2950" in str(one.get("limit_w", one.get("target")))
        # pyasic reads `power_usage`, which means watts on old builds only.
        if "target" in one or name == "1.2.6":
            assert one["watts"] == pytest.approx(one["truth"]["reported_w"], rel=0.02)


def test_pyasic_writes(clients_python: Path) -> None:
    told = look("write_vnish_pyasic", clients_python, "vnish")
    for name, build in BUILDS.items():
        one, truth = told[name], told[name]["truth"]
        assert one["limit"] is False
        assert one["preset"] == {"restart_required": False, "reboot_required": False}
        assert truth["mode"] == "2350"
        refused = build.refuses_off_ladder
        assert one["off ladder"] == (
            "APIError" if refused else {"restart_required": False, "reboot_required": False}
        )
        assert truth["writes"] == [SETTINGS, SETTINGS, ["settings", not refused], STOP]
        assert truth["mining"] is False
        assert (truth["pools"] == NEW) is not build.pools_need_restart
        # An empty acknowledgement is an error to it, though the unit stops.
        assert one["stop"] == ("APIError" if build.empty_acks else True)


def test_pyasic_rs_writes(clients_python: Path) -> None:
    told = look("write_vnish_pyasic_rs", clients_python, "vnish")
    for name, build in BUILDS.items():
        one, truth = told[name], told[name]["truth"]
        assert one["presets"] == ["disabled", "1900", "2350", "2950", "3200"]
        assert (one["limit"], one["pools"]) == (True, True)
        assert truth["mode"] == "2350"
        assert one["throttle"] == (True if build.has_throttle else "RuntimeError")
        throttled = [["mining/throttle", True]] if build.has_throttle else []
        assert truth["writes"] == [SETTINGS, SETTINGS, *throttled, STOP]
        assert truth["mining"] is False
        assert (truth["pools"] == NEW) is not build.pools_need_restart
        assert one["stop"] is not build.empty_acks
