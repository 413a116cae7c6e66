"""A process that hears what people say, beside the in-memory API server; and people with kubectl."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from control_plane.core.cluster import Kind, Object
from control_plane.core.errors import FenceLost
from control_plane.core.fleet import Site
from control_plane.core.overlay import Overlay
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.engine.records import Order
from control_plane.engine.store import Store
from control_plane.inventory.load import load, load_files
from control_plane.kube.cache import Cache
from control_plane.kube.kinds import MINER, ORDER, OVERLAY, RACK, SITE
from control_plane.kube.obeying import Obeying
from control_plane.kube.reflector import Reflector
from control_plane.kube.words import Desk, Sitting, Words
from control_plane.kube.writer import StatusWriter
from control_plane.simulator.api_client import ApiClient, Call
from control_plane.simulator.virtual import seeded
from tests.kube.running import PLACE, Around, no_bug, until
from tests.stock import ROOT

LAB = "lab"
ENGINE_S = 0.2
_FILES = dict(load(ROOT / "inventory", sites={LAB}).files[LAB])


def lab() -> Site:
    """The lab as it is declared."""
    found = load_files(_FILES, sites={LAB}).fleet
    assert found is not None
    return found.sites[LAB]


@dataclass
class Cluster:
    """What outlives a process: the API server, and what the ledger has kept in it."""

    around: Around
    kept: tuple[Overlay, ...] = ()
    remedies: tuple[NodeKept, ...] = ()
    together: SiteKept = field(default_factory=SiteKept)
    obeyed: list[Order] = field(default_factory=list)
    """Effects of orders, durable ones."""

    def __post_init__(self) -> None:
        self.kubectl = ApiClient(self.around.server, self.around.clock, manager="kubectl")

    async def say_overlay(self, name: str, **more: Any) -> Object:
        """`kubectl create` of an Overlay."""
        spec = {
            "site": LAB, "kind": "maintenance", "node": "lab-r1", "owner": "ann", "reason": "fans",
            "since": self.now(), **more,
        }  # fmt: skip
        return await self.kubectl.create(OVERLAY, body(OVERLAY, name, spec))

    async def say_order(self, name: str, kind: str, target: str, **more: Any) -> Object:
        """`kubectl create` of an Order."""
        spec = {
            "site": LAB, "kind": kind, "target": target, "by": "ann", "at": self.now(), **more,
        }  # fmt: skip
        return await self.kubectl.create(ORDER, body(ORDER, name, spec))

    async def drop(self, kind: Kind, name: str) -> None:
        """`kubectl delete`."""
        await self.kubectl.delete(kind, name, namespace=PLACE)

    def find(self, kind: Kind, name: str) -> Object | None:
        """What the server has."""
        page = self.around.server.list_page(
            kind, lambda _each: True, limit=1_000, page="", says_remaining=False
        )
        return next((each for each in page.items if each.metadata.name == name), None)

    def names(self, kind: Kind) -> set[str]:
        """All that the server has of a kind."""
        page = self.around.server.list_page(
            kind, lambda _each: True, limit=1_000, page="", says_remaining=False
        )
        return {each.metadata.name for each in page.items}

    def told(self, kind: Kind, name: str) -> dict[str, tuple[str, str, str]]:
        """Condition → (status, reason, message)."""
        found = self.find(kind, name)
        status = msgspec.json.decode(found.status) if found else None
        return {
            c["type"]: (c["status"], c["reason"], c.get("message", ""))
            for c in (status or {}).get("conditions", ())
        }

    def is_ready(self, kind: Kind, name: str) -> bool:
        """Whether an object is `Ready`."""
        return self.told(kind, name).get("Ready", ("",))[0] == "True"

    def now(self) -> str:
        """As Kubernetes writes it."""
        at = dt.datetime.fromtimestamp(self.around.clock.wall_s(), dt.UTC)
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def body(kind: Kind, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object as it is sent."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": PLACE},
        "spec": spec,
    }


class Process:
    """One leader; what it holds is lost when it ends, but for what was durable."""

    def __init__(
        self, cluster: Cluster, *, point: Callable[[str], None] = lambda _where: None
    ) -> None:
        """`point` is told of each moment around an await; it may end the process."""
        around = cluster.around
        self.cluster, self._point = cluster, point
        self.said: list[str] = []
        self.is_live = True
        self.store = Store(None)
        self.obeyed: list[Order] = []
        self.line = ApiClient(around.server, around.clock)
        self.line.faults.before = lambda call: self._around_call("before", call)
        self.line.faults.after = lambda call: self._around_call("after", call)
        caches = {
            kind.plural: Cache(kind, bug=no_bug) for kind in (OVERLAY, ORDER, SITE, RACK, MINER)
        }
        self._reflectors = [
            Reflector(self.line, cache, clock=around.clock, rng=seeded(n), bug=no_bug)
            for n, cache in enumerate(caches.values())
        ]
        self._writer = StatusWriter(
            self.line,
            caches.values(),
            manager="gridplane",
            clock=around.clock,
            rng=seeded(9),
            bug=no_bug,
            may_write=lambda: self.is_live,
        )
        desk = Desk(
            cluster=self.line,
            site=LAB,
            namespace=PLACE,
            caches=caches,
            writer=self._writer,
            clock=around.clock,
            say=lambda text, /, **_: self.said.append(text),
            is_live=lambda: self.is_live,
        )
        self.words = Words(desk)
        self.obeying = Obeying(desk, self.words)
        self.declared: Site | None = lab()
        self.leads = asyncio.Event()
        """Cleared: it looks on while another process leads."""
        self.leads.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> Process:
        """Take over, and serve."""
        self._task = asyncio.ensure_future(self._run())
        return self

    async def end(self) -> None:
        """Whatever it was doing."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        assert self._task is not None
        if self._task.done() and not self._task.cancelled():
            self._task.result()
        return not self._task.done()

    async def durable(self) -> None:
        """As the ledger does it."""
        self._point("before durable")
        await asyncio.sleep(0.05)
        if not self.is_live:
            raise FenceLost("another one leads")
        self.cluster.kept = self.store.overlays()
        self.cluster.remedies = tuple(self.store.remedies().values())
        self.cluster.together = self.store.remedy_site()
        self.cluster.obeyed += self.obeyed
        self.obeyed.clear()
        self._point("after durable")

    def holds(self) -> set[str]:
        """Ids of what is in force at its gate."""
        return {overlay.id for overlay in self.store.overlays()}

    async def _run(self) -> None:
        sitting = Sitting(store=self.store, durable=self.durable, declared=lambda: self.declared)
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())
            group.create_task(self._writer.run())
            for reflector in self._reflectors:
                await reflector.synced.wait()
            await self.leads.wait()
            for overlay in self.cluster.kept:
                self.store.put_overlay(overlay)
            self.store.put_remedies(self.cluster.remedies)
            self.store.put_remedy_site(self.cluster.together)
            await self.words.merge(self.store)
            group.create_task(self.words.serve(sitting))
            group.create_task(self.obeying.serve(sitting))
            group.create_task(self._engine())

    async def _engine(self) -> None:
        while True:
            await asyncio.sleep(ENGINE_S)
            orders = self.store.orders()
            self.obeyed += [order for _, order in orders]
            self.store.drop_orders(number for number, _ in orders)

    def _around_call(self, when: str, call: Call) -> None:
        if call.kind in (OVERLAY, ORDER) and call.verb != "watch":
            self._point(f"{when} {call.verb} of {call.kind.kind}")


async def ready(cluster: Cluster, kind: Kind, name: str) -> None:
    """Wait until an object is `Ready`."""
    await until(lambda: cluster.is_ready(kind, name), within_s=30.0)
