"""Other addresses in real processes over real sockets: declared, shown, let go, killed, done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.exits import Exit
from tests.cli.test_credentials_run import acting
from tests.cli.workshop import SITE, Workshop, wait_for

MACHINES = ("a01-s1", "a01-s2", "a01-s3")
OLD, NEW = "10.0.0.11", "10.0.2.11"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    shop = Workshop(tmp_path / "company")
    shop.declare(antminers=len(MACHINES), whatsminers=1, cohorts=("1",))
    with shop.devices(scale=120.0):
        shop.adopted()
        yield shop


def declare(shop: Workshop, addressing: str) -> None:
    """Have the Antminers' rack be addressed otherwise, in a network that names its gateway."""
    shop.reword(f"sites/{SITE}/racks/a01.yaml", "addressing:", addressing)
    of_site = shop.folder / "inventory" / "sites" / SITE / "site.yaml"
    of_site.write_text(
        of_site.read_text().replace("purpose: miners}", "purpose: miners, gateway: 10.0.0.1}")
    )


def rotation(shop: Workshop) -> dict[str, Any]:
    found: dict[str, Any] = shop.json("rollout", "show", "n0001")
    return found


def test_addresses_are_declared_let_go_and_given_through_a_kill(shop: Workshop) -> None:
    declare(shop, f"{{static_by_slot: {NEW}, previous: {{static_by_slot: {OLD}}}}}")
    plan = shop.run("plan")
    assert (
        "Network     addresses in 10.0.0.0/22 for antminer_stock: 3 machines from other static ones; "
        "each wave is let go by a person" in plan
    )
    running = acting(shop)
    try:
        shop.run("apply", "--yes")
        wait_for(lambda: "n0001" in shop.run("rollout", "show"))
        wait_for(lambda: "`gridplane release n0001` lets it go" in shop.run("status"))
        explained = shop.run("explain", MACHINES[0])
        assert f"Address     {OLD}, to be {NEW}; n0001 waiting for a person" in explained
        told = shop.run("release", "n0001")
        assert "n0001: the engine is told to give addresses in 10.0.0.0/22" in told
        wait_for(shop.writes)
        running.kill()
        running = acting(shop)
        wait_for(lambda: [m["step"] for m in rotation(shop)["machines"]][:1] == ["done"])
        shop.run("release", "n0001", "--all")
        wait_for(lambda: rotation(shop)["rotation"]["state"] == "done")
        places = {m["asset"]: m["verified"] for m in rotation(shop)["machines"]}
        assert places == {f"a01-s{slot}": f"10.0.2.{slot + 10}" for slot in (1, 2, 3)}
        writes = [w["asset"] for w in shop.writes() if w["kind"] == "set_network_conf"]
        assert sorted(writes) == sorted(MACHINES)
        assert "Network" not in shop.run("plan")
        assert "10.0.2.11" in shop.run("explain", MACHINES[0])
        # Where they were is taken out, once none is there.
        declare(shop, f"{{static_by_slot: {NEW}}}")
        shop.run("apply", "--yes")
        wait_for(lambda: rotation(shop)["rotation"]["state"] == "superseded")
    finally:
        running.signal(signal.SIGTERM)
        running.end(Exit.OK)
    # Another process finds every machine where it is declared.
    plan = shop.run("plan")
    assert "Nothing to do" in plan, plan
