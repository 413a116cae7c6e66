"""The parts of the runtime beside the in-memory API server, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from control_plane.core.cluster import Kind, Object
from control_plane.kube.cache import Cache
from control_plane.kube.reflector import Reflector
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual, seeded

MINERS = Kind(group="gridplane.dev", version="v1alpha1", kind="Miner", plural="miners")
PLACE = "site"
HORIZON_S = 100_000.0
P = ParamSpec("P")
T = TypeVar("T")


def miner(name: str, slot: int = 1, **meta: Any) -> dict[str, Any]:
    """A miner as it is sent."""
    return {
        "apiVersion": MINERS.api_version,
        "kind": MINERS.kind,
        "metadata": {"name": name, "namespace": PLACE, **meta},
        "spec": {"slot": slot},
    }


async def inline(function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """Instead of a thread, of which virtual time knows nothing."""
    return function(*arguments, **named)


def no_bug(whose: str, words: str) -> None:
    """Most tests are about code without bugs."""
    raise AssertionError(f"{whose}: {words}")


@dataclass(kw_only=True)
class Around:
    """A server, one client of it, and what keeps time."""

    loop: VirtualLoop
    clock: VirtualClock
    server: ApiServer
    client: ApiClient
    bugs: list[tuple[str, str]] = field(default_factory=list)

    def note_bug(self, whose: str, words: str) -> None:
        """For tests with a bug in them."""
        self.bugs.append((whose, words))

    def reflector(self, cache: Cache, seed: int = 0) -> Reflector:
        """Of the cache's kind."""
        return Reflector(self.client, cache, clock=self.clock, rng=seeded(seed), bug=no_bug)

    def put(self, name: str, slot: int = 1) -> Object:
        """Somebody else sets a miner."""
        return self.server.apply(
            MINERS, miner(name, slot), manager="somebody", force=True, subresource=""
        )

    def drop(self, name: str) -> None:
        """Somebody else deletes a miner."""
        self.server.delete(MINERS, f"{PLACE}/{name}")

    def there(self) -> dict[str, Object]:
        """What the server has."""
        page = self.server.list_page(
            MINERS, lambda _each: True, limit=1_000_000, page="", says_remaining=False
        )
        return {each.key: each for each in page.items}

    async def until(self, what: Callable[[], bool], *, within_s: float = 600.0) -> None:
        """Wait until something holds."""
        await until(what, within_s=within_s)


async def until(what: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait until something holds."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + within_s
    while not what():
        assert loop.time() < end_s, "it did not come to that"
        await asyncio.sleep(0.05)


def around(case: Callable[[Around], Coroutine[Any, Any, None]], *, scale: float = 1.0) -> None:
    """Run a case in virtual time; `scale` is policy seconds per second."""

    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop, scale=scale)
        server = ApiServer(clock)
        await case(Around(loop=loop, clock=clock, server=server, client=ApiClient(server, clock)))

    run_virtual(main, horizon_s=HORIZON_S)


@contextlib.asynccontextmanager
async def beside(*runs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run what never ends while the body does; what it raises fails the test."""
    tasks = [asyncio.ensure_future(run) for run in runs]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Told:
    """What handlers were told, and the objects that follow from it."""

    def __init__(self, cache: Cache) -> None:
        self.all: list[tuple[Object | None, Object | None]] = []
        self.objects: dict[str, Object] = {}
        cache.tell(self)

    def __call__(self, old: Object | None, new: Object | None) -> None:
        self.all.append((old, new))
        key = (new or old or Object()).key
        assert self.objects.get(key) == old, "what was is what was told before"
        if new is None:
            del self.objects[key]
        else:
            self.objects[key] = new
