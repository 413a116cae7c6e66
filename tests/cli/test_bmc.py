"""`gridplane bmc`: who answers, what it says, and that a BMC that nobody pinned is not spoken to."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane.simulator.bmc_web import PORT
from tests.bmcs import PASSWORD, SERIAL, USER, Bench, a_bmc
from tests.cli.workshop import GRIDPLANE
from tests.inventory.base import FILES

Done = subprocess.CompletedProcess[str]
ACCESS = f"bmc: {{credentials: {{user: {USER}, secret_ref: env:BMC_PASSWORD}}}}\n"


def declared(folder: Path, *, access: str = ACCESS, certificates: str = "") -> Path:
    """The inventory of the inventory's tests, with a way to its BMCs."""
    changed = {
        **FILES,
        "sites/lab/site.yaml": FILES["sites/lab/site.yaml"] + access,
        "sites/lab/gpu/hall.yaml": FILES["sites/lab/gpu/hall.yaml"].replace(
            "first_bmc: 10.11.0.21", f"first_bmc: 10.11.0.21{certificates}"
        ),
    }
    for path, text in changed.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return folder


def told(tmp_path: Path, inventory: Path, bench: Bench, *arguments: str) -> Done:
    network = tmp_path / "map.json"
    rule = {"declared": "10.11.0.0/24", "actual": "127.31.0.0/24"}
    network.write_text(
        json.dumps({"version": 1, "rules": [rule], "ports": {"443": bench.server.ports[PORT]}})
    )
    given = ["bmc", "--inventory", str(inventory), "--network-map", str(network), *arguments]
    return subprocess.run(
        [*GRIDPLANE, *given], env={**os.environ, "BMC_PASSWORD": PASSWORD}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


def beside(act: Callable[[Bench], Done]) -> tuple[Done, Bench]:
    """What a verb says while a BMC answers."""

    async def play() -> tuple[Done, Bench]:
        async with a_bmc(address="127.31.0.21") as bench:
            return await asyncio.to_thread(act, bench), bench

    return asyncio.run(play())


def pinned(bench: Bench) -> str:
    assert bench.station.certificate is not None
    return f", bmc_certificates: [{bench.station.certificate.sha256}, {'f' * 64}]"


def test_it_tells_who_answers_and_what_of(tmp_path: Path) -> None:
    def act(bench: Bench) -> Done:
        inventory = declared(tmp_path / "inventory", certificates=pinned(bench))
        return told(tmp_path, inventory, bench, "g1", "--part", "sensors", "--part", "draw")

    result, bench = beside(act)
    assert result.returncode == 0, result.stderr
    assert "1 of 2 BMCs answered" in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith("g1-n1"))
    assert "10.11.0.21" in row
    assert " on " in row
    assert SERIAL in row
    other = next(line for line in result.stdout.splitlines() if line.startswith("g1-n2"))
    assert "silent" in other
    assert not [line for line in bench.wrote() if "/Sessions/" not in line], "but for its logout"


def test_json_has_all_that_was_asked(tmp_path: Path) -> None:
    def act(bench: Bench) -> Done:
        inventory = declared(tmp_path / "inventory", certificates=pinned(bench))
        return told(tmp_path, inventory, bench, "g1-n1", "--part", "bios", "-o", "json")

    result, _ = beside(act)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)
    assert row["seen"]["serial"] == SERIAL
    assert row["seen"]["bios"]
    assert "sensors" not in row["seen"]


def test_one_whose_certificate_nobody_named_hears_nothing(tmp_path: Path) -> None:
    result, bench = beside(lambda b: told(tmp_path, declared(tmp_path / "inventory"), b, "g1-n1"))
    assert result.returncode == 0, result.stderr
    assert "0 of 1 BMCs answered" in result.stdout
    assert "certificate" in result.stdout
    assert not bench.device.asked


def test_another_certificate_than_the_pinned_one_is_not_logged_in_to(tmp_path: Path) -> None:
    wrong = f", bmc_certificates: [{'a' * 64}, {'b' * 64}]"
    result, bench = beside(
        lambda b: told(tmp_path, declared(tmp_path / "i", certificates=wrong), b, "g1-n1")
    )
    assert "0 of 1 BMCs answered" in result.stdout
    assert not bench.device.asked


@pytest.mark.parametrize(
    ("access", "nodes", "words"),
    [
        ("", (), "says nothing of BMCs"),
        (ACCESS, ("m-0001",), "m-0001 is no GPU node, host or rack of lab with a BMC"),
    ],
)
def test_what_cannot_be_asked_is_told_with_the_fix(
    tmp_path: Path, access: str, nodes: tuple[str, ...], words: str
) -> None:
    result, _ = beside(
        lambda b: told(tmp_path, declared(tmp_path / "inventory", access=access), b, *nodes)
    )
    assert result.returncode
    assert words in result.stderr
