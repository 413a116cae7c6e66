"""How far a drain is: what was ordered, what is left, and what counts as evidence that a node is empty."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from control_plane.core.cluster import NODE
from control_plane.core.moments import seconds_in
from control_plane.core.node_hold import Node
from control_plane.core.node_pods import DrainPolicy, Stays

MANAGER: Final = "gridplane-drain"
"""Who owns the words below."""
BY: Final = "gridplane.dev/drain-by"
STATE: Final = "gridplane.dev/drain-state"
DEADLINE: Final = "gridplane.dev/drain-deadline"
DETAIL: Final = "gridplane.dev/drain-detail"
_NAMED: Final = 5
"""Pods that a text names, at most; the rest is counted."""


class DrainState(StrEnum):
    """Where a drain stands."""

    DRAINING = "draining"
    DRAINED = "drained"
    """Read back: nothing is left but what stays. See `Drained`."""
    WAITING_HUMAN = "waiting_human"
    """A person decides; nothing is ended meanwhile."""
    UNKNOWN = "unknown"
    """It could not be read, or there is no such node: never the same as empty."""


class DrainOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Asked again by the same one, it goes on with the deadline that it began with."""

    node: str
    by: str
    """Whoever holds the node: a drain is work under a hold."""
    policy: DrainPolicy
    lasts_s: float
    """From its beginning to its deadline, in policy seconds."""
    is_unsafe: bool = False
    """The hardware is told to be unsafe: what `disable_eviction_when_unsafe` waits for."""


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """The evidence: at this moment nothing ran on this very node that has to go."""

    node: str
    uid: str
    """Of the node: one that was made anew under its name is another."""
    at_s: float
    """Before the list was asked for."""
    stays: Mapping[str, Stays] = {}


class Draining(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a drain."""

    state: DrainState
    detail: str = ""
    """For people, bounded."""
    left: tuple[str, ...] = ()
    """Pods that have to go."""
    deadline_s: float | None = None
    evidence: Drained | None = None
    """Only where it is drained."""


def is_fresh(evidence: Drained | None, *, uid: str, now_s: float, max_age_s: float) -> bool:
    """Whether an act on the node may lean on it: of this very node, and not older than that.

    Evidence from the future is none.
    """
    return (
        evidence is not None
        and bool(uid)
        and evidence.uid == uid
        and 0.0 <= now_s - evidence.at_s <= max_age_s
    )


def named(keys: tuple[str, ...]) -> str:
    """A few by name, the others by number."""
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(keys[:_NAMED]) + more


def deadline_in(node: Node, by: str) -> float | None:
    """The deadline that the same one began with; `None` where it has not begun."""
    if node.annotations.get(BY) != by:
        return None
    return seconds_in(node.annotations.get(DEADLINE, ""))


def words(by: str, draining: Draining) -> dict[str, str]:
    """What people see on the node."""
    deadline_s = draining.deadline_s
    return {
        BY: by,
        STATE: draining.state.value,
        DETAIL: draining.detail,
        **(
            {}
            if deadline_s is None
            else {DEADLINE: dt.datetime.fromtimestamp(int(deadline_s), dt.UTC).isoformat()}
        ),
    }


def words_body(node: Node, said: Mapping[str, str]) -> dict[str, Any]:
    """As they are applied; none of them ends the drain."""
    return {
        "apiVersion": NODE.api_version,
        "kind": NODE.kind,
        "metadata": {"name": node.name, "uid": node.uid, "annotations": dict(said)},
    }


def has_words(node: Node, said: Mapping[str, str]) -> bool:
    """Whether the node tells that already."""
    return all(node.annotations.get(name, "") == text for name, text in said.items())
