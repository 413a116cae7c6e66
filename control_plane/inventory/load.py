"""inventory/ → `Fleet`, or every finding. The one way in: from disk, from Git, from the Store."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from control_plane.api.v1alpha1 import FleetDoc
from control_plane.core import limits
from control_plane.core.findings import Finding
from control_plane.core.fleet import Fleet, Site
from control_plane.inventory import errors
from control_plane.inventory.canonical import digest_of_site
from control_plane.inventory.check_bmc import check_remedies
from control_plane.inventory.check_cluster import check_cluster
from control_plane.inventory.check_firmware import check_firmware
from control_plane.inventory.check_meters import check_meters
from control_plane.inventory.check_power import check_feeds, check_loads
from control_plane.inventory.check_shared import check_shared
from control_plane.inventory.check_site import check_site
from control_plane.inventory.check_slots import SlotCheck
from control_plane.inventory.expand import expand, shared_of
from control_plane.inventory.problems import Problems
from control_plane.inventory.tree import SiteTree, Tree, is_data, read_tree


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a load."""

    fleet: Fleet | None
    """`None` where there is any error: half a declaration is none."""
    findings: tuple[Finding, ...]
    """Errors and warnings, in the order of files and lines."""
    digests: Mapping[str, str] = {}
    """Site → digest of its canonical form: the revision."""
    files: Mapping[str, Mapping[str, bytes]] = {}
    """Site → the files it was made from, by path below the inventory's root."""


class Shared(NamedTuple):
    """What all sites share."""

    tree: Tree
    """Of no site."""
    findings: tuple[Finding, ...]
    is_valid: bool


def load(root: Path, sites: Collection[str] | None = None) -> Loaded:
    """Read an inventory from disk.

    Args:
        root: the folder that holds `fleet.yaml`.
        sites: only these; `None` for all.
    """
    problems = Problems()
    prefix = prefix_of(root)
    files = _from_disk(root, sites, prefix, problems)
    return _load(files, sites, prefix, problems)


def load_files(
    files: Mapping[str, bytes],
    sites: Collection[str] | None = None,
    root: Path = Path("inventory"),
) -> Loaded:
    """Read an inventory from memory: path below its root → content. `root` is how places name it."""
    return _load(files, sites, prefix_of(root), Problems())


def load_shared(root: Path, instead: Mapping[str, bytes] = MappingProxyType({})) -> Shared:
    """Read what all sites share: the catalogue and what it is checked against.

    Args:
        root: the folder that holds `fleet.yaml`.
        instead: path below it → content, read in the place of what is on disk.
    """
    problems = Problems()
    prefix = prefix_of(root)
    files = {**_from_disk(root, (), prefix, problems), **instead}
    tree = read_tree(files, (), prefix, problems)
    check_shared(tree, problems, all_sites=False)
    check_firmware(tree, problems)
    return Shared(tree=tree, findings=problems.found(), is_valid=not problems.errors)


def _load(
    files: Mapping[str, bytes],
    sites: Collection[str] | None,
    prefix: str,
    problems: Problems,
) -> Loaded:
    tree = read_tree(files, sites, prefix, problems)
    check_shared(tree, problems, all_sites=sites is None)
    check_firmware(tree, problems)
    shared = shared_of(tree, tree.fleet.data if tree.fleet else _ANY_FLEET)
    slots = SlotCheck(tree, shared, problems)
    for site in tree.sites.values():
        _check(site, slots, problems)
        check_remedies(site, shared.profiles, problems)
    if problems.errors or tree.fleet is None:
        return Loaded(fleet=None, findings=problems.found())
    resolved: dict[str, Site] = {}
    for name in sorted(tree.sites):
        one = expand(tree.sites[name], shared)
        if one is not None:
            resolved[name] = one
    rings = tuple(ring.sites for ring in tree.fleet.data.rings)
    return Loaded(
        fleet=Fleet(name=tree.fleet.data.name, sites=resolved, rings=rings),
        findings=problems.found(),
        digests={name: digest_of_site(site) for name, site in resolved.items()},
        files={name: slice_of(files, name) for name in resolved},
    )


_ANY_FLEET = FleetDoc(api_version="gridplane.dev/v1alpha1", name="unread")
"""Stands in while the rest of a tree with a broken fleet.yaml is checked; nothing is made of it."""


def _check(site: SiteTree, slots: SlotCheck, problems: Problems) -> None:
    check_site(site, problems)
    check_cluster(site, problems)
    check_meters(site, problems)
    nodes = None
    if site.power is not None:
        hosted = site.site.data.tenure.kind == "hosted_in" if site.site else None
        nodes = check_feeds(site.power, is_hosted=hosted, problems=problems)
    declared_w = slots.check(site, nodes)
    if site.power is not None and nodes is not None:
        check_loads(site.power, nodes, declared_w, problems)


def slice_of(files: Mapping[str, bytes], site: str) -> dict[str, bytes]:
    """The files that one site is made from: the shared ones and its own."""
    return {
        path: data
        for path, data in sorted(files.items())
        if is_data(path) and (not path.startswith("sites/") or path.startswith(f"sites/{site}/"))
    }


# --- disk ------------------------------------------------------------------------------------


def prefix_of(root: Path) -> str:
    """What stands before a path in findings: the folder as it was named, if that is short."""
    given = root.as_posix()
    if given == ".":
        return ""
    return f"{root.name}/" if root.is_absolute() or given.startswith("..") else f"{given}/"


def _from_disk(
    root: Path, sites: Collection[str] | None, prefix: str, problems: Problems
) -> dict[str, bytes]:
    """Every data file below the root; whatever is no plain file becomes a finding."""
    files: dict[str, bytes] = {}
    if not root.is_dir():
        what = f"{root} is no folder" if root.exists() else f"{root} does not exist"
        problems.add_file(errors.EMPTY_INVENTORY, prefix.rstrip("/") or ".", what)
        return files
    total = 0
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            what = f"the folder cannot be read: {error.strerror}"
            problems.add_file(errors.UNREADABLE, prefix + folder, what)
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or (folder == "sites" and _unwanted(entry.name, sites)):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
                continue
            if not (is_data(path) or entry.is_symlink()):
                continue
            data = _read(root / path, prefix + path, problems)
            total += len(data) if data else 0
            if len(files) >= limits.INVENTORY_MAX_FILES or total > limits.INVENTORY_MAX_BYTES:
                what = f"more than {limits.INVENTORY_MAX_FILES:,} files or "
                what += f"{limits.INVENTORY_MAX_BYTES:,} bytes"
                problems.add_file(errors.TOO_BIG, prefix.rstrip("/") or ".", what)
                return files
            if data is not None:
                files[path] = data
    return files


def _unwanted(name: str, sites: Collection[str] | None) -> bool:
    return sites is not None and name not in sites


def _read(path: Path, shown: str, problems: Problems) -> bytes | None:
    """A plain file's content. A link, a pipe or a device is never opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        what = "a link" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        problems.add_file(errors.UNREADABLE, shown, what)
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor that is open already
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            problems.add_file(errors.UNREADABLE, shown, "not a plain file")
            return None
        # One byte more than the largest cap: enough to tell that it is passed.
        return file.read(limits.PLACEMENT_MAX_BYTES + 1)
