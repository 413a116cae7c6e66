"""The runner of a firmware Job: which devices of its shard it works on, and what it says of each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from control_plane.core.catalogue import Image
from control_plane.core.errors import StoreError
from control_plane.core.firmware import About, Bundle, Shard, ShardDevice
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.core.fleet import Credentials
from control_plane.core.ports import Target
from control_plane.engine.firmware import (
    NOT_GRANTED,
    Line,
    counted,
    flash_shard,
    why_not,
)
from control_plane.engine.secrets import MountedSecrets

BUNDLE = Bundle(
    family="fam", make="Bitmain", model="S21", reported_models=("s21",), version="2",
    images=(Image(file="s21.bin", sha256="5" * 64, size_bytes=1),), min_from_version=None,
    flash_s=300.0, settle_s=600.0, can_roll_back=True, power_mode="normal", power_limit_w=None,
    credentials=Credentials(user="root", secret_ref="env:PASSWORD"),
)  # fmt: skip
ABOUT = About(digest=BUNDLE.digest, bundle=BUNDLE)
SHARD = Shard(
    devices=(
        ShardDevice(asset="one", address="10.0.0.1", mac="02:00:00:00:00:01"),
        ShardDevice(asset="two", address="10.0.0.2", serial="SN2"),
        ShardDevice(asset="begun", address="10.0.0.3", mac="02:00:00:00:00:03"),
        ShardDevice(asset="unkept", address="10.0.0.4", mac="02:00:00:00:00:04"),
        ShardDevice(asset="nobody", address="10.0.0.5"),
        ShardDevice(asset="roams", mac="02:00:00:00:00:06"),
        ShardDevice(asset="spared", address="10.0.0.7", mac="02:00:00:00:00:07"),
    )
)
GRANT = Grant(
    operation="fw-1-0", rollout="f0001", fence=1, digest=BUNDLE.digest, at_once=2, deadline_s=2e9,
    entries={
        d.asset: FlashEntry(asset=d.asset, attempt=int(d.asset == "begun"))
        for d in SHARD.devices if d.asset != "spared"
    },
)  # fmt: skip


class Flashes:
    """A flasher that says of each device that it is done."""

    def __init__(self) -> None:
        self.targets: list[Target] = []
        self.now, self.most = 0, 0

    async def verify(self, entry: FlashEntry, target: Target) -> FlashEntry:
        return entry

    async def install(self, entry: FlashEntry, target: Target) -> FlashEntry:
        self.targets.append(target)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if entry.asset == "unkept":
            raise StoreError("disk full")
        return msgspec.structs.replace(entry, step=FlashStep.DONE, before="1", after="2")


def flashed(flashes: Flashes, folder: Path, shard: Shard = SHARD) -> dict[str, Line]:
    said: list[Line] = []
    work = flash_shard(
        shard, ABOUT, GRANT, flashes, secrets=MountedSecrets(folder), say=said.append  # type: ignore[arg-type]
    )  # fmt: skip
    asyncio.run(work)
    return {line.asset: line for line in said}


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    (tmp_path / "PASSWORD").write_text("open sesame\n")
    return tmp_path


SOUND = Shard(devices=tuple(d for d in SHARD.devices if d.asset != "unkept"))


def test_each_device_of_the_grant_is_worked_on_the_begun_first(passwords: Path) -> None:
    flashes = Flashes()
    lines = flashed(flashes, passwords, SOUND)
    assert [target.asset for target in flashes.targets] == ["begun", "one", "two"]
    assert flashes.most == GRANT.at_once
    assert {target.password.reveal() for target in flashes.targets} == {"open sesame"}
    assert all(target.pin for target in flashes.targets)
    assert {asset: line.step for asset, line in lines.items()} == {
        "begun": "done", "one": "done", "two": "done",
        # Nobody could tell whether it is the one, or where it is.
        "nobody": "pending", "roams": "pending",
        "spared": NOT_GRANTED,
    }  # fmt: skip
    assert counted(lines.values()) == {"done": 3, "not_granted": 1, "pending": 2}


def test_one_whose_step_is_not_kept_stops_no_other_and_is_told(passwords: Path) -> None:
    flashes = Flashes()
    with pytest.raises(StoreError, match="disk full"):
        flashed(flashes, passwords)
    assert {target.asset for target in flashes.targets} == {"begun", "one", "two", "unkept"}


def test_a_password_that_is_not_mounted_is_said_and_no_device_is_asked(tmp_path: Path) -> None:
    flashes = Flashes()
    lines = flashed(flashes, tmp_path)
    assert flashes.targets == []
    assert (lines["one"].step, "PASSWORD" in lines["one"].detail) == ("pending", True)


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        (GRANT, None),
        (msgspec.structs.replace(GRANT, digest="0" * 64), "and this bundle is"),
        (msgspec.structs.replace(GRANT, deadline_s=940.0), "ran out 60 s ago"),
    ],
    ids=["good", "of another bundle", "expired"],
)
def test_what_a_grant_permits(grant: Grant, words: str | None) -> None:
    why = why_not(grant, ABOUT, now_s=1_000.0)
    assert why is None if words is None else words in (why or "")
