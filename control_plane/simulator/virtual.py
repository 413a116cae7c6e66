"""An event loop whose time is virtual: when nobody is ready it jumps to the next timer.

Unchanged asyncio code runs on it (tasks, groups, queues, timeouts), thousands of times faster than
the clock on the wall and always in the same order: tasks and futures are hashed by their number, so
that the sets inside asyncio iterate alike in every process, whatever `PYTHONHASHSEED` and memory
layout are. Nothing outside the process can be waited for: sockets, threads and subprocesses are
refused.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
L = TypeVar("L", bound="VirtualLoop")

EPOCH_S = 1_790_000_000.0
"""The calendar's moment at loop time 0: September 2026."""


class NotVirtual(RuntimeError):
    """Code under a virtual clock wanted something that only exists in real time."""


class Stalled(RuntimeError):
    """Nobody is ready and no timer is set: whoever waits would wait for ever."""


class PastHorizon(RuntimeError):
    """Virtual time passed the limit that the run was given."""


class VirtualFuture(asyncio.Future[Any]):
    """A future that hashes by number."""

    def __init__(self, *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._number = number

    def __hash__(self) -> int:
        return self._number


class VirtualTask(asyncio.Task[Any]):
    """A task that hashes by number."""

    def __init__(self, coro: Any, *, number: int, **more: Any) -> None:
        # The base class puts itself into a set before it returns.
        self._number = number
        super().__init__(coro, **more)

    def __hash__(self) -> int:
        return self._number


class _Jump:
    """Stands in for the selector: does not wait, moves the loop's clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stalled(f"nothing is left to happen at {self._loop.time():.3f} s")
        if timeout > 0:
            self._loop.jump()
        return []


class VirtualLoop(BaseEventLoop):
    """The loop. Make one per run: time starts at 0 and names start at 1."""

    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, *, horizon_s: float = float("inf")) -> None:
        """With `horizon_s` a run that passes that many seconds ends in `PastHorizon`."""
        super().__init__()
        self._now_s = 0.0
        self._horizon_s = horizon_s
        self._numbers = itertools.count(1)
        self._clock_resolution = 1e-9
        self._selector = _Jump(self)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def jump(self) -> None:
        """Move to the next timer."""
        self._now_s = max(self._now_s, self._scheduled[0].when())
        if self._now_s > self._horizon_s:
            raise PastHorizon(f"virtual time passed {self._horizon_s:g} s")

    def create_future(self) -> asyncio.Future[Any]:
        """A future with its place in the order of making."""
        return VirtualFuture(number=next(self._numbers), loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: object = None,
        context: Any = None,
    ) -> asyncio.Task[Any]:
        """A task, named by its number where nobody names it."""
        number = next(self._numbers)
        return VirtualTask(
            coro,
            number=number,
            loop=self,
            name=f"task-{number}" if name is None else str(name),
            context=context,
        )

    def _process_events(self, event_list: list[object]) -> None:
        """No events come from outside."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is one thread."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise NotVirtual("no sockets, threads or subprocesses under virtual time")

    async def _refuse_later(self, *_: object, **__: object) -> NoReturn:
        self._refuse()

    run_in_executor = _refuse
    add_reader = _refuse
    add_writer = _refuse
    add_signal_handler = _refuse
    create_connection = _refuse_later
    create_server = _refuse_later
    create_unix_connection = _refuse_later
    create_unix_server = _refuse_later
    create_datagram_endpoint = _refuse_later
    connect_accepted_socket = _refuse_later
    getaddrinfo = _refuse_later
    sock_connect = _refuse_later
    subprocess_exec = _refuse_later
    subprocess_shell = _refuse_later


class VirtualClock:
    """The port `Clock` on a virtual loop.

    Args:
        loop: whose time it is.
        scale: policy seconds per loop second; the world of the simulated devices needs the same.
        epoch_s: seconds since the epoch at loop time 0.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, scale: float = 1.0, epoch_s: float = EPOCH_S
    ) -> None:
        self._loop = loop
        self._scale = scale
        self._epoch_s = epoch_s

    def wall_s(self) -> float:
        """Policy seconds since the epoch."""
        return self._epoch_s + self._loop.time() * self._scale

    async def sleep(self, seconds: float) -> None:
        """Sleep policy seconds."""
        await asyncio.sleep(seconds / self._scale)

    def wire_s(self) -> float:
        """Loop seconds."""
        return self._loop.time()

    async def wire_sleep(self, seconds: float) -> None:
        """Sleep loop seconds."""
        await asyncio.sleep(seconds)

    def wire_of(self, policy_s: float) -> float:
        """Loop seconds of a stretch of policy time."""
        return policy_s / self._scale


def seeded(seed: int | str) -> random.Random:
    """The port `Rng`: the same numbers in every process."""
    return random.Random(seed)


def run_virtual(
    main: Callable[[L], Coroutine[Any, Any, T]],
    *,
    horizon_s: float = float("inf"),
    make: Callable[..., L] = VirtualLoop,  # type: ignore[assignment]
) -> T:
    """Run `main(loop)` to its end in virtual time, on the loop that `make` makes.

    Raises:
        Stalled: everybody waits for something that cannot come.
        PastHorizon: it did not end within `horizon_s`.
    """

    async def start() -> T:
        loop = asyncio.get_running_loop()
        return await main(loop)  # type: ignore[arg-type]

    with asyncio.Runner(loop_factory=lambda: make(horizon_s=horizon_s)) as runner:
        return runner.run(start())
