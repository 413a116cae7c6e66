"""`gridplane simulate` as a process; `gridplane bmc` and Redfish clients of others against its BMCs."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.simulator.serve import AUTHORITY
from tests.cli.workshop import Workshop, wait_for
from tests.inventory.base import FILES

SCALE = 300.0
PASSWORD = "s3cret-of-the-lab"
NODE, OTHER, HOST = "g1-n1", "g1-n2", "mgmt-1"
CLIENT = Path(__file__).resolve().parent.parent / "simulator/clients/redfish_sushy.py"
ACCESS = "bmc: {port: 8443, credentials: {user: ops, secret_ref: env:LAB_BMCS}}\n"
DIGESTS = f", bmc_certificates: [{'a' * 64}, {'b' * 64}]"
"""As of real BMCs, whose keys no simulation has."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Workshop]:
    """The inventory of the inventory's tests, with its BMCs served by a process."""
    files = {
        **FILES,
        "sites/lab/site.yaml": FILES["sites/lab/site.yaml"] + ACCESS,
        "sites/lab/gpu/hall.yaml": FILES["sites/lab/gpu/hall.yaml"].replace(
            "first_bmc: 10.11.0.21", f"first_bmc: 10.11.0.21{DIGESTS}"
        ),
    }
    for path, text in files.items():
        target = tmp_path / "inventory" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    shop = Workshop(tmp_path, "lab")
    shop.env["LAB_BMCS"] = PASSWORD
    with shop.devices(scale=SCALE):
        yield shop


def looked(lab: Workshop, *nodes: str) -> dict[str, dict[str, Any]]:
    """What `gridplane bmc` says, by asset."""
    return {row["asset"]: row for row in lab.json("bmc", *nodes)}


def truth(lab: Workshop, asset: str) -> dict[str, Any]:
    """What a node really is."""
    (one,) = lab.json("simulate", "truth", asset)
    return dict(one)


def ask(lab: Workshop, url: str, path: str, **body: str) -> Any:
    """A client that knows the authority's file, user and password, and nothing of a map."""
    login = base64.b64encode(f"ops:{PASSWORD}".encode()).decode()
    trusts = ssl.create_default_context(cafile=str(lab.simulation / AUTHORITY))
    line = http.client.HTTPSConnection(url.removeprefix("https://"), context=trusts, timeout=30)
    with contextlib.closing(line):
        method, text = ("POST", json.dumps(body)) if body else ("GET", None)
        line.request(method, path, text, {"Authorization": f"Basic {login}"})
        reply = line.getresponse()
        assert reply.status < 300, reply.status
        return json.loads(reply.read() or b"null")


def test_the_verb_reads_them_and_sees_what_another_client_does(lab: Workshop) -> None:
    seen = looked(lab)
    assert [seen[one].get("seen", {}).get("power") for one in (NODE, OTHER)] == ["on", "on"]
    assert seen[NODE]["seen"]["serial"] == truth(lab, NODE)["serial"]
    assert "certificate" in seen[HOST]["trouble"], "served, but no pin of it is declared"

    url, before = truth(lab, NODE)["url"], truth(lab, NODE)
    system = ask(lab, url, "/redfish/v1/Systems")["Members"][0]["@odata.id"]
    reset = f"{system}/Actions/ComputerSystem.Reset"
    ask(lab, url, reset, ResetType="ForceOff")
    wait_for(lambda: looked(lab, NODE)[NODE]["seen"]["power"] == "off")
    assert truth(lab, NODE)["gpus_offered"] is None
    assert looked(lab, OTHER)[OTHER]["seen"]["power"] == "on"
    ask(lab, url, reset, ResetType="On")
    wait_for(lambda: truth(lab, NODE)["gpus_offered"] == 8)
    after = truth(lab, NODE)
    assert after["boot_id"] != before["boot_id"]
    assert after["resets"] == ["ForceOff", "On"]
    assert looked(lab, NODE)[NODE]["seen"]["power"] == "on"


def test_a_fault_of_the_command_line_shows_at_its_bmc(lab: Workshop) -> None:
    said = lab.run("simulate", "fault", "lockout", NODE)
    assert said == f"lockout: 1 device: {NODE}\n"
    lab.run("simulate", "fault", "wrong_identity", OTHER)
    seen = looked(lab)
    assert "refuses user ops" in seen[NODE]["trouble"]
    assert seen[OTHER]["seen"]["serial"].startswith("STR")
    lab.run("simulate", "fault", "clear")
    lab.run("simulate", "fault", "fall_off", NODE, "--gpu", "3", "--mends", "never")
    table = lab.run("simulate", "truth", NODE)
    assert "7 without 3" in table
    assert looked(lab, NODE)[NODE]["seen"]["power"] == "on"
    hit = lab.run("simulate", "fault", "power_off", "node:grid", "--seed", "1")
    assert "3 hosts with a BMC draw 0.00 MW" in lab.run("simulate", "status"), hit
    assert "seen" not in looked(lab, NODE)[NODE]


def test_whom_a_fault_cannot_happen_to_is_said(lab: Workshop) -> None:
    assert "no simulated machine" in lab.refused("simulate", "fault", "hijack", NODE)
    assert "no simulated machine" in lab.refused("simulate", "fault", "hang", HOST)


@pytest.mark.clients
def test_sushy_commands_one_that_the_process_serves(lab: Workshop, clients_python: Path) -> None:
    before = truth(lab, NODE)
    component = "Previous-159"
    done = subprocess.run(
        [clients_python, CLIENT, before["url"], "ops", PASSWORD, before["serial"], component],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["power"], told["off"], told["on"]) == ("On", "Off", "On")
    assert told["task"] == ["Completed", 100]
    assert told["firmware_after"][component] == "77"
    assert truth(lab, NODE)["resets"] == ["ForceOff", "On"]
