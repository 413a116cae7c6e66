"""Rotations in words: what a plan, a status and an explanation say of them."""

from __future__ import annotations

import msgspec

from control_plane.core.fleet import Credentials
from control_plane.core.memory import Memory
from control_plane.core.rotation import Fault, RotationEntry, RotationStep, committing
from control_plane.core.rotation_rollout import Password, RotationEffect, RotationState, begun
from control_plane.views.rotations import (
    in_explanation,
    in_status,
    of_rotation,
    plan_lines,
    told,
)

NEW, OLD = "env:NEW", "env:OLD"
GIVEN = Credentials(user="root", secret_ref=NEW, previous=(OLD,))
PASSWORD = Password(family="antminer_stock", user="root", secret_ref=NEW, previous=(OLD,))
FRESH = msgspec.structs.replace(
    begun("c0001", PASSWORD, (("a",), ("b", "c")), 0.0), awaits_person=True
)
ENTRY = RotationEntry(asset="a", rotation="c0001", wanted=NEW, verified=OLD)


def test_a_plan_says_what_is_rotated_and_what_cannot_be() -> None:
    effect = RotationEffect(aim=PASSWORD, machines=3, can=True)
    (line,) = plan_lines([effect])
    assert line == (
        "Credentials env:NEW for root of antminer_stock: 3 machines from env:OLD; "
        "each wave is let go by a person"
    )
    lines = plan_lines([msgspec.structs.replace(effect, can=False)])
    assert "take `previous` out of the profile" in lines[1]
    assert plan_lines([]) == []


def test_a_status_says_what_it_waits_for_and_what_to_say() -> None:
    waiting = msgspec.structs.replace(FRESH, detail="`gridplane release c0001` lets it go")
    assert in_status(waiting) == [
        "Credentials c0001 waiting for a person, wave 1 of 2: env:NEW for root of antminer_stock",
        "            `gridplane release c0001` lets it go",
    ]
    halted = msgspec.structs.replace(FRESH, state=RotationState.HALTED, detail="1 of 1 failed")
    assert in_status(halted)[1:] == [
        "            stopped: 1 of 1 failed",
        "            go on with: gridplane release c0001",
    ]
    left = msgspec.structs.replace(FRESH, state=RotationState.DONE, failed=("b",))
    assert "go on with" in in_status(left)[-1]


def test_one_is_told_with_its_machines_and_no_others() -> None:
    other = msgspec.structs.replace(ENTRY, asset="x", rotation="c0002")
    failed = msgspec.structs.replace(
        committing(ENTRY, 3600.0), step=RotationStep.FAILED, fault=Fault.NOT_TAKEN, detail="late"
    )
    shown = of_rotation(FRESH, [other, failed])
    text = told(shown)
    assert [m.asset for m in shown.machines] == ["a"]
    assert "3 machines, from env:OLD" in text
    assert "not_taken" in text
    assert "1970-01-01 01:00:00Z" in text


def test_an_explanation_says_who_logs_in_and_what_is_to_come() -> None:
    before = Memory(asset="a", login=OLD)
    assert in_explanation(GIVEN, before, FRESH, ENTRY) == [
        "Login       root with env:OLD, to be env:NEW; c0001 waiting for a person, wave 1 of 2",
        "            c0001 pending",
    ]
    after = Memory(asset="a", login=NEW)
    assert in_explanation(GIVEN, after, FRESH, ENTRY) == ["Login       root with env:NEW"]
    plain = Credentials(user="root", secret_ref=NEW)
    assert in_explanation(plain, before, None, None) == []
    assert in_explanation(None, before, None, None) == []
