"""Lowers machines: one write to a machine at a time, many machines at once, and a look at what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from control_plane.core import limits
from control_plane.core.change import Applied, Change, InProgress, SetPowerMode, StopMining
from control_plane.core.errors import ControlPlaneError
from control_plane.core.guard import Order
from control_plane.core.guard_bundle import Rung
from control_plane.core.observation import Depth, Settings
from control_plane.core.ports import Clock, Driver, Secrets, Target
from control_plane.core.secret import Secret
from control_plane.engine.bugs import in_words
from control_plane.engine.log import Say
from control_plane.guard.given import Way


def change_of(rung: Rung) -> Change:
    """The write that leads to a rung; the guard knows no others."""
    return StopMining() if rung.mode is None else SetPowerMode(power_mode=rung.mode)


def is_at(rung: Rung, settings: Settings) -> bool:
    """Whether a machine's settings permit no more than a rung."""
    if settings.mining is False:
        return True
    return rung.mode is not None and settings.power_mode == rung.mode


class Hands:
    """The guard's."""

    def __init__(
        self,
        drivers: Mapping[str, Driver],
        secrets: Secrets,
        *,
        clock: Clock,
        done: Callable[[str], None],
        say: Say,
    ) -> None:
        """Nothing is sent before `give`.

        Args:
            drivers: by family.
            secrets: where passwords are, on this host.
            clock: the clock.
            done: told of each machine that was read back as it was told to be.
            say: told of what a person should know.
        """
        self._drivers, self._secrets, self._clock = drivers, secrets, clock
        self._done, self._say = done, say
        self._room = asyncio.Semaphore(limits.GUARD_CONCURRENCY)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._next: dict[str, tuple[Order, Way, float]] = {}

    def give(self, order: Order, way: Way | None, *, locked_until_s: float) -> None:
        """Have a machine lowered; behind what is under way to it, and in place of what waits."""
        if way is None:
            return
        self._next[order.asset] = (order, way, locked_until_s)
        if order.asset not in self._tasks:
            task = asyncio.ensure_future(self._work(order.asset))
            self._tasks[order.asset] = task
            task.add_done_callback(lambda _: self._tasks.pop(order.asset, None))

    async def close(self) -> None:
        """Let go; what has left has left."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, asset: str) -> None:
        while asset in self._next:
            order, way, locked_until_s = self._next.pop(asset)
            async with self._room:
                try:
                    await self._lower(order, way, locked_until_s)
                except ControlPlaneError as error:
                    self._say(f"{asset}: {error}", kind="guard", level="warning", asset=asset)
                except Exception as bug:  # noqa: BLE001 - the bug of one family is not the others' trouble
                    words = f"{asset}: a bug: {in_words(bug)}"
                    self._say(words, kind="guard", level="error", asset=asset)

    async def _lower(self, order: Order, way: Way, locked_until_s: float) -> None:
        driver = self._drivers.get(way.family)
        if driver is None:
            words = f"{order.asset} speaks {way.family}, and nothing here does"
            self._say(words, kind="guard", level="error", asset=order.asset)
            return
        target = Target(
            asset=order.asset,
            address=way.address,
            user=way.user,
            password=self._secrets.resolve(way.secret_ref) if way.secret_ref else Secret(""),
            pin=way.pin,
            write_enabled=way.write_enabled,
        )

        def permit() -> str | None:
            return "it is locked" if self._clock.wall_s() < locked_until_s else None

        outcome = await driver.apply(target, change_of(order.rung), permit)
        if not isinstance(outcome, Applied | InProgress):
            self._say(
                f"{order.asset} was not lowered: {outcome.reason}",
                kind="guard", level="warning", asset=order.asset,
            )  # fmt: skip
            return
        if isinstance(outcome, InProgress):
            await self._clock.sleep(outcome.check_after_s)
        seen = await driver.observe(target, Depth.FULL)
        if is_at(order.rung, seen.settings):
            self._done(order.asset)
