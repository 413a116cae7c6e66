"""Which line of a pull request changes what: for whoever reviews it, beside the line itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from control_plane.core.against import FieldChange
from control_plane.core.findings import SourceRef
from control_plane.core.fleet import Device, Site

ChangedLines = Mapping[str, frozenset[int]]
"""Path, as findings name it → lines that the other version does not have, from 1."""


class Blame(msgspec.Struct, frozen=True, kw_only=True):
    """What one line does to one field."""

    where: SourceRef
    field: str
    devices: int
    before: str | None
    """`None` where it differs per device."""
    after: str | None


def changed_lines(
    before: Mapping[str, bytes], after: Mapping[str, bytes], *, prefix: str = ""
) -> dict[str, frozenset[int]]:
    """The lines of `after` that `before` has not, or not as often; without a file that is the same.

    Args:
        before: path below the inventory's root → content.
        after: the same, as reviewed.
        prefix: what findings write before a path.
    """
    found = {}
    for path, data in after.items():
        old = before.get(path, b"")
        if old == data:
            continue
        known = Counter(old.splitlines())
        fresh = []
        for number, line in enumerate(data.splitlines(), 1):
            known[line] -= 1
            if known[line] < 0:
                fresh.append(number)
        found[prefix + path] = frozenset(fresh)
    return found


def blamed(
    site: Site, changes: Iterable[FieldChange], lines: ChangedLines, *, prefix: str = ""
) -> list[Blame]:
    """The lines behind changes of devices, those of most devices first.

    A line that the pull request changes is named before one that it leaves: a rack that picks another
    profile changes the power mode, although the mode stands in the profile.
    """
    devices = {device.asset: device for device in site.devices}
    groups: dict[tuple[SourceRef, str], Counter[tuple[str, str]]] = {}
    known: dict[tuple[int, str], SourceRef] = {}
    for change in changes:
        device = devices[change.asset]
        key = (id(device.intent), change.field)
        where = known.get(key)
        if where is None:
            where = _place(device, change.field, lines, prefix)
            if where != device.where:
                known[key] = where
        groups.setdefault((where, change.field), Counter())[change.before, change.after] += 1
    made = [_blame(where, field, counts) for (where, field), counts in groups.items()]
    return sorted(made, key=lambda blame: (-blame.devices, blame.where, blame.field))


def _blame(where: SourceRef, field: str, counts: Counter[tuple[str, str]]) -> Blame:
    (before, after), *others = counts
    return Blame(
        where=where,
        field=field,
        devices=counts.total(),
        before=None if others else before,
        after=None if others else after,
    )


def _place(device: Device, field: str, lines: ChangedLines, prefix: str) -> SourceRef:
    candidates = tuple(_candidates(device, field))
    for where in candidates:
        if where.line in lines.get(where.path, ()):
            return where
    owner = f"{prefix}owners/{device.intent.owner}.yaml"
    for path in (owner, *(where.path for where in candidates)):
        if changed := lines.get(path):
            return SourceRef(path, min(changed))
    return candidates[0]


def _candidates(device: Device, field: str) -> Iterator[SourceRef]:
    origins = device.intent.origins
    key = "gpu" if field.startswith("gpu_") else field
    for name in ("firmware" if field == "family" else key, "profile", "owner"):
        if name in origins:
            yield origins[name]
    yield device.where
