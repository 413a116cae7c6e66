"""A catalogue with whatever the profiles of an inventory ask for: one release for each device type."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import yaml

from control_plane.simulator.images import Conduct, SimImage, make_image


def files_of(root: Path) -> dict[str, bytes]:
    """What is declared on disk, by path."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.yaml")}


def catalogue(
    files: Mapping[str, bytes], images: Path | None = None, *, conduct: Conduct = Conduct.GOOD
) -> dict[str, bytes]:
    """Path → release, for every version that a profile names and every type that has its family.

    With `images`, simulated ones that the machines take are laid there, and do what `conduct` says.
    """
    documents = {
        path: yaml.safe_load(data)
        for path, data in files.items()
        if path.startswith(("profiles/", "device-types/"))
    }
    types = {p: d for p, d in documents.items() if p.startswith("device-types/")}
    made: dict[str, bytes] = {}
    for path, profile in documents.items():
        if path in types or profile["kind"] != "miner" or "version" not in profile["firmware"]:
            continue
        firmware = profile["firmware"]
        for place, kind in types.items():
            if firmware["family"] in kind["families"]:
                name = place.removeprefix("device-types/").removesuffix(".yaml")
                models = (kind["model"].casefold(), *kind.get("reported_models", ()))
                image = SimImage(
                    family=firmware["family"],
                    models=models,
                    version=str(firmware["version"]),
                    conduct=conduct,
                )
                release = f"firmware/{name}-{firmware['family'].replace('_', '-')}.yaml"
                made[release] = release_of(name, image, images)
    return made


def release_of(kind: str, image: SimImage, images: Path | None) -> bytes:
    """The release of an image for a device type; with `images` the image is laid there."""
    data = make_image(image, size_bytes=50_000)
    digest = hashlib.sha256(data).hexdigest()
    # Not by the device type: another name of that is no other firmware.
    name = f"{digest[:12]}.bin"
    if images:
        (images / name).write_bytes(data)
    return f"""\
family: {image.family}
version: "{image.version}"
device_types: [{kind}]
images: [{{file: {name}, sha256: {digest}, size_bytes: {len(data)}}}]
can_roll_back: true
voids_warranty: false
""".encode()
