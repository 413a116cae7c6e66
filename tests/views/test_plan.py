"""The text of a plan: effect first, at most 40 lines, and nothing that does not hold."""

from __future__ import annotations

import msgspec

from control_plane.core.fleet import Device, SlotState
from control_plane.core.observation import Identity, Observation, Settings
from control_plane.core.plan import Plan, make_plan
from control_plane.core.world import World
from control_plane.views.plan import render_plan
from tests.core.builders import CAPABILITIES, FOREIGN_POOLS, NOW_S, device, pool, seen, settings
from tests.core.builders import site as a_site


def miner(number: int, **changes: object) -> Device:
    asset = f"d{number:05}"
    return device(
        asset, slot=number, mac=f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}", **changes
    )


def sighted(one: Device, have: Settings) -> Observation:
    identity = Identity(mac=one.mac, serial=None, model="Antminer S21", family="fam")
    return seen(have, asset=one.asset, identity=identity)


def as_declared(one: Device) -> Settings:
    pools = (pool("a.example.com", f"own.{one.asset}"), pool("b.example.com", f"own.{one.asset}"))
    return settings(pools=pools)


def plan_of(devices: tuple[Device, ...], *sightings: Observation, **changes: object) -> Plan:
    world = World(
        now_s=NOW_S,
        sightings={one.asset: one for one in sightings},
        memories={},
        capabilities={"fam": CAPABILITIES},
    )
    one = a_site(devices, utility_kw=60_000.0, pdu_kw=60_000.0)
    return make_plan(one, "5a5a5a5a5a5a5a", msgspec.structs.replace(world, **changes))


def test_fourteen_thousand_equal_changes_are_one_line_of_at_most_forty() -> None:
    miners = tuple(miner(n) for n in range(14_000))
    plan = plan_of(miners, *(sighted(m, settings(pools=FOREIGN_POOLS)) for m in miners))
    text = render_plan(plan, command="gridplane apply 1")
    assert plan.actionable == 14_000
    assert len(text.splitlines()) <= 40
    assert "  14,000  set pools to a.example.com:3333, b.example.com:3333  (rollout" in text


def test_effect_comes_before_steps_and_steps_before_exceptions() -> None:
    miners = (miner(1), miner(2, state=SlotState.VACANT))
    plan = plan_of(miners, sighted(miners[0], settings(pools=FOREIGN_POOLS)))
    order = ["Power ", "Hash ", "Efficiency ", "Lost ", "Waves ", "At worst ", "Headroom ", "Steps ",
             "Exceptions ", "Plan ", "Accept it:"]  # fmt: skip
    text = "\n" + render_plan(plan, command="gridplane apply 1")
    found = [text.index("\n" + word) for word in order]
    assert found == sorted(found)


def test_one_is_no_plural() -> None:
    miners = (miner(1), miner(2, state=SlotState.VACANT))
    plan = plan_of(miners, sighted(miners[0], settings(pools=FOREIGN_POOLS)))
    text = render_plan(plan)
    assert "At worst    1 device, 3.5 kW, lost before the first gate" in text
    assert "1 step on 1 device, danger D2 (pools)." in text
    assert "Exceptions  1 device: 1 vacant" in text


def test_unknown_devices_are_named_and_only_where_there_are_some() -> None:
    miners = (miner(1), miner(2))
    known = [sighted(m, as_declared(m)) for m in miners]
    assert "unknown" not in render_plan(plan_of(miners, *known))
    text = render_plan(plan_of(miners, known[0]))
    assert "Power       7.0 kW -> 7.0 kW permitted; 1 unknown device at nameplate" in text


def test_a_converged_site_has_nothing_to_do_and_says_how_many_that_are() -> None:
    one = miner(1)
    text = render_plan(plan_of((one,), sighted(one, as_declared(one))))
    assert text.endswith("Nothing to do: zero actionable steps; 1 of 1 managed are as declared.")
    assert "\n\n\n" not in text


def test_old_sightings_are_not_called_converged() -> None:
    one = miner(1)
    stale = plan_of((one,), sighted(one, as_declared(one)), stale=frozenset({one.asset}))
    assert "Nothing can be said: no managed device was seen just now." in render_plan(stale)
    assert "Nothing to do" not in render_plan(stale)
