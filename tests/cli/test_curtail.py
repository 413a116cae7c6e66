"""`gridplane curtail` and `resume`, with the engine beside them, on simulated machines."""

from __future__ import annotations

from pathlib import Path

from control_plane.cli.exits import Exit
from tests.cli.workshop import Workshop, wait_for


def drawn_w(shop: Workshop) -> float:
    return float(sum(machine["drawn_w"] for machine in shop.truth().values()))


def test_one_command_sheds_and_another_one_brings_it_back(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    shop.declare(antminers=4, whatsminers=4, limit_w=None)
    with shop.devices():
        shop.adopted()
        full_w = drawn_w(shop)
        to_w = full_w * 0.6
        asked = ("curtail", "--to", f"{to_w:.0f}W", "--program", "peak", "--who", "ann")
        before = len(shop.writes())
        would = shop.json(*asked, "--dry-run")
        assert not would["is_in_force"]
        assert would["after_w"] <= to_w < would["before_w"]
        assert shop.json("get", "holds") == []
        with shop.running("run", "--interval", "1") as engine:
            assert "gridplane resume peak" in shop.run(*asked)
            wait_for(lambda: drawn_w(shop) <= to_w or engine.process.poll() is not None)
            assert drawn_w(shop) <= to_w, engine.said
            assert [
                w["direction"] for w in shop.writes()[before:] if w["direction"] == "raise"
            ] == []
            told = shop.json("resume", "peak", "--who", "ann")
            assert told["acts"] == "run"
            wait_for(lambda: drawn_w(shop) >= full_w * 0.95 or engine.process.poll() is not None)
            assert drawn_w(shop) >= full_w * 0.95, engine.said
        assert "none" in shop.refused("resume", "peak")


def test_what_cannot_be_is_said_and_nothing_is_lowered(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    shop.declare(antminers=2, whatsminers=2, limit_w=None)
    with shop.devices():
        shop.adopted()
        for words, why in (
            (("--to", "lots"), "is no power"),
            (("--to", "1MW", "--node", "pdu-9"), "has no feed pdu-9"),
            (("--to", "1MW", "--by", "25:00"), "write a time of day"),
            (("--to", "1MW", "--program", "Peak Load"), "is no name"),
        ):
            assert why in shop.refused("curtail", *words, code=Exit.USAGE)
        # It is put in force as far as it goes, and the exit code says that it is not enough.
        said = shop.run("curtail", "--to", "1W", "--dry-run", code=Exit.ACTIONABLE)
        assert "NOT ENOUGH" in said
        # With nobody there who acts, a curtailment is kept, and its end says who is missing.
        shop.run("curtail", "--to", "5kW")
        assert "Nobody acts on the site" in shop.run("resume")
