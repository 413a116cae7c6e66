"""How open devices are, as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.core.posture import Password, Posture, Tally, WriteApi
from control_plane.views.table import counted, one_line, table


def posture_table(postures: Sequence[Posture], *, of: int) -> str:
    """One row a device, and a line for each thing that is to be done, with the devices counted."""
    if not postures:
        return f"Nothing to do on {counted(of, 'device')}."
    head = ("DEVICE", "FAMILY", "PASSWORD", "WRITE API", "KNOWN BY")
    rows = [(p.asset, p.family, p.password, p.write_api, one_line(p.known_by)) for p in postures]
    fixes: dict[str, list[str]] = {}
    for posture in postures:
        for fix in posture.fixes:
            fixes.setdefault(fix.replace(posture.asset, "DEVICE"), []).append(posture.asset)
    lines = [
        f"  {counted(len(assets), 'device')}: {one_line(fix)}"
        for fix, assets in sorted(fixes.items(), key=lambda item: -len(item[1]))
    ]
    return "\n".join([table(head, rows), "", "To do", *lines])


def posture_line(posture: Posture) -> list[str]:
    """In `explain`."""
    lines = [
        f"Posture     password {posture.password}, write API {posture.write_api} ({posture.known_by})"
    ]
    return [*lines, *(f"  to do     {one_line(fix)}" for fix in posture.fixes)]


def tally_line(found: Tally) -> list[str]:
    """In `status`; nothing where nothing is to be done."""
    parts = [
        f"{count:,} {words}"
        for count, words in (
            (found.password.get(Password.FACTORY, 0), "with their maker's password"),
            (found.write_api.get(WriteApi.OPEN, 0), "that anybody may write to"),
            (found.write_api.get(WriteApi.CLOSED, 0), "whose write API is off"),
            (found.password.get(Password.UNKNOWN, 0), "of unknown password"),
        )
        if count
    ]
    return [f"Posture     {', '.join(parts)}: gridplane posture"] if parts else []
