"""One device on its way to another password, or to another address: the steps, and what shows them. Pure.

Both change how a device is reached, and go wrong in the same way: it may be reached by the old one, by the
new one, or by none. Each step is kept before what follows from it is done, so that whoever takes over knows
what may have happened:

    pending → committing → verifying → done | failed

`committing` is kept before the change leaves; from then on either of the two may be in force, and nothing is
sent again: logins alone tell, or whoever answers at an address. No password stands here, and nothing made of
one: only references. The one that was in force before is tried until the new one has proven itself over a
connection of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.fleet import Credentials


class Subject(StrEnum):
    """What is changed."""

    PASSWORD = "password"  # noqa: S105 - the name of a subject
    ADDRESS = "address"


class RotationStep(StrEnum):
    """How far it has come."""

    PENDING = "pending"
    """Nothing has left for it."""
    COMMITTING = "committing"
    """The change leaves, or left: either of the two may be in force."""
    VERIFYING = "verifying"
    """The device answered the change; nothing has shown yet that it is in force."""
    DONE = "done"
    """The new password logged in over a fresh connection; the pinned machine answers at the new address."""
    FAILED = "failed"


class Fault(StrEnum):
    """Why a rotation failed: who acts depends on it."""

    NONE_LOGS_IN = "none_logs_in"
    """Every password that is declared was refused: a person resets the device, or declares the right one."""
    NOT_TAKEN = "not_taken"
    """The change left, and the old one is still in force: a person lets it be tried again."""
    REFUSED = "refused"
    """The device refused the change, as it said: the old one is in force."""
    SILENT = "silent"
    """It does not answer since the change left: by one of the two it will be reached when it does."""


ROTATED: Final = frozenset({RotationStep.DONE, RotationStep.FAILED})
SENT: Final = frozenset({RotationStep.COMMITTING, RotationStep.VERIFYING})
"""The change may have left: nobody else writes to the device."""


class RotationEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One device of a rotation."""

    asset: str
    rotation: str
    """Id of the rotation that it is of."""
    subject: Subject = Subject.PASSWORD
    wanted: str
    """Reference to the new password; or the new address."""
    step: RotationStep = RotationStep.PENDING
    verified: str | None = None
    """Reference to the password that logged in last; or the address at which it answered last."""
    before: str | None = None
    """The one that was in force when the change left."""
    committed_at_s: float | None = None
    """When the change was about to leave, in policy seconds since the epoch."""
    ended_at_s: float | None = None
    fault: Fault | None = None
    detail: str = ""

    @property
    def is_final(self) -> bool:
        """Whether nothing more is done to it."""
        return self.step in ROTATED


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What became of trying passwords, or addresses, one by one, until one was right."""

    accepted: str | None = None
    """Reference to the password that logged in; or the address at which the pinned machine answers."""
    refused: tuple[str, ...] = ()
    """References to the passwords that were refused before."""
    unclear: str = ""
    """Why nothing is to be begun: a login that said neither yes nor no, nobody who answered, or another
    machine at the new address."""


def refs_of(credentials: Credentials) -> tuple[str, ...]:
    """Every reference that is declared, the new one first."""
    return tuple(dict.fromkeys((credentials.secret_ref, *credentials.previous)))


def refs_to_try(entry: RotationEntry, declared: Iterable[str]) -> tuple[str, ...]:
    """In which order passwords are tried on a device: the new one, who logged in last, then the others.

    Who was in force before the change left is among them whatever is declared by now.
    """
    known = (entry.wanted, entry.verified, entry.before, *declared)
    return tuple(dict.fromkeys(ref for ref in known if ref is not None))


def ref_in_use(credentials: Credentials, verified: str | None) -> str:
    """Reference to the password that looks and writes log in with.

    Who logged in last, where it is declared; else the last one before the new, which no device has before
    it was given it.

    >>> from control_plane.core.fleet import Credentials
    >>> ref_in_use(Credentials(user="root", secret_ref="env:NEW", previous=("env:OLD",)), None)
    'env:OLD'
    >>> ref_in_use(Credentials(user="root", secret_ref="env:NEW"), "env:OLD")
    'env:NEW'
    """
    refs = refs_of(credentials)
    if verified in refs:
        return verified
    return refs[1] if len(refs) > 1 else refs[0]


def lock_of(rotation_id: str, subject: Subject) -> str:
    """What a device is locked by while its password, or its address, changes."""
    return f"{subject} {rotation_id}"


def subject_of(lock: str) -> Subject | None:
    """What changes of a locked device; `None` where firmware is installed on it."""
    return next((subject for subject in Subject if lock.startswith(f"{subject} ")), None)


def lock_in_words(lock: str) -> str:
    """Why nothing else is written to a locked device."""
    subject = subject_of(lock)
    what = f"its {subject} is being changed" if subject else "firmware is being installed"
    return f"{what} ({lock})"


def committing(entry: RotationEntry, now_s: float) -> RotationEntry:
    """The entry that is kept right before the change leaves; who logged in last is the one before."""
    return msgspec.structs.replace(
        entry,
        step=RotationStep.COMMITTING,
        before=entry.verified,
        committed_at_s=now_s,
        detail="",
    )


def not_sent(entry: RotationEntry, why: str) -> RotationEntry:
    """The entry of a device for which nothing left after all; another time may do it."""
    return msgspec.structs.replace(
        entry, step=RotationStep.PENDING, committed_at_s=None, before=None, detail=_short(why)
    )


def refused(entry: RotationEntry, why: str, now_s: float) -> RotationEntry:
    """The entry of a device that refused the change: the old one is in force."""
    return _failed(entry, Fault.REFUSED, f"it refuses the new {entry.subject}: {why}", now_s)


def answered(entry: RotationEntry) -> RotationEntry:
    """The entry of a device that answered the change: it has to show that it is in force."""
    return msgspec.structs.replace(entry, step=RotationStep.VERIFYING)


def after_probe(
    entry: RotationEntry, probe: Probe, *, late_s: float, now_s: float
) -> RotationEntry:
    """The entry after a probe over fresh connections; the same step where it has to be looked at again.

    Args:
        entry: not final.
        probe: what was found.
        late_s: after which a change that left is in force, or is not coming.
        now_s: policy time.
    """
    if probe.accepted == entry.wanted:
        return msgspec.structs.replace(
            entry,
            step=RotationStep.DONE,
            verified=entry.wanted,
            ended_at_s=now_s,
            detail="" if entry.committed_at_s is not None else "it had it already",
        )
    if probe.accepted is not None:
        entry = msgspec.structs.replace(entry, verified=probe.accepted, detail="")
    sent_for_s = None if entry.committed_at_s is None else now_s - entry.committed_at_s
    if sent_for_s is None:
        return _before_it_left(entry, probe, now_s)
    is_late = sent_for_s >= late_s
    if probe.accepted is not None and is_late:
        still = "still logs in" if entry.subject is Subject.PASSWORD else "is still where it is"
        why = f"{probe.accepted} {still}, {sent_for_s:.0f} s after the change left"
        return _failed(entry, Fault.NOT_TAKEN, why, now_s)
    if probe.unclear and sent_for_s >= max(late_s, limits.CREDENTIAL_SILENT_S):
        what = "login" if entry.subject is Subject.PASSWORD else "answer"
        why = f"no {what} since the change left ({probe.unclear}): {_either(entry)} is in force"
        return _failed(entry, Fault.SILENT, why, now_s)
    if probe.refused and not probe.accepted and not probe.unclear and is_late:
        return _failed(entry, Fault.NONE_LOGS_IN, _none(probe), now_s)
    return msgspec.structs.replace(entry, detail=_short(probe.unclear))


def _before_it_left(entry: RotationEntry, probe: Probe, now_s: float) -> RotationEntry:
    if probe.refused and not probe.accepted and not probe.unclear:
        return _failed(entry, Fault.NONE_LOGS_IN, f"{_none(probe)}; nothing was sent", now_s)
    return msgspec.structs.replace(entry, detail=_short(probe.unclear))


def _none(probe: Probe) -> str:
    return f"none of {', '.join(probe.refused)} logs in"


def _either(entry: RotationEntry) -> str:
    return f"{entry.wanted} or {entry.before}"


def _failed(entry: RotationEntry, fault: Fault, why: str, now_s: float) -> RotationEntry:
    return msgspec.structs.replace(
        entry, step=RotationStep.FAILED, fault=fault, ended_at_s=now_s, detail=_short(why)
    )


_CHARS: Final = 300


def _short(text: str) -> str:
    return text[:_CHARS]
