"""A write is what is read back, and for power what watts and hashrate show; never the acknowledgement."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.change import (
    Change,
    ChangeKind,
    Reboot,
    SetPools,
    SetPowerMode,
    StartMining,
    StopMining,
    settings_after,
)
from control_plane.core.observation import Activity, Observation, Settings, Telemetry
from control_plane.core.verify import Operation, Stage, progress
from tests.core.builders import (
    DECLARED_POOLS,
    FOREIGN_POOLS,
    NOW_S,
    WRITES,
    device,
    seen,
    settings,
)


def operation(change: Change, before: Settings) -> Operation:
    return Operation(
        id="000001-1",
        asset="d1",
        change=change,
        before=before,
        after=settings_after(before, change),
        sent_at_s=NOW_S,
        answered_at_s=NOW_S + 5,
        cost=WRITES[ChangeKind.SET_POOLS],
    )


def after(op: Operation, look: Observation | None, *, later_s: float) -> Stage:
    if look is not None:
        look = msgspec.structs.replace(look, at_s=NOW_S + later_s)
    return progress(op, device(), look, NOW_S + later_s).stage


SET_POOLS = operation(SetPools(DECLARED_POOLS), settings(pools=FOREIGN_POOLS))
STOP = operation(StopMining(), settings())
START = operation(StartMining("normal"), settings(mining=False))
LOWER = operation(SetPowerMode("low"), settings())
BOOTING = Telemetry(hashrate_ths=0.0, power_w=200.0, activity=Activity.STARTING)


@pytest.mark.parametrize(
    ("op", "look", "later_s", "stage"),
    [
        (SET_POOLS, seen(), 20, Stage.CONFIRMED),
        (SET_POOLS, seen(telemetry=BOOTING), 20, Stage.READ_BACK),
        (SET_POOLS, seen(settings(pools=FOREIGN_POOLS)), 20, Stage.SENT),
        (SET_POOLS, seen(settings(pools=FOREIGN_POOLS)), 200, Stage.NOT_APPLIED),
        (SET_POOLS, None, 200, Stage.SENT),
        (SET_POOLS, None, 700, Stage.NOT_APPLIED),
        (SET_POOLS, seen(telemetry=BOOTING), 700, Stage.NO_EFFECT),
        (STOP, seen(settings(mining=False), hashrate_ths=0.0, power_w=40.0), 20, Stage.CONFIRMED),
        (
            STOP,
            seen(settings(mining=False), hashrate_ths=0.0, power_w=3_400.0),
            20,
            Stage.READ_BACK,
        ),
        (STOP, seen(settings(mining=False), hashrate_ths=190.0, power_w=None), 20, Stage.READ_BACK),
        (STOP, seen(), 200, Stage.NOT_APPLIED),
        (START, seen(hashrate_ths=0.0), 20, Stage.READ_BACK),
        (START, seen(hashrate_ths=195.0), 120, Stage.CONFIRMED),
        (LOWER, seen(settings(power_mode="low"), hashrate_ths=200.0), 20, Stage.READ_BACK),
        (LOWER, seen(settings(power_mode="low"), hashrate_ths=155.0), 90, Stage.CONFIRMED),
    ],
)
def test_stages(op: Operation, look: Observation | None, later_s: float, stage: Stage) -> None:
    assert after(op, look, later_s=later_s) is stage


def test_a_look_from_before_the_write_says_nothing_about_it() -> None:
    look = msgspec.structs.replace(seen(), at_s=NOW_S - 1)
    assert progress(SET_POOLS, device(), look, NOW_S + 20).stage is Stage.SENT


def test_a_reboot_is_seen_by_its_uptime() -> None:
    op = operation(Reboot(), settings())
    still = seen(telemetry=Telemetry(uptime_s=5_030.0, hashrate_ths=200.0))
    fresh = seen(telemetry=Telemetry(uptime_s=12.0, hashrate_ths=200.0))
    assert after(op, still, later_s=30) is Stage.SENT
    assert after(op, fresh, later_s=30) is Stage.CONFIRMED


def test_a_reboot_is_seen_by_the_mining_uptime_where_no_other_is_told() -> None:
    op = operation(Reboot(), settings())
    still = seen(telemetry=Telemetry(mining_uptime_s=5_030.0, hashrate_ths=200.0))
    fresh = seen(telemetry=Telemetry(mining_uptime_s=12.0, hashrate_ths=200.0))
    both = seen(telemetry=Telemetry(uptime_s=5_030.0, mining_uptime_s=12.0, hashrate_ths=200.0))
    assert after(op, still, later_s=30) is Stage.SENT
    assert after(op, fresh, later_s=30) is Stage.CONFIRMED
    assert after(op, both, later_s=30) is Stage.SENT


@pytest.mark.parametrize("stage", [Stage.CONFIRMED, Stage.NOT_APPLIED, Stage.NO_EFFECT])
def test_a_closed_operation_stays_as_it_is(stage: Stage) -> None:
    closed = msgspec.structs.replace(SET_POOLS, stage=stage)
    assert progress(closed, device(), seen(), NOW_S + 1) is closed


def test_a_write_that_is_changed_back_before_it_took_effect_did_not_stick() -> None:
    read_back = msgspec.structs.replace(SET_POOLS, stage=Stage.READ_BACK)
    look = seen(settings(pools=FOREIGN_POOLS), at_s=NOW_S + 60)
    assert progress(read_back, device(), look, NOW_S + 60).stage is Stage.NOT_APPLIED


def test_a_look_that_cannot_read_the_setting_proves_nothing() -> None:
    read_back = msgspec.structs.replace(STOP, stage=Stage.READ_BACK)
    blind = seen(settings(mining=None), at_s=NOW_S + 60, hashrate_ths=190.0)
    assert progress(read_back, device(), blind, NOW_S + 60).stage is Stage.READ_BACK
