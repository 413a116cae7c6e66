"""The controller that enforces: waves, failover, what is lost, and who may write; in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from control_plane.core.cluster import ClusterAway
from control_plane.core.memory import Pin
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import RolloutState
from control_plane.engine import said
from control_plane.engine.records import Order, OrderKind
from control_plane.kube.controller import Controller
from control_plane.kube.kinds import (
    FLEET_REVISION,
    GPU_NODE,
    ORDER,
    OVERLAY,
    ROLLOUT,
    SITE,
    STATE_SHARD,
)
from control_plane.kube.takeover import lost_id
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.site import Target
from tests.kube.test_controller import FILES, NAMESPACE, Playing, play

LONG_S = 1_000.0
SCALE = 20.0
"""A soak of half an hour in a minute and a half; leases and watches take their time as ever."""
CHANGED = {
    **FILES,
    "owners/house.yaml": FILES["owners/house.yaml"].replace(
        b"stratum.pool-one.example.com", b"new.pool-one.example.com"
    ),
}
"""Other pools for each of the twelve machines: waves of 1, 10 and 1."""


def _done(controller: Controller) -> bool:
    tenure = controller.tenure
    if tenure is None or tenure.engine is None:
        return False
    rollouts = tenure.store.rollouts()
    return bool(rollouts) and rollouts[-1].state is RolloutState.DONE and len(rollouts) > 1


async def _enforced(playing: Playing, controller: Controller) -> None:
    async def is_done() -> bool:
        return _done(controller)

    await playing.until(is_done, within_s=LONG_S)


async def _adopted(playing: Playing, controller: Controller) -> None:
    """Observed, and every machine trusted by a person."""
    await playing.declare(FILES)

    async def is_seen() -> bool:
        engine = controller.tenure.engine if controller.tenure else None
        return engine is not None and all(s.seen is not None for s in engine.slots.values())

    await playing.until(is_seen)
    assert controller.tenure is not None
    assert controller.tenure.engine is not None
    for slot in controller.tenure.engine.slots.values():
        identity = slot.seen.identity if slot.seen else None
        assert identity is not None
        pin = Pin(mac=identity.mac, serial=identity.serial, source="ann")
        order = Order(kind=OrderKind.TRUST, target=slot.asset, by="ann", at_s=0.0, pin=pin)
        controller.tenure.said.put_order(order)
    await asyncio.sleep(5)


def _writes(playing: Playing) -> Counter[str]:
    return Counter(write.asset for write in playing.stage.site.world.ledger.select())


def test_a_site_is_brought_to_its_declaration_wave_by_wave(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        controller, _ = playing.controller("one")
        serving = asyncio.ensure_future(controller.run())
        await _adopted(playing, controller)
        await playing.declare(CHANGED, mode="enforce")
        await _enforced(playing, controller)
        tenure = controller.tenure
        assert tenure is not None
        gates = tenure.store.rollouts()[-1].gates
        assert len(gates) > 1
        assert all(gate.passed for gate in gates)
        assert len(_writes(playing)) > 1
        assert b'gridplane_gate_open{site="lab"} 1\n' in controller.facts.text()

        async def is_shown() -> bool:
            told = await playing.told(SITE, "lab")
            return told["Enforcing"][0] == "True" and "12 of 12 as declared" in told["Ready"][2]

        await playing.until(is_shown)
        last = tenure.store.rollouts()[-1]

        async def is_shown_as_done() -> bool:
            told = await playing.told(ROLLOUT, last.id)
            return told.get("Ready", ("",))[:2] == ("True", "Done")

        await playing.until(is_shown_as_done)
        shown = await playing.get(ROLLOUT, last.id)
        assert shown is not None
        spec, status = msgspec.json.decode(shown.spec), msgspec.json.decode(shown.status)
        assert (spec["to"], len(spec["gates"])) == (last.to, len(gates))
        assert status["progress"] == f"{len(last.waves)}/{len(last.waves)}"
        serving.cancel()

    play(tmp_path, act, scale=SCALE)


def _a_rollout(name: str, site: str = "lab") -> dict[str, Any]:
    return {
        "apiVersion": ROLLOUT.api_version, "kind": ROLLOUT.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"site": site, "to": "a" * 64, "waves": [1]},
    }  # fmt: skip


def test_a_rollout_that_is_not_kept_goes_unless_the_site_is_only_observed(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        controller, _ = playing.controller("one")
        serving = asyncio.ensure_future(controller.run())
        await _adopted(playing, controller)
        await playing.kubectl.apply(ROLLOUT, _a_rollout("000999-of-nobody"), manager="kubectl")
        other = _a_rollout("000001-of-another-site", "other")
        await playing.kubectl.apply(ROLLOUT, other, manager="kubectl")
        await asyncio.sleep(60)
        assert await playing.get(ROLLOUT, "000999-of-nobody") is not None
        assert (await playing.told(GPU_NODE, "lab-g1-n1"))["Ready"][:2] == ("Unknown", "NoAgent")
        await playing.declare(FILES, mode="enforce")

        async def is_gone() -> bool:
            return await playing.get(ROLLOUT, "000999-of-nobody") is None

        await playing.until(is_gone)
        assert await playing.get(ROLLOUT, "000001-of-another-site") is not None
        serving.cancel()

    play(tmp_path, act, scale=SCALE)


def test_observing_writes_nothing_and_moves_no_wave_and_then_may_enforce(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        controller, _ = playing.controller("one")
        serving = asyncio.ensure_future(controller.run())
        await _adopted(playing, controller)
        await asyncio.sleep(200)
        tenure = controller.tenure
        assert tenure is not None
        assert not _writes(playing)
        assert all(rollout.gates == () for rollout in tenure.store.rollouts())
        await playing.declare(CHANGED, mode="enforce")
        await _enforced(playing, controller)
        before = _writes(playing)
        assert before
        # And back: what is under way ends, nothing begins.
        await playing.declare(CHANGED, mode="observe")
        await asyncio.sleep(60)
        assert _writes(playing) == before
        serving.cancel()

    play(tmp_path, act, scale=SCALE)


def test_the_next_leader_goes_on_in_the_middle_of_a_wave(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        serving = [asyncio.ensure_future(one.run())]
        await _adopted(playing, one)
        await playing.declare(CHANGED, mode="enforce")

        async def is_in_second_wave() -> bool:
            if one.tenure is None or not one.tenure.store.rollouts():
                return False
            rollout = one.tenure.store.rollouts()[-1]
            return rollout.wave == 1 and bool(one.tenure.store.open_operations())

        await playing.until(is_in_second_wave, within_s=LONG_S)
        assert one.tenure is not None
        open_then = {o.id for o in one.tenure.store.open_operations()}
        two, _ = playing.controller("two")
        serving.append(asyncio.ensure_future(two.run()))
        await asyncio.sleep(1.0)
        line.faults.away = "refused"
        line.cut()

        async def two_acts() -> bool:
            return two.tenure is not None and two.tenure.engine is not None

        await playing.until(two_acts, within_s=60.0)
        assert two.tenure is not None
        rollout = two.tenure.store.rollouts()[-1]
        assert rollout.wave >= 1
        assert [gate.wave for gate in rollout.gates] == list(range(rollout.wave))
        known = {o.id for o in two.tenure.store.operations(limit=10_000)}
        assert open_then & known, "what was open is taken over"
        await _enforced(playing, two)
        ids = [o.id for o in two.tenure.store.operations(limit=10_000) if o.why == "rollout"]
        assert len(ids) == len(set(ids))
        for task in serving:
            task.cancel()

    play(tmp_path, act, scale=SCALE)


def test_what_a_person_lowered_is_not_raised_by_the_next_leader(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        serving = [asyncio.ensure_future(one.run())]
        await _adopted(playing, one)
        await playing.declare(CHANGED, mode="enforce")
        await _enforced(playing, one)
        await asyncio.sleep(60)
        line.faults.away = "refused"
        line.cut()
        asset = "lab-r2-s1"
        # A person stops the machine while nobody leads.
        lower = Fault(kind=FaultKind.LOWER, target=Target(asset=asset))
        assert inject(playing.stage.site, lower) == (asset,)
        two, _ = playing.controller("two")
        serving.append(asyncio.ensure_future(two.run()))
        before = _writes(playing)
        await asyncio.sleep(90)
        assert two.tenure is not None
        assert two.tenure.engine is not None
        slot = two.tenure.engine.slots[asset]
        assert slot.decision is not None
        assert slot.decision.overridden
        assert _writes(playing)[asset] == before[asset]
        for task in serving:
            task.cancel()

    play(tmp_path, act, scale=SCALE)


def test_without_the_api_server_it_looks_on_and_writes_nothing(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        serving = asyncio.ensure_future(one.run())
        await _adopted(playing, one)
        await playing.declare(CHANGED, mode="enforce")

        async def has_written() -> bool:
            return bool(_writes(playing))

        await playing.until(has_written, within_s=LONG_S)
        line.faults.away = "silent"
        line.cut()
        await asyncio.sleep(60)
        before = _writes(playing)
        seen_s = playing.stage.clock.wall_s()
        await asyncio.sleep(120)
        assert _writes(playing) == before
        assert one.tenure is not None
        assert one.tenure.engine is not None
        sightings = [s.seen for s in one.tenure.engine.slots.values() if s.seen is not None]
        assert sightings
        assert all(seen.at_s > seen_s for seen in sightings)
        measured = one.facts.text()
        assert b'gridplane_leader{site="lab"} 0\n' in measured
        assert b'gridplane_gate_open{site="lab"} 0\n' in measured
        # What it knows can still be read: straight from the process.
        assert one.facts.store() is not None
        line.faults.away = ""
        await _enforced(playing, one)
        assert one.elector.tenures == 2
        serving.cancel()

    play(tmp_path, act, scale=SCALE)


def test_an_intent_that_the_cluster_does_not_take_is_never_sent(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        serving = asyncio.ensure_future(one.run())
        await _adopted(playing, one)

        def refuse(call: Any) -> None:
            if call.kind is STATE_SHARD and call.writes:
                raise ClusterAway("etcd is full")

        line.faults.before = refuse
        await playing.declare(CHANGED, mode="enforce")
        await asyncio.sleep(60)
        assert one.elector.is_live()
        assert one.tenure is not None
        assert one.tenure.store.operations()
        assert not _writes(playing)
        assert b'gridplane_state_failing{site="lab"} 1\n' in one.facts.text()
        line.faults.before = None
        await _enforced(playing, one)
        serving.cancel()

    play(tmp_path, act, scale=SCALE)


def _hold_of(controller: Controller) -> Overlay | None:
    tenure = controller.tenure
    overlays = tenure.store.overlays() if tenure else ()
    return next((o for o in overlays if o.id == lost_id("lab")), None)


def test_a_site_whose_state_was_deleted_is_held_until_somebody_has_looked(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, _ = playing.controller("one")
        serving = asyncio.ensure_future(one.run())
        await _adopted(playing, one)
        await playing.declare(CHANGED, mode="enforce")
        await _enforced(playing, one)
        await asyncio.sleep(30)
        serving.cancel()
        await asyncio.wait([serving])
        page = await playing.kubectl.list_page(STATE_SHARD, namespace=NAMESPACE)
        for each in page.items[:20]:
            await playing.kubectl.delete(STATE_SHARD, each.metadata.name, namespace=NAMESPACE)
        before = _writes(playing)
        two, _ = playing.controller("two")
        serving = asyncio.ensure_future(two.run())
        await asyncio.sleep(60)
        hold = _hold_of(two)
        assert hold is not None
        assert (hold.kind, hold.node) == (OverlayKind.MAINTENANCE_HOLD, "lab")
        assert "20 of 49 parts" in hold.reason
        assert _writes(playing) == before
        serving.cancel()

    play(tmp_path, act, scale=SCALE)


def test_a_first_take_over_that_was_cut_short_is_no_lost_state(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        left = 20

        def fail(call: Any) -> None:
            nonlocal left
            if call.kind is STATE_SHARD and call.writes:
                left -= 1
                if left < 0:
                    raise ClusterAway("it dies here")

        line.faults.before = fail
        serving = asyncio.ensure_future(one.run())
        await playing.declare(FILES)
        await asyncio.sleep(20)
        serving.cancel()
        await asyncio.wait([serving])
        page = await playing.kubectl.list_page(STATE_SHARD, namespace=NAMESPACE)
        assert len(page.items) == 20
        two, _ = playing.controller("two")
        serving = asyncio.ensure_future(two.run())

        async def leads() -> bool:
            return two.tenure is not None

        await playing.until(leads)
        assert _hold_of(two) is None
        serving.cancel()

    play(tmp_path, act, scale=SCALE)


def test_a_revision_that_devices_stand_on_and_is_gone_is_asked_for(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, _ = playing.controller("one")
        serving = asyncio.ensure_future(one.run())
        name = await playing.declare(FILES)

        async def is_accepted() -> bool:
            found = await playing.get(SITE, "lab")
            status: Any = msgspec.json.decode(found.status) if found else None
            return bool(status) and status.get("acceptedRevision") == name

        await playing.until(is_accepted)
        serving.cancel()
        await asyncio.wait([serving])
        await playing.kubectl.delete(FLEET_REVISION, name, namespace=NAMESPACE)
        two, _ = playing.controller("two")
        serving = asyncio.ensure_future(two.run())

        async def is_asked() -> bool:
            told = (await playing.told(SITE, "lab")).get("Stalled", ("", "", ""))
            return told[1] == "StateNotTaken" and name[:12] in told[2]

        await playing.until(is_asked)
        await playing.declare(FILES)

        async def goes_on() -> bool:
            return two.tenure is not None and two.tenure.in_force == name

        await playing.until(goes_on)
        assert _hold_of(two) is None
        serving.cancel()

    play(tmp_path, act, scale=SCALE)


def test_a_hold_that_was_said_while_nobody_led_is_in_force_before_anything_is_written(
    tmp_path: Path,
) -> None:
    async def act(playing: Playing) -> None:
        one, line = playing.controller("one")
        serving = [asyncio.ensure_future(one.run())]
        await _adopted(playing, one)
        line.faults.away = "refused"
        line.cut()
        hold = {
            "apiVersion": OVERLAY.api_version,
            "kind": OVERLAY.kind,
            "metadata": {"name": "h-1", "namespace": NAMESPACE},
            "spec": {
                "site": "lab", "kind": "safety", "node": "lab-r1", "owner": "ann",
                "reason": "hands in it", "since": "2026-11-01T10:00:00Z",
            },
        }  # fmt: skip
        await playing.kubectl.create(OVERLAY, hold)
        await playing.declare(CHANGED, mode="enforce")
        two, _ = playing.controller("two")
        serving.append(asyncio.ensure_future(two.run()))

        async def is_in_force() -> bool:
            told = await playing.told(OVERLAY, "h-1")
            return told.get("Ready", ("",))[0] == "True"

        await playing.until(is_in_force)
        # The object is no handle on the hold: it comes back.
        await playing.kubectl.delete(OVERLAY, "h-1", namespace=NAMESPACE)
        await asyncio.sleep(200)
        assert await is_in_force()
        written = _writes(playing)
        assert written
        assert not any(asset.startswith("lab-r1-") for asset in written)
        order = {
            "apiVersion": ORDER.api_version,
            "kind": ORDER.kind,
            "metadata": {"name": "o-1", "namespace": NAMESPACE},
            "spec": {
                "site": "lab", "kind": "release", "target": "h-1", "by": "ann",
                "at": "2026-11-01T11:00:00Z",
            },
        }  # fmt: skip
        await playing.kubectl.create(ORDER, order)

        async def is_obeyed() -> bool:
            return (await playing.told(ORDER, "o-1")).get("Ready", ("",))[0] == "True"

        await playing.until(is_obeyed)
        assert await playing.get(OVERLAY, "h-1") is None
        await _enforced(playing, two)

        async def is_written() -> bool:
            return any(asset.startswith("lab-r1-") for asset in _writes(playing))

        await playing.until(is_written)
        for task in serving:
            task.cancel()

    play(tmp_path, act, scale=SCALE)


def test_what_is_said_on_the_host_is_in_force_at_once_and_at_the_next_tenure(
    tmp_path: Path,
) -> None:
    async def act(playing: Playing) -> None:
        playing.journal = tmp_path / "journal"
        playing.journal.mkdir()
        one, line = playing.controller("one")
        serving = asyncio.ensure_future(one.run())
        await _adopted(playing, one)
        line.faults.away = "silent"
        line.cut()
        hold = Overlay(
            id="h-1", kind=OverlayKind.SAFETY_HOLD, node="lab", owner="ann", reason="smoke",
            since_s=float(int(playing.stage.clock.wall_s())),
        )  # fmt: skip
        said.say(playing.journal, "lab", hold)
        await asyncio.sleep(60)
        await playing.declare(CHANGED, mode="enforce")
        line.faults.away = ""

        async def is_held() -> bool:
            return (await playing.told(OVERLAY, "h-1")).get("Ready", ("",))[0] == "True"

        await playing.until(is_held)
        await asyncio.sleep(120)
        assert one.tenure is not None
        assert one.tenure.in_force
        assert not _writes(playing)
        serving.cancel()

    play(tmp_path, act, scale=SCALE)
