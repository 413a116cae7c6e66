"""Holds and freezes in a cluster: `Overlay` objects and the leader's Store, kept equal to their union.

Nothing but an `Order` ends one (`kube/obeying.py`). An object that goes without is made again; a Store
that is new is told of every object before it is worked with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec

from control_plane.api.conditions import Told, moment, ready, stalled
from control_plane.core.cluster import Cluster, ClusterError, Conflict, Exists, NotFound, Object
from control_plane.core.errors import StoreBusy
from control_plane.core.fleet import Site
from control_plane.core.overlay import Overlay, OverlayKind, assets_below, node_names
from control_plane.core.ports import Clock
from control_plane.engine.log import Say
from control_plane.engine.queue import Priority
from control_plane.engine.store import Store
from control_plane.kube.cache import Cache
from control_plane.kube.kinds import MINER, OVERLAY, RACK, SITE
from control_plane.kube.listing import get_or_none, list_all
from control_plane.kube.saying import (
    SAYABLE,
    Malformed,
    is_same_word,
    overlay_body,
    overlay_in,
    overlay_told,
    site_of,
)
from control_plane.kube.writer import StatusWriter

LOOK_S = 0.5
"""How often it is looked whether somebody said something: well within HOLD_EFFECT_S."""
ANNOTATIONS: Mapping[str, OverlayKind] = {
    "gridplane.dev/hold": OverlayKind.MAINTENANCE_HOLD,
    "gridplane.dev/pause": OverlayKind.FREEZE,
}
"""On a `Site`, `Rack` or `Miner`; the value is the reason."""
BY_ANNOTATION = "annotation"
"""Owner of what was said so: who wrote an annotation is not known."""
_ANNOTATED = (SITE, RACK, MINER)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What words are heard and answered with, for as long as the process runs."""

    cluster: Cluster
    site: str
    namespace: str
    caches: Mapping[str, Cache]
    """By plural: overlays, orders, sites, racks and miners."""
    writer: StatusWriter
    """Writes the status of overlays and orders as well."""
    clock: Clock
    say: Say
    is_live: Callable[[], bool]
    """Whether this process may write; asked right before each request."""


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """What one tenure gives."""

    store: Store
    """A connection that is not the engine's: the engine hears of what others write."""
    durable: Callable[[], Awaitable[None]]
    """Returns once all that the Store holds at that moment is kept in the cluster."""
    declared: Callable[[], Site | None]
    """The site as the revision in force declares it."""


class Annotated:
    """Who of the site has an annotation of ours: kept from event to event, for there are many miners."""

    def __init__(self, caches: Mapping[str, Cache], site: str) -> None:
        self._site = site
        self._objects: dict[str, Object] = {}
        for kind in _ANNOTATED:
            caches[kind.plural].tell(
                lambda old, new, plural=kind.plural: self._changed(plural, old, new)  # type: ignore[misc]
            )

    def said(self, now_s: float) -> list[Overlay]:
        """What stands there now, as overlays that begin now."""
        return [
            Overlay(
                id=annotated_name(each.metadata.name, annotation),
                kind=kind,
                node=each.metadata.name,
                owner=BY_ANNOTATION,
                reason=each.metadata.annotations[annotation].strip() or "no reason given",
                since_s=now_s,
            )
            for each in self._objects.values()
            for annotation, kind in ANNOTATIONS.items()
            if annotation in each.metadata.annotations
        ]

    def _changed(self, plural: str, old: Object | None, new: Object | None) -> None:
        key = f"{plural}/{(new or old or Object()).key}"
        if new is not None and ANNOTATIONS.keys() & new.metadata.annotations.keys():
            if self._is_ours(plural, new):
                self._objects[key] = new
        else:
            self._objects.pop(key, None)

    def _is_ours(self, plural: str, each: Object) -> bool:
        if plural == SITE.plural:
            return each.metadata.name == self._site
        return site_of(each) == self._site


def annotated_name(node: str, annotation: str) -> str:
    """The name of the overlay that an annotation on a node makes."""
    return f"{node}.{annotation.rpartition('/')[2]}"


