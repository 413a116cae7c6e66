"""Rollouts as people read them."""

from __future__ import annotations

from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.flashing import FlashEntry, FlashStep, Grant, Purpose
from control_plane.core.rollout import GateResult
from control_plane.views.rollouts import listed, of_firmware, overview, told
from control_plane.views.rotations import in_brief

FAILED = GateResult(
    wave=0, at_s=0.0, passed=False, treated=1, treated_failed=1, control=40, control_failed=0,
    detail="100.0% of the wave failed",
)  # fmt: skip
ROLLOUT = FirmwareRollout(
    id="f0003", bundle="new", members="m", model="S21", version="2", waves=(1, 11),
    state=FirmwareState.HALTED, released=1, released_by="ann", gates=(FAILED,),
    detail="1 of 1 failed: a1: it does not hash",
)  # fmt: skip
BAD = FlashEntry(
    asset="a1", step=FlashStep.QUARANTINED, attempt=1, before="1", after="2", hash_before_ths=200.0,
    power_before_w=3500.0, image="ab" * 32,
    committed_at_s=60.0, booted_at_s=600.0, detail="it does not hash",
)  # fmt: skip


def grant(operation: str, purpose: Purpose, digest: str, entry: FlashEntry) -> Grant:
    return Grant(
        operation=operation, rollout=operation[:5], purpose=purpose, digest=digest, fence=1,
        entries={entry.asset: entry}, at_once=1, deadline_s=900.0,
    )  # fmt: skip


GRANTS = [
    grant("f0003-wave-0-0", Purpose.WAVE, "new", BAD),
    grant("f0003-roll_back-0-0", Purpose.ROLL_BACK, "old", FlashEntry(asset="a1")),
    grant("f0002-wave-0-0", Purpose.WAVE, "other", FlashEntry(asset="a9")),
]


def test_evidence_is_of_the_rollout_alone() -> None:
    shown = of_firmware(ROLLOUT, GRANTS)
    assert [(m.purpose, m.bundle) for m in shown.machines] == [
        ("roll_back", "old"),
        ("wave", "new"),
    ]
    assert shown.machines[1].entry == BAD
    assert (shown.machines[1].j_per_th_before, shown.machines[1].j_per_th_after) == (17.5, None)


def test_the_text_tells_the_stop_its_gate_and_each_machine() -> None:
    lines = told(of_firmware(ROLLOUT, GRANTS)).splitlines()
    assert lines[0] == "f0003: 2 for S21, 11 machines"
    assert lines[1] == "halted, wave 1 of 2: 1 of 1 failed: a1: it does not hash"
    assert lines[2] == "waves up to 1 were let go by ann"
    (machine,) = (line.split() for line in lines if " quarantined " in line)
    assert machine[:8] == ["a1", "1", "wave", "quarantined", "1", "2", "200.0", "-"]
    assert machine[8:10] == ["17.5", "-"]
    assert machine[10:15] == ["abababababab", "1970-01-01", "00:01Z", "1970-01-01", "00:10Z"]


def test_all_of_a_site_are_a_line_each() -> None:
    (line,) = listed(overview([], [ROLLOUT])).splitlines()[1:]
    assert line.split()[:6] == ["f0003", "2", "for", "S21", "halted", "1/2"]
    assert "0 of 1 passed" in line


def test_who_is_waited_for_is_said() -> None:
    waiting = FirmwareRollout(
        id="f1", bundle="", members="", model="S21", version="2", waves=(1, 11)
    )
    assert in_brief(waiting) == "f1 waiting for a person, wave 1 of 2"
    assert in_brief(ROLLOUT) == "f0003 halted, wave 1 of 2"
