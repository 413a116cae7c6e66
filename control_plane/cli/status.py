"""`gridplane status`."""

from __future__ import annotations

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit
from control_plane.cli.reading import of_reading
from control_plane.cli.workplace import Workplace
from control_plane.core.plan import make_plan
from control_plane.core.posture import tally
from control_plane.engine.postures import known_postures
from control_plane.engine.secrets import SystemSecrets
from control_plane.views.status import SiteStatus, render_status

_PAGES = 5
_EVENTS_SEARCHED = 2_000


@click.command("status")
@of_reading
@options.output
def command(
    *,
    place: Workplace,
    output: str,
) -> int:
    """Show where a site stands. Asks no device: reads what the engine keeps.

    \b
    gridplane status --site ga-macon
    watch -n 5 gridplane status --site ga-macon
    gridplane status --site ga-macon -o json | jq .plan.effect
    """
    status = read_status(place)
    emit(output, status, table=render_status(status), names=[place.site])
    return Exit.OK


def read_status(place: Workplace) -> SiteStatus:
    """Everything that `status` shows."""
    store = place.store
    record = store.accepted()
    plan = posture = None
    if record is not None:
        declared = place.revisions().site(record.digest)
        world = place.world(declared, record.digest)
        plan = make_plan(declared, record.digest, world)
        known = known_postures(declared, world, SystemSecrets())
        posture = tally(known.values())
    rollouts = store.rollouts()
    pages = [e for _, e in store.events(limit=_EVENTS_SEARCHED) if e.kind == "page"]
    return SiteStatus(
        site=place.site,
        now_s=place.clock.wall_s(),
        accepted=record,
        engine=place.engine_status(),
        rollout=rollouts[-1] if rollouts else None,
        plan=plan,
        overlays=store.overlays(),
        incidents=tuple(store.incidents()),
        pages=tuple(pages[:_PAGES]),
        firmware=tuple(f for f in store.firmware() if not f.has_ended),
        posture=posture,
        credentials=tuple(r for r in store.rotations() if not r.has_ended),
    )
