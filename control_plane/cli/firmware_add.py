"""What `gridplane firmware add` does: everything is checked before anything is written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import msgspec

from control_plane.api.schema import file_name
from control_plane.api.v1alpha1 import FirmwareReleaseDoc
from control_plane.cli.exits import Exit, Stop
from control_plane.core.catalogue import Image
from control_plane.core.errors import DeclarationError
from control_plane.core.findings import SourceRef
from control_plane.core.image_head import HEAD_BYTES, doubts, packed_as, why_no_image
from control_plane.engine.image_shelf import Told, digest_of, put_in
from control_plane.inventory.catalogue_text import Entry, new_release, with_images
from control_plane.inventory.load import Shared, load_shared, prefix_of
from control_plane.inventory.shape import File

_NAME_MAX: Final = 63


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; `None` where nothing was said."""

    files: tuple[Path, ...]
    inventory: Path
    store: Path
    family: str | None
    version: str | None
    types: tuple[str, ...]
    release: str | None
    boards: tuple[str, ...]
    """`BOARD`, or `IMAGE=BOARD`."""
    revisions: tuple[str, ...]
    min_from_version: str | None
    can_roll_back: bool | None
    voids_warranty: bool | None
    note: str | None
    signed_by: str | None
    signature: str | None


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """One image."""

    file: str
    size_bytes: int
    sha256: str
    packed_as: str | None
    """`None`: a form of its maker's own."""
    doubts: tuple[str, ...]
    """What a person should look at again."""
    is_stored: bool
    """Whether it was put into the store; `False`: it lay there already, or nothing was written."""


class AddResult(msgspec.Struct, frozen=True, kw_only=True):
    """From `firmware add`."""

    release: str
    path: str
    is_new: bool
    family: str
    version: str
    device_types: tuple[str, ...]
    store: str
    is_written: bool
    images: tuple[Added, ...]


