"""Sites of the example inventory, as a stack reads them; with firmware declared where a test says so."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from control_plane.inventory.load import load_files
from control_plane.provision.site import DeclaredSite
from tests.inventory.releases import catalogue

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "inventory"
Edit = Callable[[str, bytes], bytes]


def read_files() -> dict[str, bytes]:
    """The example inventory, by path below its root."""
    return {
        path.relative_to(INVENTORY).as_posix(): path.read_bytes()
        for path in sorted(INVENTORY.rglob("*"))
        if path.is_file()
    }


def with_firmware(version: str = "2026.1", *, families: str = ".*") -> Edit:
    """Every profile of the families asks for a version."""
    words = re.compile(rf"firmware: \{{family: ({families})\}}".encode())

    def edit(path: str, data: bytes) -> bytes:
        if not path.startswith("profiles/") or b"kind: miner" not in data:
            return data
        return words.sub(rb'firmware: {family: \1, version: "%s"}' % version.encode(), data)

    return edit


def edited(files: Mapping[str, bytes], *edits: Edit) -> dict[str, bytes]:
    """The files after the edits, with a catalogue that has what profiles ask for."""
    made = dict(files)
    for edit in edits:
        made = {path: edit(path, data) for path, data in made.items()}
    return {**made, **catalogue(made)}


def declared_of(files: Mapping[str, bytes], site: str) -> DeclaredSite:
    loaded = load_files(files, {site})
    assert loaded.fleet is not None, loaded.findings
    return DeclaredSite(
        site=loaded.fleet.sites[site], digest=loaded.digests[site], files=loaded.files[site]
    )


@functools.cache
def ga_macon() -> DeclaredSite:
    """Every miner of the example site with a firmware: eight bundles."""
    return declared_of(edited(read_files(), with_firmware()), "ga-macon")


@functools.cache
def lab(version: str = "2026.1") -> DeclaredSite:
    return declared_of(edited(read_files(), with_firmware(version)), "lab")
