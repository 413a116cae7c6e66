"""`gridplane guard` in a process of its own, beside simulated machines and a meter, and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.exits import Exit
from tests.cli.workshop import SITE, Workshop, wait_for

SCALE = 300.0
_METERED = """\
meters:
  - {name: m-grid, address: 10.0.9.10, model: janitza-umg96, interval_s: 1}
nodes:
  - {id: grid, kind: utility, rating_kw: 1000, derate: 1.0, meter: m-grid}
  - {id: pdu-1, kind: pdu, parent: grid, rating_kw: 500}
  - {id: pdu-2, kind: pdu, parent: grid, rating_kw: 500}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    shop = Workshop(tmp_path)
    shop.declare()
    inventory = tmp_path / "inventory" / "sites" / SITE
    (inventory / "power.yaml").write_text(_METERED)
    site = inventory / "site.yaml"
    site.write_text(site.read_text() + "  - {name: meters, cidr: 10.0.9.0/24, purpose: metering}\n")
    return shop


def drawn_w(shop: Workshop) -> float:
    return float(sum(machine["drawn_w"] for machine in shop.truth().values()))


def show(shop: Workshop) -> Any:
    return shop.json("guard", "show", "--folder", "guard")


def test_it_keeps_a_site_below_a_cap_alone_and_tells_so(shop: Workshop) -> None:
    with shop.devices(scale=SCALE):
        shop.adopted()
        full_w = drawn_w(shop)
        cap_kw = full_w * 0.7 / 1e3
        said = shop.run("guard", "give", "--folder", "guard", "--cap", f"grid={cap_kw:.1f}")
        assert "12 of 12 machines can be lowered" in said
        with shop.running("guard", "run", "--folder", "guard") as guard:
            wait_for(lambda: drawn_w(shop) <= cap_kw * 1e3 or guard.process.poll() is not None)
            assert drawn_w(shop) <= cap_kw * 1e3, guard.said
            assert '"kind":"page"' in guard.said
            # Another one in the same folder would be a second opinion.
            assert "another guard runs" in shop.refused("guard", "run", "--folder", "guard")
            wait_for(lambda: bool(show(shop)["lowered"]))
        assert drawn_w(shop) <= cap_kw * 1e3
        raised = [w for w in shop.writes() if w["direction"] == "raise"]
        assert raised == []


def test_what_it_cannot_do_it_says(shop: Workshop) -> None:
    assert "gridplane guard give" in shop.refused("guard", "run", "--folder", "guard")
    assert "run `gridplane guard run`" in shop.refused("guard", "show", "--folder", "guard")
    with shop.devices(scale=SCALE):
        shop.adopted()
        for cap, why in (("grid", "NODE=KW"), ("grid=-1", "NODE=KW"), ("grit=5", "no feed grit")):
            asked = ("guard", "give", "--folder", "guard", "--cap", cap)
            assert why in shop.refused(*asked, code=Exit.USAGE)
        assert not (shop.folder / "guard" / "given.json").exists()


def test_beside_the_engine_what_it_did_stands_until_a_person_ends_it(shop: Workshop) -> None:
    with shop.devices(scale=SCALE):
        shop.adopted()
        full_w = drawn_w(shop)
        with shop.running("run", "--interval", "1", "--guard", "guard") as engine:
            wait_for((shop.folder / "guard" / "given.json").exists)
            with shop.running("guard", "run", "--folder", "guard") as guard:
                cap_kw = full_w * 0.7 / 1e3
                shop.run("guard", "give", "--folder", "guard", "--cap", f"grid={cap_kw:.1f}")
                wait_for(lambda: drawn_w(shop) <= cap_kw * 1e3 or guard.process.poll() is not None)
                wait_for(lambda: any(h["kind"] == "guard" for h in shop.json("get", "holds")))
                # The engine has other caps, and leaves what was lowered as it is.
                wait_for(lambda: "manual_override" not in shop.run("status"))
                assert drawn_w(shop) <= cap_kw * 1e3 * 1.01, engine.said
                shop.run("guard", "give", "--folder", "guard")
                wait_for(lambda: not show(shop)["decision"]["guarded"])
                assert drawn_w(shop) <= cap_kw * 1e3 * 1.01, engine.said
                told = shop.json("resume", "guard", "--who", "ann")
                assert told["devices"] > 0
                wait_for(lambda: drawn_w(shop) >= full_w * 0.95)
