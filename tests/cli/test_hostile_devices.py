"""Unreachable, lying, slow, oversized devices, and strangers: a named state each, in bounded time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from control_plane.cli.exits import Exit
from control_plane.simulator.network import Trouble
from tests.cli.workshop import Workshop, wait_for

SAID = {
    Trouble.BLACK_HOLE: {"unreachable"},
    Trouble.REFUSE: {"unreachable"},
    Trouble.HANG: {"unreachable"},
    Trouble.MUTE: {"unreachable"},
    Trouble.RESET: {"unreachable"},
    Trouble.SLOW: {"unreachable"},
    Trouble.GARBAGE: {"unexpected_reply"},
    Trouble.HTML: {"unexpected_reply"},
    Trouble.TRUNCATE: {"unexpected_reply", "unreachable"},
    Trouble.ENDLESS: {"oversized_reply"},
}
LOOK_S = 20.0
"""Wall seconds for one look at all of them: the deadlines of connecting and reading, with room."""
SLOTS = len(SAID) + 2
NEW = "stratum+tcp://new.example.com:3333"
RACKS = ("a01", "w01")
STRANGER, GOOD = SLOTS - 1, SLOTS
"""The slots of the machine that is another, and of the one that is well, in each rack."""


@pytest.fixture
def floor(shop: Workshop) -> Iterator[Workshop]:
    """A rack of each family; every slot but the last has a trouble of its own; then new pools come."""
    shop.declare(antminers=SLOTS, whatsminers=SLOTS, limit_w=None)
    with shop.devices():
        shop.adopted()
        for rack in RACKS:
            for slot, trouble in enumerate(SAID, 1):
                shop.fault("trouble", trouble=trouble, target={"asset": f"{rack}-s{slot}"})
            shop.fault("wrong_identity", target={"asset": f"{rack}-s{STRANGER}"})
        shop.declare(
            antminers=SLOTS, whatsminers=SLOTS, limit_w=None, pool="new.example.com",
            cohorts=(str(len(RACKS) * SLOTS),),
        )  # fmt: skip
        yield shop


def test_each_has_a_named_state_and_only_the_others_are_written_to(floor: Workshop) -> None:
    began = time.monotonic()
    seen = {one["asset"]: one for one in floor.json("observe")}
    assert time.monotonic() - began < LOOK_S
    for slot, (trouble, reasons) in enumerate(SAID.items(), 1):
        for rack in RACKS:
            said = seen[f"{rack}-s{slot}"]
            assert said.get("reason") in reasons, (rack, trouble, said)
            assert len(said["detail"]) <= 200
    good = {f"{rack}-s{GOOD}" for rack in RACKS}
    assert all("settings" in seen[asset] for asset in good)

    began = time.monotonic()
    plan = floor.json("plan")
    assert time.monotonic() - began < LOOK_S
    assert {step["asset"] for step in plan["steps"]} == good
    held = {one["asset"]: one["reason"] for one in plan["held"]}
    for rack in RACKS:
        assert held[f"{rack}-s{STRANGER}"] == "wrong_identity"
        for slot, trouble in enumerate(SAID, 1):
            assert held[f"{rack}-s{slot}"] in {"unreachable", "unexpected_reply"}, trouble

    before = floor.written()
    with floor.running("apply", "--yes", "--interval", "1") as engine:
        wait_for(lambda: floor.pools(f"a01-s{GOOD}") == floor.pools(f"w01-s{GOOD}") == {NEW})
        wait_for(lambda: not floor.open_writes())
        engine.signal(signal.SIGINT)
        engine.end(Exit.INTERRUPTED)
    assert {write["asset"] for write in floor.writes()[before:]} == good
    text = floor.run("explain", "a01-s1")
    assert "Held        unreachable" in text
    assert "  next      it is asked again" in text


def test_a_changed_password_is_a_state_of_its_own(site: Workshop) -> None:
    site.fault("password")
    plan = site.json("plan")
    assert plan["steps"] == []
    reasons = {(one["asset"][0], one["reason"]) for one in plan["held"]}
    assert ("a", "auth_rejected") in reasons


def test_another_family_at_the_address_is_seen_as_such(shop: Workshop) -> None:
    """The racks changed places: every address answers in the other vendor's language."""
    with shop.devices():
        racks = shop.folder / "inventory/sites/mill/racks"
        for name, other in (("a01", "10.0.1.11"), ("w01", "10.0.0.11")):
            path = racks / f"{name}.yaml"
            own = "10.0.0.11" if name == "a01" else "10.0.1.11"
            path.write_text(path.read_text().replace(own, other))
        began = time.monotonic()
        seen = shop.json("observe")
        assert time.monotonic() - began < LOOK_S
        # Antminers answer everybody what they are; a WhatsMiner is just not what was expected.
        assert {(one["asset"][:3], one.get("reason")) for one in seen} == {
            ("a01", "unexpected_reply"),
            ("w01", "other_family"),
        }
        assert shop.json("plan")["steps"] == []
        assert shop.written() == 0
