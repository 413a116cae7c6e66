"""`gridplane release`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.results import ReleaseResult
from control_plane.cli.saying import Saying
from control_plane.cli.saying_afar import Where, saying_at
from control_plane.core.correlate import Incident
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.gpu_rollout import SoftwareRollout, SoftwareState
from control_plane.core.memory import Memory
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.rollout import Rollout, RolloutState
from control_plane.core.rotation import Subject
from control_plane.core.rotation_rollout import Rotation, released
from control_plane.engine.records import Order, OrderKind, Released
from control_plane.views.rotations import what_of
from control_plane.views.table import counted, power

_EVERY: Final = sys.maxsize
"""More waves than any rollout has."""


class _Thing(NamedTuple):
    """One thing that keeps a node from its declaration."""

    id: str
    words: str
    release: Callable[[], str]
    """Ends it; what was done, in words."""
    refusal: str = ""
    """Why whoever asks may not."""


@click.command("release")
@click.argument("target")
@click.option(
    "--through",
    type=click.IntRange(1),
    metavar="WAVE",
    help="Of firmware or a password: let all waves up to this one go.  [default: the open one]",
)
@click.option(
    "--all", "every", is_flag=True, help="Of firmware or a password: let all its waves go."
)
@options.of_site
@options.cluster
@options.output
@options.by
def command(
    *,
    target: str,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    kubeconfig: Path | None,
    namespace: str | None,
    output: str,
    by: str,
    through: int | None,
    every: bool,
) -> int:
    """End what keeps TARGET from its declaration: a hold, a freeze, an override, a latch, a stop.

    TARGET is the id of a hold, incident or rollout (of firmware or a password it lets the open wave go, or
    a halted one go on: see `gridplane rollout show`); or a node, if exactly one such thing is on it; or
    a device that is overridden, contested or stuck. A safety hold is released by its owner alone. A
    device that is released from an override comes back as a rollout would bring it: inside its
    headroom, through the gate. A device that left the declaration is counted until it is released:
    say so once it is unplugged.

    \b
    gridplane release h0007 --by j.ortiz --site ga-macon
    gridplane release m-000253 --site ga-macon
    gridplane release f0003 --through 4 --site ga-macon
    gridplane release c0001 --site ga-macon
    """
    if every and through is not None:
        raise Stop("--through and --all contradict each other: say one", Exit.USAGE)
    where = Where(
        inventory=inventory,
        site=site,
        state=state,
        network_map=network_map,
        kubeconfig=kubeconfig,
        namespace=namespace,
    )
    with saying_at(where, reads=True) as saying:
        thing = _only(saying, target, by, _EVERY if every else through)
        done = thing.release()
        result = ReleaseResult(site=saying.site, target=target, done=done)
        emit(output, result, table=done, names=[target])
    return Exit.OK


def _only(saying: Saying, target: str, by: str, through: int | None) -> _Thing:
    """The one thing that is meant.

    Raises:
        Stop: there is none or more than one, or whoever asks may not release it.
    """
    things = [_firmware(saying, f, by, through) for f in saying.store.firmware() if f.id == target]
    things += [
        _rotation(saying, r, by, through) for r in saying.store.rotations() if r.id == target
    ]
    if through is not None and not things:
        raise Stop(
            f"--through and --all are for rollouts of firmware and passwords, and '{target}' is none "
            f"of {saying.site}: see `gridplane rollout show`",
            Exit.USAGE,
        )
    things = things or _things(saying, target, by)
    if not things:
        raise Stop(
            f"nothing holds '{target}' on {saying.site}: see `gridplane get holds`, "
            "`gridplane get incidents`, `gridplane rollout show`, `gridplane explain DEVICE`",
            Exit.USAGE,
        )
    if len(things) > 1:
        found = "".join(f"\n  {thing.id:<8} {thing.words}" for thing in things)
        raise Stop(
            f"{len(things)} things are on {target}, so nothing was released. "
            f"Name the one that is meant:{found}",
            Exit.REFUSED,
        )
    (thing,) = things
    if thing.refusal:
        raise Stop(thing.refusal, Exit.REFUSED)
    return thing


def _things(saying: Saying, target: str, by: str) -> list[_Thing]:
    """What has the target as its id; else all that is on the node of that name."""
    store = saying.store
    overlays, incidents = store.overlays(), store.incidents()
    named = [_overlay(saying, o, by) for o in overlays if o.id == target]
    named += [_incident(saying, i, by) for i in incidents if i.id == target]
    named += [
        _rollout(saying, r, by)
        for r in store.rollouts()
        if r.id == target and r.state is RolloutState.HALTED
    ]
    named += [
        _software(saying, s, by)
        for s in store.remedy_site().software.values()
        if s.id == target and s.state is SoftwareState.HALTED
    ]
    if named:
        return named
    things = [_overlay(saying, o, by) for o in overlays if o.node == target]
    things += [_incident(saying, i, by) for i in incidents if i.node == target]
    memory = store.memories().get(target)
    if memory is not None:
        things += _latches(saying, memory, by)
    things += [_gone(saying, r, by) for r in store.released() if r.asset == target]
    return things


def _overlay(saying: Saying, overlay: Overlay, by: str) -> _Thing:
    words = f"{overlay.kind} of {overlay.owner} on {overlay.node} ({overlay.reason})"
    refusal = ""
    if overlay.kind is OverlayKind.SAFETY_HOLD and overlay.owner != by:
        refusal = (
            f"{overlay.id} is a safety hold of {overlay.owner} on {overlay.node}: only "
            f"{overlay.owner} releases it ({overlay.reason})"
        )

    def release() -> str:
        saying.drop_overlay(overlay, by)
        return f"{overlay.id}: {overlay.kind} on {overlay.node} released"

    return _Thing(overlay.id, words, release, refusal)


def _incident(saying: Saying, incident: Incident, by: str) -> _Thing:
    def release() -> str:
        _order(saying, OrderKind.INCIDENT, incident.id, by)
        return f"{incident.id}: the engine is told to close it"

    return _Thing(incident.id, f"incident ({incident.cause}) on {incident.node}", release)


def _rollout(saying: Saying, rollout: Rollout, by: str) -> _Thing:
    def release() -> str:
        _order(saying, OrderKind.ROLLOUT, rollout.id, by)
        return f"{rollout.id}: the engine is told to go on with the next wave"

    return _Thing(rollout.id, "halted rollout", release)


def _software(saying: Saying, rollout: SoftwareRollout, by: str) -> _Thing:
    def release() -> str:
        _order(saying, OrderKind.ROLLOUT, rollout.id, by)
        return f"{rollout.id}: the controller is told to go on with {rollout.want}"

    return _Thing(rollout.id, f"halted rollout of {rollout.want}", release)


def _firmware(saying: Saying, rollout: FirmwareRollout, by: str, through: int | None) -> _Thing:
    """Let its open wave go, or those up to one; a halted one goes on with that."""
    number = rollout.wave + 1 if through is None else min(through, len(rollout.waves))
    what = f"{rollout.version} for {rollout.model}"
    waits = rollout.state in {FirmwareState.WAITING, FirmwareState.INSTALLING}
    refusal = ""
    if waits and number <= rollout.released:
        refusal = f"{rollout.id}: wave {number} of {len(rollout.waves)} is let go already"
    elif not waits and rollout.state is not FirmwareState.HALTED:
        refusal = f"{rollout.id} ({what}) is {rollout.state}: there is nothing to let go"

    ends = (0, *rollout.waves)
    machines = ends[max(number, rollout.wave + 1)] - ends[rollout.wave]

    def release() -> str:
        order = Order(
            kind=OrderKind.FIRMWARE,
            target=rollout.id,
            by=by,
            at_s=saying.place.clock.wall_s(),
            through=None if through is None else number,
        )
        saying.orders([order])
        waves = f"wave {number}" if number <= rollout.wave + 1 else f"waves up to {number}"
        again = "go on and " if rollout.state is FirmwareState.HALTED else ""
        return (
            f"{rollout.id}: the engine is told to {again}install {what}: {waves} of "
            f"{len(rollout.waves)}, {counted(machines, 'machine')}"
        )

    return _Thing(rollout.id, f"firmware rollout of {what}", release, refusal)


def _rotation(saying: Saying, rotation: Rotation, by: str, through: int | None) -> _Thing:
    """Let its open wave go, or those up to one; one that halted goes on with that."""
    what, now_s = what_of(rotation.aim), saying.place.clock.wall_s()
    number = rotation.wave + 1 if through is None else min(through, len(rotation.waves))
    after = released(rotation, through=through, by=by, now_s=now_s)

    def release() -> str:
        order = Order(
            kind=OrderKind.CREDENTIALS,
            target=rotation.id,
            by=by,
            at_s=now_s,
            through=None if through is None else number,
        )
        saying.orders([order])
        waves = f"wave {number}" if number <= rotation.wave + 1 else f"waves up to {number}"
        verb = "rotate" if rotation.subject is Subject.PASSWORD else "give"
        return (
            f"{rotation.id}: the engine is told to {verb} {what}: {waves} of {len(rotation.waves)}"
        )

    refusal = f"{after}: there is nothing to let go" if isinstance(after, str) else ""
    return _Thing(rotation.id, f"rotation of {what}", release, refusal)


def _gone(saying: Saying, device: Released, by: str) -> _Thing:
    """A device that left the declaration counts at nameplate until somebody says that it is unplugged."""

    def release() -> str:
        saying.drop_released(device, by)
        return (
            f"{device.asset}: no longer counted, {power(device.power_w)} on {device.feed} are free"
        )

    words = f"{device.asset} left the declaration and counts {power(device.power_w)}"
    return _Thing("-", f"{words}: release the others first", release)


def _latches(saying: Saying, memory: Memory, by: str) -> list[_Thing]:
    """All latches of a device are one thing: any order about one starts the device afresh."""
    kinds = []
    if memory.contested:
        kinds.append(OrderKind.CONTESTED)
    if memory.stuck:
        kinds.append(OrderKind.STUCK)
    if memory.overridden_since_s is not None:
        kinds.append(OrderKind.OVERRIDE)
    if not kinds:
        return []
    words = " and ".join(kinds)

    def release() -> str:
        _order(saying, kinds[0], memory.asset, by)
        return f"{memory.asset}: {words} released"

    return [_Thing("-", f"{memory.asset} is {words}: release the others first", release)]


def _order(saying: Saying, kind: OrderKind, target: str, by: str) -> None:
    saying.orders([Order(kind=kind, target=target, by=by, at_s=saying.place.clock.wall_s())])
