"""`gridplane firmware`: the catalogue of firmware, and the store of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.firmware_add import Wish, add
from control_plane.cli.progress import ProgressLine
from control_plane.cli.workplace import refuse_unknown
from control_plane.core.errors import DeclarationError
from control_plane.core.findings import SourceRef
from control_plane.drivers.registry import FAMILIES
from control_plane.engine.image_shelf import Look, Shelved, look_at, superfluous
from control_plane.inventory.load import Shared, load, load_shared
from control_plane.views.table import counted, table

_QUIET_BELOW: Final = 64 << 20
"""Bytes that are read before anybody asks what takes so long."""
_MAKER: Final = (
    "A digest holds an image against the catalogue, a signature against fleet.yaml. Whether its maker made "
    "it, and for which machine, only the machine itself checks."
)

images = click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="GRIDPLANE_IMAGES",
    required=True,
    help="Folder of the store, where images lie by name; made if need be.  [env: GRIDPLANE_IMAGES]",
)


def _complete(folder: str) -> object:
    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        root = Path(ctx.params.get("inventory") or "inventory") / folder
        return sorted(p.stem for p in root.glob("*.yaml") if p.stem.startswith(incomplete))

    return complete


@click.group("firmware")
def command() -> None:
    """The catalogue of firmware that may be installed, and the store of its images.

    \b
    gridplane firmware list
    gridplane firmware verify --images /srv/images
    """


@command.command("add")
@click.argument(
    "files",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)
@options.inventory
@images
@click.option(
    "--family",
    shell_complete=lambda _ctx, _param, typed: [f for f in FAMILIES if f.startswith(typed)],
    help="Firmware family, e.g. antminer_stock.",
)
@click.option("--version", help="As a machine that runs it prints it, to the letter.")
@click.option(
    "--type",
    "types",
    multiple=True,
    shell_complete=_complete("device-types"),
    help="Device type that it was approved for. May be repeated.",
)
@click.option(
    "--release",
    shell_complete=_complete("firmware"),
    help="Name of the file in firmware/.  [default: the one of family and version, else made of them]",
)
@click.option(
    "--control-board",
    "boards",
    multiple=True,
    metavar="[IMAGE=]BOARD",
    help="What an image is for, as machines print it; without IMAGE for all. May be repeated.",
)
@click.option(
    "--hardware-revision",
    "revisions",
    multiple=True,
    metavar="[IMAGE=]REVISION",
    help="As above.",
)
@click.option("--min-from-version", help="It is not installed over an older one.")
@click.option("--rolls-back/--no-roll-back", default=None, help="Whether a machine can go back.")
@click.option("--voids-warranty/--keeps-warranty", default=None, help="Say one for a new release.")
@click.option("--note", help="On warranty and whatever else people should read.")
@click.option("--signed-by", help="One of firmware_keys, who signed the one image.")
@click.option("--signature", help="Of the one image, base64: see the how-to.")
@click.option("--dry-run", is_flag=True, help="Check everything, write nothing.")
@options.output
def add_command(
    *,
    files: tuple[Path, ...],
    inventory: Path,
    images: Path,
    family: str | None,
    version: str | None,
    types: tuple[str, ...],
    release: str | None,
    boards: tuple[str, ...],
    revisions: tuple[str, ...],
    min_from_version: str | None,
    rolls_back: bool | None,
    voids_warranty: bool | None,
    note: str | None,
    signed_by: str | None,
    signature: str | None,
    dry_run: bool,
    output: str,
) -> int:
    """Put images of a maker into the catalogue and into the store, both or neither.

    Works out size and SHA-256. What an image is for is not told by its bytes: the version, types and
    control boards are said here, and checked against the inventory. A release that stands gets the images;
    its comments and form stay. Nothing that lies in the store is ever replaced.

    \b
    gridplane firmware add whatsminer-h616-20240924.14.bin --images /srv/images \\
        --family whatsminer_v2 --version 20240924.14.Rel --type whatsminer-m60s \\
        --control-board H616 --no-roll-back --keeps-warranty
    gridplane firmware add cvitek.bmu aml.bmu --images /srv/images --release antminer-s21-2024-12 \\
        --control-board cvitek.bmu=CVITEK --control-board aml.bmu=AMLCtrl
    """
    wish = Wish(
        files=files,
        inventory=inventory,
        store=images,
        family=family,
        version=version,
        types=types,
        release=release,
        boards=boards,
        revisions=revisions,
        min_from_version=min_from_version,
        can_roll_back=rolls_back,
        voids_warranty=voids_warranty,
        note=note,
        signed_by=signed_by,
        signature=signature,
    )
    total = 2 * sum(path.stat().st_size for path in files)
    with _Bytes("images", total) as told:
        done = add(wish, told, dry=dry_run)
    verb = f"{'would be' if dry_run else 'is'} {'made' if done.is_new else 'extended'}"
    kinds = ", ".join(done.device_types)
    lines = [f"{done.path} {verb}: {done.family} {done.version} for {kinds}"]
    for one in done.images:
        stored = "put into the store" if one.is_stored else "in the store already"
        lines.append(
            f"  {one.file}: {one.size_bytes:,} bytes, {one.packed_as or 'a form of its own'}"
        )
        lines.append(f"    sha256 {one.sha256}, {'checked' if dry_run else stored}")
        lines += [f"    look again: {doubt}" for doubt in one.doubts]
    emit(output, done, table="\n".join(lines), names=[done.release])
    return Exit.OK


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One image of the catalogue, or a file of a store that is none; from `verify` and `list`."""

    file: str
    release: str | None = None
    family: str | None = None
    version: str | None = None
    device_types: tuple[str, ...] = ()
    size_bytes: int | None = None
    sha256: str | None = None
    signed_by: str | None = None
    """Whose signature holds; `None`: it has none."""
    where: str | None = None
    """`PATH:LINE:COLUMN` in the inventory."""
    store: str | None = None
    state: str | None = None
    """One of `ok`, `missing`, `truncated`, `too_long`, `wrong_digest`, `unreadable`, `superfluous`."""
    detail: str = ""


