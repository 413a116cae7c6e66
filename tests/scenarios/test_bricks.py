"""An image that bricks machines is stopped before it costs more than a handful."""

from __future__ import annotations

import pytest

from control_plane.core.firmware import waves_by_bundle
from tests.provision.declared import ga_macon
from tests.scenarios.bricks import SHARES, configure, play

SEEDS = 40
LOST_MAX = 10
"""Devices of one image: what the product promises for the example site."""
HARMED_MAX = 0.01
"""Of its devices by a bad configuration, likewise."""


@pytest.mark.parametrize("share", SHARES)
def test_a_bricking_image_costs_ten_machines_at_most(share: float) -> None:
    site = ga_macon().site
    losses = [
        play(waves, site.strategy, share=share, seed=seed)
        for waves in waves_by_bundle(site).values()
        for seed in range(SEEDS)
    ]
    assert all(loss.stopped for loss in losses)
    assert max(loss.lost for loss in losses) <= LOST_MAX
    if share == 1.0:
        # The first machine goes alone.
        assert {loss.lost for loss in losses} == {1}


@pytest.mark.parametrize("share", SHARES)
def test_a_bad_configuration_harms_one_device_in_a_hundred_at_most(share: float) -> None:
    site = ga_macon().site
    assets = [device.asset for device in site.devices if device.is_managed]
    losses = [configure(assets, site.strategy, share=share, seed=seed) for seed in range(400)]
    assert all(loss.stopped for loss in losses)
    assert max(loss.lost for loss in losses) <= HARMED_MAX * len(assets)
    if share == 1.0:
        assert {loss.lost for loss in losses} == {1}
