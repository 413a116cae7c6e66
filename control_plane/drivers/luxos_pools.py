"""Pools of LuxOS: what `pools` means, and the way from one list to another. Pure.

There is no command that replaces the list. It is brought where it shall be by cgminer's own commands,
one at a time: what is wanted comes first, what is not wanted goes only afterwards, so no step leaves the
unit without a pool, and a walk that stops half-way leaves it with too many. Each command is worked out
from a fresh list: ids are places, and move when a pool goes.

Pools stand in groups that share the hash by quota. A declared list is one group's failover list; pools
of all groups are read, in order, so that a stranger's is seen wherever it stands, and a write leaves
pools in the first group alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from control_plane.core.observation import PoolSetting
from control_plane.drivers.driver import clean, pool_url, text_of, whole_of
from control_plane.drivers.luxos_replies import PoolRow

PASSWORD: Final = "x"  # noqa: S105 — pools take any; a stored one cannot be read back.
_MAX_ROWS: Final = 64


class Row(NamedTuple):
    """One pool of the device, in the order in which it is tried."""

    group: int
    rank: int
    id: int
    pool: PoolSetting
    enabled: bool


class Command(NamedTuple):
    """One command on the way."""

    name: str
    parameter: str


def read_rows(listed: Sequence[PoolRow] | None) -> tuple[Row, ...] | None:
    """Read `pools`; `None` where a row cannot be understood: what cannot be read is not empty."""
    if listed is None or len(listed) > _MAX_ROWS:
        return None
    found = []
    for place, row in enumerate(listed):
        url, worker, number = row.url, row.worker, whole_of(row.number)
        if not isinstance(url, str) or not isinstance(worker, str) or number is None:
            return None
        if not url.strip():
            continue
        rank = whole_of(row.rank)
        found.append(
            Row(
                group=whole_of(row.group) or 0,
                rank=place if rank is None else rank,
                id=number,
                pool=PoolSetting(url=pool_url(url), worker=clean(worker)),
                enabled=row.status != "Disabled"
                and (text_of(row.status) or "").lower() != "disabled",
            )
        )
    if len(found) > 1:
        found.sort(key=lambda row: row[:3])
    return tuple(found)


def pools_in(found: Sequence[Row]) -> tuple[PoolSetting, ...]:
    """The pools in use, group after group."""
    return tuple([row.pool for row in found if row.enabled])


def is_split(found: Sequence[Row]) -> bool:
    """Whether the hash is shared out to more than one group."""
    return len({row.group for row in found if row.enabled}) > 1


def check(wanted: Sequence[PoolSetting]) -> str | None:
    """Why the device could not be told these pools; `None` where it can."""
    for pool in wanted:
        if "," in pool.url or "," in pool.worker:
            return f"{pool.url}: a comma ends a parameter"
    if len(set(wanted)) != len(wanted):
        return "the same pool twice"
    return None


def next_command(found: Sequence[Row], wanted: Sequence[PoolSetting]) -> Command | None:
    """The next command on the way to `wanted`, which is not empty; `None` where it is reached."""
    first = [row for row in found if row.group == 0]
    for pool in wanted:
        row = next((row for row in first if row.pool == pool), None)
        if row is None:
            return Command("addpool", f"{pool.url},{pool.worker},{PASSWORD}")
        if not row.enabled:
            return Command("enablepool", str(row.id))
    others = [row.group for row in found if row.group]
    if others:
        return Command("removegroup", str(max(others)))
    extra = _extra(first, wanted)
    if extra is not None:
        if first[0].pool not in wanted:
            # The pool in use cannot be removed, so another one comes into use first.
            top = next(row for row in first if row.pool == wanted[0])
            return Command("switchpool", str(top.id))
        return Command("removepool", str(extra.id))
    return _reorder(first, wanted)


def _extra(first: Sequence[Row], wanted: Sequence[PoolSetting]) -> Row | None:
    """The last row that is not wanted, or is there a second time."""
    seen: set[PoolSetting] = set()
    extra = None
    for row in first:
        if row.pool not in wanted or row.pool in seen:
            extra = row
        seen.add(row.pool)
    return extra


def _reorder(first: Sequence[Row], wanted: Sequence[PoolSetting]) -> Command | None:
    """Bring one pool to the top: the last of those that stand wrong before the tail that stands right."""
    place = {row.pool: at for at, row in enumerate(first)}
    keep = len(wanted) - 1
    while keep > 0 and place[wanted[keep - 1]] < place[wanted[keep]]:
        keep -= 1
    if keep == 0:
        return None
    return Command("switchpool", str(first[place[wanted[keep - 1]]].id))
