"""Files of an inventory → documents by kind; every file is read, or there is a finding."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from control_plane.api.v1alpha1 import (
    ClusterDoc,
    DeviceTypeDoc,
    Document,
    FirmwareReleaseDoc,
    FleetDoc,
    GpuRacksDoc,
    HostsDoc,
    OwnerDoc,
    PowerDoc,
    ProfileDoc,
    RacksDoc,
    SiteDoc,
)
from control_plane.inventory import errors
from control_plane.inventory.placement import Table, read_placement
from control_plane.inventory.problems import Problems
from control_plane.inventory.shape import File, read_shape
from control_plane.inventory.source import quoted
from control_plane.inventory.text import read_yaml

D = TypeVar("D", bound=Document)

_PATTERNS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("fleet", re.compile(r"fleet\.yaml")),
    ("owners", re.compile(r"owners/([^/]+)\.yaml")),
    ("types", re.compile(r"device-types/([^/]+)\.yaml")),
    ("firmware", re.compile(r"firmware/([^/]+)\.yaml")),
    ("profiles", re.compile(r"profiles/([^/]+)\.yaml")),
    ("site", re.compile(r"sites/([^/]+)/site\.yaml")),
    ("power", re.compile(r"sites/([^/]+)/power\.yaml")),
    ("cluster", re.compile(r"sites/([^/]+)/cluster\.yaml")),
    ("hosts", re.compile(r"sites/([^/]+)/hosts/[^/]+\.yaml")),
    ("racks", re.compile(r"sites/([^/]+)/racks/[^/]+\.yaml")),
    ("gpu", re.compile(r"sites/([^/]+)/gpu/[^/]+\.yaml")),
    ("placement", re.compile(r"sites/([^/]+)/placement/[^/]+\.csv")),
)
_DATA: Final = (".yaml", ".yml", ".json", ".csv", ".toml")
_SITE_PATH: Final = re.compile(r"sites/([^/]+)/.+")
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


class SiteTree:
    """The documents of one site. `torn` names the kinds of which some file could not be read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.site: File[SiteDoc] | None = None
        self.power: File[PowerDoc] | None = None
        self.cluster: File[ClusterDoc] | None = None
        self.hosts: list[File[HostsDoc]] = []
        self.racks: list[File[RacksDoc]] = []
        self.gpu: list[File[GpuRacksDoc]] = []
        self.placement: list[Table] = []
        self.torn: set[str] = set()


class Tree:
    """All documents. Of a shared file that could not be read the name is known, but no content."""

    def __init__(self) -> None:
        self.fleet: File[FleetDoc] | None = None
        self.owners: dict[str, File[OwnerDoc] | None] = {}
        self.types: dict[str, File[DeviceTypeDoc] | None] = {}
        self.firmware: dict[str, File[FirmwareReleaseDoc] | None] = {}
        self.profiles: dict[str, File[ProfileDoc] | None] = {}
        self.sites: dict[str, SiteTree] = {}


def is_data(path: str) -> bool:
    """Whether a file is one that people would expect to be read; hidden ones and prose are not."""
    name = path.rpartition("/")[2]
    return name.lower().endswith(_DATA) and not any(p.startswith(".") for p in path.split("/"))


def read_tree(
    files: Mapping[str, bytes], sites: Collection[str] | None, prefix: str, problems: Problems
) -> Tree:
    """Read the shared files and those of the wanted sites.

    Args:
        files: path below the inventory's root → content.
        sites: the wanted ones; `None` for all, none for the shared files alone.
        prefix: stands before each path in findings.
        problems: where findings go.
    """
    tree = Tree()
    for path in sorted(files):
        if not is_data(path):
            continue
        belongs = _SITE_PATH.fullmatch(path)
        if belongs and sites is not None and belongs[1] not in sites:
            continue
        kind, name = _kind(path)
        if kind is None:
            what = f"no rule says what {path.rpartition('/')[2]} at this place means"
            problems.add_file(errors.UNKNOWN_FILE, prefix + path, what)
            continue
        if name and not NAME.fullmatch(name):
            what = (
                f"{quoted(name)} of the path is a name; expected lower-case letters, digits, dots"
            )
            problems.add_file(errors.BAD_FORMAT, prefix + path, f"{what} and dashes")
        _read(tree, kind, name, prefix + path, data=files[path], problems=problems)
    if "fleet.yaml" not in files:
        what = "the inventory has no fleet.yaml"
        problems.add_file(errors.MISSING_FILE, f"{prefix}fleet.yaml", what)
    _missing(tree, sites, prefix, problems)
    return tree


def _kind(path: str) -> tuple[str | None, str]:
    for kind, pattern in _PATTERNS:
        match = pattern.fullmatch(path)
        if match:
            return kind, match[1] if match.groups() else ""
    return None, ""


def _read(tree: Tree, kind: str, name: str, path: str, *, data: bytes, problems: Problems) -> None:
    def read(shape: type[D]) -> File[D] | None:
        document = read_yaml(path, data, problems)
        return read_shape(document, shape, problems) if document else None

    match kind:
        case "fleet":
            tree.fleet = read(FleetDoc)
            return
        case "owners":
            tree.owners[name] = read(OwnerDoc)
            return
        case "types":
            tree.types[name] = read(DeviceTypeDoc)
            return
        case "firmware":
            tree.firmware[name] = read(FirmwareReleaseDoc)
            return
        case "profiles":
            tree.profiles[name] = read(ProfileDoc)
            return
        case _:
            pass
    site = tree.sites.setdefault(name, SiteTree(name))
    found: Any = None
    match kind:
        case "site":
            found = site.site = read(SiteDoc)
        case "power":
            found = site.power = read(PowerDoc)
        case "cluster":
            found = site.cluster = read(ClusterDoc)
        case "hosts":
            found = _keep(site.hosts, read(HostsDoc))
        case "racks":
            found = _keep(site.racks, read(RacksDoc))
        case "gpu":
            found = _keep(site.gpu, read(GpuRacksDoc))
        case _:
            found = _keep(site.placement, read_placement(path, data, problems))
    if found is None or (kind == "placement" and not found.is_whole):
        site.torn.add(kind)


_E = TypeVar("_E")


def _keep(entries: list[_E], entry: _E | None) -> _E | None:
    if entry is not None:
        entries.append(entry)
    return entry


def _missing(tree: Tree, sites: Collection[str] | None, prefix: str, problems: Problems) -> None:
    if not tree.sites and sites is None:
        problems.add_file(errors.EMPTY_INVENTORY, f"{prefix}sites", "no site is declared")
    for name in sorted(set(sites or ()) - set(tree.sites)):
        what = f"site {quoted(name)} has no file under sites/{name}/"
        problems.add_file(errors.UNKNOWN_SITE, f"{prefix}sites", what)
    for name, site in tree.sites.items():
        for kind, document in (("site", site.site), ("power", site.power)):
            if document is None and kind not in site.torn:
                site.torn.add(kind)
                path = f"{prefix}sites/{name}/{kind}.yaml"
                problems.add_file(
                    errors.MISSING_FILE, path, f"site {quoted(name)} has no {kind}.yaml"
                )
        if not (site.racks or site.gpu or site.torn & {"racks", "gpu"}):
            what = f"site {quoted(name)} declares no rack"
            problems.add_file(errors.EMPTY_INVENTORY, f"{prefix}sites/{name}", what)
