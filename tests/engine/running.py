"""The real engine on a small simulated site in virtual time, and another process beside it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from control_plane.core.digest import digest_of
from control_plane.core.fleet import Credentials, Device, Site
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.ports import Driver, Net, Secrets
from control_plane.core.secret import Secret
from control_plane.drivers.recognise import recognise
from control_plane.drivers.registry import all_capabilities, make_drivers
from control_plane.engine.accept import Proposal, accept
from control_plane.engine.audit import AuditFile
from control_plane.engine.edges import Edges
from control_plane.engine.granting import Granting
from control_plane.engine.loop import Engine
from control_plane.engine.records import ShownPlan
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.simulator.ledger import Write
from control_plane.simulator.stage import Stage, set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.simulator.floors import a_site

T = TypeVar("T")
ANT, WHATS = "M-000-001", "M-001-001"
"""One device of each family."""
PASSWORDS = {"antminer_stock": "root", "whatsminer_v2": "admin", "vnish": "admin"}
REFS = {f"env:{family}": password for family, password in PASSWORDS.items()}
HORIZON_S = 20_000.0


class KnownSecrets:
    """The port `Secrets` over a table that a test changes."""

    def __init__(self) -> None:
        self.known = dict(REFS)

    def resolve(self, ref: str) -> Secret:
        return Secret(self.known[ref])


@dataclass(kw_only=True)
class Running:
    """A site, its engine, and a second connection to its Store for what other processes do."""

    stage: Stage
    loop: VirtualLoop
    engine: Engine
    other: Store
    secrets: Any
    drivers: dict[str, Driver]
    declare: Callable[[Site], None]
    """Another process accepts a revision."""
    asked: list[tuple[float, str]] = field(default_factory=list)

    def writes(self, asset: str) -> tuple[Write, ...]:
        """What arrived at a device."""
        return self.stage.site.world.ledger.select(asset=asset)

    def hold(self, node: str, kind: OverlayKind = OverlayKind.SAFETY_HOLD) -> None:
        """Another process takes a hold."""
        self.other.put_overlay(
            Overlay(id="h1", kind=kind, node=node, owner="ann", reason="hands in it", since_s=0.0)
        )

    async def until(self, what: Callable[[], bool], *, within_s: float = 3_000.0) -> None:
        """Wait, a tenth of a wire second at a time, until something holds."""
        end = self.loop.time() + within_s
        while not what():
            assert self.loop.time() < end, "it did not come to that"
            await asyncio.sleep(0.1)


def small_site(change: Callable[[Device], Device] = lambda device: device) -> Site:
    """A rack of Antminers and one of WhatsMiners, at fixed addresses, each with its own secret."""
    site = a_site(racks=2, slots=4, odd_slots=False)
    return msgspec.structs.replace(site, devices=tuple(change(_fixed(d)) for d in site.devices))


def _fixed(device: Device) -> Device:
    intent = msgspec.structs.replace(
        device.intent,
        addressing="static",
        credentials=Credentials(user="root", secret_ref=f"env:{device.intent.family}"),
    )
    address = device.address or f"10.42.{device.rack[-1]}.{device.slot + 10}"
    return msgspec.structs.replace(device, address=address, subnet=None, intent=intent)


def intending(device: Device, **changes: Any) -> Device:
    """The device with another intent."""
    return msgspec.structs.replace(device, intent=msgspec.structs.replace(device.intent, **changes))


def on_site(
    play: Callable[[Running], Awaitable[T]],
    folder: Path,
    *,
    found: Site,
    declared: Site,
    wrap: Callable[[str, Driver], Driver] = lambda _family, driver: driver,
    net: Callable[[Net], Net] = lambda net: net,
    secrets: Secrets | None = None,
    before: Sequence[Site] = (),
    granting: Callable[[Store, int, Edges, Revisions], Granting] | None = None,
    rotates: bool = False,
) -> T:
    """Play beside the engine, which brings a site that was found so to what is declared.

    `before` was accepted before that. With `granting` firmware is installed, with `rotates` passwords change.
    Fails if the engine ends by itself before the play does.
    """

    async def main(loop: VirtualLoop) -> T:
        stage = set_stage(found, loop, seed=5, passwords=PASSWORDS)
        store, audit = Store(folder / "state.sqlite"), AuditFile(folder / "audit.jsonl")
        # The machine does not crash here, so that pages need not reach the disk.
        store._db.execute("PRAGMA synchronous = OFF")
        revisions = Revisions(store, declared.id)
        for site in (*before, declared):
            _accept(store, audit, revisions, site, stage.clock.wall_s())
        known = secrets or KnownSecrets()
        carrier = net(stage.net)
        made = make_drivers(carrier, stage.clock)
        drivers = {family: wrap(family, driver) for family, driver in made.items()}
        edges = Edges(
            clock=stage.clock,
            rng=stage.rng,
            secrets=known,
            drivers=drivers,
            capabilities=all_capabilities(),
            recognise=functools.partial(recognise, carrier),
        )
        epoch = store.take_over()
        engine = Engine(
            site=declared.id,
            store=store,
            audit=audit,
            epoch=epoch,
            edges=edges,
            revisions=revisions,
            granting=granting(store, epoch, edges, revisions) if granting else None,
            rotates=rotates,
        )
        other = Store(folder / "state.sqlite")
        running = Running(
            stage=stage,
            loop=loop,
            engine=engine,
            other=other,
            secrets=known,
            drivers=drivers,
            declare=lambda site: _accept(
                other,
                AuditFile(folder / "audit.jsonl", other),
                revisions,
                site,
                stage.clock.wall_s(),
            ),
        )
        return await _beside(engine, play(running))

    return run_virtual(main, horizon_s=HORIZON_S)


async def _beside(engine: Engine, play: Awaitable[T]) -> T:
    acting, playing = asyncio.ensure_future(engine.run()), asyncio.ensure_future(play)
    await asyncio.wait({acting, playing}, return_when=asyncio.FIRST_COMPLETED)
    if acting.done():
        playing.cancel()
        acting.result()
        raise AssertionError("the engine ended by itself")
    engine.stop()
    await acting
    return playing.result()


def _accept(
    store: Store,
    audit: AuditFile,
    revisions: Revisions,
    site: Site,
    now_s: float,
    *,
    removals: int | None = None,
) -> None:
    digest = digest_of(
        [(d.asset, d.state, d.desired(), d.intent.credentials) for d in site.devices]
    )
    revisions.learn(digest, site)
    plan = ShownPlan(digest=digest, revision=digest, at_s=now_s, expected={})
    files: Mapping[str, bytes] = {}
    proposal = Proposal(
        site=site, digest=digest, files=files, plan=plan, by="ann", acknowledged_removals=removals
    )
    accept(store, audit, revisions, proposal, now_s)
