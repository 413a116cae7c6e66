"""What must hold of the catalogue: each machine finds one image of a release, and it is signed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from control_plane.api.v1alpha1 import FirmwareImageDoc, FirmwareReleaseDoc
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.shape import File
from control_plane.inventory.source import quoted
from control_plane.inventory.tree import Tree

SIGNED: Final = b"gridplane.dev/firmware-image/1\n"
"""What stands before the digest in the bytes that a key signs: a signature of something else is none."""


def check_firmware(tree: Tree, problems: Problems) -> None:
    """Check every release of the catalogue, each by itself and all together."""
    taken: dict[tuple[str, str, str], str] = {}
    keys = tree.fleet.data.firmware_keys if tree.fleet else {}
    for name, release in tree.firmware.items():
        if release is None:
            continue
        _types(name, release, tree, taken, problems)
        _images(release, problems)
        for index, image in enumerate(release.data.images):
            what = _unsigned(image, keys)
            if what:
                spot = release.doc.spot("images", index)
                problems.add(errors.BAD_SIGNATURE, release.doc, spot, what)


def _types(
    name: str,
    release: File[FirmwareReleaseDoc],
    tree: Tree,
    taken: dict[tuple[str, str, str], str],
    problems: Problems,
) -> None:
    doc, data = release.doc, release.data
    for index, kind in enumerate(data.device_types):
        spot = doc.spot("device_types", index)
        if kind not in tree.types:
            what = f"the release is for the device type {quoted(kind)}"
            problems.add(errors.UNKNOWN_TYPE, doc, spot, what, word=kind, known=tree.types)
            continue
        file = tree.types[kind]
        if file and data.family not in file.data.families:
            what = f"{quoted(kind)} runs {', '.join(sorted(file.data.families))}, not {data.family}"
            fix = "take the type out, or correct the family"
            problems.add(errors.FIRMWARE_MODEL, doc, spot, what, fix=fix)
        other = taken.setdefault((kind, data.family, data.version), name)
        if other != name:
            what = (
                f"{data.family} {data.version} for {quoted(kind)} is in firmware/{other}.yaml too"
            )
            problems.add(errors.RELEASE_TWICE, doc, spot, what)


def _images(release: File[FirmwareReleaseDoc], problems: Problems) -> None:
    for (_, one), (at, other) in combinations(enumerate(release.data.images), 2):
        if _meet(one.control_boards, other.control_boards) and _meet(
            one.hardware_revisions, other.hardware_revisions
        ):
            what = f"{quoted(one.file)} and {quoted(other.file)} may both be for one machine"
            spot = release.doc.spot("images", at)
            problems.add(errors.IMAGE_OVERLAP, release.doc, spot, what)


def _meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether something may be in both; none stands for any."""
    folded = {text.casefold() for text in one}
    return not one or not other or any(text.casefold() in folded for text in other)


def _unsigned(image: FirmwareImageDoc, keys: dict[str, str]) -> str | None:
    """What is wrong with the signature of an image, in words."""
    who = image.signed_by
    if who is None or image.signature is None:
        return f"image {quoted(image.file)} is not signed" if keys or who else None
    if who not in keys:
        known = ", ".join(sorted(keys)) or "none"
        return f"image {quoted(image.file)} is signed by {quoted(who)}; fleet.yaml has {known}"
    # Loaded where an image is signed: half of all loads see none.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )

    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(keys[who]))
    try:
        key.verify(base64.b64decode(image.signature), SIGNED + image.sha256.encode())
    except InvalidSignature:
        return f"the signature of {quoted(image.file)} by {quoted(who)} is not over this SHA-256"
    return None


def versions_of(tree: Tree, kind: str, family: str) -> Iterator[str]:
    """What the catalogue has of a family for a device type."""
    for release in tree.firmware.values():
        if release and family == release.data.family and kind in release.data.device_types:
            yield release.data.version
