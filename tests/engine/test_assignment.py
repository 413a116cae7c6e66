"""No change reaches a device but in a wave, however revisions follow one another."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.fleet import Device, Site, SlotState
from control_plane.core.rollout import Rollout, RolloutState, is_assigned
from control_plane.engine.assignment import cohorts, make_rollout, standing
from control_plane.engine.records import RevisionRecord
from tests.core.builders import NOW_S, device, intent, site

COUNT = 20


def revision(mode: str = "normal", **modes: str) -> Site:
    """A site of twenty devices, all in one mode but those that are named: `d07="low"`."""
    return site(
        tuple(
            device(
                f"d{n:02}",
                address=f"10.0.0.{n + 1}",
                intent=intent(power_mode=modes.get(f"d{n:02}", mode)),
            )
            for n in range(COUNT)
        )
    )


SITES = {
    "normal": revision(),
    "low": revision("low"),
    "low, d07 high": revision("low", d07="high"),
}


def record(digest: str, seq: int) -> RevisionRecord:
    return RevisionRecord(
        digest=digest, seq=seq, commit=None, accepted_at_s=NOW_S, accepted_by="ann", plan_digest="p"
    )


def follow(*revisions: tuple[str, int]) -> Rollout:
    """The rollout of the last of these revisions; each earlier one reached so many of its waves."""
    rollout: Rollout | None = None
    for seq, (digest, waves_open) in enumerate(revisions):
        rollout = make_rollout(rollout, SITES[digest], record(digest, seq), SITES.__getitem__)
        last = len(rollout.waves)
        rollout = (
            msgspec.structs.replace(rollout, wave=waves_open - 1)
            if waves_open <= last and rollout.waves
            else msgspec.structs.replace(rollout, state=RolloutState.DONE, wave=max(0, last - 1))
        )
    assert rollout is not None
    return rollout


def placed(rollout: Rollout) -> dict[str, str | None]:
    """The mode that each device is compared with while the rollout stands as it stands."""
    before = standing(rollout, SITES.__getitem__)
    after = {d.asset: d for d in SITES[rollout.to].devices}
    order = cohorts(rollout, before, SITES[rollout.to])

    def mode(asset: str) -> str | None:
        if is_assigned(order, rollout, asset):
            return after[asset].intent.power_mode
        old: Device | None = before.get(asset)
        return old.intent.power_mode if old else None

    return {asset: mode(asset) for asset in after}


ALL = 99


@pytest.mark.parametrize(
    ("history", "modes"),
    [
        pytest.param([("normal", 1)], {"normal": 1, None: 19}, id="adoption, the canary alone"),
        pytest.param([("normal", ALL), ("low", 1)], {"low": 1, "normal": 19}, id="the first wave"),
        pytest.param([("normal", ALL), ("low", ALL)], {"low": 20}, id="all waves"),
        pytest.param(
            [("normal", ALL), ("low", 2), ("normal", 1)],
            {"low": 10, "normal": 10},
            id="rolled back from the second wave: whom it reached comes back wave by wave",
        ),
        pytest.param(
            [("normal", 1), ("low", 1)], {"low": 1, "normal": 1, None: 18}, id="adoption superseded"
        ),
    ],
)
def test_what_devices_are_compared_with(
    history: list[tuple[str, int]], modes: dict[str | None, int]
) -> None:
    found = list(placed(follow(*history)).values())
    assert {mode: found.count(mode) for mode in set(found)} == modes


def test_a_superseded_rollout_does_not_reach_its_later_waves_at_once() -> None:
    rollout = follow(("normal", ALL), ("low", 1), ("low, d07 high", 1))
    modes = list(placed(rollout).values())
    assert modes.count("normal") >= COUNT - 2, "one canary of each revision, and no more"
    assert rollout.waves[-1] >= COUNT - 1, (
        "whom the first one did not reach is a subject of the next"
    )


def test_whoever_is_left_behind_twice_stands_on_the_oldest() -> None:
    rollout = follow(("normal", ALL), ("low", 1), ("low, d07 high", 1), ("low", 1))
    assert list(placed(rollout).values()).count("normal") >= COUNT - 3


def test_a_finished_rollout_leaves_nobody_behind() -> None:
    assert follow(("normal", ALL), ("low", ALL), ("low, d07 high", 1)).behind == {}


def test_going_back_before_a_rollout_has_come_far_changes_only_whom_it_reached() -> None:
    rollout = follow(("normal", ALL), ("low", 1), ("normal", 1))
    order = cohorts(rollout, standing(rollout, SITES.__getitem__), SITES["normal"])
    assert len(order) == rollout.waves[-1] == 1, "whoever is beyond the last wave waits for none"


def test_an_equal_revision_has_no_waves() -> None:
    rollout = make_rollout(
        follow(("normal", ALL)), SITES["normal"], record("normal", 9), SITES.__getitem__
    )
    assert (rollout.waves, rollout.state) == ((), RolloutState.DONE)


def test_devices_that_enter_service_do_so_in_waves() -> None:
    def out(one: Device) -> Device:
        return msgspec.structs.replace(one, state=SlotState.OUT_OF_SERVICE)

    idle = site(tuple(out(one) for one in SITES["normal"].devices))
    sites = {**SITES, "idle": idle}
    first = make_rollout(None, idle, record("idle", 1), sites.__getitem__)
    assert first.state is RolloutState.DONE
    rollout = make_rollout(first, SITES["normal"], record("normal", 2), sites.__getitem__)
    assert rollout.waves == (1, 11, 16, 20)
