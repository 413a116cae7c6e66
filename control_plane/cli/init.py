"""`gridplane init`."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import click

from control_plane.api.schema import file_name, schema_of
from control_plane.api.v1alpha1 import DOCUMENTS
from control_plane.cli.exits import Exit, Stop

_FLEET = """\
# What holds for every site.
api_version: gridplane.dev/v1alpha1
name: my-fleet
"""

_OWNER = """\
# Whose machines, and the only pools that they may ever work for.
name: My company
pools:
  main:
    host: pool.example.com
    port: 3333
    worker: "mycompany.{asset}"  # {asset}, {rack}, {slot} and {site} are replaced per device
  backup:
    host: backup.example.net
    port: 3333
    worker: "mycompany.{asset}"
"""

_TYPE = """\
# Nameplate facts of a model. The ladder is ascending in watts.
kind: miner
make: Bitmain
model: Antminer S21
reported_models: [antminer s21]
families: [antminer_stock]
boards: 3
chips_per_board: 108
cooling: air
standby_w: 25
modes:
  - {name: low, hashrate_ths: 160, power_w: 2560}
  - {name: normal, hashrate_ths: 200, power_w: 3500}
nominal_mode: normal
source: replace with the data sheet of your machines
"""

_PROFILE = """\
# What a class of devices should run. Anything left out is left to the device.
kind: miner
firmware: {family: antminer_stock}
pools: [main, backup]
mining: true
power_mode: normal
credentials:
  user: root
  secret_ref: env:GRIDPLANE_ANTMINER_PASSWORD  # a reference; never the password itself
"""

_SITE = """\
name: First site
tenure: {kind: owned}
location: {country: US, region: Georgia, place: Macon}
time_zone: America/New_York
networks:
  - {name: miners, cidr: 10.0.0.0/24, purpose: miners}
"""

_POWER = """\
# The feed tree, from the grid down. usable = rating x derate.
nodes:
  - {id: grid, kind: utility, rating_kw: 100, derate: 1.0}
  - {id: pdu-1, kind: pdu, parent: grid, rating_kw: 40}
"""

_RACKS = """\
racks:
  - id: r01
    feed: pdu-1
    slots: 8
    owner: me
    type: antminer-s21
    profile: standard
    addressing: {static_by_slot: 10.0.0.11}  # slot 1; each slot one more
    placement: by_slot  # assets are r01-s1 ... r01-s8; `gridplane trust r01` pins who answers
"""

SCHEMAS = ".schema"
"""Where the schemas for editors lie: hidden, so that they are no part of the declaration."""


def _for_editors(path: str, text: str) -> str:
    """The text below the line by which editors find the schema of the file."""
    kind = next(kind for pattern, kind in DOCUMENTS if PurePosixPath(path).match(pattern))
    up = "../" * path.count("/")
    return f"# yaml-language-server: $schema={up}{SCHEMAS}/{file_name(kind)}\n{text}"


FILES = {
    path: _for_editors(path, text)
    for path, text in {
        "fleet.yaml": _FLEET,
        "owners/me.yaml": _OWNER,
        "device-types/antminer-s21.yaml": _TYPE,
        "profiles/standard.yaml": _PROFILE,
        "sites/first-site/site.yaml": _SITE,
        "sites/first-site/power.yaml": _POWER,
        "sites/first-site/racks/r01.yaml": _RACKS,
    }.items()
}
"""The smallest inventory that is worth editing; it validates as it stands."""


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="inventory")
def command(*, folder: Path) -> int:
    """Start an inventory: one owner, one model, one site with one rack of eight. Overwrites nothing.

    \b
    gridplane init
    gridplane init ~/fleet/inventory && gridplane validate --inventory ~/fleet/inventory
    """
    there = sorted(name for name in FILES if (folder / name).exists())
    if there:
        raise Stop(f"{folder / there[0]} exists already: nothing was written", Exit.REFUSED)
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(str(path))
    for _, kind in DOCUMENTS:
        path = folder / SCHEMAS / file_name(kind)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(schema_of(kind), indent=2) + "\n", encoding="utf-8")
    click.echo(f"{folder / SCHEMAS}  (for editors)")
    click.echo("\nNext: edit them, then  gridplane validate  and  gridplane plan", err=True)
    return Exit.OK
