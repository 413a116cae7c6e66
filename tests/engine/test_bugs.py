"""A bug of ours, or a password that is not there, costs the devices that meet it and no others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control_plane.core.decide import _UNSEEN, decide
from control_plane.core.decision import Reason
from control_plane.core.errors import DeclarationError
from control_plane.core.findings import SourceRef
from control_plane.core.fleet import Device, Strategy
from control_plane.core.observation import Observation, Unseen, UnseenReason
from control_plane.core.ports import Driver, Target
from control_plane.core.secret import Secret
from control_plane.core.verify import Stage
from control_plane.drivers.registry import all_capabilities, make_drivers
from control_plane.engine.bugs import in_words
from control_plane.engine.edges import Edges
from control_plane.engine.secrets import SystemSecrets
from control_plane.engine.sights import Sights
from control_plane.engine.slots import Slot
from control_plane.engine.sweep import slots_of, sweep
from control_plane.simulator.stage import set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.engine.running import (
    ANT,
    PASSWORDS,
    WHATS,
    KnownSecrets,
    Running,
    intending,
    on_site,
    small_site,
)
from tests.simulator.floors import a_site


def asleep(device: Device) -> Device:
    return intending(device, mining=False)


def ants_awake(device: Device) -> Device:
    return device if device.intent.family == "antminer_stock" else asleep(device)


FOUND = small_site(asleep)
# All in one wave: a device that cannot be written does not let its wave come to an end.
DECLARED = msgspec.structs.replace(
    small_site(ants_awake), strategy=Strategy(cohorts=(20,), max_new_failure_share=0.3)
)


class Buggy:
    """A driver that fails on one device, in one call, before or after it has done its work."""

    def __init__(self, driver: Driver, asset: str, call: str, *, after: bool = False) -> None:
        self._driver, self._asset, self._call, self._after = driver, asset, call, after

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._driver, name)
        if name != self._call:
            return inner

        async def failing(target: Target, *more: Any) -> Any:
            if target.asset != self._asset:
                return await inner(target, *more)
            if self._after:
                await inner(target, *more)
            raise KeyError("s3cret")

        return failing


def test_a_bug_that_one_device_meets_is_paged_once_and_the_others_converge(tmp_path: Path) -> None:
    async def play(running: Running) -> None:
        engine, other = running.engine, "M-000-002"
        await running.until(lambda: bool(running.writes(other)))
        await running.until(lambda: engine.slots[ANT].failures > 2)
        told = engine.slots[ANT].sighting
        assert isinstance(told, Unseen)
        assert told.reason is UnseenReason.INTERNAL_ERROR
        assert told.detail.startswith("KeyError at ")
        assert not running.writes(ANT)
        assert len(engine.journal.pages) == 1
        assert told.detail in engine.journal.pages[0]
        assert "s3cret" not in engine.journal.pages[0] + told.detail

    on_site(
        play,
        tmp_path,
        found=FOUND,
        declared=DECLARED,
        wrap=lambda _, driver: Buggy(driver, ANT, "observe"),
    )


@pytest.mark.parametrize(
    ("after", "stage"), [(False, Stage.NOT_APPLIED), (True, Stage.SENT)], ids=["before", "after"]
)
def test_a_bug_in_a_write_is_nothing_written_or_nobody_knows(
    tmp_path: Path, after: bool, stage: Stage
) -> None:
    """Only what may have left is followed by looking; the engine goes on either way."""

    async def play(running: Running) -> None:
        await running.until(lambda: bool(running.engine.journal.pages))
        await asyncio.sleep(1.0)
        [operation] = running.other.operations(ANT)
        assert operation.stage is stage
        assert len(running.writes(ANT)) == after
        await running.until(lambda: bool(running.writes("M-000-002")))

    on_site(
        play,
        tmp_path,
        found=FOUND,
        declared=DECLARED,
        wrap=lambda _, driver: Buggy(driver, ANT, "apply", after=after),
    )


def test_a_bug_while_judging_one_device_is_that_device_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(ctx: Any) -> Any:
        if ctx.device.asset == ANT:
            raise ZeroDivisionError
        return decide(ctx)

    monkeypatch.setattr("control_plane.engine.reconciler.decide", failing)

    async def play(running: Running) -> None:
        await running.until(lambda: bool(running.writes("M-000-002")))
        decision = running.engine.slots[ANT].decision
        assert decision is not None
        assert [held.reason for held in decision.held] == [Reason.INTERNAL_ERROR]
        assert len(running.engine.journal.pages) == 1

    on_site(play, tmp_path, found=FOUND, declared=DECLARED)


def test_a_bug_at_the_very_end_of_a_write_cancels_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recount = Sights.recount

    def failing(self: Sights, slot: Slot) -> None:
        if slot.asset == ANT and slot.op is not None and not slot.sending:
            raise ZeroDivisionError
        recount(self, slot)

    monkeypatch.setattr(Sights, "recount", failing)

    async def play(running: Running) -> None:
        await running.until(lambda: bool(running.engine.journal.pages))
        assert running.writes(ANT)
        await running.until(lambda: bool(running.writes("M-000-002")))

    on_site(play, tmp_path, found=FOUND, declared=DECLARED)


def swept(wrap: Callable[[Driver], Driver], secrets: Any) -> Mapping[str, Observation | Unseen]:
    """What `plan` and `observe` see of a site whose WhatsMiners are on DHCP."""

    async def main(loop: VirtualLoop) -> Mapping[str, Observation | Unseen]:
        site = a_site(racks=2, slots=3, odd_slots=False)
        stage = set_stage(site, loop, passwords=PASSWORDS)
        edges = Edges(
            clock=stage.clock,
            rng=stage.rng,
            secrets=secrets,
            drivers={
                family: wrap(driver)
                for family, driver in make_drivers(stage.net, stage.clock).items()
            },
            capabilities=all_capabilities(),
        )
        return await sweep(slots_of(site, {}, edges), edges=edges)

    return run_virtual(main)


class OneSecret:
    def resolve(self, ref: str) -> Secret:
        return Secret("root")


def test_a_look_from_a_verb_survives_the_same_bugs() -> None:
    seen = swept(lambda driver: Buggy(driver, ANT, "observe"), OneSecret())
    assert {asset for asset, one in seen.items() if isinstance(one, Observation)} == {
        "M-000-000",
        "M-000-002",
        "M-001-000",
        "M-001-001",
        "M-001-002",
    }
    assert getattr(seen[ANT], "reason", None) is UnseenReason.INTERNAL_ERROR


def test_a_bug_of_a_sweep_is_named_where_nobody_was_found() -> None:
    seen = swept(lambda driver: Buggy(driver, "M-001-000", "identify"), OneSecret())
    assert getattr(seen["M-001-000"], "reason", None) is UnseenReason.INTERNAL_ERROR
    assert isinstance(seen["M-000-000"], Observation)


def test_the_words_tell_the_innermost_place_of_ours_and_no_message() -> None:
    with pytest.raises(AttributeError) as caught:
        SystemSecrets().resolve(None)  # type: ignore[arg-type]
    assert re.fullmatch(r"AttributeError at engine/secrets\.py:\d+", in_words(caught.value))
    group = ExceptionGroup("several", [caught.value])
    assert in_words(group) == in_words(caught.value)


def test_every_way_not_to_see_has_a_reason() -> None:
    assert set(_UNSEEN) == set(UnseenReason)


# -- secrets -------------------------------------------------------------------------------------------


class Missing(KnownSecrets):
    """The secrets of this host, without those that a test took away."""

    def resolve(self, ref: str) -> Secret:
        return super().resolve(ref) if ref in self.known else SystemSecrets().resolve(ref)


def declared_at(device: Device) -> Device:
    origins = {"credentials": SourceRef(f"inventory/profiles/{device.intent.family}.yaml", 8)}
    return intending(ants_awake(device), origins=origins)


def test_a_missing_secret_is_named_with_its_place_and_found_when_it_comes(tmp_path: Path) -> None:
    secrets = Missing()
    password = secrets.known.pop("env:whatsminer_v2")

    async def play(running: Running) -> None:
        slots = running.engine.slots
        await running.until(lambda: bool(running.writes(ANT)))
        told = slots[WHATS].sighting
        assert isinstance(told, Unseen)
        assert told.reason is UnseenReason.SECRET_MISSING
        assert "env:whatsminer_v2 is not set" in told.detail
        assert "(inventory/profiles/whatsminer_v2.yaml:8)" in told.detail
        secrets.known["env:whatsminer_v2"] = password
        await running.until(lambda: isinstance(slots[WHATS].sighting, Observation), within_s=200)

    on_site(
        play,
        tmp_path,
        found=small_site(asleep),
        declared=small_site(declared_at),
        secrets=secrets,
    )


def test_devices_on_dhcp_without_a_secret_are_not_called_lost() -> None:
    seen = swept(lambda driver: driver, SystemSecrets())
    assert {getattr(one, "reason", None) for one in seen.values()} == {UnseenReason.SECRET_MISSING}


def test_a_secret_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("control_plane.engine.secrets.time.monotonic", lambda: now)
    file, secrets = tmp_path / "password", SystemSecrets()
    ref = f"file:{file}"
    file.write_bytes(b"old\n")
    assert secrets.resolve(ref) == Secret("old")
    file.write_bytes(b"new\n")
    now += 6.0
    assert secrets.resolve(ref) == Secret("new")
    file.write_bytes(b"\xff\xfe")
    now += 6.0
    with pytest.raises(DeclarationError) as caught:
        secrets.resolve(ref)
    assert "not UTF-8" in caught.value.findings[0].what
