"""The plan of a site: effect, waves, danger, digest; known exceptions are not work."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from control_plane.core.decision import Danger, Reason, Why
from control_plane.core.fleet import Device, Site, SlotState
from control_plane.core.memory import Memory, Pin
from control_plane.core.observation import (
    Identity,
    Observation,
    PoolSetting,
    Settings,
    Unseen,
    UnseenReason,
)
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.plan import Plan, make_plan
from control_plane.core.world import World, decide_all, pinned
from tests.core.builders import (
    CAPABILITIES,
    FOREIGN_POOLS,
    NOW_S,
    device,
    intent,
    pool,
    seen,
    settings,
    site,
)


def miner(number: int, **changes: object) -> Device:
    pin = {"mac": f"02:00:00:00:00:{number:02x}", "serial": f"SN{number}"}
    return device(f"d{number:03}", slot=number, **{**pin, **changes})


def own_pools(asset: str) -> tuple[PoolSetting, ...]:
    return (pool("a.example.com", f"own.{asset}"), pool("b.example.com", f"own.{asset}"))


def sighted(one: Device, have: Settings | None = None) -> Observation:
    identity = Identity(mac=one.mac, serial=one.serial, model="Antminer S21", family="fam")
    base = have or settings(pools=own_pools(one.asset))
    return seen(base, asset=one.asset, identity=identity)


def world(*seen_ones: Observation | Unseen, memories: Mapping[str, Memory] | None = None) -> World:
    return World(
        now_s=NOW_S,
        sightings={one.asset: one for one in seen_ones},
        memories=memories or {},
        capabilities={"fam": CAPABILITIES},
    )


def plan_of(one: Site, state: World) -> Plan:
    return make_plan(one, "rev", state)


def test_a_site_as_declared_has_zero_actionable_steps() -> None:
    miners = tuple(miner(n) for n in range(5))
    plan = plan_of(site(miners), world(*map(sighted, miners)))
    assert (plan.actionable, plan.converged, plan.danger) == (0, 5, Danger.D0)
    assert plan.waves == ()
    assert plan.effect.before_w == plan.effect.after_w == 5 * 3_500.0


def test_effect_adds_up_steps_and_lost_hash() -> None:
    miners = tuple(miner(n) for n in range(20))
    old = [sighted(m, settings(pools=FOREIGN_POOLS)) for m in miners]
    plan = plan_of(site(miners), world(*old))
    assert plan.actionable == 20
    assert plan.waves == (1, 11, 16, 20)
    assert plan.effect.worst_first_devices == 1
    assert plan.effect.worst_first_w == 3_500.0
    assert plan.effect.lost_ths_h == pytest.approx(20 * 200.0 * 60.0 / 3_600.0)
    assert plan.danger is Danger.D2


def test_raises_beyond_the_rating_are_known_exceptions_the_best_goes_first() -> None:
    worse = msgspec.structs.replace(miner(1), missing_boards=1)
    miners = (worse, miner(2), miner(3))
    asleep = [sighted(m, settings(pools=own_pools(m.asset), mining=False)) for m in miners]
    plan = plan_of(site(miners, pdu_kw=7.5), world(*asleep))
    assert {step.asset for step in plan.steps} == {"d002", "d003"}
    assert [(h.asset, h.reason, h.detail) for h in plan.held] == [
        ("d001", Reason.NO_HEADROOM, "pdu is full")
    ]
    assert plan.effect.after_w <= 7_500.0
    assert plan.danger is Danger.D3


@pytest.mark.parametrize("feed", ["pdu", "gone"])
def test_what_left_the_declaration_runs_on_and_takes_its_room(feed: str) -> None:
    asleep = sighted(miner(1), settings(pools=own_pools("d001"), mining=False))
    state = msgspec.structs.replace(world(asleep), released={"x1": (feed, 3_500.0)})
    plan = plan_of(site((miner(1),), utility_kw=6.0), state)
    assert [(held.asset, held.reason) for held in plan.held] == [("d001", Reason.NO_HEADROOM)]


def test_what_get_and_explain_show_of_a_raise_that_does_not_fit_is_what_the_plan_says() -> None:
    worse = msgspec.structs.replace(miner(1), missing_boards=1)
    miners = (worse, miner(2), miner(3))
    asleep = [sighted(m, settings(pools=own_pools(m.asset), mining=False)) for m in miners]
    decisions = decide_all(site(miners, pdu_kw=7.5), world(*asleep))
    assert {asset: len(d.steps) for asset, d in decisions.items()} == {
        "d001": 0, "d002": 1, "d003": 1,
    }  # fmt: skip
    assert [held.reason for held in decisions["d001"].held] == [Reason.NO_HEADROOM]


def test_efficiency_is_of_those_that_told_their_settings() -> None:
    miners = (miner(1), miner(2))
    effect = plan_of(site(miners), world(sighted(miners[0]))).effect
    assert effect.unknown == 1
    assert effect.before_w == 2 * 3_500.0
    assert effect.seen_before_w / effect.before_ths == effect.seen_after_w / effect.after_ths
    assert effect.seen_before_w / effect.before_ths == pytest.approx(17.5)


def test_vacant_and_broken_slots_are_exceptions_with_their_cost() -> None:
    miners = (
        miner(1),
        miner(2, state=SlotState.OUT_OF_SERVICE, state_reason="psu"),
        miner(3, state=SlotState.VACANT),
    )
    plan = plan_of(site(miners), world(sighted(miners[0])))
    assert plan.effect.exceptions == 2
    assert plan.effect.exceptions_ths == pytest.approx(200.0)
    assert plan.managed == 1


def test_the_digest_moves_with_what_it_covers_and_with_nothing_else() -> None:
    miners = tuple(miner(n) for n in range(3))
    old = [sighted(m, settings(pools=FOREIGN_POOLS)) for m in miners]
    base = plan_of(site(miners), world(*old))
    later = msgspec.structs.replace(world(*old), now_s=NOW_S + 60)
    assert plan_of(site(miners), later).digest == base.digest
    assert make_plan(site(miners), "other", world(*old)).digest != base.digest
    moved = [old[0], old[1], sighted(miners[2], settings(pools=()))]
    assert plan_of(site(miners), world(*moved)).digest != base.digest


def test_removing_many_devices_is_the_highest_danger() -> None:
    miners = tuple(miner(n) for n in range(10))
    state = msgspec.structs.replace(world(*map(sighted, miners)), removed=("x1", "x2"))
    assert plan_of(site(miners), state).danger is Danger.D5


def test_placement_pins_identities_and_a_swap_is_not_written_to() -> None:
    first, second = miner(1), miner(2)
    at_first = msgspec.structs.replace(
        sighted(second, settings(pools=FOREIGN_POOLS)), asset=first.asset
    )
    plan = plan_of(site((first, second)), world(at_first, sighted(second)))
    assert plan.steps == ()
    assert [(h.asset, h.reason) for h in plan.held] == [(first.asset, Reason.WRONG_IDENTITY)]


def test_drift_and_lowering_come_before_every_wave() -> None:
    miners = tuple(miner(n) for n in range(4))
    drifted = miners[3]
    memory = Memory(
        asset=drifted.asset,
        pin=Pin(mac=drifted.mac, serial=drifted.serial, source="x"),
        equalled=drifted.desired(),
    )
    old = [sighted(m, settings(pools=FOREIGN_POOLS)) for m in miners]
    plan = plan_of(site(miners), world(*old, memories={drifted.asset: memory}))
    assert (plan.steps[0].asset, plan.steps[0].why) == (drifted.asset, Why.DRIFT)
    assert plan.waves == (1, 3)


def test_a_hold_on_a_feed_covers_all_below_it() -> None:
    miners = tuple(miner(n) for n in range(4))
    hold = Overlay(
        id="h1", kind=OverlayKind.SAFETY_HOLD, node="pad", owner="ann", reason="x", since_s=NOW_S
    )
    old = [sighted(m, settings(pools=FOREIGN_POOLS)) for m in miners]
    state = msgspec.structs.replace(world(*old), overlays=(hold,))
    plan = plan_of(site(miners), state)
    assert plan.steps == ()
    assert {h.reason for h in plan.held} == {Reason.HOLD}


def test_a_device_declared_asleep_is_no_exception() -> None:
    one = miner(1, intent=intent(mining=False))
    plan = plan_of(
        site((one,)), world(sighted(one, Settings(pools=own_pools(one.asset), mining=False)))
    )
    assert (plan.actionable, plan.effect.exceptions) == (0, 0)


# --- pins --------------------------------------------------------------------------------------------


def test_a_pin_of_the_record_follows_the_record_and_one_set_by_hand_stays() -> None:
    before, after = miner(1), miner(1, mac="02:00:00:00:00:77", serial=None)
    kept = msgspec.structs.replace(pinned(before, None), located="10.0.0.9")
    moved = pinned(after, kept)
    assert moved.pin == Pin(mac="02:00:00:00:00:77", serial=None, source="placement")
    assert moved.located is None, "there stands the machine that was exchanged"
    assert pinned(before, kept) is kept
    assert pinned(miner(1, mac=None, serial=None), kept).pin is None
    by_hand = msgspec.structs.replace(
        kept, pin=Pin(mac="02:00:00:00:00:99", serial=None, source="ann")
    )
    assert pinned(after, by_hand) is by_hand


def test_a_silent_device_counts_at_nameplate_or_at_what_it_was_last_seen_permitted() -> None:
    one = miner(1)
    silent = Unseen(asset=one.asset, at_s=NOW_S, reason=UnseenReason.UNREACHABLE, detail="")

    def counted(memory: Memory) -> float:
        plan = plan_of(site((one,)), world(silent, memories={one.asset: memory}))
        return plan.effect.before_w

    assert counted(Memory(asset=one.asset)) == 3_500.0
    assert counted(Memory(asset=one.asset, above_w=4_100.0)) == 4_100.0
