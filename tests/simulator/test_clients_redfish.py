"""Redfish clients that others wrote command the simulated BMCs: power, boot, BIOS, tasks, sensors."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from control_plane.simulator.bmc_profiles import DELL, HPE, LENOVO, SUPERMICRO, Profile
from control_plane.simulator.clock import RealSimClock
from tests.bmcs import PASSWORD, SERIAL, USER, Bench, a_bmc

pytestmark = pytest.mark.clients

HERE = Path(__file__).resolve().parent
COMPONENT = {
    "supermicro": "CPLD_Motherboard",
    "dell": "Previous-159",
    "hpe": "11",
    "lenovo": "BMC-Backup",
}
"""Neither the BMC itself nor the BIOS: written at once, without a restart."""


def run(python: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, HERE / f"clients/{script}.py", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def played(script: str, profile: Profile, python: Path) -> tuple[dict[str, Any], Bench]:
    """What a client told, and the BMC afterwards; device time runs two hundred times as fast."""

    async def main() -> tuple[dict[str, Any], Bench]:
        async with a_bmc(profile, clock=RealSimClock(200.0)) as bench:
            url = f"https://{bench.target.address}:{bench.server.ports[443]}"
            arguments = [url, USER, PASSWORD, SERIAL, COMPONENT[profile.name]]
            done = await asyncio.to_thread(run, python, script, *arguments)
            assert done.returncode == 0, f"{done.stderr}{bench.device.asked[-5:]}"
            return json.loads(done.stdout), bench

    return asyncio.run(main())


@pytest.mark.parametrize("profile", [SUPERMICRO, DELL, HPE, LENOVO], ids=lambda p: p.name)
def test_sushy_reads_and_commands_it(profile: Profile, clients_python: Path) -> None:
    told, bench = played("redfish_sushy", profile, clients_python)
    component = COMPONENT[profile.name]
    assert told["auth"] == "SessionOrBasicAuth"
    assert bench.bmc.logins == 1, "one session for all of it"
    assert told["sku" if profile is DELL else "serial"] == SERIAL
    assert (told["power"], told["off"], told["on"]) == ("On", "Off", "On")
    assert told["boot"] == ["Pxe", "Once"]
    assert told["boot_after"] == "Disabled"
    assert bench.bmc.boot_log == ["Pxe"]
    name, before, during, pending = told["bios"]
    assert (before, during, pending) == (profile.bios[name], profile.bios[name], {name: "Changed"})
    # sushy sends no time to apply them, without which Dell never does.
    assert told["bios_after"] == (before if profile is DELL else "Changed")
    assert len(told["temperatures"]) == 2
    assert told["inserted"] == [True, "http://images.test/x.iso"]
    assert told["ejected"] is False
    assert told["firmware"] == dict(profile.firmware)
    assert (told["task_began"], told["task"]) == ("Running", ["Completed", 100])
    assert told["firmware_after"] == {**profile.firmware, component: "77"}


@pytest.mark.parametrize("profile", [SUPERMICRO, DELL, HPE, LENOVO], ids=lambda p: p.name)
def test_the_client_of_dmtf_reads_and_commands_it(profile: Profile, clients_python: Path) -> None:
    told, bench = played("redfish_dmtf", profile, clients_python)
    assert told["session"]
    assert bench.bmc.sessions == {}, "it logged out"
    assert told["sku" if profile is DELL else "serial"] == SERIAL
    assert (told["off_status"], told["off"]) == (204, "Off")
    assert (told["on_status"], told["on"]) == (204, "On")
    assert told["nonsense"] == 400
    assert told["bios_status"] == 200
    assert list(told["pending"].values()) == ["Changed"]
    assert told["thermal"] == 2
    assert (told["update_status"], told["processing"], told["task"]) == (202, True, "Completed")
    assert told["firmware_after"] == {**profile.firmware, COMPONENT[profile.name]: "77"}
