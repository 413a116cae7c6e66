"""`gridplane explain`."""

from __future__ import annotations

import difflib

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.reading import of_reading
from control_plane.cli.workplace import Workplace, load_declared
from control_plane.core.overlay import covering, nodes_above
from control_plane.core.world import decide_all, pinned
from control_plane.views.explain import Explanation, path_of, render_explanation

_LAST = 5


@click.command("explain")
@click.argument("device")
@of_reading
@options.output
def command(
    *,
    place: Workplace,
    device: str,
    output: str,
) -> int:
    """Say why DEVICE is as it is: what declares each field, what was seen, done and held, what is next.

    \b
    gridplane explain m-000253 --site ga-macon
    """
    store = place.store
    record = store.accepted()
    declared = (
        place.revisions().site(record.digest)
        if record
        else load_declared(place.inventory, place.site).site
    )
    known = {d.asset: d for d in declared.devices}
    if device not in known:
        near = difflib.get_close_matches(device, known, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise Stop(f"{place.site} has no device '{device}'.{hint}", Exit.USAGE)
    world = place.world(declared, record.digest if record else "")
    one = known[device]
    rollouts = store.rollouts()
    explanation = Explanation(
        now_s=world.now_s,
        device=one,
        path=path_of(declared, one),
        decision=decide_all(declared, world)[device],
        memory=pinned(one, world.memories.get(device)),
        sighting=world.sightings.get(device),
        overlays=covering(world.overlays, nodes_above(declared, one)),
        revision=record,
        rollout=rollouts[-1] if rollouts else None,
        operations=tuple(store.operations(device, _LAST)),
        events=tuple(event for _, event in store.events(device, _LAST)),
    )
    emit(output, explanation, table=render_explanation(explanation), names=[device])
    return Exit.OK
