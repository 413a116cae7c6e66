"""Storm breakers: too many nodes of one domain that want the same cure have another illness.

A breaker trips when remediation has begun on so many different nodes of a domain within `BREAKER_WINDOW_S`.
From then on it begins nothing there, and goes no further on what it began, until a person resets it and the
cooldown is over. It never keeps a node from coming back (NVSentinel's did: its pull request 1852).
"""

from __future__ import annotations

import msgspec

from control_plane.core import limits


class Breaker(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """That of one domain; the site's is the one for all."""

    domain: str
    begun: dict[str, float] = {}
    """Node → when remediation of it began last, within the window."""
    tripped_at_s: float | None = None
    reset_at_s: float | None = None
    """A person's word; what began before does not count any more."""
    reset_by: str = ""
    reset_reason: str = ""

    @property
    def is_reset(self) -> bool:
        """Whether a person has said so since it tripped last; it may have to cool down still."""
        tripped_s, reset_s = self.tripped_at_s, self.reset_at_s
        return tripped_s is not None and reset_s is not None and reset_s >= tripped_s

    def is_open(self, now_s: float) -> bool:
        """Whether nothing may be begun."""
        if self.tripped_at_s is None:
            return False
        if not self.is_reset:
            return True
        return now_s < self.tripped_at_s + limits.BREAKER_COOLDOWN_S


def threshold(*, members: int) -> int:
    """At how many nodes of a domain its breaker trips."""
    return max(limits.BREAKER_NODES, int(members * limits.BREAKER_SHARE + 1e-9))


def began(breaker: Breaker, *, node: str, members: int, now_s: float) -> Breaker:
    """The breaker after remediation of a node began."""
    since_s = max(now_s - limits.BREAKER_WINDOW_S, breaker.reset_at_s or 0.0)
    begun = {other: at_s for other, at_s in breaker.begun.items() if at_s >= since_s}
    begun[node] = now_s
    tripped_at_s = breaker.tripped_at_s
    if not breaker.is_open(now_s):
        tripped_at_s = now_s if len(begun) >= threshold(members=members) else None
    return msgspec.structs.replace(breaker, begun=begun, tripped_at_s=tripped_at_s)


def reset(breaker: Breaker, *, by: str, now_s: float, reason: str = "") -> Breaker:
    """The breaker after a person looked into it. In force once it has cooled down."""
    return msgspec.structs.replace(breaker, reset_at_s=now_s, reset_by=by, reset_reason=reason)