def add(wish: Wish, told: Told, *, dry: bool) -> AddResult:
    """Put images into catalogue and store.

    Raises:
        Stop: the wish is incomplete, contradicts what stands, or is there already.
        DeclarationError: the catalogue would not be valid; nothing was written.
        ImageUnfit: an image cannot be read, or another lies under its name.
    """
    folder = wish.inventory / "firmware"
    heads = {path: _head(path) for path in wish.files}
    found = [_image(path, told) for path in wish.files]
    with _alone(wish.inventory):
        shared = load_shared(wish.inventory)
        if not shared.is_valid:
            raise DeclarationError(shared.findings)
        for image in found:
            _refuse_known(shared, image)
        name, before = _release(wish, shared)
        entries = _entries(wish, found)
        if before is None:
            text = new_release(_fields(wish), entries, schema=_schema(wish.inventory))
        else:
            text = with_images(before.doc.path, before.doc.text, entries)
        path = f"firmware/{name}.yaml"
        after = load_shared(wish.inventory, {path: text.encode()})
        release = after.tree.firmware.get(name)
        if not after.is_valid or release is None:
            raise DeclarationError(after.findings)
        stored = [False] * len(found)
        if not dry:
            with _drafted(folder / f"{name}.yaml", text, is_new=before is None):
                stored = [
                    put_in(wish.store, source, image, told)
                    for source, image in zip(wish.files, found, strict=True)
                ]
    return AddResult(
        release=name,
        path=prefix_of(wish.inventory) + path,
        is_new=before is None,
        family=release.data.family,
        version=release.data.version,
        device_types=release.data.device_types,
        store=str(wish.store),
        is_written=not dry,
        images=tuple(
            Added(
                file=image.file,
                size_bytes=image.size_bytes,
                sha256=image.sha256,
                packed_as=packed_as(heads[source]),
                doubts=doubts(image.file, release.data.version),
                is_stored=put,
            )
            for source, image, put in zip(wish.files, found, stored, strict=True)
        ),
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise Stop(f"{path}: {error.strerror}", Exit.USAGE) from error
    if reason := why_no_image(head):
        raise Stop(f"{path} is no firmware image: {reason}", Exit.REFUSED)
    return head


def _image(path: Path, told: Told) -> Image:
    size, sha256 = digest_of(path, told)
    return Image(file=path.name, sha256=sha256, size_bytes=size)


def _refuse_known(shared: Shared, image: Image) -> None:
    """One name is one image and one image is of one release: else a store could not hold both."""
    for file in shared.tree.firmware.values():
        assert file is not None  # noqa: S101 - of a valid inventory every file was read
        for index, other in enumerate(file.data.images):
            spot = file.doc.spot("images", index)
            where = SourceRef(file.doc.path, spot.line, spot.column)
            if other.sha256 == image.sha256:
                raise Stop(
                    f"{where}: {image.file} is in the catalogue already, as {other.file} of "
                    f"{file.data.family} {file.data.version}",
                    Exit.REFUSED,
                )
            if other.file == image.file:
                raise Stop(
                    f"{where}: the catalogue has another {image.file}, with the SHA-256 "
                    f"{other.sha256:.16}…, and this one has {image.sha256:.16}…: give it a name of its own",
                    Exit.REFUSED,
                )


def _release(wish: Wish, shared: Shared) -> tuple[str, File[FirmwareReleaseDoc] | None]:
    """The release that the images belong to: its name, and what stands of it."""
    standing = {name: file for name, file in shared.tree.firmware.items() if file is not None}
    name = wish.release
    if name is None:
        if wish.family is None or wish.version is None:
            raise Stop("say which release: --family and --version, or --release", Exit.USAGE)
        same = [
            n
            for n, f in standing.items()
            if (f.data.family, f.data.version) == (wish.family, wish.version)
            and (not wish.types or set(wish.types) & set(f.data.device_types))
        ]
        if len(same) > 1:
            raise Stop(
                f"{', '.join(same)} are of {wish.family} {wish.version}: say --release", Exit.USAGE
            )
        name = same[0] if same else _named(wish.family, wish.version)
    before = standing.get(name)
    if before is not None:
        _refuse_other(wish, before)
    return name, before


def _refuse_other(wish: Wish, before: File[FirmwareReleaseDoc]) -> None:
    """What is said must not contradict what stands: nothing of that is changed here."""
    data = before.data
    said: Mapping[str, tuple[object, object]] = {
        "family": (wish.family, data.family),
        "version": (wish.version, data.version),
        "min_from_version": (wish.min_from_version, data.min_from_version),
        "can_roll_back": (wish.can_roll_back, data.can_roll_back),
        "voids_warranty": (wish.voids_warranty, data.voids_warranty),
        "note": (wish.note, data.note),
    }
    for key, (want, have) in said.items():
        if want is not None and want != have:
            spot = before.doc.spot(key)
            where = SourceRef(before.doc.path, spot.line, spot.column)
            raise Stop(
                f"{where}: the release stands with {key} {have}, not {want}: leave the option out, edit the "
                "file, or name another release",
                Exit.REFUSED,
            )
    for kind in wish.types:
        if kind not in data.device_types:
            spot = before.doc.spot("device_types")
            where = SourceRef(before.doc.path, spot.line, spot.column)
            raise Stop(
                f"{where}: the release was approved for {', '.join(data.device_types)}, not for {kind}: "
                "approve it there first",
                Exit.REFUSED,
            )


def _named(family: str, version: str) -> str:
    words = re.sub(r"[^a-z0-9.]+", "-", f"{family}-{version}".lower())
    return words[:_NAME_MAX].strip("-.")


def _schema(inventory: Path) -> str:
    """From a release to the schema: what `gridplane init` laid, else what this repository has."""
    from control_plane.cli.init import SCHEMAS

    own = (inventory / SCHEMAS).is_dir()
    return f"../{SCHEMAS if own else '../docs/reference/schema/v1alpha1'}/{file_name(FirmwareReleaseDoc)}"


def _fields(wish: Wish) -> dict[str, object]:
    lacking = [
        option
        for option, value in (
            ("--family", wish.family),
            ("--version", wish.version),
            ("--type", wish.types or None),
            ("--rolls-back or --no-roll-back", wish.can_roll_back),
            ("--voids-warranty or --keeps-warranty", wish.voids_warranty),
        )
        if value is None
    ]
    if lacking:
        raise Stop(f"for a new release say {', '.join(lacking)} too", Exit.USAGE)
    fields: dict[str, object] = {
        "family": wish.family,
        "version": wish.version,
        "device_types": wish.types,
    }
    if wish.min_from_version is not None:
        fields["min_from_version"] = wish.min_from_version
    fields |= {"can_roll_back": wish.can_roll_back, "voids_warranty": wish.voids_warranty}
    if wish.note is not None:
        fields["note"] = wish.note
    return fields


def _entries(wish: Wish, found: list[Image]) -> list[Entry]:
    names = {image.file for image in found}
    if len(names) < len(found):
        raise Stop("two of the images have one name", Exit.USAGE)
    boards = _told(wish.boards, names, "--control-board")
    revisions = _told(wish.revisions, names, "--hardware-revision")
    if (wish.signed_by is None) != (wish.signature is None) or (wish.signature and len(found) > 1):
        raise Stop("--signed-by and --signature go together, with one image", Exit.USAGE)
    entries: list[Entry] = []
    for image in found:
        entry: dict[str, object] = {
            "file": image.file,
            "size_bytes": image.size_bytes,
            "sha256": image.sha256,
        }
        if of := boards[image.file]:
            entry["control_boards"] = of
        if of := revisions[image.file]:
            entry["hardware_revisions"] = of
        if wish.signed_by is not None:
            entry |= {"signed_by": wish.signed_by, "signature": wish.signature}
        entries.append(entry)
    return entries


def _told(values: tuple[str, ...], names: set[str], option: str) -> dict[str, tuple[str, ...]]:
    """File → what was said of it."""
    told: dict[str, list[str]] = {name: [] for name in names}
    for value in values:
        name, is_named, what = value.rpartition("=")
        if is_named and name not in names:
            raise Stop(f"{option} {value}: no image here is called {name}", Exit.USAGE)
        for each in [name] if is_named else sorted(names):
            told[each].append(what)
    return {name: tuple(those) for name, those in told.items()}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time: a second one waits, then reads what the first wrote."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Stop(f"{folder}: {error.strerror}", Exit.USAGE) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _drafted(path: Path, text: str, *, is_new: bool) -> Iterator[None]:
    """A text that lies ready beside its place, and takes it once the block ends well."""
    try:
        path.parent.mkdir(exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as draft:
            made = Path(draft.name)
            draft.write(text.encode())
            draft.flush()
            os.fsync(draft.fileno())
        made.chmod(0o644 if is_new else path.stat().st_mode & 0o777)
    except OSError as error:
        raise Stop(f"{path} cannot be written: {error.strerror}", Exit.REFUSED) from error
    try:
        yield
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
