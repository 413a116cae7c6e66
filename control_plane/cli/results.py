"""What the verbs that change something tell scripts with `-o json`. Stable: fields are only added."""

from __future__ import annotations

import msgspec

from control_plane.core.overlay import Overlay
from control_plane.core.plan import Plan


class OverlayResult(msgspec.Struct, frozen=True, kw_only=True):
    """From `hold` and `freeze`."""

    site: str
    overlay: Overlay
    """In force, durably, when this is printed."""
    under_way: list[str]
    """Writes below it that had left before it came."""
    release: str
    """The command that ends it."""


class ReleaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """From `release`."""

    site: str
    target: str
    """As it was given: an id, a node or a device."""
    done: str
    """What was ended, in words."""


class RemedyResult(msgspec.Struct, frozen=True, kw_only=True):
    """From every word of `remedy`."""

    site: str
    target: str
    """A node, a failure domain, or the name of an emergency or break-glass."""
    by: str
    reason: str
    done: str
    """What whoever leads answered, in words; durable when this is printed."""


class ApplyResult(msgspec.Struct, frozen=True, kw_only=True):
    """From `apply`."""

    site: str
    revision: str
    number: int
    """Order of acceptance."""
    plan: str
    """Digest of the plan that was accepted."""
    by: str
    end: str
    """`accepted` (left to another process), `converged`, `steps_left`, `halted` or `interrupted`."""
    after: Plan | None
    """From what was read back; absent where another process was left alone with it."""
