"""What people say where no state folder is: to a site's cluster, or into the journal of this host."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from control_plane.cli.exits import Exit, Stop
from control_plane.cli.reading import Source, reading
from control_plane.cli.saying import Saying
from control_plane.cli.workplace import Workplace, pick_site, run_async
from control_plane.core.errors import ControlPlaneError, StoreError
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.engine import said
from control_plane.engine.records import Order, Released
from control_plane.engine.store import Store

if TYPE_CHECKING:
    from control_plane.core.cluster import Body, Kind
    from control_plane.kube.asking import Answer


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of a verb say."""

    inventory: Path
    site: str | None
    state: Path | None
    network_map: Path | None
    kubeconfig: Path | None
    namespace: str | None
    journal: Path | None = None


@contextlib.contextmanager
def saying_at(where: Where, *, creates: bool = False, reads: bool = False) -> Iterator[Saying]:
    """Where a word goes, for as long as the block runs.

    Args:
        where: what the options say.
        creates: whether the verb may begin a state folder.
        reads: whether it has to know what is in force before it says anything.

    Raises:
        Stop: the options name two places, or one that is not to be had.
    """
    if where.journal is not None and where.kubeconfig is not None:
        raise Stop("--journal and --kubeconfig are two places: say one", Exit.USAGE)
    if where.journal is not None:
        with _nowhere(where) as place:
            yield JournalSaying(place, where, where.journal)
    elif where.kubeconfig is not None:
        with _of_cluster(where, where.kubeconfig, reads=reads) as found:
            yield found
    else:
        yield Saying(where.inventory, where.site, where.state, where.network_map, creates=creates)


@contextlib.contextmanager
def _of_cluster(where: Where, kubeconfig: Path, *, reads: bool) -> Iterator[Saying]:
    source = Source(
        inventory=where.inventory,
        site=where.site,
        state=None,
        network_map=where.network_map,
        kubeconfig=kubeconfig,
        namespace=where.namespace,
        server=None,
    )
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(reading(source))
            unread = ""
        except (ControlPlaneError, click.ClickException) as error:
            if reads:
                raise
            # A hold does not wait for somebody to lead.
            unread = str(error)
            click.echo(f"gridplane: what is in force is not known here: {unread}", err=True)
            place = stack.enter_context(_nowhere(where))
        yield ClusterSaying(place, where, kubeconfig, unread)


@contextlib.contextmanager
def _nowhere(where: Where) -> Iterator[Workplace]:
    """A site of which nothing is known but its declaration."""
    with tempfile.TemporaryDirectory(prefix="gridplane-") as folder:
        Store(Path(folder) / "state.sqlite").close()
        yield Workplace(
            site=where.site or pick_site(where.inventory, None),
            state=Path(folder),
            inventory=where.inventory,
            network_map=where.network_map,
        )


