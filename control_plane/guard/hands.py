"""Lowers machines: one at a time each, many at once; each is looked at before and after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from control_plane.core import limits
from control_plane.core.change import Applied, Change, InProgress, SetPowerMode, StopMining
from control_plane.core.diff import permitted_w
from control_plane.core.errors import ControlPlaneError
from control_plane.core.fleet import DeviceType
from control_plane.core.guard_bundle import Rung
from control_plane.core.guard_state import Order
from control_plane.core.observation import Depth, Settings
from control_plane.core.ports import Clock, Driver, Secrets, Target
from control_plane.core.power import TOLERANCE_W
from control_plane.core.secret import Secret
from control_plane.engine.bugs import in_words
from control_plane.engine.log import Say
from control_plane.guard.given import Way


class Reach(NamedTuple):
    """How a machine is reached at this moment, and until when nobody may touch it."""

    way: Way
    kind: DeviceType
    locked_until_s: float


class Tells(Protocol):
    """Whoever gave the orders."""

    def reach(self, asset: str) -> Reach | None:
        """How it is reached now; `None`: not any more."""
        ...

    def done(self, asset: str, power_w: float, *, was_so: bool) -> None:
        """It may draw so much and no more."""
        ...

    def failed(self, asset: str) -> None:
        """Nothing was sent, or nothing came of it."""
        ...


def change_to(rung: Rung, kind: DeviceType, settings: Settings) -> Change | None:
    """The write that leads down to a rung; `None` where the settings permit no more than it already.

    A mode is asked of a machine alone whose settings are known and permit more: of one that sleeps it would
    be a raise, and of one that nobody understands it may be. Those are stopped.
    """
    is_known = settings.mining is not None and settings.power_mode is not None
    if settings.mining is False or (
        is_known and permitted_w(kind, settings) <= rung.power_w + TOLERANCE_W
    ):
        return None
    if rung.mode is None or not is_known:
        return StopMining()
    return SetPowerMode(power_mode=rung.mode)


class Hands:
    """The guard's."""

    def __init__(
        self,
        drivers: Mapping[str, Driver],
        secrets: Secrets,
        *,
        clock: Clock,
        now_s: Callable[[], float],
        tells: Tells,
        say: Say,
    ) -> None:
        """Nothing is sent before `give`.

        Args:
            drivers: by family.
            secrets: where passwords are, on this host.
            clock: the clock.
            now_s: the guard's time, which never goes back.
            tells: asked how machines are reached, right before anything leaves, and told what came of it.
            say: told of what a person should know.
        """
        self._drivers, self._secrets, self._clock = drivers, secrets, clock
        self._now_s, self._tells, self._say = now_s, tells, say
        self._room = asyncio.Semaphore(limits.GUARD_CONCURRENCY)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._next: dict[str, Order] = {}

    def give(self, order: Order) -> None:
        """Have a machine lowered; behind what is under way to it, and in place of what waits."""
        self._next[order.asset] = order
        task = self._tasks.get(order.asset)
        if task is None or task.done():
            self._tasks[order.asset] = asyncio.ensure_future(self._work(order.asset))

    async def close(self) -> None:
        """Let go; what has left has left."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, asset: str) -> None:
        while (order := self._next.pop(asset, None)) is not None:
            try:
                await self._lower(order)
            except ControlPlaneError as error:
                self._failed(asset, str(error))
            except Exception as bug:  # noqa: BLE001 - the bug of one family is not the others' trouble
                self._failed(asset, f"a bug: {in_words(bug)}")

    def _failed(self, asset: str, why: str) -> None:
        self._tells.failed(asset)
        self._say(f"{asset} was not lowered: {why}", kind="guard", level="warning", asset=asset)

    async def _lower(self, order: Order) -> None:
        async with self._room:
            reach = self._tells.reach(order.asset)
            if reach is None:
                return
            driver = self._drivers.get(reach.way.family)
            if driver is None:
                self._failed(order.asset, f"nothing here speaks {reach.way.family}")
                return
            target = self._target(order.asset, reach.way)
            seen = await driver.observe(target, Depth.FULL)
            change = change_to(order.rung, reach.kind, seen.settings)
            if change is None:
                self._tells.done(order.asset, order.rung.power_w, was_so=True)
                return

            def permit() -> str | None:
                now = self._tells.reach(order.asset)
                if now is None or now.way != reach.way:
                    return "it is not what it was"
                return "it is locked" if self._now_s() < now.locked_until_s else None

            outcome = await driver.apply(target, change, permit)
        if not isinstance(outcome, Applied | InProgress):
            self._failed(order.asset, outcome.reason)
            return
        if isinstance(outcome, InProgress):
            await self._clock.sleep(outcome.check_after_s)
        async with self._room:
            after = await driver.observe(target, Depth.FULL)
        if change_to(order.rung, reach.kind, after.settings) is None:
            self._tells.done(order.asset, order.rung.power_w, was_so=False)

    def _target(self, asset: str, way: Way) -> Target:
        return Target(
            asset=asset,
            address=way.address,
            user=way.user,
            password=self._secrets.resolve(way.secret_ref) if way.secret_ref else Secret(""),
            pin=way.pin,
            write_enabled=way.write_enabled,
        )
