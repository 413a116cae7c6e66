"""Rotations: who is in which wave, what a person's word does, what a round earns, and who is locked."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.fleet import Credentials, Site, Strategy
from control_plane.core.rotation import (
    Fault,
    RotationEntry,
    RotationStep,
    Subject,
    committing,
    lock_of,
)
from control_plane.core.rotation_rollout import (
    Password,
    Rotation,
    RotationState,
    aims_of,
    begun,
    has_it,
    is_lost,
    judged,
    locks_of,
    members_of,
    opened,
    password_of,
    released,
    round_size,
    stands,
    superseded,
    without,
)
from tests.simulator.floors import a_site

NEW, OLD = "env:NEW", "env:OLD"
GIVEN = Credentials(user="root", secret_ref=NEW, previous=(OLD,))
PASSWORD = Password(family="antminer_stock", user="root", secret_ref=NEW, previous=(OLD,))
WAVES = (("a",), ("b", "c"), tuple("defghij"))
STRATEGY = Strategy(cohorts=(1, 3), max_new_failure_share=0.05)
FRESH = begun("c0001", PASSWORD, WAVES, 10.0)


def site(given: Credentials | None) -> Site:
    found = a_site(racks=2, slots=4, odd_slots=False)
    devices = (
        msgspec.structs.replace(
            device, intent=msgspec.structs.replace(device.intent, credentials=given)
        )
        for device in found.devices
    )
    return msgspec.structs.replace(found, devices=tuple(devices))


def entry(asset: str, step: RotationStep = RotationStep.DONE, **more: object) -> RotationEntry:
    return msgspec.structs.replace(
        RotationEntry(asset=asset, rotation="c0001", wanted=NEW), step=step, **more
    )


def test_each_family_has_its_rotation_and_who_names_none_before_has_none() -> None:
    found = aims_of(site(GIVEN), password_of)
    assert {password.family for password in found} == {"antminer_stock", "whatsminer_v2"}
    for waves in found.values():
        assert len({asset for wave in waves for asset in wave}) == 4
    assert aims_of(site(msgspec.structs.replace(GIVEN, previous=())), password_of) == {}
    assert aims_of(site(None), password_of) == {}


def test_other_members_are_another_rotation() -> None:
    assert FRESH.members == members_of(WAVES)
    assert FRESH.members != members_of([("a", "b"), ("c",), tuple("defghij")])
    assert FRESH.waves == (1, 3, 10)


@pytest.mark.parametrize(
    ("rotation", "through", "let_go"),
    [
        (FRESH, None, 1),
        (FRESH, 2, 3),
        (FRESH, 99, 10),
        (msgspec.structs.replace(FRESH, wave=1, released=1), None, 3),
    ],
)
def test_a_person_lets_waves_go(rotation: Rotation, through: int | None, let_go: int) -> None:
    after = released(rotation, through=through, by="ann", now_s=20.0)
    assert isinstance(after, Rotation)
    assert (after.let_go, after.released_by) == (let_go, "ann")


def test_what_is_let_go_already_or_not_declared_any_more_is_not_let_go_again() -> None:
    gone = msgspec.structs.replace(FRESH, released=2)
    assert "already" in str(released(gone, through=2, by="ann", now_s=20.0))
    assert "superseded" in str(released(superseded(gone, 20.0), through=3, by="ann", now_s=20.0))


def test_rounds_grow_by_what_they_earned_and_begin_small_after_a_failure() -> None:
    now = msgspec.structs.replace(FRESH, released=3)
    sizes = []
    for _ in range(3):
        sizes.append(round_size(now, STRATEGY))
        now = opened(now, ("a",), wave=0, now_s=20.0)
        now = judged(now, [entry("a")], max_new_failure_share=0.05, now_s=30.0)
    assert sizes == [1, 3, 6]
    bad = entry("b", RotationStep.FAILED, fault=Fault.NOT_TAKEN, detail="env:OLD still logs in")
    now = judged(
        opened(now, ("b",), wave=1, now_s=40.0), [bad], max_new_failure_share=0.05, now_s=50.0
    )
    assert (now.state, now.failed, now.round) == (RotationState.HALTED, ("b",), ())
    assert "1 of 1 failed: b: not_taken" in now.detail
    again = released(now, through=None, by="ann", now_s=60.0)
    assert isinstance(again, Rotation)
    assert (again.state, again.failed, round_size(again, STRATEGY)) == (
        RotationState.WAITING,
        (),
        1,
    )


def test_few_failures_of_many_pass_and_stay_named() -> None:
    entries = [entry(str(n)) for n in range(39)]
    entries.append(entry("x", RotationStep.FAILED, fault=Fault.SILENT))
    assert not is_lost(entries, 0.05)
    after = judged(FRESH, entries, max_new_failure_share=0.05, now_s=20.0)
    assert (after.state, after.failed) == (RotationState.WAITING, ("x",))
    done = stands(after, state=RotationState.DONE, wave=2, detail="", now_s=30.0)
    assert not done.has_ended
    assert isinstance(released(done, through=None, by="ann", now_s=40.0), Rotation)


def test_a_round_of_which_all_were_withdrawn_earns_nothing() -> None:
    now = without(opened(FRESH, ("a", "b"), wave=0, now_s=20.0), {"a", "b"})
    after = judged(now, [], max_new_failure_share=0.05, now_s=30.0)
    assert (after.state, after.earned) == (RotationState.WAITING, 0)


def test_what_stands_already_is_not_kept_again() -> None:
    now = stands(FRESH, state=RotationState.WAITING, wave=0, detail="why", now_s=20.0)
    assert now.since_s == FRESH.since_s
    assert stands(now, state=RotationState.WAITING, wave=0, detail="why", now_s=30.0) is now


def test_who_is_locked() -> None:
    now = opened(FRESH, ("a", "b", "c"), wave=0, now_s=20.0)
    sent = committing(entry("z", RotationStep.PENDING, verified=OLD), 20.0)
    older = msgspec.structs.replace(entry("c"), rotation="c0000")
    entries = {"a": entry("a"), "z": sent, "c": older}
    # Ended; kept with the round and not begun; ended in another rotation; sent, whatever became of its round.
    assert locks_of([now], entries) == dict.fromkeys("bcz", lock_of("c0001", Subject.PASSWORD))


@pytest.mark.parametrize(("verified", "has"), [(None, False), (OLD, False), (NEW, True)])
def test_who_has_it(verified: str | None, *, has: bool) -> None:
    device = site(GIVEN).devices[0]
    assert has_it(device, verified) is has
    assert has_it(site(None).devices[0], verified)