class ClusterSaying(Saying):
    """Says it in objects, and waits until whoever leads has answered."""

    def __init__(self, place: Workplace, where: Where, kubeconfig: Path, unread: str) -> None:
        """Read what is in force from `place`, a copy of the leader's Store."""
        from control_plane.kube.client import namespace_in

        self.site, self.place = place.site, place
        self._inventory = where.inventory
        self._kubeconfig = kubeconfig
        self._namespace = where.namespace or namespace_in(kubeconfig)
        self._unread = unread
        self.to_release = f" --kubeconfig {kubeconfig} --namespace {self._namespace}"
        self.declared = self._find_declared()

    def under_way(self, overlay: Overlay) -> list[str]:
        """As the copy knows it, which was made right before."""
        if self._unread:
            return ["writes that had left before it came are not known here, and not called back"]
        return super().under_way(overlay)

    def set_overlay(
        self, kind: OverlayKind, *, node: str, owner: str, reason: str, ttl_s: float | None
    ) -> Overlay:
        """Make an `Overlay`; in force in the leader's gate when this returns."""
        from control_plane.kube.kinds import OVERLAY
        from control_plane.kube.saying import overlay_body

        overlay = _new(self, kind, node=node, owner=owner, reason=reason, ttl_s=ttl_s)
        body = overlay_body(overlay, site=self.site, namespace=self._namespace)
        self._say(OVERLAY, [body], f"Overlay {overlay.id}", "in force")
        return overlay

    def drop_overlay(self, overlay: Overlay, by: str) -> None:
        """Order the end of an overlay."""
        self._order([("release", overlay.id, by, None, None)])

    def drop_released(self, device: Released, by: str) -> None:
        """Order the end of the counting of a device that is unplugged."""
        self._order([("unplugged", device.asset, by, None, None)])

    def orders(self, orders: Sequence[Order]) -> None:
        """Order, all at once."""
        self._order([(o.kind.value, o.target, o.by, o.pin, o.through) for o in orders])

    def say_remedy(
        self,
        kind: str,
        target: str,
        *,
        by: str,
        reason: str,
        for_s: float | None = None,
        **more: Any,
    ) -> str:
        """Say something of the remedies of GPU nodes; what was answered, in words.

        `more` are other fields of the order, of which some kinds need some.
        """
        from control_plane.api.conditions import moment
        from control_plane.api.objects import OrderSpec
        from control_plane.kube.kinds import ORDER
        from control_plane.kube.saying import order_body, shortened_text

        now_s = self.place.clock.wall_s()
        spec = OrderSpec(
            site=self.site,
            kind=kind,  # type: ignore[arg-type]  # the server checks it
            target=target,
            by=by,
            at=moment(now_s),
            reason=shortened_text(reason),
            until=None if for_s is None else moment(now_s + for_s),
            **more,
        )
        name = f"{kind.replace('_', '-')}-{secrets.token_hex(4)}"
        body = order_body(spec, name=name, namespace=self._namespace)
        return self._say(ORDER, [body], f"Order {name}", "obeyed")[name].words

    def _order(self, words: Iterable[tuple[str, str, str, Any, int | None]]) -> None:
        from control_plane.api.conditions import moment
        from control_plane.api.objects import OrderSpec, PinPart
        from control_plane.kube.kinds import ORDER
        from control_plane.kube.saying import order_body

        at = moment(self.place.clock.wall_s())
        bodies = [
            order_body(
                OrderSpec(
                    site=self.site,
                    kind=kind,  # type: ignore[arg-type]  # the server checks it
                    target=target,
                    by=by,
                    at=at,
                    pin=PinPart(mac=pin.mac, serial=pin.serial, source=pin.source) if pin else None,
                    through=through,
                ),
                name=f"{kind}-{secrets.token_hex(4)}",
                namespace=self._namespace,
            )
            for kind, target, by, pin, through in words
        ]
        self._say(ORDER, bodies, f"{len(bodies):,} orders", "obeyed")

    def _say(
        self, kind: Kind, bodies: Sequence[Body], what: str, wanted: str
    ) -> Mapping[str, Answer]:
        """Make objects and wait; what was answered, by name.

        Raises:
            Stop: it was refused, or nobody has answered in time.
        """
        from control_plane.core.cluster import ClusterAway
        from control_plane.kube.asking import WAIT_S, ask
        from control_plane.kube.client import connect, kubeconfig

        async def main() -> Mapping[str, Answer]:
            async with connect(kubeconfig(self._kubeconfig)) as cluster:
                return await ask(
                    cluster,
                    kind,
                    bodies,
                    namespace=self._namespace,
                    clock=self.place.clock,
                    waits=lambda left: click.echo(
                        f"gridplane: NOT YET {wanted.upper()}, still waiting for whoever leads {self.site} "
                        f"({left:,} of {len(bodies):,})",
                        err=True,
                    ),
                )

        try:
            answers = run_async(main())
        except ClusterAway as error:
            raise Stop(
                f"NOT SAID, and not {wanted}: the API server does not answer: {error}. On a management host: "
                "--journal FOLDER",
                Exit.STATE,
            ) from error
        refused = {name: one for name, one in answers.items() if not one.is_done}
        if refused:
            name, first = next(iter(refused.items()))
            more = f" (and {len(refused) - 1:,} more)" if len(refused) > 1 else ""
            raise Stop(f"{name}: {first.words or first.reason}{more}", Exit.REFUSED)
        if len(answers) < len(bodies):
            raise Stop(
                f"NOT KNOWN to be {wanted}: {what} stands in namespace {self._namespace}, and nobody has "
                f"answered within {WAIT_S:.0f} s. Whoever leads {self.site} next goes by it first; until "
                "then look at the machines yourself",
                Exit.STATE,
            )
        return answers


class JournalSaying(Saying):
    """Writes it down on this management host, with nothing else up."""

    in_force = (
        "in the journal of this host: in force at the controllers of this host at once, at others once "
        "the API server is back"
    )
    to_release = " --kubeconfig FILE"

    def __init__(self, place: Workplace, where: Where, folder: Path) -> None:
        """Find the declaration, as far as that can be had here."""
        self.site, self.place = place.site, place
        self._inventory, self._folder = where.inventory, folder
        self.declared = self._find_declared()

    def under_way(self, overlay: Overlay) -> list[str]:
        """Nobody to ask."""
        del overlay
        return ["writes that had left before it came are not known here, and not called back"]

    def set_overlay(
        self, kind: OverlayKind, *, node: str, owner: str, reason: str, ttl_s: float | None
    ) -> Overlay:
        """Write it into the journal; on disk when this returns."""
        overlay = _new(self, kind, node=node, owner=owner, reason=reason, ttl_s=ttl_s)
        try:
            said.say(self._folder, self.site, overlay)
        except StoreError as error:
            raise Stop(f"NOT in force: {error}", Exit.STATE) from error
        return overlay


def _new(
    by: Saying, kind: OverlayKind, *, node: str, owner: str, reason: str, ttl_s: float | None
) -> Overlay:
    """An overlay with a name that nobody else uses."""
    now_s = by.place.clock.wall_s()
    return Overlay(
        id=f"h-{secrets.token_hex(4)}",
        kind=kind,
        node=node,
        owner=owner,
        reason=reason,
        since_s=now_s,
        assets=by.covered(node),
        expires_s=None if ttl_s is None else now_s + ttl_s,
    )
