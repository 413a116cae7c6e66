"""`gridplane rollout`."""

from __future__ import annotations

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.reading import of_reading
from control_plane.cli.workplace import Workplace
from control_plane.views import rollouts as views
from control_plane.views import rotations


@click.group("rollout")
def command() -> None:
    """How far a revision, a firmware, a driver of GPUs, or a password has come.

    \b
    gridplane rollout show
    gridplane rollout show f0003 -o json
    """


@command.command("show")
@click.argument("rollout", required=False)
@of_reading
@options.output
def show(*, rollout: str | None, place: Workplace, output: str) -> int:
    """Show the rollouts of a site, or one with its gates; of firmware and passwords also each machine.

    \b
    gridplane rollout show
    gridplane rollout show f0003 --site ga-macon
    gridplane rollout show f0003 -o json
    """
    store = place.store
    if rollout is None:
        software = store.remedy_site().software.values()
        found = views.overview(store.rollouts(), store.firmware(), store.rotations(), software)
        emit(output, found, table=views.listed(found), names=[each.id for each in found])
        return Exit.OK
    rotation = next((each for each in store.rotations() if each.id == rollout), None)
    if rotation is not None:
        rotated = rotations.of_rotation(rotation, store.rotating(rotation.subject))
        emit(output, rotated, table=rotations.told(rotated), names=[rollout])
        return Exit.OK
    firmware = next((each for each in store.firmware() if each.id == rollout), None)
    if firmware is not None:
        shown = views.of_firmware(firmware, store.grants())
        emit(output, shown, table=views.told(shown), names=[rollout])
        return Exit.OK
    software = store.remedy_site().software.values()
    drivers = next((each for each in software if each.id == rollout), None)
    if drivers is not None:
        emit(output, drivers, table=views.of_software(drivers), names=[rollout])
        return Exit.OK
    settings = next((each for each in store.rollouts() if each.id == rollout), None)
    if settings is None:
        raise Stop(
            f"{place.site} has no rollout '{rollout}': see `gridplane rollout show`", Exit.USAGE
        )
    emit(output, settings, table=views.gates(settings.gates), names=[rollout])
    return Exit.OK
