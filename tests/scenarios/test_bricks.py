"""An image that bricks machines is stopped before it costs more than a handful."""

from __future__ import annotations

import pytest

from control_plane.core.firmware import waves_by_bundle
from tests.provision.declared import ga_macon
from tests.scenarios.bricks import SHARES, play

SEEDS = 40
LOST_MAX = 10
"""Devices of one image: what the product promises for the example site."""


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
