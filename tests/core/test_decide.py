"""The decision table: every state of a device has one named answer, and drift never raises power."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.change import (
    ChangeKind,
    SetPools,
    SetPowerMode,
    StartMining,
    StopMining,
    kind_of,
)
from control_plane.core.decide import decide
from control_plane.core.decision import Reason, Why
from control_plane.core.fleet import SlotState, Tenure
from control_plane.core.memory import Memory, Pin
from control_plane.core.observation import (
    Activity,
    Field,
    Identity,
    Settings,
    Telemetry,
    Unseen,
    UnseenReason,
)
from control_plane.core.overlay import Overlay, OverlayKind
from tests.core.builders import (
    CAPABILITIES,
    DECLARED_POOLS,
    FOREIGN_POOLS,
    IDENTITY,
    NOW_S,
    OWNER,
    PIN,
    POOLS,
    WRITES,
    context,
    converged_memory,
    decided,
    device,
    fresh_memory,
    intent,
    pool,
    seen,
    settings,
)


def overlay(kind: OverlayKind, **changes: Any) -> Overlay:
    base = Overlay(id="h1", kind=kind, node="d1", owner="ann", reason="fans", since_s=NOW_S - 10)
    return msgspec.structs.replace(base, **changes)


def reasons(**changes: Any) -> set[Reason]:
    return {held.reason for held in decided(**changes).held}


def test_a_device_as_declared_is_converged_and_has_nothing_to_do() -> None:
    decision = decided()
    assert decision.converged
    assert decision.steps == ()
    assert decision.held == ()


# --- who is not judged at all --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (SlotState.VACANT, Reason.VACANT),
        (SlotState.OUT_OF_SERVICE, Reason.OUT_OF_SERVICE),
        (SlotState.IN_REPAIR, Reason.IN_REPAIR),
    ],
)
def test_a_slot_not_in_service_is_held_by_its_state(state: SlotState, reason: Reason) -> None:
    decision = decided(device=device(state=state), sighting=seen(settings(pools=FOREIGN_POOLS)))
    assert [held.reason for held in decision.held] == [reason]
    assert decision.steps == ()


@pytest.mark.parametrize("reason", list(UnseenReason))
def test_a_failed_look_never_leads_to_a_write(reason: UnseenReason) -> None:
    unseen = Unseen(asset="d1", at_s=NOW_S, reason=reason, detail="")
    decision = decided(sighting=unseen, memory=fresh_memory())
    assert decision.steps == ()
    assert len(decision.held) == 1


def test_stale_telemetry_is_not_acted_upon() -> None:
    off_list = seen(settings(pools=FOREIGN_POOLS))
    assert reasons(sighting=off_list, fresh=False) == {Reason.STALE_TELEMETRY}


def test_without_a_driver_a_device_is_planned_as_held() -> None:
    assert reasons(capabilities=None) == {Reason.NO_DRIVER}


# --- identity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "identity", "reason"),
    [
        (fresh_memory(pin=None), IDENTITY, Reason.UNTRUSTED),
        (fresh_memory(pin=Pin(mac=None, serial=None, source="x")), IDENTITY, Reason.UNTRUSTED),
        (fresh_memory(), None, Reason.UNTRUSTED),
        (fresh_memory(), Identity(model="Antminer S21"), Reason.UNTRUSTED),
        (fresh_memory(), Identity(mac="02:00:00:00:00:99"), Reason.WRONG_IDENTITY),
        (fresh_memory(), Identity(mac=PIN.mac, serial="SN2"), Reason.WRONG_IDENTITY),
        (fresh_memory(), Identity(mac=PIN.mac, model="Antminer S19"), Reason.WRONG_MODEL),
    ],
)
def test_a_machine_that_is_not_the_pinned_one_is_never_written_to(
    memory: Any, identity: Identity | None, reason: Reason
) -> None:
    sighting = seen(settings(pools=FOREIGN_POOLS), identity=identity)
    decision = decided(memory=memory, sighting=sighting)
    assert [held.reason for held in decision.held] == [reason]
    assert decision.steps == ()
    assert not decision.converged


# --- drift policy --------------------------------------------------------------------------------


def test_pools_off_the_declaration_are_set_back_at_once() -> None:
    decision = decided(sighting=seen(settings(pools=FOREIGN_POOLS)))
    assert [step.change for step in decision.steps] == [SetPools(DECLARED_POOLS)]
    assert decision.steps[0].why is Why.DRIFT
    assert decision.drifting == {Field.POOLS}


def test_a_write_in_flight_hides_no_drift() -> None:
    stolen, well = seen(settings(pools=FOREIGN_POOLS)), seen(settings())
    calm, known = converged_memory(), converged_memory(drifting=frozenset({Field.POOLS}))
    for memory in (calm, known):
        decision = decided(sighting=stolen, memory=memory, in_flight=True)
        assert decision.drifting == {Field.POOLS}
        assert decision.steps == ()
        assert [held.reason for held in decision.held] == [Reason.IN_FLIGHT]
        assert decided(sighting=well, memory=memory, in_flight=True).drifting == set()


@pytest.mark.parametrize(
    "lower", [{"mining": False, "power_mode": None}, {"power_mode": "low"}], ids=["stopped", "low"]
)
def test_what_a_hand_lowered_stays_low(lower: dict[str, Any]) -> None:
    decision = decided(sighting=seen(settings(**lower)))
    assert decision.steps == ()
    assert decision.overridden
    assert {held.reason for held in decision.held} == {Reason.MANUAL_OVERRIDE}


def test_more_power_than_declared_is_asked_about_while_every_cap_holds() -> None:
    high = seen(settings(power_mode="high"))
    assert reasons(sighting=high) == {Reason.ASK}
    assert decided(sighting=high).steps == ()


def test_more_power_than_declared_is_lowered_where_a_cap_needs_it() -> None:
    decision = decided(sighting=seen(settings(power_mode="high")), over_cap=True)
    assert [(s.change, s.why) for s in decision.steps] == [(SetPowerMode("normal"), Why.CAP)]


def test_an_unreadable_setting_is_neither_equal_nor_written_from() -> None:
    decision = decided(sighting=seen(settings(pools=None)))
    assert decision.steps == ()
    assert not decision.converged
    assert [(h.reason, h.field) for h in decision.held] == [(Reason.UNREADABLE, Field.POOLS)]


def test_an_empty_pool_list_is_a_fact_and_is_repaired() -> None:
    decision = decided(sighting=seen(settings(pools=())))
    assert [step.change for step in decision.steps] == [SetPools(DECLARED_POOLS)]


def test_settings_right_but_no_hash_is_a_fault_and_not_drift() -> None:
    decision = decided(sighting=seen(hashrate_ths=20.0))
    assert decision.converged
    assert decision.steps == ()
    assert {held.reason for held in decision.held} == {Reason.FAULT}


def test_a_booting_device_is_given_time() -> None:
    booting = Telemetry(hashrate_ths=0.0, activity=Activity.STARTING)
    assert reasons(sighting=seen(telemetry=booting)) == {Reason.STARTING}


def test_a_contested_pool_is_written_no_more_and_the_machine_is_stopped() -> None:
    memory = converged_memory(contested=frozenset({Field.POOLS}))
    decision = decided(memory=memory, sighting=seen(settings(pools=FOREIGN_POOLS)))
    assert [(s.change, s.why) for s in decision.steps] == [(StopMining(), Why.CONTESTED)]
    assert Reason.CONTESTED in {held.reason for held in decision.held}


def test_a_sleeping_device_has_no_mode_to_compare() -> None:
    asleep = device(intent=intent(mining=False))
    have = Settings(pools=DECLARED_POOLS, mining=False)
    decision = decided(device=asleep, memory=converged_memory(asleep), sighting=seen(have))
    assert decision.converged


# --- rollout -------------------------------------------------------------------------------------


def test_a_rollout_may_raise_what_drift_repair_may_not() -> None:
    decision = decided(memory=fresh_memory(), sighting=seen(settings(mining=False)))
    assert [(s.change, s.why) for s in decision.steps] == [(StartMining("normal"), Why.ROLLOUT)]
    assert decision.steps[0].raises


def test_before_its_wave_a_device_is_not_changed() -> None:
    low = seen(settings(power_mode="low"))
    assert reasons(memory=fresh_memory(), sighting=low, assigned=False) == {Reason.ROLLOUT_WAVE}


@pytest.mark.parametrize(
    ("world", "steps"),
    [
        pytest.param({}, [], id="a change like others: it restarts machines too"),
        pytest.param({"over_cap": True}, [SetPowerMode("normal")], id="a node is over its cap"),
        pytest.param(
            {"overlays": (overlay(OverlayKind.CURTAILMENT, fields=Settings(power_mode="normal")),)},
            [SetPowerMode("normal")],
            id="a curtailment asserts it",
        ),
    ],
)
def test_only_a_lowering_that_is_urgent_does_not_wait_for_its_wave(
    world: dict[str, Any], steps: list[SetPowerMode]
) -> None:
    high = seen(settings(power_mode="high"))
    decision = decided(memory=fresh_memory(), sighting=high, assigned=False, **world)
    assert [step.change for step in decision.steps] == steps


def test_what_moved_after_the_plan_was_shown_is_held() -> None:
    memory = fresh_memory(expected=settings(power_mode="low"))
    assert Reason.MOVED in reasons(memory=memory, sighting=seen(settings(mining=False))) | reasons(
        memory=fresh_memory(expected=settings(pools=DECLARED_POOLS)),
        sighting=seen(settings(pools=FOREIGN_POOLS)),
    )


def test_an_owner_approves_what_he_reserved() -> None:
    owner = msgspec.structs.replace(OWNER, approvals={Field.POOLS: ("ceo@own",)})
    moved = {
        "owner": owner,
        "memory": fresh_memory(),
        "sighting": seen(settings(pools=FOREIGN_POOLS)),
    }
    assert reasons(**moved) == {Reason.OWNER_APPROVAL}
    assert decided(**moved, approved=frozenset({Field.POOLS})).steps


def test_steps_lower_first_and_raise_last() -> None:
    have = settings(pools=FOREIGN_POOLS, power_mode="low")
    kinds = [step.kind for step in decided(memory=fresh_memory(), sighting=seen(have)).steps]
    assert kinds == [ChangeKind.SET_POOLS, ChangeKind.SET_POWER_MODE]


# --- what bars a write -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OverlayKind.SAFETY_HOLD, OverlayKind.MAINTENANCE_HOLD])
@pytest.mark.parametrize("memory", [fresh_memory(), converged_memory()], ids=["rollout", "drift"])
def test_under_a_hold_nothing_is_written(kind: OverlayKind, memory: Any) -> None:
    decision = decided(
        memory=memory, sighting=seen(settings(pools=FOREIGN_POOLS)), overlays=(overlay(kind),)
    )
    assert decision.steps == ()
    assert {held.reason for held in decision.held} == {Reason.HOLD}


def test_an_expired_maintenance_hold_still_holds() -> None:
    held = overlay(OverlayKind.MAINTENANCE_HOLD, expires_s=NOW_S - 1)
    assert reasons(sighting=seen(settings(pools=FOREIGN_POOLS)), overlays=(held,)) == {Reason.HOLD}


def test_a_stop_passes_a_hold() -> None:
    asleep = device(intent=intent(mining=False))
    decision = decided(
        device=asleep,
        memory=fresh_memory(),
        sighting=seen(),
        overlays=(overlay(OverlayKind.SAFETY_HOLD),),
    )
    assert [step.change for step in decision.steps] == [StopMining()]


def test_a_freeze_stops_configuration_but_not_lowering() -> None:
    freeze = (overlay(OverlayKind.FREEZE),)
    assert reasons(sighting=seen(settings(pools=FOREIGN_POOLS)), overlays=freeze) == {Reason.FREEZE}
    lowered = decided(
        memory=fresh_memory(), sighting=seen(settings(power_mode="high")), overlays=freeze
    )
    assert [step.change for step in lowered.steps] == [SetPowerMode("normal")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"incident": "i0001"}, Reason.INCIDENT),
        ({"tenure": Tenure(kind="hosted_in", host="H", host_actions=frozenset({Field.POOLS}))},
         Reason.HOST_ACTION),
        ({"memory": converged_memory(stuck=frozenset({ChangeKind.SET_POOLS}))}, Reason.STUCK),
        ({"memory": converged_memory(persistent_writes_s=(NOW_S,) * 12)}, Reason.WRITE_BUDGET),
        ({"capabilities": msgspec.structs.replace(CAPABILITIES, writes={})}, Reason.UNSUPPORTED),
        ({"sighting": seen(settings(pools=FOREIGN_POOLS), write_enabled=False)},
         Reason.WRITE_API_DISABLED),
        ({"in_flight": True}, Reason.IN_FLIGHT),
    ],
)  # fmt: skip
def test_each_bar_has_its_name(changes: dict[str, Any], reason: Reason) -> None:
    case = {"sighting": seen(settings(pools=FOREIGN_POOLS)), **changes}
    decision = decided(**case)
    assert decision.steps == ()
    assert {held.reason for held in decision.held} == {reason}


def test_a_write_interface_that_was_off_is_tried_where_the_engine_says_so() -> None:
    shut = seen(settings(pools=FOREIGN_POOLS), write_enabled=False)
    assert decided(sighting=shut).steps == ()
    (step,) = decided(sighting=shut, tries_writes=True).steps
    assert step.change == SetPools(DECLARED_POOLS)


INSTALLS_NOTHING = msgspec.structs.replace(CAPABILITIES, firmware=None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, Reason.FIRMWARE_JOB, id="its rollout brings it"),
        pytest.param({"capabilities": INSTALLS_NOTHING}, Reason.UNSUPPORTED, id="no driver does"),
        pytest.param({"assigned": False}, Reason.ROLLOUT_WAVE, id="its settings come first"),
        pytest.param({"locked": "f0001-wave-0-0"}, Reason.FLASHING, id="it is being installed"),
        pytest.param({"incident": "i1"}, Reason.INCIDENT, id="below an incident"),
    ],
)
def test_firmware_is_a_matter_of_its_own_rollout(changes: dict[str, Any], reason: Reason) -> None:
    wanted = device(intent=intent(firmware="2.0"))
    sighting = seen(settings(firmware="1.0"))
    found = reasons(device=wanted, memory=fresh_memory(), sighting=sighting, **changes)
    assert found == {reason}


# --- properties ------------------------------------------------------------------------------------

modes = st.sampled_from([None, "low", "normal", "high", "unknown"])
pool_lists = st.sampled_from(
    [None, (), DECLARED_POOLS, FOREIGN_POOLS, DECLARED_POOLS[:1], (pool("c.example.net"),)]
)
observed = st.builds(
    Settings, pools=pool_lists, mining=st.sampled_from([None, True, False]), power_mode=modes
)
intents = st.builds(
    intent,
    mining=st.booleans(),
    power_mode=st.sampled_from(["low", "normal", "high"]),
)
overlay_sets = st.lists(
    st.builds(
        overlay,
        st.sampled_from(list(OverlayKind)),
        fields=st.sampled_from([Settings(), Settings(mining=False), Settings(power_mode="low")]),
        expires_s=st.sampled_from([None, NOW_S - 1, NOW_S + 100]),
    ),
    max_size=3,
).map(tuple)


@given(
    declared=intents,
    have=observed,
    overlays=overlay_sets,
    drift=st.booleans(),
    over_cap=st.booleans(),
    assigned=st.booleans(),
    contested=st.sets(st.sampled_from([Field.POOLS, Field.MINING])),
)
def test_no_repair_raises_power_and_no_write_but_a_stop_passes_a_hold(
    declared: Any, have: Settings, overlays: Any, drift: bool, over_cap: bool, assigned: bool,
    contested: set[Field],
) -> None:  # fmt: skip
    one = device(intent=declared)
    first = context(device=one, sighting=seen(have), overlays=overlays, over_cap=over_cap,
                    assigned=assigned, memory=fresh_memory())  # fmt: skip
    if drift:
        memory = fresh_memory(equalled=decide(first).desired, contested=frozenset(contested))
        first = msgspec.structs.replace(first, memory=memory)
    decision = decide(first)
    holds = [
        o for o in overlays if o.kind in {OverlayKind.SAFETY_HOLD, OverlayKind.MAINTENANCE_HOLD}
    ]
    for step in decision.steps:
        if step.why is not Why.ROLLOUT:
            assert not step.raises
        if holds:
            assert isinstance(step.change, StopMining)
        if isinstance(step.change, SetPools):
            assert step.change.pools
            assert set(step.change.pools) <= set(DECLARED_POOLS)
        if not assigned and drift is False:
            assert step.after_w <= step.before_w
            assert over_cap or any(o.fields != Settings() for o in overlays)
        assert kind_of(step.change) in WRITES
    if decision.converged:
        assert decision.steps == ()
    # Total: whoever is not converged has a step or a named reason.
    assert decision.converged or decision.steps or decision.held


def test_a_raise_counts_at_the_new_mode_whatever_limit_was_in_force() -> None:
    """A WhatsMiner in low mode reports its low watts as limit: the limit goes with the mode."""
    low = settings(power_mode="low", power_limit_w=2_400)
    step = decided(memory=fresh_memory(), sighting=seen(low)).steps[0]
    assert isinstance(step.change, SetPowerMode)
    assert (step.before_w, step.after_w) == (2_400.0, 3_500.0)


def test_a_sleeping_device_has_no_limit_to_compare() -> None:
    asleep = settings(mining=False, power_limit_w=100)
    decision = decided(
        device=device(intent=intent(mining=False, power_limit_w=3_000)),
        sighting=seen(asleep),
    )
    assert not decision.differences


def test_a_hijack_between_plan_and_wave_is_repaired_at_once() -> None:
    memory = fresh_memory(expected=settings(pools=(pool("a.example.com", "old.d1"),)))
    decision = decided(memory=memory, assigned=False, sighting=seen(settings(pools=FOREIGN_POOLS)))
    assert [step.why for step in decision.steps] == [Why.DRIFT]


def test_a_thief_on_the_owners_own_pool_is_a_thief() -> None:
    memory = fresh_memory(expected=settings(pools=(pool("a.example.com", "old.d1"),)))
    moved = settings(pools=(pool("a.example.com", "thief.d1"),))
    decision = decided(memory=memory, sighting=seen(moved), assigned=False)
    assert [step.why for step in decision.steps] == [Why.DRIFT]
    assert decision.drifting == {Field.POOLS}, "it counts towards a contest and a storm"


def test_another_order_of_the_owners_pools_between_plan_and_wave_is_held() -> None:
    memory = fresh_memory(expected=settings(pools=FOREIGN_POOLS))
    moved = settings(pools=tuple(reversed(DECLARED_POOLS)))
    assert reasons(memory=memory, sighting=seen(moved)) == {Reason.MOVED}


# --- field by field: a new revision is no amnesty ----------------------------------------------------


def test_a_new_pool_list_does_not_start_what_a_hand_stopped() -> None:
    before = device(intent=intent(pools=POOLS[:1]))
    decision = decided(memory=converged_memory(before), sighting=seen(settings(
        pools=DECLARED_POOLS[:1], mining=False)))  # fmt: skip
    assert [step.change for step in decision.steps] == [SetPools(DECLARED_POOLS)]
    assert {(h.field, h.reason) for h in decision.held} == {(Field.MINING, Reason.MANUAL_OVERRIDE)}


def test_a_new_mode_does_move_what_a_hand_lowered() -> None:
    """The field itself is declared anew, and the plan showed the raise."""
    high = device(intent=intent(power_mode="high"))
    low = seen(settings(power_mode="low"))
    decision = decided(device=high, memory=converged_memory(), sighting=low)
    assert [(s.change, s.why) for s in decision.steps] == [(SetPowerMode("high"), Why.ROLLOUT)]


@pytest.mark.parametrize("revision", ["normal", "high"])
def test_a_machine_that_was_stopped_as_contested_stays_stopped(revision: str) -> None:
    memory = converged_memory(contested=frozenset({Field.POOLS}))
    decision = decided(
        device=device(intent=intent(power_mode=revision, pools=POOLS[:1])),
        memory=memory,
        sighting=seen(settings(mining=False, pools=FOREIGN_POOLS)),
    )
    assert decision.steps == ()
    assert {held.reason for held in decision.held} == {Reason.CONTESTED}


# --- what is not known is not written from -----------------------------------------------------------


@pytest.mark.parametrize("over_cap", [False, True])
@pytest.mark.parametrize("memory", [fresh_memory(), converged_memory()], ids=["rollout", "drift"])
def test_a_mode_off_the_ladder_is_held(memory: Memory, over_cap: bool) -> None:
    odd = seen(settings(power_mode="turbo"))
    decision = decided(memory=memory, sighting=odd, over_cap=over_cap)
    assert decision.steps == ()
    assert {held.reason for held in decision.held} == {Reason.UNKNOWN_MODE}


def test_a_mode_is_not_written_to_what_may_be_asleep() -> None:
    doubtful = seen(settings(mining=None, power_mode="high"))
    decision = decided(memory=fresh_memory(), sighting=doubtful)
    assert decision.steps == ()
    assert {held.reason for held in decision.held} == {Reason.UNREADABLE}


# --- waking to another mode writes the mode ----------------------------------------------------------


@pytest.mark.parametrize(
    ("wakes_to", "reason"),
    [("normal", None), ("low", Reason.HOST_ACTION), (None, Reason.HOST_ACTION)],
)
def test_waking_does_not_carry_a_mode_that_only_the_host_may_set(
    wakes_to: str | None, reason: Reason | None
) -> None:
    hosted = Tenure(kind="hosted_in", host="H", host_actions=frozenset({Field.POWER_MODE}))
    asleep = seen(settings(mining=False, power_mode=wakes_to))
    decision = decided(tenure=hosted, memory=fresh_memory(), sighting=asleep)
    assert {held.reason for held in decision.held} == ({reason} if reason else set())
    assert bool(decision.steps) is (reason is None)


def test_waking_does_not_carry_a_mode_that_its_owner_did_not_approve() -> None:
    strict = msgspec.structs.replace(OWNER, approvals={Field.POWER_MODE: ("cfo",)})
    asleep = seen(settings(mining=False, power_mode="low"))
    assert reasons(owner=strict, memory=fresh_memory(), sighting=asleep) == {Reason.OWNER_APPROVAL}
