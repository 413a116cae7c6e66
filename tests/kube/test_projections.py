"""What people and tools read of a site: every state of a device, and the roll-ups above it."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.api.conditions import Told
from control_plane.api.objects import Counts, Exceptions, SiteStatus
from control_plane.core.correlate import Incident
from control_plane.core.observation import Field, Observation, PoolSetting
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import GateResult, Rollout, RolloutState
from control_plane.core.world import World
from control_plane.kube import projections
from control_plane.kube.snapshot import counts, exceptions
from tests.kube.snapshots import (
    REVISION,
    changed,
    converged,
    lab,
    seeing,
    snapshot,
    unreachable,
)

LAB = lab()
WORLD = converged(LAB)
MINER = "lab-r1-s1"


def told_of(world: World, asset: str = MINER) -> dict[str, tuple[str, str]]:
    """Type → (status, reason) of a miner."""
    found = {name: told for name, _, _, told in projections.miners(snapshot(LAB, world))}
    return {t.type: (t.status, t.reason) for t in found[asset]}


def site_told(
    world: World, rollout: Rollout | None = None, refusal: str | None = None
) -> list[Told]:
    return projections.site_told(snapshot(LAB, world, rollout), refusal)


def rollout(state: RolloutState, *gates: GateResult) -> Rollout:
    return Rollout(
        id="000001-aaaa",
        to=REVISION,
        origin=None,
        waves=(1, 4, 12),
        wave=1,
        state=state,
        gates=gates,
    )


FAILED = GateResult(
    wave=1, at_s=5.0, passed=False, treated=3, treated_failed=2, control=8, control_failed=0,
    detail="66.7% of the wave failed against 0.0% of the control group",
)  # fmt: skip

# --- Miner ---------------------------------------------------------------------------------------


def test_a_miner_as_declared_is_ready_and_its_pin_is_kept() -> None:
    assert told_of(WORLD) == {"Ready": ("True", "AsDeclared")}
    spec = next(
        spec for name, spec, _, _ in projections.miners(snapshot(LAB, WORLD)) if name == MINER
    )
    assert spec.pin is not None
    assert (spec.rack, spec.slot, spec.slot_state, spec.pin.source) == (
        "lab-r1",
        1,
        "in_service",
        "ann",
    )


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        pytest.param(
            msgspec.structs.replace(WORLD, sightings={}), {"Ready": ("Unknown", "NotSeen")}, id="unseen"
        ),
        pytest.param(
            seeing(WORLD, lab_r1_s1=unreachable(MINER)), {"Ready": ("False", "Unreachable")}, id="away"
        ),
        pytest.param(
            changed(WORLD, MINER, mining=False),
            {"Reconciling": ("True", "ToDo"), "Ready": ("False", "Reconciling")},
            id="to do",
        ),
        pytest.param(
            msgspec.structs.replace(
                WORLD,
                memories={
                    **WORLD.memories,
                    MINER: msgspec.structs.replace(
                        WORLD.memories[MINER], contested=frozenset({Field.POOLS})
                    ),
                },
            ),
            # A machine whose pools somebody keeps changing is stopped.
            {
                "Stalled": ("True", "Contested"),
                "Reconciling": ("True", "ToDo"),
                "Ready": ("False", "Contested"),
            },
            id="contested",
        ),
        pytest.param(
            msgspec.structs.replace(WORLD, memories={}), {"Ready": ("False", "Untrusted")}, id="unpinned"
        ),
    ],
)  # fmt: skip
def test_what_a_person_reads_of_a_miner(world: World, expected: dict[str, tuple[str, str]]) -> None:
    if "Contested" in str(expected):
        world = changed(world, MINER, pools=(PoolSetting(url="stratum+tcp://x:1", worker="y"),))
    assert told_of(world) == expected


def test_a_manual_override_is_an_exception_with_its_field() -> None:
    memory = msgspec.structs.replace(
        WORLD.memories[MINER],
        equalled=msgspec.structs.replace(LAB.devices[0].desired(), mining=True),
    )
    world = msgspec.structs.replace(WORLD, memories={**WORLD.memories, MINER: memory})
    world = changed(world, MINER, mining=False)
    found = {name: status for name, _, status, _ in projections.miners(snapshot(LAB, world))}
    assert [(e.reason, e.field) for e in found[MINER].exceptions] == [("manual_override", "mining")]


def test_no_telemetry_is_in_any_status() -> None:
    """A number that changes with each look would be a write for each look."""
    later = {}
    for asset, seen in WORLD.sightings.items():
        assert isinstance(seen, Observation)
        assert seen.telemetry.hashrate_ths is not None
        other_ths = seen.telemetry.hashrate_ths * 0.99
        telemetry = msgspec.structs.replace(seen.telemetry, hashrate_ths=other_ths)
        later[asset] = msgspec.structs.replace(seen, at_s=9.0, telemetry=telemetry)
    other = snapshot(LAB, msgspec.structs.replace(WORLD, sightings=later))
    assert list(projections.miners(other)) == list(projections.miners(snapshot(LAB, WORLD)))
    assert list(projections.racks(other)) == list(projections.racks(snapshot(LAB, WORLD)))


# --- Rack and Site -------------------------------------------------------------------------------


def test_a_rack_counts_and_names_what_it_lacks() -> None:
    world = seeing(WORLD, lab_r1_s1=unreachable(MINER))
    found = {
        name: (status, told) for name, _, status, told in projections.racks(snapshot(LAB, world))
    }
    status, told = found["lab-r1"]
    assert status.devices == Counts(declared=6, managed=6, seen=5, converged=5, actionable=0)
    assert status.progress == "5/6"
    assert [(e.reason, e.devices) for e in status.exceptions] == [("unreachable", 1)]
    assert [(t.status, t.reason) for t in told] == [("False", "Unreachable")]
    assert [(t.status, t.reason) for t in found["lab-r2"][1]] == [("True", "AsDeclared")]


def test_a_rack_says_who_holds_all_of_it_and_not_who_holds_a_part() -> None:
    def hold(node: str) -> World:
        overlay = Overlay(
            id="h0001",
            kind=OverlayKind.SAFETY_HOLD,
            node=node,
            owner="bob",
            reason="hands",
            since_s=0.0,
        )
        return msgspec.structs.replace(WORLD, overlays=(overlay,))

    def held(world: World) -> dict[str, str | None]:
        return {name: s.held_by for name, _, s, _ in projections.racks(snapshot(LAB, world))}

    assert held(hold("lab-r1"))["lab-r1"] == "bob (h0001)"
    assert held(hold("lab-r1"))["lab-r2"] is None
    assert held(hold(MINER))["lab-r1"] is None
    assert held(hold("lab-hall-p1"))["lab-r1"] == "bob (h0001)"


def test_what_an_exception_costs_is_the_hash_that_is_declared() -> None:
    world = seeing(WORLD, lab_r1_s1=unreachable(MINER))
    [one] = exceptions(snapshot(LAB, world), [d for d in LAB.devices if d.asset == MINER])
    assert one == Exceptions(reason="unreachable", devices=1, lost_ths=200.0)


def test_a_site_is_ready_with_named_exceptions() -> None:
    told = site_told(WORLD)
    assert [(t.type, t.status, t.reason) for t in told] == [("Ready", "True", "AsDeclared")]
    assert "12 of 12 as declared; exceptions: 2 no_driver" in told[0].message
    silent = seeing(WORLD, lab_r1_s1=unreachable("lab-r1-s1"), lab_r1_s2=unreachable("lab-r1-s2"))
    assert [(t.status, t.reason) for t in site_told(silent)] == [("False", "TooFew")]


def test_a_site_that_nobody_saw_is_unknown() -> None:
    [told] = site_told(msgspec.structs.replace(WORLD, sightings={}))
    assert (told.status, told.reason) == ("Unknown", "NotSeen")


@pytest.mark.parametrize(
    ("found", "incidents", "refusal", "first"),
    [
        (None, False, "E0115: damaged", ("Stalled", "NotAccepted")),
        (rollout(RolloutState.HALTED, FAILED), False, None, ("Stalled", "GateFailed")),
        (None, True, None, ("Stalled", "Incident")),
        (rollout(RolloutState.SOAKING), False, None, ("Reconciling", "Rollout")),
    ],
)
def test_why_a_site_does_not_go_on_comes_first(
    found: Rollout | None, incidents: bool, refusal: str | None, first: tuple[str, str]
) -> None:
    incident = Incident(
        id="i1", node="lab-hall-p1", cause="lost", since_s=0.0, assets=6, detail="6 lost"
    )
    world = msgspec.structs.replace(WORLD, incidents=(incident,) if incidents else ())
    told = site_told(world, found, refusal)[0]
    assert (told.type, told.reason) == first
    assert told.message


def test_a_site_sums_up_its_power_and_its_devices() -> None:
    status = projections.site_status(
        snapshot(LAB, WORLD, rollout(RolloutState.RUNNING)), SiteStatus()
    )
    assert status.devices is not None
    assert (status.devices.managed, status.devices.converged, status.progress) == (12, 12, "12/12")
    assert status.usable_w == pytest.approx(150_000)
    assert status.permitted_w is not None
    assert 40_000 < status.permitted_w < 100_000
    assert status.rollout == "000001-aaaa"


def test_counts_say_the_same_as_the_plan() -> None:
    made = snapshot(LAB, changed(WORLD, MINER, mining=False))
    counted = counts(made, LAB.devices)
    assert (counted.actionable, counted.converged) == (made.plan.actionable, made.plan.converged)
