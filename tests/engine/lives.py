"""Processes that die at a step of a rotation: nothing becomes durable after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from control_plane.core.change import Outcome
from control_plane.core.errors import StoreError
from control_plane.core.fleet import Site, StaticNetwork
from control_plane.core.ports import Permit, Secrets, Target
from control_plane.core.secret import Secret
from control_plane.drivers.antminer import AntminerDriver
from control_plane.drivers.registry import all_capabilities, make_drivers
from control_plane.engine.edges import Edges
from control_plane.engine.loop import Engine
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.simulator.stage import Stage


class Killed(StoreError):
    """The process is gone: nothing becomes durable any more."""


class MortalStore(Store):
    """A Store whose process dies right after so many steps of devices were kept."""

    def __init__(self, path: Path, lives: int) -> None:
        self._left, self._noted, self._is_dead = lives, False, False
        super().__init__(path)
        self._db.execute("PRAGMA synchronous = OFF")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[object]:  # type: ignore[override]
        if self._is_dead:
            raise Killed("dead")
        is_outer = not self._db.in_transaction
        with super().transaction() as db:
            yield db
        if is_outer and self._noted:
            self._noted = False
            self._left -= 1
            if self._left == 0:
                self._is_dead = True
                raise Killed("dies here")

    def die(self) -> None:
        self._is_dead = True

    def put_rotating(self, entries) -> None:  # type: ignore[no-untyped-def]
        self._noted = True
        super().put_rotating(entries)


class DyingDriver(AntminerDriver):
    """Its process dies when the change has been answered, before that is kept."""

    store: MortalStore

    async def set_password(self, target: Target, new: Secret, permit: Permit) -> Outcome:
        outcome = await super().set_password(target, new, permit)
        self.store.die()
        return outcome

    async def set_network(self, target: Target, network: StaticNetwork, permit: Permit) -> Outcome:
        outcome = await super().set_network(target, network, permit)
        self.store.die()
        return outcome


def a_life(stage: Stage, path: Path, lives: int, site: Site, secrets: Secrets) -> Engine:
    """Another process that takes the site over; with 0 lives it dies with the change on the wire."""
    store = MortalStore(path, lives or 10_000)
    drivers = dict(make_drivers(stage.net, stage.clock))
    if not lives:
        dying = drivers["antminer_stock"] = DyingDriver(stage.net, stage.clock)
        dying.store = store
    revisions = Revisions(store, site.id)
    record = store.accepted()
    assert record is not None
    revisions.learn(record.digest, site)
    return Engine(
        site=site.id,
        store=store,
        audit=None,
        epoch=store.take_over(),
        edges=Edges(
            clock=stage.clock,
            rng=stage.rng,
            secrets=secrets,
            drivers=drivers,
            capabilities=all_capabilities(),
        ),
        revisions=revisions,
        rotates=True,
    )
