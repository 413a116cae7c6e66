"""Approvals of owners, as people give them: `--approve OWNER:FIELD`."""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.cli.exits import Exit, Stop
from control_plane.core.fleet import Site
from control_plane.core.observation import Field
from control_plane.engine.accept import check_approvals
from control_plane.engine.records import Approval


def read_approvals(site: Site, texts: Iterable[str], by: str) -> tuple[Approval, ...]:
    """The approvals that `by` gives.

    Raises:
        Stop: one is no OWNER:FIELD.
        NotAccepted: the owner did not name `by` for it.
    """
    approvals = tuple(_approval(text, by) for text in texts)
    check_approvals(site, approvals)
    return approvals


def _approval(text: str, by: str) -> Approval:
    owner, _, field = text.partition(":")
    if field not in set(Field):
        known = ", ".join(Field)
        raise Stop(f"--approve wants OWNER:FIELD with a field of {known}; not '{text}'", Exit.USAGE)
    return Approval(owner=owner, field=Field(field), by=by)
