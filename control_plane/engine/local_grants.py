"""Grants of `gridplane run`: kept in the Store, and worked on by this very process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec

from control_plane.core.errors import ControlPlaneError
from control_plane.core.firmware import About, Bundle, Shard, ShardDevice
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.core.fleet import Site
from control_plane.core.overlay import bars_all, covering, nodes_above
from control_plane.engine.bundles import Bundles
from control_plane.engine.edges import Edges
from control_plane.engine.firmware import Line, flash_shard
from control_plane.engine.flash import Flasher, Images, Withdrawn, is_installer
from control_plane.engine.granting import NotGranted, Work
from control_plane.engine.log import Say
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store

_AGAIN_S = 5.0
"""Wire seconds until a grant whose steps could not be kept is taken up again."""


class LocalGrants:
    """A `Granting` for one process. `run` it beside the engine."""

    def __init__(
        self,
        store: Store,
        *,
        epoch: int,
        edges: Edges,
        revisions: Revisions,
        images: Callable[[Site], Images | None],
        say: Say,
    ) -> None:
        """Nothing is read before `run`.

        Args:
            store: of the site.
            epoch: the fence.
            edges: the way to the devices.
            revisions: the accepted ones.
            images: where images are; `None` where nobody said.
            say: told of what could not be kept.
        """
        self._store, self._epoch, self._edges = store, epoch, edges
        self._revisions, self._bundles = revisions, Bundles(store, revisions)
        self._images_of, self._say = images, say
        self._grants = {grant.operation: grant for grant in store.grants()}
        self._flashers: dict[str, Flasher] = {}
        self._news = asyncio.Event()
        self._is_stopped = False

    def known(self) -> Mapping[str, Grant]:
        """Every grant of the Store: whoever takes it over has all of them."""
        return self._grants

    async def open(self, work: Work) -> None:
        """See `Granting.open`."""
        name = f"{work.rollout}-{work.purpose}-{work.wave}-{work.round}"
        if name not in self._grants:
            if self._images() is None:
                raise NotGranted(
                    "nobody said where images are: firmware_store in site.yaml, or --images"
                )
            self._keep(
                Grant(
                    operation=name,
                    rollout=work.rollout,
                    purpose=work.purpose,
                    wave=work.wave,
                    round=work.round,
                    digest=work.bundle.digest,
                    fence=work.fence,
                    entries={asset: FlashEntry(asset=asset) for asset in work.granted},
                    pins={asset: whom.pin for asset, whom in work.granted.items()},
                    addresses={asset: whom.address for asset, whom in work.granted.items()},
                    at_once=work.at_once,
                    deadline_s=work.deadline_s,
                )
            )
        self._news.set()

    async def withdraw(self, operation: str, assets: frozenset[str]) -> None:
        """See `Granting.withdraw`."""
        grant = self._grants[operation]
        left = {
            asset: entry
            for asset, entry in grant.entries.items()
            if asset not in assets or entry.step is not FlashStep.PENDING
        }
        if left:
            self._keep(msgspec.structs.replace(grant, entries=left))
        else:
            self._keep(msgspec.structs.replace(grant, deadline_s=self._edges.clock.wall_s()))

    async def conclude(self, operation: str, entries: Sequence[FlashEntry]) -> None:
        """See `Granting.conclude`."""
        grant = self._grants[operation]
        ended = {entry.asset: entry for entry in entries}
        self._keep(msgspec.structs.replace(grant, entries={**grant.entries, **ended}))

    def stop(self) -> None:
        """Begin nothing more, and wait for no device; an image that leaves is sent to its end."""
        self._is_stopped = True
        self._news.set()
        for flasher in self._flashers.values():
            flasher.stop()

    async def run(self) -> None:
        """Work on what is granted, and go on with what an earlier process began, until stopped."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                for name, grant in self._grants.items():
                    if name not in self._flashers and grant.locked(self._edges.clock.wall_s()):
                        self._begin(group, grant)
                if self._is_stopped:
                    return
                await self._news.wait()

    def _begin(self, group: asyncio.TaskGroup, grant: Grant) -> None:
        bundle, images = self._bundles.of(grant.digest), self._images()
        driver = self._edges.drivers.get(bundle.family) if bundle else None
        if bundle is None or images is None or driver is None or not is_installer(driver):
            return
        self._flashers[grant.operation] = flasher = Flasher(
            bundle,
            driver,
            images,
            _Journal(self, grant.operation),
            self._edges.clock,
            deadline_s=grant.deadline_s,
        )
        group.create_task(self._work(flasher, bundle, grant))

    async def _work(self, flasher: Flasher, bundle: Bundle, grant: Grant) -> None:
        shard = Shard(devices=tuple(ShardDevice(asset=asset) for asset in grant.entries))
        about, secrets = About(digest=grant.digest, bundle=bundle), self._edges.secrets
        try:
            lines = await flash_shard(
                shard, about, grant, flasher, secrets=secrets, say=lambda _line: None
            )
            if not self._is_stopped:
                self._end(grant.operation, lines)
        except ControlPlaneError as error:
            self._say(f"{grant.operation}: a step could not be kept: {error}", kind="firmware")
            await self._edges.clock.wire_sleep(_AGAIN_S)
        finally:
            del self._flashers[grant.operation]
            self._news.set()

    def _end(self, operation: str, lines: Sequence[Line]) -> None:
        """Nobody works on it any more: what was not begun says why, and is free for others."""
        grant, now_s = self._grants[operation], self._edges.clock.wall_s()
        why = {line.asset: line.detail for line in lines if line.step == FlashStep.PENDING}
        entries = {
            asset: msgspec.structs.replace(entry, detail=why[asset]) if asset in why else entry
            for asset, entry in grant.entries.items()
        }
        deadline_s = min(grant.deadline_s, now_s)
        self._keep(msgspec.structs.replace(grant, entries=entries, deadline_s=deadline_s))

    def _images(self) -> Images | None:
        site = self._site()
        return self._images_of(site) if site else None

    def _site(self) -> Site | None:
        record = self._store.accepted()
        return self._revisions.site(record.digest) if record else None

    # --- the journal -------------------------------------------------------------------------------

    def keep(self, operation: str, entry: FlashEntry) -> None:
        """Keep a step, under the fence; `committing` only while nothing forbids it.

        Raises:
            Withdrawn: something does.
            ControlPlaneError: it is not kept.
        """
        grant = self._grants[operation]
        if entry.step is FlashStep.COMMITTING:
            if entry.asset not in grant.entries:
                raise Withdrawn("it was taken out of its grant")
            if self._is_held(entry.asset):
                raise Withdrawn("it is held or frozen")
        entries = {**grant.entries, entry.asset: entry}
        self._keep(msgspec.structs.replace(grant, entries=entries))

    def _is_held(self, asset: str) -> bool:
        """Whether a person forbids it, as the Store says at this moment."""
        site = self._site()
        device = next((d for d in site.devices if d.asset == asset), None) if site else None
        if site is None or device is None:
            return True
        overlays = covering(self._store.overlays(), nodes_above(site, device))
        return bars_all(overlays, self._edges.clock.wall_s())

    def _keep(self, grant: Grant) -> None:
        with self._store.transaction():
            self._store.check_fence(self._epoch)
            self._store.put_grant(grant)
        self._grants[grant.operation] = grant


class _Journal:
    """A `FlashJournal` of one grant."""

    def __init__(self, grants: LocalGrants, operation: str) -> None:
        self._grants, self._operation = grants, operation

    async def keep(self, entry: FlashEntry) -> None:
        """See `FlashJournal.keep`."""
        self._grants.keep(self._operation, entry)
