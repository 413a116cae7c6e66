"""Firmware without a cluster, in real processes: `run` installs what a person lets go."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.exits import Exit
from control_plane.simulator.images import Conduct, SimImage
from tests.cli.workshop import Running, Workshop, wait_for
from tests.inventory.releases import release_of

OLD, NEW = "Fri Aug 25 17:28:38 CST 2023", "Mon Dec 30 10:00:00 CST 2099"
SCALE = 120.0
"""Uploads and their checks are not scaled: with much more a flash would take hours of policy time."""
MACHINES = ("a01-s1", "a01-s2", "a01-s3")


class Mill:
    """A rack of Antminers that run OLD, as is declared; a release of NEW can be declared."""

    def __init__(self, folder: Path) -> None:
        self.shop = Workshop(folder)
        self.images = folder / "images"
        self.images.mkdir(parents=True)
        self.shop.declare(antminers=len(MACHINES), whatsminers=1, cohorts=("1",))
        self.release(OLD)

    def release(self, version: str, conduct: Conduct = Conduct.GOOD) -> None:
        """Have the Antminers' profile ask for a version, and the catalogue know it."""
        image = SimImage(
            family="antminer_stock",
            models=("antminer s21", "s21"),
            version=version,
            conduct=conduct,
        )
        inventory = self.shop.folder / "inventory"
        (inventory / "firmware").mkdir(exist_ok=True)
        release = release_of("antminer-s21", image, self.images)
        number = len(list((inventory / "firmware").iterdir()))
        (inventory / "firmware" / f"s21-{number}.yaml").write_bytes(release)
        profile = inventory / "profiles" / "antminer.yaml"
        lines = [
            f'firmware: {{family: antminer_stock, version: "{version}"}}'
            if line.startswith("firmware:")
            else line
            for line in profile.read_text().splitlines()
        ]
        profile.write_text("\n".join(lines) + "\n")

    def rollout(self) -> dict[str, Any]:
        """The newest firmware rollout, with its machines."""
        newest = self.shop.json("rollout", "show")[0]["id"]
        found: dict[str, Any] = self.shop.json("rollout", "show", newest)
        return found

    def stands(self, state: str, wave: int = 0) -> bool:
        now = self.rollout()["rollout"]
        return (now["version"], now["state"], now.get("wave", 0)) == (NEW, state, wave)

    def running(self) -> Running:
        """`run`, once it acts: before that an `apply` would act itself."""
        started = self.shop.start("run", "--images", str(self.images), "--interval", "1")

        def acts() -> bool:
            engine = self.shop.json("status")["engine"]
            return engine is not None and engine["pid"] == started.pid

        wait_for(lambda: started.process.poll() is not None or acts())
        return started

    def flashed(self) -> dict[str, int]:
        """Machine → how many images arrived."""
        return Counter(w["asset"] for w in self.shop.writes() if w["kind"] == "upgrade")


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    mill = Mill(tmp_path / "company")
    with mill.shop.devices(scale=SCALE):
        mill.shop.adopted()
        yield mill


def test_waves_are_let_go_one_by_one_and_a_killed_run_sends_no_second_image(mill: Mill) -> None:
    shop = mill.shop
    running = mill.running()
    try:
        mill.release(NEW)
        shop.run("apply", "--yes")
        wait_for(lambda: mill.stands("waiting"))
        number = mill.rollout()["rollout"]["id"]
        told = shop.run("release", number)
        assert f"{number}: the engine is told to install {NEW}" in told
        assert "wave 1 of 2" in told
        wait_for(mill.flashed)
        # In the middle of it: the image has left, the machine boots.
        running.kill()
        running = mill.running()
        wait_for(lambda: mill.stands("waiting", wave=1))
        (line,) = mill.rollout()["machines"]
        entry = line["entry"]
        assert (entry["step"], entry["before"], entry["after"]) == ("done", OLD, NEW)
        assert entry["asset"] in shop.run("rollout", "show", number)
        # What it waits for is told a turn after it waits.
        asks = f"`gridplane release {number}` lets it go"
        wait_for(lambda: asks in shop.run("rollout", "show", number))
        shop.run("release", number, "--through", "9")
        wait_for(lambda: mill.stands("done", wave=1))
        assert mill.flashed() == dict.fromkeys(MACHINES, 1)
        said = shop.refused("release", number)
        assert "is done: there is nothing to let go" in said
    finally:
        running.signal(signal.SIGTERM)
        running.end(Exit.OK)


def test_a_bad_image_stops_at_one_machine_which_goes_back(mill: Mill) -> None:
    shop = mill.shop
    running = mill.running()
    try:
        mill.release(NEW, Conduct.IDLE)
        shop.run("apply", "--yes")
        wait_for(lambda: mill.stands("waiting"))
        number = mill.rollout()["rollout"]["id"]
        shop.run("release", number, "--through", "9")
        wait_for(lambda: mill.stands("halted"))

        def back() -> list[str]:
            lines = mill.rollout()["machines"]
            return [m["entry"]["step"] for m in lines if m["purpose"] == "roll_back"]

        wait_for(lambda: back() == ["done"])
        assert sorted(mill.flashed().values()) == [2]
        shown = shop.run("rollout", "show", number)
        assert "does not hash 80%" in shown
        assert "roll back" in shown
    finally:
        running.signal(signal.SIGTERM)
        running.end(Exit.OK)