class Words:
    """Holds and freezes of one site. `merge` at a take-over, then `serve` during the tenure."""

    def __init__(self, desk: Desk) -> None:
        """Nothing is asked before `merge`; one for the life of the process."""
        self.annotated = Annotated(desk.caches, desk.site)
        self._desk = desk
        self._overlays = desk.caches[OVERLAY.plural]
        self._named: tuple[Site, frozenset[str]] | None = None
        self._ended: set[str] = set()
        """Uids of objects whose word was released: the cache, or a replica that lags, may still have them.

        Kept for as long as the process runs: a few each day.
        """
        self._told: dict[str, str] = {}

    async def merge(self, store: Store) -> None:
        """Take every `Overlay` of the site into a Store that was just filled, from the server itself.

        What the cache has and the server has not any more was ended while another process led: a watch may
        have missed that, and it is not heard as a new word.

        Raises:
            ClusterError: it did not answer; no gate opens.
            StoreError: the Store does not take them; neither.
        """
        cached = {each.metadata.uid for each in self._overlays}
        found = await list_all(self._desk.cluster, OVERLAY, namespace=self._desk.namespace)
        self._ended |= cached - {each.metadata.uid for each in found}
        with store.transaction():
            kept = {overlay.id for overlay in store.overlays()}
            for each in found:
                overlay = self._read(each)
                if overlay is not None and overlay.id not in kept:
                    store.put_overlay(overlay)

    async def serve(self, sitting: Sitting) -> None:
        """Keep objects and Store equal, for ever."""
        desk = self._desk
        while True:
            try:
                if desk.is_live():
                    await self._look(sitting)
            except (ClusterError, StoreBusy) as error:
                self._note("words", f"not all that people say is heard yet: {error}")
            else:
                self._told.pop("words", None)
            await desk.clock.wire_sleep(LOOK_S)

    def drop(self, overlay_id: str, store: Store) -> Object | None:
        """End a word in the Store; its object, which then has to go, where it has one.

        From now on the object is not heard any more. An object of the name that says something else is
        another word, and is heard now.
        """
        kept = next((o for o in store.overlays() if o.id == overlay_id), None)
        found = self.object_named(overlay_id)
        if kept is not None:
            store.drop_overlay(overlay_id)
        if found is None or found.metadata.uid in self._ended:
            return found
        said = self._read(found)
        if said is not None and kept is not None and not is_same_word(kept, said):
            return None
        self._ended.add(found.metadata.uid)
        return found

    async def remove(self, each: Object) -> None:
        """Delete the object of a word that is durably in no Store any more.

        Raises:
            ClusterError: it may be there still.
        """
        meta = each.metadata
        with contextlib.suppress(NotFound, Conflict):  # gone, or another one by now
            await self._desk.cluster.delete(
                OVERLAY, meta.name, namespace=meta.namespace, uid=meta.uid
            )

    async def unheard(self, overlay_id: str, *, until: str) -> Object | None:
        """The object of a word that this process was never told of, said not later than `until`.

        A watch may have missed it. Left alone it would be heard some day as a new word.

        Raises:
            ClusterError: the API server did not answer.
        """
        found = await get_or_none(
            self._desk.cluster, OVERLAY, overlay_id, namespace=self._desk.namespace
        )
        if found is None or not self._is_ours(found) or found.metadata.creation_timestamp > until:
            return None
        self._ended.add(found.metadata.uid)
        return found

    def object_named(self, overlay_id: str) -> Object | None:
        """The site's object of a name."""
        found = self._overlays.get(f"{self._desk.namespace}/{overlay_id}")
        return found if found is not None and self._is_ours(found) else None

    # --- one look ------------------------------------------------------------------------------------

    async def _look(self, sitting: Sitting) -> None:
        there = self.hear(sitting)
        for overlay in sitting.store.overlays():
            if overlay.kind in SAYABLE and overlay.id not in there:
                await self._make(overlay, sitting.store, "its object was gone")
        kept = {overlay.id for overlay in sitting.store.overlays()}
        for overlay in self.annotated.said(self._desk.clock.wall_s()):
            if overlay.id not in kept:
                overlay = _covering(overlay, sitting.declared())  # noqa: PLW2901
                sitting.store.put_overlay(overlay)
                await self._make(overlay, sitting.store, "")

    def hear(self, sitting: Sitting) -> set[str]:
        """Take every object into the Store; the names of those that are there."""
        declared, store = sitting.declared(), sitting.store
        names = self._names_of(declared) if declared else None
        kept = {overlay.id: overlay for overlay in store.overlays()}
        there: set[str] = set()
        for each in self._overlays:
            if each.metadata.uid in self._ended or not self._is_ours(each):
                continue
            there.add(each.metadata.name)
            try:
                said = overlay_in(each)
            except Malformed as error:
                self._tell(each, [stalled("Malformed", str(error)), ready("False", "Malformed")])
                continue
            known = kept.get(said.id)
            if known is None:
                known = _covering(said, declared)
                store.put_overlay(known)
            if is_same_word(known, said):
                self._tell(each, _standing(known, declared, names, self._desk.clock.wall_s()))
            else:
                why = (
                    f"not in force: {known.kind} of {known.owner} on {known.node} is, under this name. "
                    "Say it under another one"
                )
                self._tell(each, [stalled("NameTaken", why), ready("False", "NameTaken", why)])
        return there

    def _names_of(self, declared: Site) -> frozenset[str]:
        """Worked out once per revision: a large site has fifteen thousand."""
        if self._named is None or self._named[0] is not declared:
            self._named = (declared, node_names(declared))
        return self._named[1]

    async def _make(self, overlay: Overlay, store: Store, why: str) -> None:
        """Make the object of an overlay that is in the Store."""
        desk = self._desk
        if not desk.is_live():
            return
        body = overlay_body(overlay, site=desk.site, namespace=desk.namespace)
        try:
            made = await desk.cluster.create(OVERLAY, body)
        except Exists:
            return  # the cache will have it, or another site has the name
        self._overlays.wrote(made)
        if all(kept.id != overlay.id for kept in store.overlays()):
            # Released while it was being made.
            self._ended.add(made.metadata.uid)
            await self.remove(made)
            return
        if why:
            self._note(
                made.metadata.uid,
                f"Overlay {overlay.id} of {overlay.owner} on {overlay.node} is made again: {why}. "
                f"`gridplane release {overlay.id}` ends it",
            )

    def _is_ours(self, each: Object) -> bool:
        return site_of(each) == self._desk.site

    def _read(self, each: Object) -> Overlay | None:
        if not self._is_ours(each):
            return None
        try:
            return overlay_in(each)
        except Malformed:
            return None

    def _tell(self, each: Object, told: list[Told]) -> None:
        if not self._overlays.is_behind(each.key):
            status = overlay_told(each, told, self._desk.clock.wall_s())
            self._desk.writer.want(self._overlays, each, status, Priority.SAFETY)

    def _note(self, about: str, words: str) -> None:
        if self._told.get(about) != words:
            self._desk.say(words, kind="hold", level="warning")
        self._told[about] = words


