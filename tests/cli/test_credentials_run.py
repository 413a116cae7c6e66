"""Rotation of passwords in real processes over real sockets: declared, shown, let go, killed, done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.exits import Exit
from tests.cli.workshop import Running, Workshop, wait_for

OLD, NEW = "env:GRIDPLANE_ANTMINER_PASSWORD", "env:GRIDPLANE_ANTMINER_NEXT"
SECRET = "n3xt.Password-2027"
MACHINES = ("a01-s1", "a01-s2", "a01-s3")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    shop = Workshop(tmp_path / "company")
    shop.env["GRIDPLANE_ANTMINER_NEXT"] = SECRET
    shop.declare(antminers=len(MACHINES), whatsminers=1, cohorts=("1",))
    with shop.devices(scale=120.0):
        shop.adopted()
        yield shop


def declare(shop: Workshop, credentials: str) -> None:
    """Have the Antminers' profile name other credentials."""
    shop.reword("profiles/antminer.yaml", "credentials:", credentials)


def acting(shop: Workshop) -> Running:
    """`run`, once it acts."""
    started = shop.start("run", "--interval", "1")

    def acts() -> bool:
        engine = shop.json("status")["engine"]
        return engine is not None and engine["pid"] == started.pid

    wait_for(lambda: started.process.poll() is not None or acts())
    return started


def rotation(shop: Workshop) -> dict[str, Any]:
    found: dict[str, Any] = shop.json("rollout", "show", "c0001")
    return found


def test_a_password_is_declared_let_go_and_rotated_through_a_kill(shop: Workshop) -> None:
    declare(shop, f'{{user: root, secret_ref: "{NEW}", previous: ["{OLD}"]}}')
    plan = shop.run("plan")
    assert f"Credentials {NEW} for root of antminer_stock: 3 machines from {OLD}" in plan
    running = acting(shop)
    try:
        shop.run("apply", "--yes")
        wait_for(lambda: "c0001" in shop.run("rollout", "show"))
        wait_for(lambda: "`gridplane release c0001` lets it go" in shop.run("status"))
        explained = shop.run("explain", MACHINES[0])
        assert f"Login       root with {OLD}, to be {NEW}; c0001 waiting for a person" in explained
        told = shop.run("release", "c0001")
        assert f"c0001: the engine is told to rotate {NEW} for root of antminer_stock" in told
        wait_for(shop.writes)
        running.kill()
        running = acting(shop)
        wait_for(lambda: [m["step"] for m in rotation(shop)["machines"]][:1] == ["done"])
        shop.run("release", "c0001", "--all")
        wait_for(lambda: rotation(shop)["rotation"]["state"] == "done")
        assert [m["verified"] for m in rotation(shop)["machines"]] == [NEW] * len(MACHINES)
        changes = [w["asset"] for w in shop.writes() if w["kind"] == "passwd"]
        assert sorted(changes) == sorted(MACHINES)
        assert "there is nothing to let go" in shop.refused("release", "c0001", "--all")
        assert "Credentials" not in shop.run("plan")
        # The one before is taken out, once nobody needs it.
        declare(shop, f'{{user: root, secret_ref: "{NEW}"}}')
        shop.run("apply", "--yes")
        wait_for(lambda: rotation(shop)["rotation"]["state"] == "superseded")
    finally:
        running.signal(signal.SIGTERM)
        said = running.end(Exit.OK)
    assert SECRET not in said
    for file in (shop.folder / ".gridplane").rglob("*"):
        if file.is_file() and "sim" not in file.parts:
            assert SECRET.encode() not in file.read_bytes(), file
