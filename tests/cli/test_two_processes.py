"""One process acts on a site; what others say reaches it through the state folder, within two seconds."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from control_plane.cli.exits import Exit
from control_plane.core import limits
from tests.cli.workshop import FOREIGN, SCALE, Workshop, wait_for

MANY = 40
REASON = ("--reason", "hands in the rack")


def _heard(shop: Workshop) -> bool:
    return shop.json("status")["engine"] is not None


def _latest_s(shop: Workshop, rack: str) -> float:
    """Device time of the last write to a rack; minus infinity without one."""
    found = [w["at_device_s"] for w in shop.writes() if w["rack"] == rack]
    return max(found, default=float("-inf"))


def test_who_runs_acts_and_an_apply_beside_it_follows(site: Workshop) -> None:
    with site.running("run", "--interval", "1"):
        wait_for(lambda: _heard(site))
        assert "acts on mill already" in site.refused("run")
        site.declare(pool="new.example.com", limit_w=None)
        done = site.call("apply", "--yes", "--interval", "1")
        assert done.returncode == Exit.OK, done.stderr
        assert "(run) acts on mill and takes the revision over" in done.stderr
        assert site.pools() == {"stratum+tcp://new.example.com:3333"}
        with closing(site.store()) as store:
            assert {o.epoch for o in store.operations(limit=100)} == {store.epoch()}, (
                "the one that runs wrote everything"
            )
        site.declare(pool="newer.example.com", limit_w=None)
        assert site.call("apply", "--yes", "--no-wait").returncode == Exit.OK
        assert site.pools() != {"stratum+tcp://newer.example.com:3333"}, "it did not wait"
        wait_for(lambda: site.pools() == {"stratum+tcp://newer.example.com:3333"})
        wait_for(lambda: not site.open_writes())
    site.assert_accounted()


def test_the_one_who_follows_is_told_when_the_other_dies(site: Workshop) -> None:
    with site.running("run", "--interval", "1") as engine:
        wait_for(lambda: _heard(site))
        site.declare(pool="new.example.com", limit_w=None, cohorts=("1", "3", "6"))
        follower = site.start("apply", "--yes", "--interval", "1")
        follower.until_said("takes the revision over")
        engine.kill()
        assert site.json("status")["engine"] is None, (
            "a dead process is not taken for a running one"
        )
        said = follower.end(Exit.REFUSED)
        assert "has gone; the revision is accepted" in said


@pytest.fixture
def busy(shop: Workshop) -> Workshop:
    """Two racks, one write at a time in each, and no wave to wait for: an apply takes a while."""
    shop.declare(antminers=MANY, whatsminers=MANY, limit_w=None, cohorts=("80",), in_flight=2)
    return shop


def test_a_hold_from_another_process_is_in_force_within_two_seconds(busy: Workshop) -> None:
    with busy.devices():
        busy.adopted()
        busy.declare(
            antminers=MANY, whatsminers=MANY, limit_w=None, cohorts=("80",), in_flight=2,
            pool="new.example.com",
        )  # fmt: skip
        with busy.running("apply", "--yes", "--interval", "1") as engine:
            wait_for(lambda: _latest_s(busy, "a01") > 0)
            busy.run("hold", "pdu-1", "--kind", "safety", "--by", "ann", *REASON)
            held_s = busy.device_s()
            time.sleep(limits.HOLD_EFFECT_S)
            other_s = _latest_s(busy, "w01")
            time.sleep(1.0)
            late_s = (_latest_s(busy, "a01") - held_s) / SCALE
            assert late_s <= limits.HOLD_EFFECT_S, f"a write {late_s:.2f} s after the hold"
            assert len(busy.pools("a01")) > 1, "the hold came in the middle"
            assert _latest_s(busy, "w01") > other_s, "beside it, work goes on"

            engine.kill()
        with busy.running("apply", "--yes", "--interval", "1") as engine:
            wait_for(lambda: _latest_s(busy, "w01") > busy.device_s() - 1.0 * SCALE)
            assert (_latest_s(busy, "a01") - held_s) / SCALE <= limits.HOLD_EFFECT_S, (
                "it survives a restart of the engine"
            )
            said = busy.refused("release", "h0001", "--by", "bob")
            assert "only ann releases it" in said
            busy.run("release", "h0001", "--by", "ann")
            wait_for(lambda: _latest_s(busy, "a01") > held_s + limits.HOLD_EFFECT_S * SCALE)
            busy.run("freeze", "--by", "bob", *REASON)
            frozen_s = busy.device_s()
            time.sleep(limits.HOLD_EFFECT_S + 1.0)
            last_s = max(_latest_s(busy, "a01"), _latest_s(busy, "w01"))
            assert (last_s - frozen_s) / SCALE <= limits.HOLD_EFFECT_S
            engine.kill()
        busy.assert_chain()


def test_an_expired_maintenance_hold_pages_and_holds_on(site: Workshop) -> None:
    site.run("hold", "a01", "--kind", "maintenance", "--ttl", "30m", "--by", "bob", *REASON)
    site.fault("hijack", target={"rack": "a01"})
    site.fault("hijack", target={"rack": "w01"})
    with site.running("run", "--interval", "1") as engine:
        engine.until_said("page: maintenance hold of bob on a01 has expired and still holds")
        wait_for(lambda: FOREIGN not in site.pools("w01"))
        assert site.pools("a01") == {FOREIGN}
        assert "EXPIRED" in site.run("status")
        site.run("release", "h0001", "--by", "carol")
        wait_for(lambda: FOREIGN not in site.pools())


def test_a_hold_needs_nothing_else_up(shop: Workshop) -> None:
    """No devices, no engine, and not even an inventory that loads."""
    shop.run("plan", "--no-look")
    (shop.folder / "inventory" / "sites" / "mill" / "power.yaml").write_text("nodes: [")
    said = shop.call("hold", "a01", "--kind", "safety", "--by", "ann", *REASON)
    assert said.returncode == Exit.OK
    assert "in force now" in said.stdout
    assert "cannot be read" in said.stderr
    assert shop.json("get", "holds")[0]["node"] == "a01"
