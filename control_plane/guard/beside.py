"""What stands between the engine and a guard on its host: bundles go one way, what the guard did the other.

It runs in a thread of the engine's process, over a connection of its own: a bundle of 14,000 machines takes a
second or two, and no look waits for that. What the guard lowered becomes a programme named `guard`: overlays
that a person ends (`gridplane resume guard`), for nobody knows why the node was above its cap. While it sheds
below a node, nothing there is raised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from control_plane.core.curtailing import GUARD, of_programme, overlays_by_mode
from control_plane.core.errors import ControlPlaneError, StoreBusy
from control_plane.core.fleet import Site
from control_plane.core.guard_bundle import BundleError, Rung
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.world import World
from control_plane.engine.log import Say
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.guard.given import Given, give, given_in, shown_in
from control_plane.guard.giving import given_of

LOOK_S: Final = 2.0
GIVE_S: Final = 30.0
_BARS: Final = "guard-bars-"


class Beside:
    """One guard's folder, and the Store of the process that acts on the site."""

    def __init__(
        self,
        folder: Path,
        open_store: Callable[[], Store],
        world: Callable[[Store], tuple[Site, World, str] | None],
        *,
        now_s: Callable[[], float],
        say: Say,
    ) -> None:
        """Nothing is done before `start`.

        Args:
            folder: the guard's.
            open_store: a connection for the thread that calls it.
            world: the declaration in force, what is known of its machines, and its digest.
            now_s: policy time.
            say: told of trouble, once for as long as it lasts.
        """
        self._folder, self._open_store, self._world = folder, open_store, world
        self._now_s, self._say = now_s, say
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = ""
        self._taken: frozenset[str] = frozenset()
        """Machines that stood in the programme when it was written last."""
        self._ended_s: dict[str, float] = {}
        """When a person ended it for a machine: what the guard had told it before is over."""

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread = threading.Thread(target=self._run, name="beside the guard", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; returns once nothing is under way."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        store, left_s = self._open_store(), 0.0
        while not self._over.is_set():
            try:
                if left_s <= 0:
                    self.give(store)
                    left_s = GIVE_S
                self.adopt(store)
                self._note("")
            except StoreBusy:
                pass  # Another process has the Store for a moment.
            except (ControlPlaneError, BundleError) as error:
                self._note(str(error))
            left_s -= LOOK_S
            self._over.wait(LOOK_S)
        store.close()

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            self._say(f"guard: {trouble}", kind="guard", level="warning")
        self._trouble = trouble

    # --- what the guard is given -----------------------------------------------------------------

    def give(self, store: Store) -> bool:
        """Give the guard what is known now, where it differs from what it has; whether it did.

        Caps that a person gave (`gridplane guard give --cap`) stay.
        """
        known = self._world(store)
        if known is None:
            return False
        try:
            before: Given | None = given_in(self._folder)
        except BundleError:
            before = None
        site, world, revision = known
        given = given_of(site, world, revision, caps_w=before.caps_w if before else {})
        if before is not None and _same(before, given):
            return False
        give(self._folder, given)
        return True

    # --- what the guard did ----------------------------------------------------------------------

    def adopt(self, store: Store) -> bool:
        """Take what the guard did for what is wanted; whether anything changed.

        Machines stay in the programme when the guard lets go of their node: it is a person who ends it.
        """
        shown = shown_in(self._folder)
        if shown is None:
            return False
        there = {o.id: o for o in store.overlays() if o.kind is OverlayKind.GUARD}
        taken = _assets(there.values())
        self._ended_s |= dict.fromkeys(self._taken - taken, self._now_s())
        lowered = {
            asset: one.rung
            for asset, one in shown.lowered.items()
            if one.at_s > self._ended_s.get(asset, float("-inf"))
        }
        made = _adopted(lowered, shown.decision.guarded, there.values(), self._now_s())
        wanted = {o.id: o for o in made}
        self._taken = _assets(made)
        if wanted == there:
            return False
        with store.transaction():
            for name in there.keys() - wanted.keys():
                store.drop_overlay(name)
            for name, overlay in wanted.items():
                if there.get(name) != overlay:
                    store.put_overlay(overlay)
            words = ", ".join(sorted(shown.decision.guarded)) or "nothing any more"
            text = f"the guard sheds below {words}; {len(self._taken):,} machines lowered"
            store.put_events([Event(at_s=self._now_s(), kind="guard", text=text)])
        return True


def _same(one: Given, other: Given) -> bool:
    """Equal but for when it was made, and locks that only move on with time."""

    def bare(given: Given) -> object:
        bundle = msgspec.structs.replace(
            given.bundle,
            made_at_s=0.0,
            devices=tuple(
                msgspec.structs.replace(d, locked_until_s=float(d.locked_until_s > 0))
                for d in given.bundle.devices
            ),
        )
        return msgspec.structs.replace(given, bundle=bundle)

    return bare(one) == bare(other)


def _assets(overlays: Iterable[Overlay]) -> frozenset[str]:
    return frozenset().union(*(o.assets for o in of_programme(overlays, GUARD)))


def _adopted(
    lowered: Mapping[str, Rung], guarded: Iterable[str], there: Iterable[Overlay], now_s: float
) -> list[Overlay]:
    there = list(there)
    since = {o.id: o.since_s for o in there}
    by_mode: dict[str | None, set[str]] = {}
    for asset, rung in lowered.items():
        by_mode.setdefault(rung.mode, set()).add(asset)
    for old in of_programme(there, GUARD):
        # Its order is over for the guard, and not for us.
        rest = old.assets - lowered.keys()
        if rest:
            by_mode.setdefault(old.fields.power_mode, set()).update(rest)
    made = overlays_by_mode(
        GUARD, by_mode, kind=OverlayKind.GUARD, owner=GUARD, reason="a node was above its cap",
        now_s=now_s,
    )  # fmt: skip
    bars = [
        Overlay(
            id=f"{_BARS}{node}", kind=OverlayKind.GUARD, node=node, owner=GUARD,
            reason="it is shed", since_s=now_s,
        )
        for node in sorted(guarded)
    ]  # fmt: skip
    return [msgspec.structs.replace(o, since_s=since.get(o.id, o.since_s)) for o in (*made, *bars)]
