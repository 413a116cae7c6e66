"""`gridplane release`."""

from __future__ import annotations

from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.saying import Saying
from control_plane.core.memory import Memory
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import RolloutState
from control_plane.engine.records import Order, OrderKind


@click.command("release")
@click.argument("target")
@options.of_site
@options.by
def command(
    *,
    target: str,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    by: str,
) -> int:
    """End what keeps TARGET from its declaration: a hold, a freeze, an override, a latch, a stop.

    TARGET is the id of a hold, incident or rollout, or a node (then: all holds on exactly that
    node), or a device that is overridden, contested or stuck. A safety hold is released by its
    owner alone. A device that is released from an override comes back as a rollout would bring
    it: inside its headroom, through the gate.

    \b
    gridplane release h0007 --by j.ortiz --site ga-macon
    gridplane release ga-a1-r07-s03 --site ga-macon
    """
    saying = Saying(inventory, site, state, network_map)
    overlays = [o for o in saying.store.overlays() if target in {o.id, o.node}]
    done = [_release_overlay(saying, overlay, by) for overlay in overlays]
    done += _release_records(saying, target, by)
    memory = saying.store.memories().get(target)
    if memory is not None:
        done += _release_latches(saying, memory, by)
    if not done:
        raise Stop(
            f"nothing holds '{target}' on {saying.site}: see `gridplane get holds`, "
            "`gridplane get incidents`, `gridplane explain DEVICE`",
            Exit.USAGE,
        )
    for text in done:
        click.echo(text)
    return Exit.OK


def _release_overlay(saying: Saying, overlay: Overlay, by: str) -> str:
    if overlay.kind is OverlayKind.SAFETY_HOLD and overlay.owner != by:
        raise Stop(
            f"{overlay.id} is a safety hold of {overlay.owner} on {overlay.node}: only "
            f"{overlay.owner} releases it ({overlay.reason})",
            Exit.REFUSED,
        )
    saying.drop_overlay(overlay, by)
    return f"{overlay.id}: {overlay.kind} on {overlay.node} released"


def _release_records(saying: Saying, target: str, by: str) -> list[str]:
    done = []
    for incident in saying.store.incidents():
        if target in {incident.id, incident.node}:
            _order(saying, OrderKind.INCIDENT, incident.id, by)
            done.append(f"{incident.id}: the engine is told to close it")
    for rollout in saying.store.rollouts():
        if rollout.id == target and rollout.state is RolloutState.HALTED:
            _order(saying, OrderKind.ROLLOUT, rollout.id, by)
            done.append(f"{rollout.id}: the engine is told to go on with the next wave")
    return done


def _release_latches(saying: Saying, memory: Memory, by: str) -> list[str]:
    kinds = []
    if memory.contested:
        kinds.append(OrderKind.CONTESTED)
    if memory.stuck:
        kinds.append(OrderKind.STUCK)
    if memory.overridden_since_s is not None:
        kinds.append(OrderKind.OVERRIDE)
    for kind in kinds[:1]:
        # Any one of them starts the device afresh.
        _order(saying, kind, memory.asset, by)
    return [f"{memory.asset}: {kind} released" for kind in kinds]


def _order(saying: Saying, kind: OrderKind, target: str, by: str) -> None:
    saying.order(Order(kind=kind, target=target, by=by, at_s=saying.place.clock.wall_s()))
