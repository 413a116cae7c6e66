"""The object of a rollout tells all of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.api.objects import GatePart, RolloutSpec
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.core.gpu_rollout import SoftwareRollout, SoftwareState
from control_plane.core.gpu_software import Want
from control_plane.core.rollout import GateResult, Rollout, RolloutState
from control_plane.kube.firmware_shown import MACHINES_MAX, firmware_objects
from control_plane.kube.rollouts import object_of
from control_plane.kube.software_shown import software_objects

_DIGESTS = st.sampled_from(["a" * 64, "b" * 64, "c" * 64])
_SECONDS = st.integers(1, 4_000_000_000).map(float)
_COUNTS = st.integers(0, 14_000)
_GATES = st.builds(
    GateResult, wave=st.integers(0, 9), at_s=_SECONDS, passed=st.booleans(), treated=_COUNTS,
    treated_failed=_COUNTS, control=_COUNTS, control_failed=_COUNTS, detail=st.text(max_size=80),
)  # fmt: skip
ROLLOUTS = st.builds(
    Rollout,
    id=st.just("000007-aaaaaaaaaaaa"),
    to=_DIGESTS,
    origin=st.none() | _DIGESTS,
    waves=st.lists(st.integers(1, 14_000), max_size=9, unique=True).map(lambda w: tuple(sorted(w))),
    wave=st.integers(0, 8),
    since_s=_SECONDS,
    state=st.sampled_from(RolloutState),
    soak_until_s=st.none() | _SECONDS,
    gates=st.lists(_GATES, max_size=4).map(tuple),
    behind=st.dictionaries(
        st.integers(1, 99).map("m-{:06d}".format), st.none() | _DIGESTS, max_size=12
    ),
)


def rollout_of(name: str, spec: RolloutSpec) -> Rollout:
    """What a reader knows of it; times are those of the object, to the second."""
    return Rollout(
        id=name,
        to=spec.to,
        origin=spec.origin,
        waves=spec.waves,
        wave=spec.wave,
        since_s=spec.since.timestamp() if spec.since else 0.0,
        state=RolloutState(spec.state),
        soak_until_s=spec.soak_until.timestamp() if spec.soak_until else None,
        gates=tuple(_gate(part) for part in spec.gates),
        behind={asset: part.revision for part in spec.behind for asset in part.assets},
    )


def _gate(part: GatePart) -> GateResult:
    return GateResult(
        wave=part.wave,
        at_s=part.at.timestamp(),
        passed=part.passed,
        treated=part.treated,
        treated_failed=part.treated_failed,
        control=part.control,
        control_failed=part.control_failed,
        detail=part.detail,
    )


@given(ROLLOUTS)
def test_nothing_of_a_rollout_is_lost_in_its_object(rollout: Rollout) -> None:
    name, spec, _, _ = object_of("lab", rollout)
    on_the_wire = msgspec.json.decode(msgspec.json.encode(spec), type=RolloutSpec)
    assert rollout_of(name, on_the_wire) == rollout


FAILED = GateResult(
    wave=1, at_s=5.0, passed=False, treated=3, treated_failed=2, control=8, control_failed=0,
    detail="66.7% of the wave failed against 0.0% of the control group",
)  # fmt: skip


def test_a_halted_rollout_says_what_stopped_it() -> None:
    halted = Rollout(
        id="000001-aaaa", to="a" * 64, origin=None, waves=(1, 4, 12), wave=1,
        state=RolloutState.HALTED, gates=(FAILED,),
    )  # fmt: skip
    _, _, status, told = object_of("lab", halted)
    assert status.progress == "1/3"
    assert [(t.type, t.status, t.message) for t in told] == [
        ("Stalled", "True", FAILED.detail), ("Ready", "False", FAILED.detail),
    ]  # fmt: skip


def test_the_end_of_a_rollout_is_ready() -> None:
    done = Rollout(
        id="000001-aaaa", to="a" * 64, origin=None, waves=(1, 4), wave=1, state=RolloutState.DONE
    )
    _, _, status, told = object_of("lab", done)
    assert status.progress == "2/2"
    assert [(t.type, t.status) for t in told] == [("Ready", "True")]


FIRMWARE = FirmwareRollout(
    id="f0003", bundle="b" * 64, members="m", model="S21", version="2", waves=(1, 300), since_s=90.0
)


def firmware_grant(step: FlashStep, count: int, operation: str = "j-0") -> Grant:
    entries = [
        FlashEntry(
            asset=f"a{n:03}", step=step, before="1", image="c" * 64, hash_before_ths=200.0,
            power_before_w=3500.0, detail="x" * 2_000,
        )
        for n in range(count)
    ]  # fmt: skip
    return Grant(
        operation=operation, rollout="f0003", digest="b" * 64, fence=1, at_once=1, deadline_s=1.0,
        entries={e.asset: e for e in entries},
    )  # fmt: skip


def test_firmware_is_shown_with_who_needs_a_person_first_and_no_more_than_fit() -> None:
    grants = [
        firmware_grant(FlashStep.DONE, 300),
        firmware_grant(FlashStep.VERIFYING, 2, "j-1"),
        firmware_grant(FlashStep.QUARANTINED, 1, "j-2"),
    ]
    ((name, spec, status, _),) = firmware_objects("lab", [FIRMWARE], grants)
    assert (name, spec.kind, spec.to, spec.version) == ("f0003-lab", "firmware", "b" * 64, "2")
    assert [m.step for m in status.machines[:4]] == [
        "quarantined",
        "verifying",
        "verifying",
        "done",
    ]
    assert len(status.machines) == MACHINES_MAX
    assert status.machines[0].j_per_th_before == 17.5
    assert len(status.machines[0].detail) < 2_000


@pytest.mark.parametrize(
    ("changes", "kind", "status", "reason"),
    [
        ({}, "Reconciling", "True", "AwaitsPerson"),
        ({"released": 1}, "Reconciling", "True", "Waiting"),
        ({"state": FirmwareState.INSTALLING}, "Reconciling", "True", "Installing"),
        ({"state": FirmwareState.HALTED, "detail": "a1 is dead"}, "Stalled", "True", "GateFailed"),
        ({"state": FirmwareState.DONE}, "Ready", "True", "Done"),
        ({"state": FirmwareState.SUPERSEDED}, "Ready", "False", "Superseded"),
    ],
)
def test_firmware_tells_whether_somebody_has_to_act(
    changes: dict[str, Any], kind: str, status: str, reason: str
) -> None:
    rollout = msgspec.structs.replace(FIRMWARE, **changes)
    ((_, _, _, told),) = firmware_objects("lab", [rollout], ())
    assert (kind, status, reason) in {(t.type, t.status, t.reason) for t in told}


SOFTWARE = SoftwareRollout(
    id="gpu-p-1", profile="p", want=Want(driver="610.57.04", mig="all-1g.18gb"), waves=(1, 3),
    since_s=90.0, gates=(FAILED,),
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "told", "progress"),
    [
        (SoftwareState.RUNNING, [("Reconciling", "Running"), ("Ready", "UnderWay")], "0/2"),
        (SoftwareState.SOAKING, [("Reconciling", "Soaking"), ("Ready", "UnderWay")], "0/2"),
        (SoftwareState.HALTED, [("Stalled", "GateFailed"), ("Ready", "GateFailed")], "0/2"),
        (SoftwareState.DONE, [("Ready", "Done")], "2/2"),
    ],
)
def test_waves_of_gpu_software_are_shown_as_rollouts(
    state: SoftwareState, told: list[tuple[str, str]], progress: str
) -> None:
    one = msgspec.structs.replace(SOFTWARE, state=state, detail="g1: held by ann")
    ((name, spec, status, said),) = software_objects("lab", [one])
    assert (name, spec.kind, spec.model) == ("gpu-p-1", "gpu_software", "p")
    assert spec.version == "driver 610.57.04, MIG all-1g.18gb"
    assert (spec.state, spec.waves, len(spec.gates)) == (state.value, (1, 3), 1)
    assert [(t.type, t.reason) for t in said] == told
    assert status.progress == progress
    if state is not SoftwareState.DONE:
        assert "g1: held by ann" in said[0].message
    other = msgspec.structs.replace(one, want=Want(driver="595.91.07"))
    ((_, another, _, _),) = software_objects("lab", [other])
    assert another.to != spec.to


def test_where_nobody_was_behind_there_is_no_object() -> None:
    assert list(software_objects("lab", [msgspec.structs.replace(SOFTWARE, waves=())])) == []
