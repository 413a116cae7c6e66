"""What a pull request does, for a forge: every site that it changes, compared as data. It runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from control_plane.core.against import compare
from control_plane.core.blame import ChangedLines, blamed, changed_lines
from control_plane.core.findings import Finding, SourceRef
from control_plane.core.fleet import Site
from control_plane.inventory.git import files_at, place_of
from control_plane.inventory.load import load, load_files, prefix_of, slice_of
from control_plane.provision.stacks import changed_stacks
from control_plane.views.review import Review, Reviewed

Files = Mapping[str, bytes]


def review(
    inventory: Path, ref: str, *, site: str | None = None, acknowledged: int | None = None
) -> Review:
    """The inventory as it lies there, against a commit.

    Args:
        inventory: the folder that holds fleet.yaml; read as data.
        ref: of the repository that the folder is in.
        site: only this one.
        acknowledged: that exactly so many devices leave is meant.

    Raises:
        DeclarationError: there is no such commit.
    """
    before = files_at(inventory, ref)
    loaded = load(inventory, sites={site} if site else None)
    prefix, place = prefix_of(inventory), place_of(inventory)
    findings = tuple(_replaced(each, prefix, place) for each in loaded.findings)
    if loaded.fleet is None:
        return Review(reference=ref, findings=findings)
    after = {path: data for files in loaded.files.values() for path, data in files.items()}
    names = _sites(before) if site is None else {site} & _sites(before)
    changed = {name for name, files in loaded.files.items() if slice_of(before, name) != files}
    paths = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    stacks = tuple(stack for name in sorted(changed) for stack in changed_stacks(name, paths))
    gone = names - set(loaded.files)
    old = load_files(before, sites=changed & names | gone, root=inventory)
    if old.fleet is None:
        return Review(reference=ref, findings=findings, base_is_broken=True, stacks=stacks)
    lines = changed_lines(before, after, prefix=prefix)
    sites = tuple(
        _reviewed(old.fleet.sites.get(name), loaded.fleet.sites[name], lines, prefix, place)
        for name in sorted(changed)
        if loaded.digests[name] != old.digests.get(name)
    )
    return Review(
        reference=ref,
        sites=sites,
        unchanged=len(loaded.files) - len(sites),
        gone={name: _managed(old.fleet.sites[name]) for name in sorted(gone)},
        stacks=stacks,
        findings=findings,
        acknowledged=acknowledged,
    )


def _managed(site: Site) -> int:
    return sum(device.is_managed for device in site.devices)


def _sites(files: Files) -> set[str]:
    return {path.split("/")[1] for path in files if path.startswith("sites/")}


def _reviewed(
    before: Site | None, after: Site, lines: ChangedLines, prefix: str, place: str
) -> Reviewed:
    comparison = compare(before, after)
    found = blamed(after, comparison.changes, lines, prefix=prefix)
    leaving = {*comparison.removed, *comparison.retired}
    files = Counter(
        device.where.path
        for device in (before.devices if before else ())
        if device.asset in leaving
    )
    return Reviewed(
        comparison=comparison,
        blames=tuple(
            msgspec.structs.replace(each, where=_moved(each.where, prefix, place)) for each in found
        ),
        removed_at=tuple(
            _moved(SourceRef(path, min(lines.get(path) or {1})), prefix, place)
            for path, _ in files.most_common()
        ),
    )


def _moved(where: SourceRef, prefix: str, place: str) -> SourceRef:
    """A place as the repository names it."""
    return SourceRef(place + where.path.removeprefix(prefix), where.line, where.column)


def _replaced(finding: Finding, prefix: str, place: str) -> Finding:
    return msgspec.structs.replace(finding, where=_moved(finding.where, prefix, place))
