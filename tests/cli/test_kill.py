"""kill -9 at any moment of an apply, then start again: nothing is lost, nothing is sent twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cli.workshop import REBOOTS, TWO_WAVES, Running, Workshop, wait_for
from tests.conftest import PROFILE

KILLS = 3
SEEDS = 100 if PROFILE == "campaign" else 4
TOGETHER = 4
"""Sites at once: most of an apply is waiting for machines."""


def _at_a_write(shop: Workshop, engine: Running, rng: random.Random) -> None:
    """A write has just reached a device: what came of it is not recorded yet."""
    count = shop.written() + rng.randint(1, 4)
    wait_for(lambda: shop.written() >= count or engine.process.poll() is not None)


def _at_an_intent(shop: Workshop, engine: Running, rng: random.Random) -> None:
    """An intent has just become durable: it is not sent yet."""
    audit = shop.state / "audit.jsonl"
    size = audit.stat().st_size + rng.randint(1, 2_000)
    wait_for(lambda: audit.stat().st_size >= size or engine.process.poll() is not None)


def _at_a_time(shop: Workshop, engine: Running, rng: random.Random) -> None:
    """Any moment: opening the Store, looking, accepting, writing, waiting, soaking."""
    del shop, engine
    time.sleep(rng.uniform(0.2, 4.0))


MOMENTS: Mapping[str, Callable[[Workshop, Running, random.Random], None]] = {
    "intent": _at_an_intent,
    "time": _at_a_time,
    "write": _at_a_write,
}


def test_killed_at_any_moment_an_apply_goes_on_where_it_was(tmp_path: Path) -> None:
    with ThreadPoolExecutor(TOGETHER) as pool:
        folders = [tmp_path / f"seed-{seed}" for seed in range(SEEDS)]
        left_open = list(pool.map(_killed_and_started_again, folders))
    assert sum(left_open), "no kill left a write open: the moments prove nothing"


def _killed_and_started_again(folder: Path) -> int:
    """How many writes the kills left open."""
    rng = random.Random(folder.name)
    folder.mkdir()
    shop = Workshop(folder)
    shop.declare(cohorts=TWO_WAVES)
    left_open = 0
    with shop.devices():
        shop.adopted()
        shop.declare(pool="new.example.com", limit_w=3000, cohorts=TWO_WAVES)
        for _ in range(KILLS):
            engine = shop.start("apply", "--yes", "--interval", "1")
            MOMENTS[rng.choice(sorted(MOMENTS))](shop, engine, rng)
            engine.kill()
            open_now = shop.open_writes()
            assert len(open_now) == len(set(open_now)), "at most one open write of a device"
            left_open += len(open_now)
        shop.run("apply", "--yes", "--interval", "1")
        shop.assert_accounted()
        shop.assert_at_rest()
        assert shop.pools() == {"stratum+tcp://new.example.com:3333"}
    return left_open


def test_what_was_meant_and_never_sent_is_meant_anew(site: Workshop) -> None:
    """Killed before the write leaves: the old intent is closed unsent, a new one brings the write."""
    site.declare(limit_w=3000)
    engine = site.start("apply", "--yes", "--interval", "1")
    wait_for(site.intents)
    engine.kill()
    before = Counter(asset for (asset, _), found in site.intents().items() for _ in found)
    site.run("apply", "--yes", "--interval", "1")
    site.assert_accounted()
    site.assert_at_rest()
    sent = Counter(write["asset"] for write in site.writes() if write["kind"] in REBOOTS)
    assert set(sent) == set(site.truth()) - {a for a in site.truth() if a.startswith("a01")}
    for (asset, _), found in site.intents().items():
        assert sent[asset] == 1, "each was rebooted once"
        assert len(found) <= before[asset] + 1
