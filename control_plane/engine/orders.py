"""What a person's order does to the memory of a device. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from control_plane.core.memory import Memory
from control_plane.core.observation import Settings
from control_plane.engine.records import Order, OrderKind

_OF_NO_DEVICE = frozenset(
    {OrderKind.ROLLOUT, OrderKind.INCIDENT, OrderKind.FIRMWARE, OrderKind.CREDENTIALS}
)


def obey(memory: Memory, order: Order) -> Memory:
    """The memory after an order about its device.

    Releasing an override, a contest or a stuck latch is a person's wish to see the declaration
    again: the device then counts as not yet converged, so that it comes back on the way of a
    rollout (which may raise power, inside its headroom) and not as a repair of drift (which may not).
    """
    match order.kind:
        case OrderKind.TRUST:
            return msgspec.structs.replace(memory, pin=order.pin, located=None)
        case OrderKind.OVERRIDE | OrderKind.CONTESTED | OrderKind.STUCK:
            return msgspec.structs.replace(
                memory,
                equalled=Settings(),
                expected=None,
                contested=frozenset(),
                drifts=(),
                drifting=frozenset(),
                stuck=frozenset(),
                attempts={},
                overridden_since_s=None,
            )
        case OrderKind.ROLLOUT | OrderKind.INCIDENT | OrderKind.FIRMWARE | OrderKind.CREDENTIALS:
            return memory


def with_orders(memories: Mapping[str, Memory], orders: Iterable[Order]) -> dict[str, Memory]:
    """All memories as they will be once the orders are obeyed."""
    after = dict(memories)
    for order in orders:
        if order.kind in _OF_NO_DEVICE:
            continue
        after[order.target] = obey(after.get(order.target) or Memory(asset=order.target), order)
    return after
