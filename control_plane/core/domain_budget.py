"""One budget for each failure and power domain, shared by everybody who takes GPU nodes down.

Counted is every node that is down or being taken down, whatever took it: remediation, a driver upgrade,
firmware, curtailment, a person's cordon, a fault of its own; and one of which nobody knows whether it
serves. A node is counted once. Taking down another one needs room in *every* domain that it is in. A node
that is known to be down costs nothing more; bringing one back needs room for its watts alone
(`no_power_for`).

Sources: gpu-nodes §14.4-5. Two numbers that are alike are only ever given by name: a scheduler that took
`(all, unhealthy)` for `(unhealthy, all)` let nothing through in percent mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.power import Loads


class DomainKind(StrEnum):
    """What the nodes of a domain share."""

    RACK = "rack"
    FEED = "feed"
    """A node of the feed tree: PDU, hall, transformer …"""
    CLIQUE = "clique"
    """GPUs of one NVLink fabric."""
    CLUSTER = "cluster"
    SITE = "site"
    CONTROL_PLANE = "control_plane"
    """Nodes that run the cluster: one at a time, and never below a quorum."""


_SHARES: Final[Mapping[DomainKind, float]] = {
    DomainKind.RACK: limits.DOWN_SHARE_RACK,
    DomainKind.FEED: limits.DOWN_SHARE_RACK,
    DomainKind.CLIQUE: limits.DOWN_SHARE_RACK,
    DomainKind.CLUSTER: limits.DOWN_SHARE_CLUSTER,
    DomainKind.SITE: limits.DOWN_SHARE_CLUSTER,
}


class Cause(StrEnum):
    """Who took a node down, or wants to."""

    FAULT = "fault"
    """It is down by itself: it serves nobody. One on which a GPU of eight fails serves still, and is not."""
    UNKNOWN = "unknown"
    """Nobody fresh says that it serves. It counts against others, and is not free to be taken for that."""
    REMEDIATION = "remediation"
    DRIVER_UPGRADE = "driver_upgrade"
    FIRMWARE = "firmware"
    CURTAILMENT = "curtailment"
    PERSON = "person"
    EMERGENCY = "emergency"


PLANNED: Final = frozenset({Cause.DRIVER_UPGRADE, Cause.FIRMWARE, Cause.CURTAILMENT})
"""Work that can be done another day: the last node of a domain's budget is not for it."""
UNASKED: Final = frozenset({Cause.FAULT, Cause.UNKNOWN, Cause.PERSON, Cause.EMERGENCY})
"""Counted, and never refused: nobody asks."""


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that one failure takes down together."""

    id: str
    kind: DomainKind
    members: frozenset[str]
    """All that are declared in it, well or not."""
    max_down: int | None = None
    """A site may declare less than its share allows, never more."""

    @property
    def allowance(self) -> int:
        """How many of its nodes may be down before nobody takes another."""
        if self.kind is DomainKind.CONTROL_PLANE:
            most = _with_quorum(members=len(self.members))
        else:
            most = _share_of(members=len(self.members), share=_SHARES[self.kind])
        return most if self.max_down is None else min(most, self.max_down)


def _share_of(*, members: int, share: float) -> int:
    """Rounded down; one at least, but of a node that is alone none: it has nobody to stand in for it."""
    return max(int(members * share + 1e-9), 1) if members > 1 else 0


def _with_quorum(*, members: int) -> int:
    quorum = members // 2 + 1
    return min(1, members - quorum)


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """Who is down, of which domains. The value of one moment; `taken` and `given_back` make the next."""

    domains: Mapping[str, Domain]
    of: Mapping[str, tuple[str, ...]]
    """Node → ids of its domains."""
    down: Mapping[str, frozenset[Cause]] = {}
    """Node → all that it is down for; never empty."""
    waiting: frozenset[str] = frozenset()
    """Nodes that remediation wants to take: planned work does not get in before them."""

    def down_in(self, domain: str, *, but: str = "") -> int:
        """How many of a domain's nodes are counted, one of them left out."""
        return len((self.domains[domain].members & self.down.keys()) - {but})


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The domain that has least room, and none."""

    domain: str
    down: int
    allowed: int
    """For whoever asked: one less for planned work, where the last is remediation's."""
    detail: str


def books_of(domains: Iterable[Domain]) -> Books:
    """Empty books of some domains."""
    known = {domain.id: domain for domain in domains}
    of: dict[str, list[str]] = {}
    for domain in known.values():
        for node in domain.members:
            of.setdefault(node, []).append(domain.id)
    return Books(domains=known, of={node: tuple(sorted(ids)) for node, ids in of.items()})


def refusal(*, books: Books, node: str, cause: Cause) -> Refusal | None:
    """Why a node may not be taken down now; `None` where it may.

    A node of no domain is refused: nobody knows what else would be down with it.
    """
    if cause in UNASKED or books.down.get(node, frozenset()) - {Cause.UNKNOWN}:
        return None
    if not books.of.get(node):
        return Refusal(domain="", down=0, allowed=0, detail=f"{node} is in no failure domain")
    least: Refusal | None = None
    for name in books.of[node]:
        found = _room(books=books, domain=books.domains[name], node=node, cause=cause)
        if least is None or found.allowed - found.down < least.allowed - least.down:
            least = found
    return least if least is not None and least.down >= least.allowed else None


def _room(*, books: Books, domain: Domain, node: str, cause: Cause) -> Refusal:
    down, most = books.down_in(domain.id, but=node), domain.allowance
    allowed = most
    if cause in PLANNED and (most > 1 or (books.waiting - {node}) & domain.members):
        allowed = max(most - 1, 0)
    what = f"{down} of {len(domain.members)} nodes of {domain.kind} {domain.id} are down"
    kept = ", and one is kept for remediation" if allowed < most else ""
    alone = "; it has only this node: a person allows it" if len(domain.members) == 1 else ""
    detail = f"{what}, {most} may be{kept}{alone}"
    return Refusal(domain=domain.id, down=down, allowed=allowed, detail=detail)


def taken(*, books: Books, node: str, cause: Cause) -> Books:
    """Books in which a node is down for a cause, asked for or not."""
    causes = books.down.get(node, frozenset()) | {cause}
    return msgspec.structs.replace(
        books, down={**books.down, node: causes}, waiting=books.waiting - {node}
    )


def given_back(*, books: Books, node: str, cause: Cause) -> Books:
    """Books in which a node is not down for a cause any more; it may be for others."""
    causes = books.down.get(node, frozenset()) - {cause}
    down = {other: why for other, why in books.down.items() if other != node}
    if causes:
        down[node] = causes
    return msgspec.structs.replace(books, down=down)


def no_power_for(*, loads: Loads, node: str, feed: str, target_w: float) -> str | None:
    """The node of the feed tree that cannot bear one more at full draw; `None` where it may come back."""
    extra_w = target_w - loads.counted(node)
    return loads.binding(feed, extra_w=extra_w) if extra_w > 0 else None
