"""A host's reboot: told once, believed only with another boot id."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum

import msgspec

from control_plane.core.errors import AuthRejected, Indeterminate, Unreachable, WrongIdentity
from control_plane.hosts.connection import Command, Connection
from control_plane.hosts.errors import DeadlinePassed
from control_plane.hosts.gpu_host import BOOT_ID

REBOOT_S = 900.0
"""From the command until SSH answers again, in wire seconds: eight-GPU servers test their memory and train
their links for five to ten minutes."""
_LOOK_S = 5.0
_READ: Command = ("cat", BOOT_ID)

Connect = Callable[[], AbstractContextManager[Connection]]
"""A fresh connection to the host."""


class Rebooted(StrEnum):
    """What came of it."""

    DONE = "done"
    """It answers, with another boot id."""
    NOT_BEGUN = "not_begun"
    """It refused, or answers with the boot id of before, to the end: it never went down."""
    SILENT = "silent"
    """It went down, and does not answer. Whether it is on, only its BMC knows."""
    OTHER = "other"
    """Somebody else had rebooted it already: nothing was told."""


class RebootEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a reboot ended."""

    what: Rebooted
    boot_id: str | None
    """The one seen last."""
    detail: str = ""


def boot_id_of(connection: Connection) -> str:
    """The host's boot id; empty where it tells none.

    Raises:
        DeadlinePassed: it does not answer in time.
    """
    reply = connection.run(_READ)
    return "" if reply.code else reply.out.strip()


def reboot(
    connect: Connect,
    before: str,
    *,
    deadline_s: float = REBOOT_S,
    look_s: float = _LOOK_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> RebootEnd:
    """Reboot a host that was looked at before. Whoever calls has drained it, and has it in a journal.

    The command leaves at most once. A line that breaks under it says nothing: hosts often do not answer it.

    Args:
        connect: opens a connection to it.
        before: its boot id, of the look from which this was decided.
        deadline_s: wire seconds from the command on.
        look_s: wire seconds between looks.
        clock: monotonic seconds.
        sleep: waits wire seconds.

    Raises:
        Unreachable, AuthRejected, WrongIdentity: nothing was told to it.
    """
    # Compared by the host itself, in the same line: a connection that broke meanwhile is opened anew, and
    # would lead to a host that has just rebooted.
    is_same: Command = ("grep", "--quiet", "--line-regexp", "--fixed-strings", before, BOOT_ID)
    with connect() as connection:
        try:
            reply = connection.run(is_same, ("systemctl", "reboot"))
        except DeadlinePassed:
            pass
        else:
            if reply.code:
                return _not_told(boot_id_of(connection), before, reply.err.strip()[:200])
    return await_boot(
        connect, before, deadline_s=deadline_s, look_s=look_s, clock=clock, sleep=sleep
    )


def _not_told(found: str, before: str, why: str) -> RebootEnd:
    if found and found != before:
        why = "it has rebooted since it was looked at"
        return RebootEnd(what=Rebooted.OTHER, boot_id=found, detail=why)
    why = why or ("it refuses" if found else "it tells no boot id")
    return RebootEnd(what=Rebooted.NOT_BEGUN, boot_id=found or None, detail=why)


def await_boot(
    connect: Connect,
    before: str,
    *,
    deadline_s: float = REBOOT_S,
    look_s: float = _LOOK_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> RebootEnd:
    """Go on waiting for a reboot that was told by somebody who is gone, or by a BMC; tells nothing itself."""
    until = clock() + deadline_s
    was_silent, why = False, ""
    while True:
        try:
            with connect() as connection:
                found = boot_id_of(connection)
        except (Unreachable, Indeterminate, AuthRejected) as error:
            # A host that comes up refuses logins for a while (`pam_nologin`).
            was_silent, why = True, str(error)
        except WrongIdentity as error:
            # Another system came up on it: that is for a person.
            return RebootEnd(what=Rebooted.SILENT, boot_id=None, detail=str(error))
        else:
            if found and found != before:
                return RebootEnd(what=Rebooted.DONE, boot_id=found)
            was_silent, why = False, "it answers, and has not rebooted"
        if clock() >= until:
            what = Rebooted.SILENT if was_silent else Rebooted.NOT_BEGUN
            return RebootEnd(what=what, boot_id=None if was_silent else before, detail=why)
        sleep(look_s)
