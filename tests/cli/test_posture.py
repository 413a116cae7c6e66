"""`gridplane posture` on a site of real processes: what is known, and what one try adds to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.exits import Exit, Stop
from control_plane.cli.posture import _ask
from control_plane.cli.workplace import Workplace
from control_plane.core.world import World
from tests.cli.workshop import Workshop


def postures(shop: Workshop, *words: str) -> dict[str, dict[str, Any]]:
    return {each["asset"]: each for each in shop.json("posture", "--all", *words)}


def test_passwords_of_makers_are_listed_counted_and_explained(site: Workshop) -> None:
    found = postures(site)
    assert {found[f"a01-s{n}"]["password"] for n in range(1, 7)} == {"factory"}
    assert all(
        "`credentials` of its profile" in found[f"a01-s{n}"]["fixes"][0] for n in range(1, 7)
    )
    assert "root" not in site.run("posture", "--all", "-o", "json"), "no password is printed"
    told = site.run("status")
    assert "with their maker's password" in told
    assert "gridplane posture" in told
    explained = site.run("explain", "a01-s1")
    assert "Posture     password factory, write API login (the declared login works)" in explained
    assert "to do" in explained


def test_a_host_without_the_password_says_unknown_and_not_changed(site: Workshop) -> None:
    del site.env["GRIDPLANE_ANTMINER_PASSWORD"]
    assert postures(site)["a01-s1"]["password"] == "unknown"


def test_one_try_tells_it_once_a_day_and_writes_nothing(site: Workshop) -> None:
    del site.env["GRIDPLANE_ANTMINER_PASSWORD"]
    site.fault("password", target={"asset": "a01-s2"})
    before = site.written()
    found = {each["asset"]: each for each in site.json("posture", "a01", "--ask", "--all")}
    assert set(found) == {f"a01-s{n}" for n in range(1, 7)}
    assert found["a01-s1"]["password"] == "factory"
    assert found["a01-s2"]["password"] == "changed"
    assert site.written() == before
    again = site.call("posture", "a01-s1", "--ask", "--all", "-o", "json")
    assert again.returncode == Exit.OK
    assert "1 were asked within a day" in again.stderr
    events = site.json("get", "events", "a01-s1")
    texts = [event["text"] for event in events if event["kind"] == "posture"]
    assert len(texts) == 2
    assert "password factory" in texts[0]
    assert "tried, once" in texts[1]


def test_a_write_api_that_is_off_is_found_where_reads_prove_no_password(site: Workshop) -> None:
    site.fault("writes_off", target={"asset": "w01-s1"})
    found = {each["asset"]: each for each in site.json("posture", "w01-s1", "--ask", "--all")}
    assert found["w01-s1"]["write_api"] == "closed"
    assert any("WhatsMinerTool" in fix for fix in found["w01-s1"]["fixes"])


def test_nothing_is_tried_where_it_would_be_forgotten(home: Path) -> None:
    place = Workplace(site="first-site", state=home / "copy", creates=True, is_own=False)
    nothing = World(now_s=0.0, sightings={}, memories={}, capabilities={})
    with pytest.raises(Stop, match="would forget that it was asked"):
        _ask(place, nothing, {}, {})
