"""`gridplane get`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit
from control_plane.cli.nodes import check_node, names_below
from control_plane.cli.reading import of_reading
from control_plane.cli.workplace import Workplace, load_declared
from control_plane.core.decision import Decision
from control_plane.core.digest import short
from control_plane.core.fleet import Site
from control_plane.core.observation import Observation
from control_plane.core.overlay import nodes_above
from control_plane.core.plan import make_plan
from control_plane.core.world import World, decide_all
from control_plane.engine.gate import describe
from control_plane.engine.records import RevisionRecord
from control_plane.views.table import power, span, table


class _Listing(NamedTuple):
    header: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    data: object
    names: Sequence[str]


class _Request:
    """What is asked of which site; the declaration is read only for a kind that is made from it."""

    def __init__(
        self,
        *,
        place: Workplace,
        node: str | None,
        reason: str | None,
        limit: int,
    ) -> None:
        self.place = place
        self.node, self.reason, self.limit = node, reason, limit
        if node is not None:
            check_node(self.site, node)

    @cached_property
    def _accepted(self) -> RevisionRecord | None:
        return self.place.store.accepted()

    @cached_property
    def site(self) -> Site:
        """As accepted; before that, as the inventory has it."""
        if self._accepted is None:
            return load_declared(self.place.inventory, self.place.site).site
        return self.place.revisions().site(self._accepted.digest)

    @property
    def revision(self) -> str:
        return self._accepted.digest if self._accepted else ""

    def world(self) -> World:
        return self.place.world(self.site, self.revision)

    def names(self) -> frozenset[str]:
        """The node that was asked for and all below it; empty for the whole site."""
        return frozenset() if self.node is None else names_below(self.site, self.node)

    def ago(self, at_s: float) -> str:
        return f"{span(self.place.clock.wall_s() - at_s)} ago"


def _devices(request: _Request) -> _Listing:
    world = request.world()
    decisions = decide_all(request.site, world)
    rows, data = [], []
    for device in request.site.devices:
        if request.node is not None and request.node not in nodes_above(request.site, device):
            continue
        decision, seen = decisions[device.asset], world.sightings.get(device.asset)
        state = decision.state
        if request.reason is not None and request.reason not in {state, *_reasons(decision)}:
            continue
        telemetry = seen.telemetry if isinstance(seen, Observation) else None
        hashrate_ths = telemetry.hashrate_ths if telemetry else None
        power_w = telemetry.power_w if telemetry else None
        rows.append(
            (device.asset, device.type.model, device.rack, device.slot, device.intent.owner,
             state, hashrate_ths, power_w)
        )  # fmt: skip
        data.append(
            {
                "asset": device.asset,
                "type": device.type.id,
                "rack": device.rack,
                "slot": device.slot,
                "owner": device.intent.owner,
                "state": state,
                "reasons": _reasons(decision),
                "converged": decision.converged,
                "hashrate_ths": hashrate_ths,
                "power_w": power_w,
                "address": device.address,
            }
        )
    header = ("DEVICE", "MODEL", "RACK", "SLOT", "OWNER", "STATE", "TH/S", "W")
    return _Listing(header, rows, data, [row[0] for row in rows])


def _reasons(decision: Decision) -> list[str]:
    return sorted({held.reason.value for held in decision.held})


def _racks(request: _Request) -> _Listing:
    decisions = decide_all(request.site, request.world())
    rows = []
    for rack in request.site.racks.values():
        devices = [d for d in request.site.devices if d.rack == rack.id]
        converged = sum(1 for d in devices if decisions[d.asset].converged)
        to_do = sum(1 for d in devices if decisions[d.asset].steps)
        held = sum(1 for d in devices if decisions[d.asset].held)
        rows.append((rack.id, rack.feed, rack.switch, rack.slots, converged, to_do, held))
    header = ("RACK", "FEED", "SWITCH", "SLOTS", "CONVERGED", "TO DO", "HELD")
    return _plain(header, rows)


def _feeds(request: _Request) -> _Listing:
    plan = make_plan(request.site, "", request.world())
    rows = []
    for node in plan.headroom:
        feed = request.site.feeds[node.node]
        share = f"{node.before_w / node.usable_w:.0%}" if node.usable_w > 0 else "-"
        rows.append(
            (node.node, feed.kind.value, feed.parent, power(feed.rating_w), power(node.usable_w),
             power(node.before_w), share)
        )  # fmt: skip
    return _plain(("FEED", "KIND", "PARENT", "RATING", "USABLE", "PERMITTED", "LOAD"), rows)


def _holds(request: _Request) -> _Listing:
    overlays = request.place.store.overlays()
    now_s = request.place.clock.wall_s()
    rows = [
        (o.id, o.kind.value, o.node, o.owner, request.ago(o.since_s), o.is_expired(now_s), o.reason)
        for o in overlays
    ]
    header = ("ID", "KIND", "NODE", "OWNER", "SINCE", "EXPIRED", "REASON")
    return _Listing(header, rows, overlays, [o.id for o in overlays])


def _rollouts(request: _Request) -> _Listing:
    found = request.place.store.rollouts()[::-1][: request.limit]
    rows = [
        (r.id, r.state.value, f"{r.wave + 1}/{len(r.waves)}", r.waves[-1] if r.waves else 0,
         sum(1 for gate in r.gates if gate.passed), short(r.to))
        for r in found
    ]  # fmt: skip
    software = [s for s in request.place.store.remedy_site().software.values() if s.waves]
    rows += [
        (s.id, s.state.value, f"{s.wave + 1}/{len(s.waves)}", s.waves[-1],
         sum(1 for gate in s.gates if gate.passed), str(s.want))
        for s in software
    ]  # fmt: skip
    header = ("ROLLOUT", "STATE", "WAVE", "DEVICES", "GATES PASSED", "REVISION")
    ids = [*(r.id for r in found), *(s.id for s in software)]
    return _Listing(header, rows, [*found, *software], ids)


def _revisions(request: _Request) -> _Listing:
    found = request.place.store.revisions()[::-1][: request.limit]
    rows = [
        (
            r.seq,
            short(r.digest),
            request.ago(r.accepted_at_s),
            r.accepted_by,
            r.commit and short(r.commit),
        )
        for r in found
    ]
    header = ("NUMBER", "REVISION", "ACCEPTED", "BY", "COMMIT")
    return _Listing(header, rows, found, [r.digest for r in found])


def _incidents(request: _Request) -> _Listing:
    found = request.place.store.incidents(open_only=False)[::-1][: request.limit]
    rows = [
        (i.id, i.open, i.node, i.cause, i.assets, request.ago(i.since_s), i.detail) for i in found
    ]
    header = ("ID", "OPEN", "NODE", "CAUSE", "DEVICES", "SINCE", "DETAIL")
    return _Listing(header, rows, found, [i.id for i in found])


def _events(request: _Request) -> _Listing:
    store, names = request.place.store, request.names()
    found = store.events_at(names, request.limit) if names else store.events(limit=request.limit)
    rows = [(n, request.ago(e.at_s), e.kind, e.asset or e.node, e.text) for n, e in found]
    header = ("NUMBER", "WHEN", "KIND", "WHERE", "WHAT")
    return _Listing(header, rows, [e for _, e in found], [str(n) for n, _ in found])


def _operations(request: _Request) -> _Listing:
    store, names = request.place.store, request.names()
    found = (
        store.operations_at(names, request.limit)
        if names
        else store.operations(limit=request.limit)
    )
    rows = [
        (o.id, request.ago(o.sent_at_s), o.asset, describe(o), o.why, o.stage.value, o.detail)
        for o in found
    ]
    header = ("ID", "SENT", "DEVICE", "WRITE", "WHY", "STAGE", "DETAIL")
    return _Listing(header, rows, found, [o.id for o in found])


def _released(request: _Request) -> _Listing:
    found = request.place.store.released()
    rows = [(r.asset, r.feed, power(r.power_w), request.ago(r.since_s)) for r in found]
    return _Listing(("DEVICE", "FEED", "COUNTED", "SINCE"), rows, found, [r.asset for r in found])


def _plain(header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> _Listing:
    keys = [title.lower().replace(" ", "_") for title in header]
    data = [dict(zip(keys, row, strict=True)) for row in rows]
    return _Listing(header, rows, data, [str(row[0]) for row in rows])


_KINDS: dict[str, Callable[[_Request], _Listing]] = {
    "devices": _devices,
    "racks": _racks,
    "feeds": _feeds,
    "holds": _holds,
    "rollouts": _rollouts,
    "revisions": _revisions,
    "incidents": _incidents,
    "events": _events,
    "operations": _operations,
    "released": _released,
}


@click.command("get")
@click.argument("kind", type=click.Choice(list(_KINDS)))
@click.argument("node", required=False)
@of_reading
@options.output
@click.option("--reason", help="Only devices in this state or held for this reason.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True,
              help="Most lines of histories.")  # fmt: skip
def command(
    *,
    place: Workplace,
    kind: str,
    node: str | None,
    output: str,
    reason: str | None,
    limit: int,
) -> int:
    """List what is known of a site; NODE narrows devices, events and operations. Asks no device.

    \b
    gridplane get devices --site ga-macon --reason manual_override
    gridplane get devices ga-a1-r07 --site ga-macon
    gridplane get operations m-000253 --site ga-macon -o json
    """
    request = _Request(place=place, node=node, reason=reason, limit=limit)
    listing = _KINDS[kind](request)
    text = table(listing.header, listing.rows) if listing.rows else f"no {kind}"
    emit(output, listing.data, table=text, names=listing.names)
    return Exit.OK