@command.command("list")
@options.inventory
@options.output
def list_command(*, inventory: Path, output: str) -> int:
    """List the images of the catalogue: what for, and whose signature holds.

    \b
    gridplane firmware list
    gridplane firmware list -o json
    """
    rows = _catalogue(_shared(inventory))
    cells = [
        (
            r.release,
            r.family,
            r.version,
            ", ".join(r.device_types),
            r.file,
            r.size_bytes,
            _signed(r),
        )
        for r in rows
    ]
    head = ("RELEASE", "FAMILY", "VERSION", "TYPES", "IMAGE", "BYTES", "SIGNED BY")
    emit(output, rows, table=table(head, cells), names=[r.file for r in rows])
    return Exit.OK


@command.command("verify")
@options.inventory
@options.site
@click.option(
    "--images",
    metavar="PLACE",
    envvar="GRIDPLANE_IMAGES",
    help="Folder or http:// URL of the store.  [default: each site's firmware_store]",
)
@options.output
def verify_command(*, inventory: Path, site: str | None, images: str | None, output: str) -> int:
    """Hold every image of the catalogue against the store: missing, cut short, another one, superfluous.

    Reads all of each image. Exit code 5 where one is not as the catalogue says; a superfluous file alone is
    none of that. A web server cannot be listed: what is superfluous there is not told.

    \b
    gridplane firmware verify --images /srv/images
    gridplane firmware verify --site ga-macon -o json
    """
    rows = _catalogue(_shared(inventory))
    places = [images] if images is not None else _stores(inventory, site)
    total = len(places) * sum(row.size_bytes or 0 for row in rows)
    found: list[Row] = []
    with _Bytes("images", total) as told:
        for place in places:
            found += [_looked(place, row, told) for row in rows]
            more = superfluous(place, {row.file for row in rows})
            found += [
                Row(file=name, store=place, state=Shelved.SUPERFLUOUS.value) for name in more or ()
            ]
    bad = sum(row.state not in {Shelved.OK, Shelved.SUPERFLUOUS} for row in found)
    cells = [(r.state, r.file, r.release, r.store, _signed(r), r.detail, r.where) for r in found]
    head = ("STATE", "IMAGE", "RELEASE", "STORE", "SIGNED BY", "", "WHERE")
    verdict = f"{counted(len(rows), 'image')}: " + (
        f"{bad:,} not as the catalogue says" if bad else "as the catalogue says"
    )
    emit(
        output,
        found,
        table=f"{table(head, cells)}\n{verdict}\n{_MAKER}",
        names=[row.file for row in found if row.state != Shelved.OK],
    )
    return Exit.REFUSED if bad else Exit.OK


def _shared(inventory: Path) -> Shared:
    shared = load_shared(inventory)
    if not shared.is_valid:
        raise DeclarationError(shared.findings)
    return shared


def _stores(inventory: Path, site: str | None) -> list[str]:
    """Where the sites say that images are, each once."""
    if site:
        refuse_unknown(inventory, site)
    loaded = load(inventory, sites={site} if site else None)
    if loaded.fleet is None:
        raise DeclarationError(loaded.findings)
    places = {s.firmware_store for s in loaded.fleet.sites.values() if s.firmware_store}
    if not places:
        raise Stop("no site says firmware_store: name the store by --images PLACE", Exit.USAGE)
    return sorted(places)


def _catalogue(shared: Shared) -> list[Row]:
    """All images; each signature that is there was found to hold when the catalogue was loaded."""
    rows = []
    for name, file in shared.tree.firmware.items():
        assert file is not None  # noqa: S101 - of a valid inventory every file was read
        doc, data = file
        for index, image in enumerate(data.images):
            spot = doc.spot("images", index)
            rows.append(
                Row(
                    file=image.file,
                    release=name,
                    family=data.family,
                    version=data.version,
                    device_types=data.device_types,
                    size_bytes=image.size_bytes,
                    sha256=image.sha256,
                    signed_by=image.signed_by,
                    where=str(SourceRef(doc.path, spot.line, spot.column)),
                )
            )
    return rows


def _looked(place: str, row: Row, told: _Bytes) -> Row:
    from control_plane.core.catalogue import Image

    assert row.sha256 is not None  # noqa: S101 - a row of the catalogue
    assert row.size_bytes is not None  # noqa: S101 - as above
    image = Image(file=row.file, sha256=row.sha256, size_bytes=row.size_bytes)
    look: Look = look_at(place, image, told)
    return msgspec.structs.replace(row, store=place, state=look.state.value, detail=look.detail)


def _signed(row: Row) -> str | None:
    return row.signed_by or ("nobody" if row.release else None)


class _Bytes(ProgressLine):
    """Mebibytes that were read, of so many; silent where that is soon done."""

    def __init__(self, label: str, total: int) -> None:
        super().__init__(f"{label}, MiB", quiet=total < _QUIET_BELOW)
        self._total, self._done = total, 0

    def __call__(self, more: int) -> None:
        self._done += more
        self.count(self._done >> 20, max(self._total >> 20, self._done >> 20))
