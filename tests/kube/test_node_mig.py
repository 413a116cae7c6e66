"""GPUs partitioned by NVIDIA's MIG manager: on drained nodes alone, waited for, put back if it fails."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from control_plane.core import limits
from control_plane.core.cluster import NODE
from control_plane.core.errors import FenceLost
from control_plane.core.mig import CONFIG, FAILED, GAVE_UP, PENDING, REBOOTING, STATE, SUCCESS
from control_plane.kube.node_mig import MigEnd, NodeMig
from control_plane.simulator.api_controllers import edit
from control_plane.simulator.api_server import Change
from tests.kube.nodes import REPAIR, Hall, hall, node_body

SEVEN, WHOLE = "all-1g.18gb", "all-disabled"


class MigManager:
    """Answers a change of its label, after a while; knows which profiles the GPUs can do."""

    def __init__(
        self, h: Hall, *, takes_s: float = 60.0, refuses: frozenset[str] = frozenset()
    ) -> None:
        self.h, self.takes_s, self.refuses = h, takes_s, refuses
        self.asked: list[str] = []
        self._last = WHOLE
        h.server.hears.append(self._hear)

    def _hear(self, change: Change) -> None:
        if change.kind != NODE or change.after is None:
            return
        config = change.after.metadata.labels.get(CONFIG, "")
        if config != self._last:
            self._last = config
            self.asked.append(config)
            loop = asyncio.get_running_loop()
            loop.call_later(5.0, lambda: self._say(REBOOTING))
            end = FAILED if config in self.refuses else SUCCESS
            loop.call_later(self.takes_s, lambda: self._say(end))

    def _say(self, word: str) -> None:
        def change(body: Any) -> None:
            body["metadata"]["labels"][STATE] = word

        edit(self.h.server, NODE, "n1", change, manager="mig-manager")


async def drained(h: Hall) -> None:
    labels = {CONFIG: WHOLE, STATE: SUCCESS}
    await h.client.create(NODE, node_body("n1", labels=labels))
    await h.hold()


def mig(h: Hall, profile: str = SEVEN) -> NodeMig:
    from control_plane.simulator.virtual import seeded

    return NodeMig(
        h.client, "n1", profile, by=REPAIR, clock=h.clock, rng=seeded("mig"),
        may_write=lambda: h.leads,
    )  # fmt: skip


def test_it_is_asked_for_and_waited_for() -> None:
    async def case(h: Hall) -> None:
        await drained(h)
        manager = MigManager(h, takes_s=600.0)
        began_s = h.clock.wall_s()
        done = await mig(h).run()
        assert done.end is MigEnd.DONE
        assert h.clock.wall_s() - began_s >= 600.0, (
            "the success of before is not taken for this one"
        )
        labels = h.node().labels
        assert (labels[CONFIG], labels[STATE]) == (SEVEN, SUCCESS)
        assert not [name for name in h.node().annotations if "mig" in name]
        assert (await mig(h).run()).end is MigEnd.DONE
        assert manager.asked == [SEVEN]

    hall(case)


@pytest.mark.parametrize("why", ["pod", "hold", "another"])
def test_a_node_that_is_not_drained_is_left_alone(why: str) -> None:
    async def case(h: Hall) -> None:
        await drained(h)
        if why == "pod":
            await h.pod("p1")
        else:
            await h.holds().release("n1", by=REPAIR)
        if why == "another":
            await h.hold(by="curtailment")
        assert (await mig(h).run()).end is MigEnd.NOT_DRAINED
        assert h.node().labels[CONFIG] == WHOLE

    hall(case)


def test_what_fails_is_put_back_and_not_asked_for_again() -> None:
    async def case(h: Hall) -> None:
        await drained(h)
        manager = MigManager(h, refuses=frozenset({SEVEN}))
        done = await mig(h).run()
        assert done.end is MigEnd.FAILED
        assert WHOLE in done.detail
        assert h.node().labels[CONFIG] == WHOLE
        await asyncio.sleep(120.0)
        assert h.node().labels[STATE] == SUCCESS, "the old one stands again"
        assert (await mig(h).run()).end is MigEnd.FAILED
        assert manager.asked == [SEVEN, WHOLE]
        assert h.node().annotations[GAVE_UP] == SEVEN
        # Another profile is another matter.
        assert (await mig(h, "all-3g.71gb").run()).end is MigEnd.DONE

    hall(case)


def test_without_a_manager_it_ends_at_its_deadline() -> None:
    async def case(h: Hall) -> None:
        await drained(h)
        began_s = h.clock.wall_s()
        done = await mig(h).run()
        assert done.end is MigEnd.FAILED
        assert PENDING in done.detail
        assert limits.MIG_LASTS_S <= h.clock.wall_s() - began_s < limits.MIG_LASTS_S + 30.0
        assert h.node().labels[CONFIG] == WHOLE

    hall(case)


def test_who_goes_on_after_a_crash_asks_once() -> None:
    async def case(h: Hall) -> None:
        await drained(h)
        manager = MigManager(h, takes_s=300.0)
        for _ in range(3):
            running = asyncio.ensure_future(mig(h).run())
            await asyncio.sleep(60.0)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        assert (await mig(h).run()).end is MigEnd.DONE
        assert manager.asked == [SEVEN]

    hall(case)


def test_without_the_fence_or_a_node_nothing_is_asked() -> None:
    async def case(h: Hall) -> None:
        assert (await mig(h).run()).end is MigEnd.UNKNOWN
        await drained(h)
        h.leads = False
        with pytest.raises(FenceLost):
            await mig(h).run()
        assert h.node().labels[CONFIG] == WHOLE

    hall(case)