def _covering(overlay: Overlay, declared: Site | None) -> Overlay:
    """With what it covers as it is said: that is held from then on, wherever it is declared."""
    if declared is None:
        return overlay
    below = assets_below(declared, {overlay.node})[overlay.node]
    return msgspec.structs.replace(overlay, assets=overlay.assets | below)


def _standing(
    overlay: Overlay, declared: Site | None, names: frozenset[str] | None, now_s: float
) -> list[Told]:
    """Whether an overlay in the Store does what it was said for."""
    covers = f"{len(overlay.assets):,} devices"
    ended = overlay.is_expired(now_s) and overlay.expires_s is not None
    if ended and overlay.kind is OverlayKind.FREEZE:
        at = moment(overlay.expires_s or 0.0).isoformat()
        return [ready("False", "Ended", f"it ended at {at}; an Order `release` clears it away")]
    if names is not None and declared is not None and overlay.node not in names:
        words = f"{declared.id} has no device, rack, switch or feed node '{overlay.node}'"
        if not overlay.assets:
            return [
                stalled("UnknownNode", f"{words}: it covers nothing"),
                ready("False", "UnknownNode", f"{words}: it covers nothing"),
            ]
        return [ready("True", "InForce", f"{words}: it covers the {covers} that it names")]
    if ended:
        return [ready("True", "InForce", f"past its end, and holds {covers} until it is released")]
    return [ready("True", "InForce", f"covers {covers}" if overlay.assets else "")]
