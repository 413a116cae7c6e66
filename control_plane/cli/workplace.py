"""One site as a verb finds it: the declaration, the state folder, the way to the devices."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import gc
import importlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import click
import msgspec

from control_plane.cli.exits import Exit, Stop
from control_plane.core.errors import DeclarationError
from control_plane.core.fleet import Site
from control_plane.core.world import World
from control_plane.engine.adapters import SystemClock
from control_plane.engine.audit import AuditFile
from control_plane.engine.edges import Edges
from control_plane.engine.fence import Fence, is_gone, refuse_elsewhere, try_fence
from control_plane.engine.records import Approval, EngineStatus
from control_plane.engine.revisions import Revisions
from control_plane.engine.secrets import SystemSecrets
from control_plane.engine.store import Store
from control_plane.engine.world import read_world, seen_from
from control_plane.inventory.load import Loaded, load

if TYPE_CHECKING:
    from control_plane.drivers.net import NetworkMap

T = TypeVar("T")

_ALIVE_S = 15.0
"""Real seconds since the last heartbeat after which an engine no longer counts as running."""


class MapTimes(msgspec.Struct, frozen=True):
    """The part of a network map that every process of a simulation has to agree on."""

    time_scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    epoch_s: float = 0.0


class Workplace:
    """Paths and adapters of one site; opened lazily, so that a verb pays for what it uses."""

    def __init__(
        self,
        *,
        site: str,
        state: Path | None,
        inventory: Path = Path("inventory"),
        network_map: Path | None = None,
        creates: bool = False,
        is_own: bool = True,
    ) -> None:
        """Name the folders; nothing is opened yet.

        Args:
            site: its id.
            state: its state folder; by default one beside the inventory, from wherever it is called.
            inventory: the folder that holds fleet.yaml.
            network_map: where a simulation's devices answer.
            creates: whether the verb may begin a state folder. Who only says or asks something may not:
                nobody would hear a hold in a folder that no engine reads.
            is_own: `False`: its state is a copy, and what is kept there is lost.
        """
        self.site = site
        self.state = state or inventory.resolve().parent / ".gridplane" / site
        self.network_map = network_map
        self.inventory = inventory
        self.is_own = is_own
        self._creates = creates
        self.clock = clock_of(network_map)
        self._store: Store | None = None
        self._revisions: Revisions | None = None

    @property
    def audit(self) -> AuditFile:
        """The audit file."""
        return AuditFile(self.state / "audit.jsonl", self.store)

    @property
    def store(self) -> Store:
        """The Store, opened once.

        Raises:
            Stop: there is none, and this verb does not begin one.
            StoreError: it cannot be used.
        """
        if self._store is None:
            new = not self.has_state()
            if new and not self._creates:
                raise Stop(
                    f"nothing was ever planned or applied for {self.site} in {self.state}: say "
                    "--state FOLDER (or --inventory) as the process does that acts on the site",
                    Exit.REFUSED,
                )
            self._store = Store(self.state / "state.sqlite")
            if new:
                click.echo(f"gridplane: new state folder of {self.site}: {self.state}", err=True)
        return self._store

    def has_state(self) -> bool:
        """Whether anything was ever kept for the site."""
        return (self.state / "state.sqlite").exists()

    def fence(self) -> Fence | None:
        """The fence, or `None` where another process holds it.

        Raises:
            ActsElsewhere: a process with another state folder acts on the site.
            StoreError: what is kept of the site was damaged; nothing may be written to devices.
        """
        fence = try_fence(self._lock, self.store, site_lock=self._site_lock)
        if fence is not None:
            try:
                self.audit.take_over()
            except BaseException:
                fence.release()
                raise
        return fence

    def refuse_elsewhere(self) -> None:
        """Nothing, unless whoever acts on the site now does not read this state folder.

        Raises:
            ActsElsewhere: naming the folder that it reads.
        """
        refuse_elsewhere(self._lock, self._site_lock)

    @property
    def _lock(self) -> Path:
        return self.state / "fence.lock"

    @property
    def _site_lock(self) -> Path:
        """One for all state folders of the site; each simulation is a world of its own."""
        if self.network_map is not None:
            return self.network_map.resolve().with_suffix(".lock")
        return lock_folder() / f"gridplane-{self.site}.lock"

    def revisions(self) -> Revisions:
        """The accepted revisions; each is loaded once."""
        if self._revisions is None:
            self._revisions = Revisions(self.store, self.site, self.inventory)
        return self._revisions

    def edges(self) -> Edges:
        """The way to the devices."""
        from control_plane.drivers.net import StreamNet
        from control_plane.drivers.recognise import recognise
        from control_plane.drivers.redfish import RedfishBmc
        from control_plane.drivers.registry import all_capabilities, make_drivers

        net = StreamNet(read_network_map(self.network_map))
        return Edges(
            clock=self.clock,
            rng=random.Random(),  # noqa: S311 - jitter, not a secret
            secrets=SystemSecrets(),
            drivers=make_drivers(net, self.clock),
            capabilities=all_capabilities(),
            bmc=RedfishBmc(net, self.clock),
            recognise=functools.partial(recognise, net),
        )

    def engine_status(self) -> EngineStatus | None:
        """The engine that acts on the site now, if one is alive."""
        status = self.store.status()
        if status is None or time.time() - status.real_at_s > _ALIVE_S:
            return None
        if is_gone(status.pid, status.pid_space):
            return None
        return status

    def world(self, site: Site, revision: str, approvals: Iterable[Approval] = ()) -> World:
        """The world as the Store knows it, to plan a revision of the site against."""
        from control_plane.drivers.registry import all_capabilities

        revisions = self.revisions()
        world = read_world(
            self.store,
            site,
            revision,
            site_of=revisions.site,
            approvals=approvals,
            capabilities=all_capabilities(),
            now_s=self.clock.wall_s(),
            time_scale=self.clock.scale,
        )
        if world.accepted is None:
            return world
        before = revisions.site(world.accepted)
        return seen_from(world, before, site)


def read_network_map(path: Path | None) -> NetworkMap | None:
    """Where a simulation's devices answer; `None` for the real network.

    Raises:
        Stop: that is no such file.
    """
    from control_plane.drivers.net import MapError, NetworkMap

    try:
        return NetworkMap.load(path) if path else None
    except MapError as error:
        raise Stop(str(error), Exit.INVALID) from error


def clock_of(network_map: Path | None) -> SystemClock:
    """Real time, or that of a simulation.

    Raises:
        Stop: that is no network map.
    """
    times = MapTimes() if network_map is None else _times_of(network_map)
    return SystemClock(scale=times.time_scale, epoch_s=times.epoch_s)


def _times_of(network_map: Path) -> MapTimes:
    try:
        return msgspec.json.decode(network_map.read_bytes(), type=MapTimes)
    except (OSError, ValueError) as error:
        raise _no_map(network_map, error) from error


def _no_map(path: Path, error: Exception) -> Stop:
    return Stop(f"{path} is no network map: {error}", Exit.INVALID)


def lock_folder() -> Path:
    """Where locks stand that all users of this machine share; gone after a restart, as locks are."""
    shared = Path("/run/lock")
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A site of the inventory that loaded without errors."""

    site: Site
    digest: str
    files: Mapping[str, bytes]


