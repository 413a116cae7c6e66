"""Ctrl-C and SIGTERM: what is under way is finished or recorded, and said; a second one stops at once."""

from __future__ import annotations

import re
import signal
import time
from contextlib import closing

import pytest

from control_plane.cli.exits import Exit
from tests.cli.workshop import Workshop, wait_for

AT_ONCE_S = 3.0
"""Wall seconds: an interpreter that ends on a loaded machine, and no device is waited for."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_stopped_apply_records_what_is_under_way_and_goes_on_later(
    site: Workshop, number: signal.Signals
) -> None:
    site.declare(pool="new.example.com", limit_w=3000)
    before = site.written()
    engine = site.start("apply", "--yes", "--interval", "1")
    wait_for(lambda: site.written() > before)
    engine.signal(number)
    said = engine.end(Exit.INTERRUPTED)
    assert re.search(r"stopping: no new writes; \d+ writes? under way", said)
    assert re.search(r"stopped: \d+ writes? waits? for", said)
    with closing(site.store()) as store:
        assert store.status() is None, "the heartbeat ends with the process"
    after = site.written()
    time.sleep(0.3)
    assert site.written() == after, "nothing is written by a process that has ended"

    site.run("apply", "--yes", "--interval", "1")
    site.assert_accounted()
    site.assert_at_rest()


def test_a_second_ctrl_c_does_not_wait_for_devices(site: Workshop) -> None:
    """One that takes a connection and never answers holds what is under way for its whole deadline."""
    site.declare(limit_w=3000)
    audit = site.state / "audit.jsonl"
    size = audit.stat().st_size
    engine = site.start("apply", "--yes", "--interval", "1")
    wait_for(lambda: audit.stat().st_size > size)
    site.fault("trouble", trouble="hang")
    engine.until_said("apply mill:")
    engine.signal(signal.SIGINT)
    engine.until_said("stopping:")
    engine.signal(signal.SIGINT)
    began = time.monotonic()
    said = engine.end(Exit.INTERRUPTED)
    assert time.monotonic() - began < AT_ONCE_S
    assert "stopped at once" in said
    site.fault("clear")
    site.run("apply", "--yes", "--interval", "1")
    site.assert_accounted()
    site.assert_at_rest()


def test_run_ends_in_good_order(site: Workshop) -> None:
    engine = site.start("run", "--interval", "1")
    wait_for(lambda: site.json("status")["engine"] is not None)
    engine.signal(signal.SIGTERM)
    engine.end(Exit.OK)
    assert site.json("status")["engine"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_look_that_is_interrupted_ends_with_one_word(
    shop: Workshop, number: signal.Signals
) -> None:
    with shop.devices():
        shop.fault("trouble", trouble="hang")
        look = shop.start("observe")
        wait_for(shop.state.exists)
        time.sleep(0.5)
        look.signal(number)
        assert look.end(Exit.INTERRUPTED).endswith("interrupted\n")
