"""The error tree: every failure says who acts next.

ControlPlaneError
├── DeclarationError       the author of the declaration acts; carries Findings
├── TransientError         the clock acts: try again after `retry_after_s`
│   ├── Unreachable        nobody answered
│   └── Indeterminate      a write was sent and its fate is not known: read, never re-send
├── DeviceError            a person at the rack or with credentials acts
│   ├── AuthRejected       the device refused the credentials
│   ├── WrongIdentity      another machine answers at this address
│   ├── HardwareFault      the device says that a part is broken
│   ├── Refused            the device understood and said no
│   ├── UnexpectedReply    the device said something that is not in its protocol
│   └── OversizedReply     the device said more than any honest device does
├── FenceLost              another process acts for this site; this one stops writing
├── ClusterError           the API server did not do it: `core/cluster.py` has the kinds of that
└── StoreError             the operator of the management host acts: disk, permissions, corruption
    └── StoreBusy          another process is writing to it and does not end: wait, then find it

Anything else that escapes is a bug in gridplane, and we act.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from control_plane.core.findings import Finding


class ControlPlaneError(Exception):
    """Base of all errors that gridplane raises on purpose."""


class DeclarationError(ControlPlaneError):
    """The declaration cannot be used; `findings` says all that is wrong with it at once."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(f"{len(self.findings)} finding(s) in the declaration")


class TransientError(ControlPlaneError):
    """Time heals it. `retry_after_s` is the earliest sensible next try, in wire seconds."""

    def __init__(self, message: str, *, retry_after_s: float = 10.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Unreachable(TransientError):
    """No connection, or no complete reply before the deadline, and nothing was written."""


class Indeterminate(TransientError):
    """A write left this machine and no answer came: it may or may not have landed."""


class DeviceError(ControlPlaneError):
    """A person at the rack, or one who holds credentials, has to act."""


class AuthRejected(DeviceError):
    """The device refused the credentials it was given."""


class WrongIdentity(DeviceError):
    """The machine that answers is not the one that is pinned to this asset."""


class HardwareFault(DeviceError):
    """The device reports a broken part."""


class Refused(DeviceError):
    """The device understood the request and said no; `reason` holds its own words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UnexpectedReply(DeviceError):
    """The reply is not what the family's protocol says; holds a bounded excerpt."""


class OversizedReply(UnexpectedReply):
    """The reply passed the cap on bytes or depth; it was dropped, unread."""


class FenceLost(ControlPlaneError):
    """This process no longer holds the site's fence; it may read but not write."""


class StoreError(ControlPlaneError):
    """Durable state cannot be trusted or written; nothing may be acted upon."""


class StoreBusy(StoreError):
    """Another process is in the middle of writing; nothing was written here, and it may be tried again."""
