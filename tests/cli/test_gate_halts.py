"""A wave that hurts stops the rest: exit code 7, a page, and a person who lets it go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from control_plane.cli.exits import Exit
from tests.cli.workshop import TWO_WAVES, Workshop, wait_for

NEW = "stratum+tcp://new.example.com:3333"


@pytest.fixture
def site(shop: Workshop) -> Iterator[Workshop]:
    """As everywhere, with a soak that is long enough for something to happen in it."""
    with shop.devices(scale=800.0):
        shop.adopted()
        yield shop


def test_a_wave_that_costs_hash_stops_the_rollout_until_a_person_goes_on(site: Workshop) -> None:
    site.declare(pool="new.example.com", cohorts=TWO_WAVES)
    before = site.written()
    with site.running("apply", "--yes", "--interval", "1") as engine:
        wait_for(lambda: site.written() == before + 2 and not site.open_writes())
        first = sorted({write["asset"] for write in site.writes()[before:]})
        for asset in first:
            site.fault("dead_pool", target={"asset": asset})
        said = engine.end(Exit.HALTED)
    assert "page: wave 1 of 2 of rollout" in said
    assert "2 of 2 failed" in said
    assert sorted({w["asset"] for w in site.writes()[before:]}) == first, "the rest is untouched"
    status = site.run("status")
    assert "halted: wave 1 of 2" in status
    rollout = site.json("get", "rollouts")[0]["id"]
    assert f"go on with: gridplane release {rollout}" in status

    stopped = site.call("apply", "--yes", "--interval", "1")
    assert stopped.returncode == Exit.HALTED, "the same revision again is no way around it"
    assert len(site.writes()) == before + 2

    site.fault("clear")
    site.run("release", rollout, "--by", "ann")
    site.run("apply", "--yes", "--interval", "1")
    assert site.pools() == {NEW}
    site.assert_accounted()
    site.assert_at_rest()


def test_a_site_that_goes_dark_is_no_reason_for_the_next_wave(site: Workshop) -> None:
    """All fail alike, wave and control group: a gate that sees only that has seen nothing."""
    site.declare(pool="new.example.com", cohorts=TWO_WAVES)
    before = site.written()
    with site.running("apply", "--yes", "--interval", "1") as engine:
        wait_for(lambda: site.written() == before + 2 and not site.open_writes())
        site.fault("power_off")
        said = engine.end(Exit.HALTED)
    assert "page: incident i0001 on" in said
    rollout = site.json("get", "rollouts")[0]
    assert rollout["state"] in {"running", "soaking"}
    assert "gates" not in rollout or rollout["gates"] == []

    site.fault("power_on")
    site.run("apply", "--yes", "--interval", "1")
    rollout = site.json("get", "rollouts")[0]
    assert [gate["treated"] for gate in rollout["gates"]] == [2, 10], "each wave has its gate"
    assert site.pools() == {NEW}
    site.assert_accounted()
    site.assert_at_rest()
