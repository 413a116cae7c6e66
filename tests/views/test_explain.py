"""What `explain` says: declared by which line, seen when and how, done, held, and what is next."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from control_plane.core.change import SetPools
from control_plane.core.decision import Decision, Held, Reason
from control_plane.core.findings import SourceRef
from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.core.observation import Field, Settings, Unseen, UnseenReason
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.verify import Operation, Stage
from control_plane.engine.records import Event, RevisionRecord
from control_plane.views.explain import NEXT, Explanation, render_explanation
from control_plane.views.rollouts import machine_of
from tests.core.builders import (
    CAPABILITIES,
    DECLARED_POOLS,
    FOREIGN_POOLS,
    NOW_S,
    converged_memory,
    decided,
    device,
    intent,
    seen,
    settings,
)

PROFILE = "inventory/profiles/p.yaml"
DEVICE = device(
    intent=intent(
        origins={
            "pools": SourceRef(PROFILE, 3, 8),
            "power_mode": SourceRef("inventory/sites/t/racks/r.yaml", 9, 5),
        }
    )
)


def explanation(**changes: Any) -> Explanation:
    base = Explanation(
        now_s=NOW_S,
        device=DEVICE,
        path=("pdu", "pad", "grid"),
        decision=decided(device=DEVICE),
        memory=converged_memory(DEVICE),
        sighting=seen(at_s=NOW_S - 12),
        overlays=(),
        revision=None,
        rollout=None,
        operations=(),
        events=(),
    )
    return msgspec.structs.replace(base, **changes)


def text(**changes: Any) -> str:
    return render_explanation(explanation(**changes))


def test_every_reason_says_what_happens_next_and_who_acts() -> None:
    assert set(NEXT) == set(Reason)
    assert all(text.format(asset="m-1") for text in NEXT.values())


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_shown_with_its_detail_and_its_next(reason: Reason) -> None:
    held = Held(asset="d1", reason=reason, detail="so it is", field=Field.POOLS)
    shown = text(decision=Decision(asset="d1", desired=settings(), held=(held,)))
    assert f"Held        pools: {reason.value} (so it is)" in shown
    assert f"  next      {NEXT[reason].format(asset='d1')}" in shown


def test_each_field_names_the_line_that_sets_it() -> None:
    shown = text()
    assert re.search(
        rf"^pools .*own\.d1 @ stratum\+tcp://a\..* {PROFILE}:3:8$", shown, re.MULTILINE
    )
    assert re.search(r"^power_mode +normal +normal .*racks/r\.yaml:9:5$", shown, re.MULTILINE)
    assert f"Declared at {DEVICE.where}; feed pdu < pad < grid" in shown
    assert "Converged   " in shown


def test_an_overlay_is_named_where_it_changes_a_field() -> None:
    overlay = Overlay(
        id="h0007", kind=OverlayKind.CURTAILMENT, node="pad", owner="grid", reason="peak",
        since_s=NOW_S, fields=Settings(power_mode="low"),
    )  # fmt: skip
    shown = text(overlays=(overlay,), decision=decided(device=DEVICE, overlays=(overlay,)))
    assert re.search(r"^power_mode +low +normal +differs +overlay h0007 over ", shown, re.MULTILINE)
    assert "h0007 on pad by grid: peak" in shown


def test_what_was_seen_says_when_and_how() -> None:
    assert "Observed    12 s ago by test, depth full, hashing, 200 TH/s, 3.5 kW" in text()
    silent = Unseen(
        asset="d1", at_s=NOW_S - 300, reason=UnseenReason.UNREACHABLE, detail="refused\nForged line"
    )
    assert "Observed    unreachable, 5 min ago: refused\\nForged line" in text(sighting=silent)
    assert "Observed    never" in text(sighting=None)


def test_a_difference_shows_both_sides_and_the_step() -> None:
    thief = seen(settings(pools=FOREIGN_POOLS))
    shown = text(sighting=thief, decision=decided(device=DEVICE, sighting=thief))
    assert re.search("^pools .*thief.example.org.*differs", shown, re.MULTILINE)
    assert "Step        set pools to a.example.com:3333, b.example.com:3333 (drift, danger" in shown


def test_revision_actions_and_events_are_told() -> None:
    operation = Operation(
        id="o1", asset="d1", change=SetPools(DECLARED_POOLS), before=settings(), after=settings(),
        sent_at_s=NOW_S - 60, cost=next(iter(CAPABILITIES.writes.values())),
        stage=Stage.NOT_APPLIED, why="drift", detail="it reads otherwise",
    )  # fmt: skip
    record = RevisionRecord(
        digest="ab" * 32, seq=4, commit=None, accepted_at_s=NOW_S, accepted_by="a", plan_digest="p"
    )
    event = Event(at_s=NOW_S - 7, kind="drift", text="pools left its declaration", asset="d1")
    shown = text(operations=(operation,), revision=record, events=(event,))
    assert "Revision    abababababab, number 4" in shown
    assert re.search(
        r"60 s ago  set pools to .*\(drift\) -> not_applied: it reads otherwise", shown
    )
    assert "7 s ago  drift: pools left its declaration" in shown
    assert "none accepted yet" in text()


ROLLOUT = FirmwareRollout(
    id="f0003", bundle="b", members="m", model="S21", version="2", waves=(1, 11), wave=1, released=2
)


def test_a_device_whose_firmware_differs_names_the_rollout_that_brings_it() -> None:
    held = Held(asset="d1", reason=Reason.FIRMWARE_JOB, detail="1 instead of 2")
    decision = Decision(asset="d1", desired=settings(), held=(held,))
    shown = text(decision=decision, firmware=ROLLOUT)
    assert "f0003 waiting, wave 2 of 2: it brings 2; `gridplane rollout show f0003`" in shown


def test_a_locked_device_shows_how_far_its_grant_has_come() -> None:
    held = Held(asset="d1", reason=Reason.FLASHING, detail="f0003-wave-0-0")
    entry = FlashEntry(asset="d1", step=FlashStep.REBOOTING, attempt=1, committed_at_s=NOW_S - 300)
    grant = Grant(
        operation="f0003-wave-0-0", rollout="f0003", digest="b", fence=1, entries={"d1": entry},
        at_once=1, deadline_s=NOW_S + 60,
    )  # fmt: skip
    shown = text(
        decision=Decision(asset="d1", desired=settings(), held=(held,)),
        grant=machine_of(grant, "d1"),
    )
    assert "(grant f0003-wave-0-0: rebooting, the image left 5 min ago)" in shown