def _sites(root: Path) -> list[str]:
    folder = root / "sites"
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def refuse_unknown(root: Path, site: str) -> None:
    """Refuse a name that is none of the inventory's sites.

    Raises:
        Stop: with those that there are.
    """
    names = _sites(root)
    if names and site not in names:
        near = difflib.get_close_matches(site, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
        raise Stop(f"{root}/sites has no site '{site}': {hint}", Exit.USAGE)


def pick_site(root: Path, site: str | None) -> str:
    """The site that is meant.

    Raises:
        Stop: none is named and there are several.
    """
    names = _sites(root)
    if site is None:
        if len(names) == 1:
            return names[0]
        found = ", ".join(names) or "none"
        raise Stop(
            f"say which site: --site NAME or GRIDPLANE_SITE ({root}/sites has: {found})", Exit.USAGE
        )
    return site


def load_declared(root: Path, site: str) -> Declared:
    """One site of the inventory.

    Raises:
        DeclarationError: with every finding; nothing was done.
    """
    refuse_unknown(root, site)
    loaded: Loaded = load(root, sites={site})
    if loaded.fleet is None:
        raise DeclarationError(loaded.findings)
    return Declared(
        site=loaded.fleet.sites[site], digest=loaded.digests[site], files=loaded.files[site]
    )


def declared_in(place: Workplace) -> Site:
    """The site as it is in force; as the inventory has it where nothing is yet.

    Raises:
        DeclarationError: as `load_declared`.
    """
    accepted = place.store.accepted()
    if accepted is None:
        return load_declared(place.inventory, place.site).site
    return place.revisions().site(accepted.digest)


def keep_what_is() -> None:
    """Live on: what exists now stays as long as the process, and only what comes is ever collected."""
    gc.collect()
    gc.freeze()
    gc.enable()


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run on the fastest loop there is; uvloop is optional."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless told not to; without a terminal the answer is no.

    Raises:
        Stop: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Stop(f"{question} Not asked: this is no terminal. Say --yes.", Exit.REFUSED)
    if not click.confirm(question):
        raise Stop("nothing was done", Exit.REFUSED)
