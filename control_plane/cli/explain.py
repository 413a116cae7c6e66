"""`gridplane explain`."""

from __future__ import annotations

import difflib

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.reading import of_reading
from control_plane.cli.workplace import Workplace, load_declared
from control_plane.core.firmware import bundle_of
from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.fleet import Device, Site
from control_plane.core.gpu_domains import domains_of
from control_plane.core.overlay import covering, nodes_above
from control_plane.core.renumbering import addresses_of
from control_plane.core.rotation import RotationEntry, Subject
from control_plane.core.rotation_rollout import Aim, Rotation, password_of
from control_plane.core.world import decide_all, pinned
from control_plane.engine.postures import known_postures
from control_plane.engine.secrets import SystemSecrets
from control_plane.views.explain import Explanation, path_of, render_explanation
from control_plane.views.remedies import remedies_shown
from control_plane.views.rollouts import Machine, machine_of

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
        firmware=_brings(place, declared, one),
        grant=_locks(place, world.locked.get(device, ""), device),
        posture=known_postures(
            msgspec.structs.replace(declared, devices=(one,)), world, SystemSecrets()
        ).get(device),
        rotation=_rotates(place, password_of(one)),
        login=_rotated(place, Subject.PASSWORD, device),
        renumbering=_rotates(place, addresses_of(one)),
        address=_rotated(place, Subject.ADDRESS, device),
        remedies=remedies_shown(
            one,
            store.remedy(device),
            store.remedy_site(),
            domains=domains_of(declared).of.get(device, ()),
            now_s=world.now_s,
        ),
    )
    emit(output, explanation, table=render_explanation(explanation), names=[device])
    return Exit.OK


def _brings(place: Workplace, site: Site, device: Device) -> FirmwareRollout | None:
    """The firmware rollout that is declared for a device."""
    bundle = bundle_of(site, device)
    if bundle is None:
        return None
    found = (f for f in place.store.firmware() if f.is_declared and f.bundle == bundle.digest)
    return next(found, None)


def _rotates(place: Workplace, aim: Aim | None) -> Rotation | None:
    """The rotation that is declared for a device."""
    return next((r for r in place.store.rotations() if r.is_declared and r.aim == aim), None)


def _rotated(place: Workplace, subject: Subject, asset: str) -> RotationEntry | None:
    """How far a device came with the last one."""
    return next((e for e in place.store.rotating(subject) if e.asset == asset), None)


def _locks(place: Workplace, operation: str, asset: str) -> Machine | None:
    """How far a device is under the grant that locks it."""
    if not operation:
        return None
    grant = next((g for g in place.store.grants(open_only=True) if g.operation == operation), None)
    return None if grant is None else machine_of(grant, asset)
