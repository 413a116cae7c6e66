"""What a guard says, and what it remembers."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from control_plane.core.guard_bundle import Rung


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Lower one machine."""

    asset: str
    rung: Rung
    node: str
    """For which node's sake."""


class Cause(StrEnum):
    """What a person is told of; once, for as long as it lasts."""

    OVER = "over"
    """A node is above its cap and machines are lowered for it."""
    EXHAUSTED = "exhausted"
    """It is above its cap, and nothing below it is left to lower: the breaker is next."""
    NO_METER = "no_meter"
    """Its meter says nothing, or nothing that can be so; machines are counted instead."""
    DISOBEY = "disobey"
    """Machines below it do not do as they are told; others were lowered in their place."""


class Page(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One cause at one node."""

    node: str
    cause: Cause
    detail: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of one look."""

    orders: tuple[Order, ...]
    """Given anew, and told again."""
    pages: tuple[Page, ...]
    """All causes that last; whoever sends them knows which are new."""
    guarded: frozenset[str]
    """Nodes that the guard has shed below and that have not come down yet: nobody raises there."""


class Ordered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a machine was told last."""

    rung: int
    power_w: float
    """Of the rung."""
    drop_w: float
    """What it gives up by this order, beside what it was told before."""
    at_s: float
    """When it was told first."""
    told_s: float
    node: str
    tries: int = 1
    is_done: bool = False
    """It was read back."""
    is_given_up: bool = False


class NodeState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is remembered of a node."""

    heat: float = 0.0
    """Part of the time to a trip that is used up."""
    power_w: float | None = None
    read_at_s: float = float("-inf")
    beyond_w: float = 0.0
    """By how much the last reading was above what was counted: nobody knows what it is, and it goes on."""
    is_guarded: bool = False


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a guard remembers; kept on disk before orders leave."""

    at_s: float = 0.0
    nodes: dict[str, NodeState] = {}
    ordered: dict[str, Ordered] = {}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a meter showed; told only where it can be believed."""

    power_w: float
    at_s: float


def moved(state: State, by_s: float) -> State:
    """The same, with all of its times later by so much: a clock was set in between."""
    return msgspec.structs.replace(
        state,
        at_s=state.at_s + by_s,
        nodes={
            name: msgspec.structs.replace(one, read_at_s=one.read_at_s + by_s)
            for name, one in state.nodes.items()
        },
        ordered={
            asset: msgspec.structs.replace(one, at_s=one.at_s + by_s, told_s=one.told_s + by_s)
            for asset, one in state.ordered.items()
        },
    )
