"""Where a site stands, at each of its stages."""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.core.correlate import Incident
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import GateResult, Rollout, RolloutState
from control_plane.engine.records import EngineStatus, Event, RevisionRecord
from control_plane.views.status import SiteStatus, render_status
from tests.core.builders import NOW_S

RECORD = RevisionRecord(
    digest="ab" * 32, seq=4, commit="cd" * 20, accepted_at_s=NOW_S - 7_200, accepted_by="ann",
    plan_digest="p",
)  # fmt: skip
ENGINE = EngineStatus(
    pid=4711, epoch=3, mode="run", started_at_s=NOW_S - 600, at_s=NOW_S, real_at_s=NOW_S,
    actionable=5, in_flight=2,
)  # fmt: skip
HALTED = Rollout(
    id="000004-abababababab", to=RECORD.digest, origin=None, waves=(1, 10, 100), wave=1,
    state=RolloutState.HALTED,
    gates=(
        GateResult(wave=0, at_s=0, passed=True, treated=1, treated_failed=0, control=9, control_failed=0),
        GateResult(wave=1, at_s=0, passed=False, treated=9, treated_failed=4, control=9,
                   control_failed=0, detail="44.4% of the wave failed"),
    ),
)  # fmt: skip


def text(**changes: Any) -> str:
    base = SiteStatus(
        site="t", now_s=NOW_S, accepted=None, engine=None, rollout=None, plan=None, overlays=(),
        incidents=(), pages=(),
    )  # fmt: skip
    return render_status(msgspec.structs.replace(base, **changes))


def test_before_anything_is_accepted_it_says_how_to_begin() -> None:
    shown = text()
    assert "none accepted yet: gridplane plan, then gridplane apply" in shown
    assert "Engine      not running: nothing is converged or repaired now" in shown


def test_an_accepted_revision_and_a_running_engine() -> None:
    shown = text(accepted=RECORD, engine=ENGINE)
    assert "abababababab, number 4, accepted 2 h ago by ann, commit cdcdcdcdcdcd" in shown
    assert "Engine      run, process 4711, since 10 min; 5 to do, 2 in flight" in shown


def test_a_halted_rollout_says_why_and_how_to_go_on() -> None:
    shown = text(accepted=RECORD, rollout=HALTED)
    assert "halted: wave 2 of 3, 1 gate passed" in shown
    assert "stopped: 44.4% of the wave failed" in shown
    assert "go on with: gridplane release 000004-abababababab" in shown


def test_holds_incidents_and_pages_keep_to_their_lines() -> None:
    hold = Overlay(
        id="h0001", kind=OverlayKind.MAINTENANCE_HOLD, node="r1", owner="bob", reason="fans\nEngine",
        since_s=NOW_S - 3_600, expires_s=NOW_S - 60,
    )  # fmt: skip
    incident = Incident(
        id="i0001", node="pdu", cause="lost", since_s=NOW_S - 60, assets=40, detail="40 of 42 lost"
    )
    page = Event(
        at_s=NOW_S - 5, kind="page", text="r1-s1: pools \x1b[31mare contested", asset="r1-s1"
    )
    shown = text(overlays=(hold,), incidents=(incident,), pages=(page,))
    assert "Maintenance h0001 on r1 by bob, 60 min: fans\\nEngine, EXPIRED, still holds" in shown
    assert "Incident    i0001 on pdu: 40 of 42 lost, 60 s ago" in shown
    assert "5 s ago  r1-s1: pools \\u001b[31mare contested" in shown


def test_a_firmware_rollout_says_what_a_person_has_to_say() -> None:
    waits = FirmwareRollout(
        id="f0003", bundle="b", members="m", model="S21", version="2", waves=(1, 11)
    )
    shown = text(firmware=(waits,))
    assert "Firmware    f0003 waiting for a person, wave 1 of 2: 2 for S21" in shown
    assert "let it go with: gridplane release f0003" in shown
    halted = msgspec.structs.replace(
        waits, state=FirmwareState.HALTED, detail="1 of 1 failed: a1: it does not hash"
    )
    shown = text(firmware=(halted,))
    assert "stopped: 1 of 1 failed: a1: it does not hash" in shown
    assert "go on with: gridplane release f0003" in shown
