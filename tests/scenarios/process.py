"""One process that acts on the site, as the operating system sees it: it can be killed at any moment.

Its ports are the real ones with a watch on them. A *side effect* is what the world keeps: a commit
that changed the Store, or bytes that went out to a device. Each can be the last thing it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from control_plane.core.change import Capabilities, Change, Outcome
from control_plane.core.errors import ControlPlaneError, Unreachable
from control_plane.core.observation import Depth, Identity, Observation
from control_plane.core.ports import Clock, Connection, Driver, Net, Permit, Rng, Target
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.core.verify import Operation, Stage
from control_plane.drivers.registry import all_capabilities, make_drivers
from control_plane.engine.audit import AuditFile
from control_plane.engine.edges import Edges
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from tests.scenarios.declared import SECRETS


class Killed(BaseException):
    """The process does not exist any more; no `except` of its code sees this coming."""


class Acting(NamedTuple):
    """Who writes to which asset, as far as the sender means it."""

    process: Process
    asset: str
    change: Change


ACTING: ContextVar[Acting | None] = ContextVar("acting", default=None)
"""Set while a driver's `apply` runs; the bytes that it sends carry it to the device."""


class Watch(Protocol):
    """Who is told what processes do."""

    def told(self, process: Process, seen: Observation, address: str) -> None:
        """A look at an address came back."""

    def silent(self, process: Process, asset: str) -> None:
        """A look got no answer."""

    def intended(self, process: Process, operation: Operation) -> None:
        """An intent is durable."""

    def moved(self, process: Process, operation: Operation) -> None:
        """A later stage of an operation is durable."""

    def sending(self, process: Process, asset: str, change: Change) -> None:
        """A driver was told to write."""

    def answered(self, process: Process, asset: str, outcome: Outcome) -> None:
        """What the driver made of what the device said, or did not say."""

    def noted(self, process: Process, event: Event) -> None:
        """An event of the engine is durable."""


class Process:
    """Whoever acts on devices, made for each start."""

    def __init__(self, name: str, watch: Watch) -> None:
        self.name = name
        self.watch = watch
        self.alive = True
        self.effects: list[str] = []
        """What it has done to the world."""
        self.kill_at: tuple[int, bool] | None = None
        """(number of the side effect, whether it still happens)."""
        self.task: asyncio.Task[Any] | None = None
        self.epoch = 0

    def check(self) -> None:
        """Nothing happens in a process that was killed."""
        if not self.alive:
            raise Killed(self.name)


class EngineProcess(Process):
    """`run` or `apply`; what it leaves is in the Store."""

    def __init__(self, name: str, *, store: Path, net: Net, clock: Clock, rng: Rng, watch: Watch):
        super().__init__(name, watch)
        self.failing: Callable[[], bool] = lambda: False
        """Whether the disk is full at a commit."""
        self.store = WatchedStore(store, self)
        self.audit = WatchedAudit(self)
        drivers = make_drivers(_WatchedNet(self, net), clock)
        self.edges = Edges(
            clock=clock,
            rng=rng,
            secrets=Secrets(),
            drivers={family: WatchedDriver(self, d) for family, d in drivers.items()},
            capabilities=all_capabilities(),
        )

    def kill(self) -> None:
        """End it at once; what it had sent is on its way all the same."""
        if self.alive:
            self.alive = False
            if self.task is not None:
                self.task.cancel()

    def effect(self, what: str, *, done: Callable[[Callable[[], None]], object]) -> None:
        """Count a side effect that is about to happen; `done` runs a callable right after it."""
        self.check()
        self.effects.append(what)
        if self.kill_at is None or self.kill_at[0] != len(self.effects):
            return
        if self.kill_at[1]:
            done(self.kill)
            return
        self.kill()
        raise Killed(self.name)


