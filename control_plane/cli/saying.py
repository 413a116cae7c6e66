"""What people say of a site: holds, freezes and orders. Local, durable, with nothing else up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from control_plane.cli.emit import emit
from control_plane.cli.nodes import check_node
from control_plane.cli.results import OverlayResult
from control_plane.cli.workplace import Workplace, load_declared, pick_site
from control_plane.core import limits
from control_plane.core.curtailing import of_programme
from control_plane.core.errors import ControlPlaneError, StoreBusy
from control_plane.core.fleet import Site
from control_plane.core.overlay import Overlay, OverlayKind, assets_below
from control_plane.engine.gate import describe
from control_plane.engine.records import Event, Order, Released
from control_plane.engine.store import Store
from control_plane.views.table import span

_LINES = 20
_TRIES = 30
"""Times `HOLD_EFFECT_S`: a minute."""
_TELLS_EVERY = 5


class Saying:
    """One word of one person about one site."""

    in_force = "in force now"
    """What is true of an overlay once `set_overlay` returns."""
    to_release = ""
    """Options by which `release` finds the same place."""

    def __init__(
        self,
        inventory: Path,
        site: str | None,
        state: Path | None,
        network_map: Path | None,
        *,
        creates: bool = False,
    ) -> None:
        """Find the Store that the acting process reads.

        Raises:
            Stop: there is no Store, and the verb does not begin one.
            ActsElsewhere: whoever acts on the site now reads another one.
        """
        self.site = site or pick_site(inventory, None)
        self.place = Workplace(
            site=self.site,
            state=state,
            inventory=inventory,
            network_map=network_map,
            creates=creates,
        )
        self.place.refuse_elsewhere()
        self._inventory = inventory
        self.declared = self._find_declared()

    @property
    def store(self) -> Store:
        """The site's Store."""
        return self.place.store

    def _find_declared(self) -> Site | None:
        """The accepted revision; before the first, the inventory; `None` where neither can be read."""
        record = self.store.accepted()
        try:
            if record is not None:
                return self.place.revisions().site(record.digest)
            return load_declared(self._inventory, self.site).site
        except (ControlPlaneError, click.ClickException) as error:
            click.echo(
                f"gridplane: the declaration cannot be read ({error}); the name is taken as it is",
                err=True,
            )
            return None

    def check(self, node: str) -> None:
        """Refuse a name that covers nothing, as far as that can be known."""
        if self.declared is not None:
            check_node(self.declared, node)

    def covered(self, node: str) -> frozenset[str]:
        """The assets that a node covers, as far as that can be known."""
        if self.declared is None:
            return frozenset()
        return assets_below(self.declared, {node})[node]

    def size_of(self, overlay: Overlay) -> str:
        """How much an overlay covers, in words."""
        return f", {len(overlay.assets):,} slots" if self.declared is not None else ""

    def under_way(self, overlay: Overlay) -> list[str]:
        """Writes below it that had left before it came, and have not shown their effect: a line each.

        Where the declaration cannot be read, those of the whole site.
        """
        now_s, clock = self.place.clock.wall_s(), self.place.clock
        lines = [
            f"{describe(o)}, sent {span(clock.wire_of(now_s - o.sent_at_s))} ago to {o.asset}: "
            "not called back"
            for o in self.store.open_operations()
            if self.declared is None or o.asset in overlay.assets
        ]
        if len(lines) > _LINES:
            lines[_LINES:] = [f"and {len(lines) - _LINES:,} more: see `gridplane get operations`"]
        return lines

    def tell_overlay(self, overlay: Overlay, told: str, *, by: str, output: str) -> None:
        """Say that an overlay is in force, what it came too late for, and how it ends."""
        under_way = self.under_way(overlay)
        release = f"gridplane release {overlay.id} --site {self.site} --by {by}{self.to_release}"
        result = OverlayResult(
            site=self.site, overlay=overlay, under_way=under_way, release=release
        )
        text = "\n".join([told, *under_way, f"release it:  {release}"])
        emit(output, result, table=text, names=[overlay.id])

    def set_overlay(
        self, kind: OverlayKind, *, node: str, owner: str, reason: str, ttl_s: float | None
    ) -> Overlay:
        """Put an overlay in force; durable when this returns.

        Raises:
            StoreError: it is not in force; say so to whoever stands at the rack.
        """
        now_s = self.place.clock.wall_s()
        with self._turn():
            number = self.store.next_number("overlay")
            overlay = Overlay(
                id=f"h{number:04d}",
                kind=kind,
                node=node,
                owner=owner,
                reason=reason,
                since_s=now_s,
                assets=self.covered(node),
                expires_s=None if ttl_s is None else now_s + ttl_s,
            )
            self.store.put_overlay(overlay)
            self._note(
                "hold" if kind is not OverlayKind.FREEZE else "freeze",
                node,
                owner,
                f"{kind} by {owner}: {reason}",
            )
        return overlay

    def drop_overlay(self, overlay: Overlay, by: str) -> None:
        """End an overlay."""
        with self._turn():
            self.store.drop_overlay(overlay.id)
            self._note("release", overlay.node, by, f"{overlay.kind} {overlay.id} released by {by}")

    def curtail(self, programme: str, overlays: Sequence[Overlay], *, by: str, text: str) -> None:
        """Put a programme in force, in place of what it was before; durable when this returns."""
        with self._turn():
            for old in of_programme(self.store.overlays(), programme):
                self.store.drop_overlay(old.id)
            for overlay in overlays:
                self.store.put_overlay(overlay)
            self._note("curtail", self.site, by, f"{programme} by {by}: {text}")

    def resume(self, programme: str, overlays: Sequence[Overlay], *, by: str) -> None:
        """End a programme."""
        with self._turn():
            for overlay in overlays:
                self.store.drop_overlay(overlay.id)
            self._note("resume", self.site, by, f"{programme} ended by {by}")

    def drop_released(self, device: Released, by: str) -> None:
        """End the counting of a device that left the declaration: it is unplugged."""
        with self._turn():
            self.store.drop_released([device.asset])
            self._note("release", device.asset, by, f"{device.asset} is unplugged, says {by}")

    def orders(self, orders: Sequence[Order]) -> None:
        """Leave orders for the engine."""
        with self._turn():
            for order in orders:
                self.store.put_order(order)
                self._note("order", order.target, order.by, f"{order.kind} by {order.by}")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """The Store's transaction. While another process does not end its own, say so, and go on trying.

        Raises:
            StoreBusy: it did not end within a minute; nothing was kept.
        """
        self.store.wait_at_most(limits.HOLD_EFFECT_S)
        with contextlib.ExitStack() as turn:
            for left in range(_TRIES, 0, -1):
                try:
                    turn.enter_context(self.store.transaction())
                    break
                except StoreBusy as busy:
                    if left == 1:
                        raise
                    if left % _TELLS_EVERY == 0:
                        click.echo(f"gridplane: NOT YET DONE, still trying: {busy}", err=True)
            yield

    def _note(self, kind: str, node: str, by: str, text: str) -> None:
        now_s = self.place.clock.wall_s()
        record = {"at_s": now_s, "kind": kind, "node": node, "by": by, "text": text}
        asset = (
            node if self.declared and any(d.asset == node for d in self.declared.devices) else None
        )
        event = Event(at_s=now_s, kind=kind, text=text, node=node)
        self.store.put_events([msgspec.structs.replace(event, asset=asset)])
        self.place.audit.append([record])
