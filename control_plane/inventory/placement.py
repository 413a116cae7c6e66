"""`placement/*.csv`: the exported record of facts, one row per slot.

The form of each cell is checked here; what rows mean beside racks and types is checked in `slots`.
"""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from control_plane.api.v1alpha1 import PLACEMENT_COLUMNS
from control_plane.core import limits
from control_plane.core.fleet import SlotState
from control_plane.inventory import errors
from control_plane.inventory.problems import Problems
from control_plane.inventory.source import Source, Spot, quoted
from control_plane.inventory.text import decode


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One slot, as recorded. Empty cells are empty text or `None`."""

    line: int
    asset: str
    rack: str
    slot: int
    serial: str
    mac: str
    """Lower case, colon separated."""
    type: str
    bin_ths: float | None
    state: SlotState
    reason: str
    missing_boards: int
    since: str
    ticket: str


class Table(Source):
    """One placement file."""

    __slots__ = ("is_whole", "rows")

    def __init__(self, path: str, text: str) -> None:
        super().__init__(path, text)
        self.rows: list[Row] = []
        self.is_whole = True
        """False: some row could not be read, so what is not in `rows` may still be recorded."""

    def cell(self, line: int, column: str) -> Spot:
        """Where a cell stands; of a line with quotes, its begin."""
        cells = self.line(line).split(",")
        index = PLACEMENT_COLUMNS.index(column)
        if index >= len(cells) or '"' in self.line(line):
            return Spot(line, 1, 1)
        before = sum(len(cell) + 1 for cell in cells[:index])
        return Spot(line, before + 1, max(1, len(cells[index])))


_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?").fullmatch
_SERIAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,63}|").fullmatch
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}").fullmatch
_STATES: Final = {state.value: state for state in SlotState}
_NUMBER: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,4})?").fullmatch
_WHOLE: Final = re.compile(r"[0-9]{1,4}").fullmatch
_TEXT_MAX: Final = 200
_NOBODY: Final = frozenset({"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"})


def read_placement(path: str, data: bytes, problems: Problems) -> Table | None:
    """The table of a file; rows that cannot be read are left out, with a finding each."""
    text = decode(path, data, limits.PLACEMENT_MAX_BYTES, problems)
    if text is None:
        return None
    table = Table(path, text)
    records = csv.reader(text.split("\n"), strict=True)
    try:
        header = tuple(next(records, ()))
        if header != PLACEMENT_COLUMNS:
            what = f"the first line is {quoted(','.join(header))}"
            fix = f"make it {','.join(PLACEMENT_COLUMNS)}"
            problems.add(errors.BAD_ROW, table, Spot(1, 1, 1), what, fix=fix)
            return None
        last = 1
        for cells in records:
            line, last = last + 1, records.line_num
            if not cells:
                continue
            row = _row(table, line, last, cells, problems)
            if row is None:
                table.is_whole = False
            else:
                table.rows.append(row)
    except csv.Error as error:
        what = f"cannot be split into cells: {error}"
        problems.add(errors.BAD_ROW, table, Spot(records.line_num or 1, 1, 1), what)
        return None
    return table


def _row(
    table: Table, line: int, last: int, cells: Sequence[str], problems: Problems
) -> Row | None:
    if len(cells) != len(PLACEMENT_COLUMNS) or line != last:
        count = f"{len(cells)} cells; expected {len(PLACEMENT_COLUMNS)}"
        what = "a cell goes over several lines" if line != last else count
        problems.add(errors.BAD_ROW, table, Spot(line, 1, 1), what)
        return None
    asset, rack, slot, serial, mac, kind, bin_ths, state, reason, missing, since, ticket = cells
    if mac:
        mac = mac.lower().replace("-", ":")
    recorded = _STATES.get(state)
    if (
        recorded is not None
        and _NAME(rack)
        and (_NAME(asset) or (not asset and recorded is SlotState.VACANT))
        and _WHOLE(slot)
        and _SERIAL(serial)
        and (not mac or (_MAC(mac) and mac not in _NOBODY))
        and (not kind or _NAME(kind))
        and (not bin_ths or _NUMBER(bin_ths))
        and (not missing or _WHOLE(missing))
        and _is_date(since)
        and len(reason) <= _TEXT_MAX
        and len(ticket) <= _TEXT_MAX
    ):
        return Row(
            line=line,
            asset=asset or f"{rack}-s{int(slot)}",
            rack=rack,
            slot=int(slot),
            serial=serial,
            mac=mac,
            type=kind,
            bin_ths=float(bin_ths) if bin_ths else None,
            state=recorded,
            reason=reason,
            missing_boards=int(missing) if missing else 0,
            since=since,
            ticket=ticket,
        )
    _complain(table, line, cells, problems)
    return None


_DATES: set[str] = set()
"""Dates that were found good: a record has few different ones."""


def _is_date(text: str) -> bool:
    if text in _DATES:
        return True
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    if len(text) != len("2026-01-02"):
        return False
    _DATES.add(text)
    return True


def _complain(table: Table, line: int, cells: Sequence[str], problems: Problems) -> None:
    """Name every cell of a row that is not right."""
    given = dict(zip(PLACEMENT_COLUMNS, cells, strict=True))
    mac = given["mac"].lower().replace("-", ":")
    vacant = given["state"] == SlotState.VACANT.value
    right = {
        "asset": (_NAME(given["asset"]) or (vacant and not given["asset"]), "a name"),
        "rack": (_NAME(given["rack"]), "the name of a rack"),
        "slot": (_WHOLE(given["slot"]), "a whole number"),
        "serial": (_SERIAL(given["serial"]), "at most 64 letters, digits and . _ / + -"),
        "mac": (
            not mac or (_MAC(mac) and mac not in _NOBODY),
            "six pairs of hexadecimal digits: 02:00:5e:10:00:01",
        ),
        "type": (not given["type"] or _NAME(given["type"]), "the name of a device type"),
        "bin_ths": (not given["bin_ths"] or _NUMBER(given["bin_ths"]), "a number of TH/s"),
        "state": (given["state"] in _STATES, f"one of {', '.join(_STATES)}"),
        "reason": (len(given["reason"]) <= _TEXT_MAX, f"at most {_TEXT_MAX} characters"),
        "missing_boards": (
            not given["missing_boards"] or _WHOLE(given["missing_boards"]),
            "a whole number",
        ),
        "since": (_is_date(given["since"]), "a date: 2026-01-31"),
        "ticket": (len(given["ticket"]) <= _TEXT_MAX, f"at most {_TEXT_MAX} characters"),
    }
    for column, (good, expected) in right.items():
        if not good:
            what = f"{column} is {quoted(given[column])}; expected {expected}"
            known = tuple(_STATES) if column == "state" else ()
            word = given[column] if known else None
            spot = table.cell(line, column)
            problems.add(errors.BAD_CELL, table, spot, what, word=word, known=known)