class WatchedStore(Store):
    """The real Store on a file of its own connection."""

    def __init__(self, path: Path, process: EngineProcess) -> None:
        self._process: EngineProcess | None = None
        self._fresh: list[Operation] = []
        self._events: list[Event] = []
        self._known: set[str] = set()
        super().__init__(path)
        # A simulated crash ends the process, not the machine: pages need not reach the disk.
        self._db.execute("PRAGMA synchronous = OFF")
        self._process = process

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        process = self._process
        if process is None or self._db.in_transaction:
            with super().transaction() as db:
                yield db
            return
        process.check()
        after: list[Callable[[], None]] = []
        before = self._db.total_changes
        self._fresh, self._events = [], []
        with super().transaction() as db:
            yield db
            if db.total_changes != before:
                process.effect("commit", done=after.append)
                if process.failing():
                    raise sqlite3.OperationalError("database or disk is full")
        self._publish(process)
        for act in after:
            act()
        process.check()

    def _publish(self, process: Process) -> None:
        for operation in self._fresh:
            if not self._rows("SELECT 1 FROM operation WHERE id = ?", (operation.id,)):
                continue
            if operation.id not in self._known and operation.stage is Stage.SENT:
                process.watch.intended(process, operation)
            else:
                process.watch.moved(process, operation)
            self._known.add(operation.id)
        for event in self._events:
            process.watch.noted(process, event)
        self._fresh, self._events = [], []

    def put_operations(self, operations: Iterable[Operation]) -> None:
        operations = list(operations)
        self._fresh += operations
        super().put_operations(operations)

    def open_operations(self) -> list[Operation]:
        found = super().open_operations()
        self._known.update(operation.id for operation in found)
        return found

    def put_events(self, events: Iterable[Event]) -> None:
        events = list(events)
        self._events += events
        super().put_events(events)

    def _rows(self, sql: str, args: Any = ()) -> list[tuple[bytes, ...]]:
        if self._process is not None:
            self._process.check()
        return super()._rows(sql, args)


class WatchedAudit(AuditFile):
    """Keeps the records in memory: what it is for is tested elsewhere."""

    def __init__(self, process: EngineProcess) -> None:
        self._process = process
        self.kept: list[Mapping[str, object]] = []

    def append(self, records: Iterable[Mapping[str, object]]) -> None:
        self._process.check()
        self.kept += records


class Secrets:
    """The passwords of the site's families."""

    def resolve(self, ref: str) -> Secret:
        return Secret(SECRETS[ref])


class _WatchedNet:
    def __init__(self, process: EngineProcess, net: Net) -> None:
        self._process, self._net = process, net

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> Connection:
        self._process.check()
        opened = await self._net.connect(address, port, deadline_s=deadline_s, tls=tls)
        self._process.check()
        return _WatchedConnection(self._process, opened)


class _WatchedConnection:
    def __init__(self, process: EngineProcess, connection: Connection) -> None:
        self._process, self._connection = process, connection

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        # Right after: once this step of the task has handed the bytes over.
        loop = asyncio.get_running_loop()
        self._process.effect("send" if ACTING.get() is None else "write", done=loop.call_soon)
        reply = await self._connection.request(
            payload, complete=complete, deadline_s=deadline_s, max_bytes=max_bytes
        )
        self._process.check()
        return reply

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        self._process.effect("write", done=asyncio.get_running_loop().call_soon)
        await self._connection.send(pieces, deadline_s=deadline_s)
        self._process.check()

    def close(self) -> None:
        self._connection.close()


class WatchedDriver:
    """Tells the oracle what a driver is asked for and told."""

    def __init__(self, process: Process, driver: Driver) -> None:
        self._process, self._driver = process, driver

    @property
    def capabilities(self) -> Capabilities:
        return self._driver.capabilities

    async def identify(self, target: Target) -> Identity:
        return await self._driver.identify(target)

    async def observe(self, target: Target, depth: Depth) -> Observation:
        try:
            seen = await self._driver.observe(target, depth)
        except Unreachable:
            self._process.watch.silent(self._process, target.asset)
            raise
        self._process.check()
        self._process.watch.told(self._process, seen, target.address)
        return seen

    async def apply(self, target: Target, change: Change, permit: Permit) -> Outcome:
        # One that was killed in front of this call is resumed once more, to be buried.
        self._process.check()
        self._process.watch.sending(self._process, target.asset, change)
        token = ACTING.set(Acting(self._process, target.asset, change))
        try:
            outcome = await self._driver.apply(target, change, permit)
        finally:
            ACTING.reset(token)
        self._process.check()
        self._process.watch.answered(self._process, target.asset, outcome)
        return outcome


QUIET: tuple[type[BaseException], ...] = (ControlPlaneError, Killed, asyncio.CancelledError)
"""How a process may end."""


def ended_well(error: BaseException | None) -> bool:
    """Whether a process ended in a way that it is meant to be able to end in."""
    if isinstance(error, BaseExceptionGroup):
        return all(ended_well(one) for one in error.exceptions)
    return error is None or isinstance(error, QUIET)
