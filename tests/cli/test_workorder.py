"""`gridplane workorder`: the sheet of what was seen, of the accepted declaration or of the one on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.cli.workplace import Workplace
from control_plane.core.observation import Depth, Identity, Observation, Settings

VERSION = "2025.9"


@pytest.fixture(autouse=True)
def _seen(home: Path) -> None:
    """Four of eight machines answered as stock firmware; LuxOS is declared on disk, with its release."""
    assert home.is_dir()
    Workplace(site="first-site", state=None, creates=True).store.put_sightings(
        Observation(
            asset=f"r01-s{slot}", at_s=1.0, depth=Depth.FULL, source="test",
            identity=Identity(mac=f"02:00:00:00:00:0{slot}", family="antminer_stock"),
            settings=Settings(firmware="Fri Aug 25 17:28:38 CST 2023"),
        )
        for slot in (3, 1, 2, 7)
    )  # fmt: skip
    kind = Path("inventory/device-types/antminer-s21.yaml")
    kind.write_text(kind.read_text().replace("[antminer_stock]", "[antminer_stock, luxos]"))
    profile = Path("inventory/profiles/standard.yaml")
    wanted = f'{{family: luxos, version: "{VERSION}"}}'
    profile.write_text(profile.read_text().replace("{family: antminer_stock}", wanted))
    owner = Path("inventory/owners/me.yaml")
    text = owner.read_text()
    owner.write_text(text.replace("firmware_families: [antminer_stock]", "firmware_families: []"))
    Path("image.tar.gz").write_bytes(b"\x1f\x8b luxos")
    release = ("--family", "luxos", "--version", VERSION, "--type", "antminer-s21")
    ways = ("--rolls-back", "--voids-warranty", "--note", "Ask first.", "--images", "store")
    assert main(("firmware", "add", "image.tar.gz", *release, *ways)) == Exit.OK
    made = Path(f"inventory/firmware/luxos-{VERSION}.yaml")
    made.write_text(f"{made.read_text()}by_hand: [write it to a card, boot from the card]\n")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(("workorder", *words)) == Exit.OK
    return capsys.readouterr().out


def test_the_sheet_says_what_where_with_which_image_and_what_is_final(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(capsys, "--planned")
    assert "antminer_stock -> luxos 2025.9" in text
    assert "image.tar.gz" in text
    assert "write it to a card" in text
    assert "the warranty ends" in text
    assert "Ask first." in text
    assert text.count("[ ]") == 4


def test_scripts_get_slots_in_walking_order(capsys: pytest.CaptureFixture[str]) -> None:
    data: list[Any] = json.loads(printed(capsys, "-o", "json"))
    (order,) = data
    assert [slot["slot"] for slot in order["slots"]] == [1, 2, 3, 7]
    assert order["images"][0]["sha256"]
    assert printed(capsys, "-o", "name").split() == ["r01-s1", "r01-s2", "r01-s3", "r01-s7"]


def test_of_one_node_only_what_is_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "r01-s7", "-o", "name").split() == ["r01-s7"]
    assert "No machine" in printed(capsys, "r01-s8")
    assert main(("workorder", "r02")) == Exit.USAGE


def test_the_plan_has_it_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(("plan", "--no-look")) == Exit.OK
    assert "Work order  4 machines from antminer_stock to luxos 2025.9" in capsys.readouterr().out
    assert main(("plan", "--no-look", "-o", "json")) == Exit.OK
    plan = json.loads(capsys.readouterr().out)
    assert [len(order["slots"]) for order in plan["work_orders"]] == [4]
    assert plan["firmware"] == []
