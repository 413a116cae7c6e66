"""Hold a node and let it go: every mark of `core.node_hold` in one request, under a live fence.

Safe to ask again and again. What a person did is never undone: a cordon that was there before stays after,
and a hold that somebody took apart is told, not put together again.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from control_plane.core.cluster import NODE, Cluster, Conflict, NotFound
from control_plane.core.driver_upgrade import DriverUpgrade, upgrade_of
from control_plane.core.errors import FenceLost
from control_plane.core.node_hold import (
    CORDON,
    MANAGER,
    TAINT,
    UPGRADE_MANAGER,
    Node,
    NodeHold,
    corrections,
    held_body,
    hold_in,
    is_mistaken_for_cordoned,
    missing_in,
    node_in,
    released_body,
)
from control_plane.kube.rereading import unless_changed

MayWrite = Callable[[], bool]
"""Whether this process holds the fence; asked right before each request that changes something."""


class HoldState(StrEnum):
    """How a node stands towards us."""

    HELD = "held"
    """All marks of the hold are there."""
    FREE = "free"
    """We hold it no more, or never did. It may be cordoned all the same: see `Holding.is_cordoned`."""
    ANOTHERS = "anothers"
    """It is held by us for somebody else, who ends it."""
    CONTESTED = "contested"
    """Somebody took marks of our hold away (`Holding.missing`): a person decides."""
    UNKNOWN = "unknown"
    """There is no such node."""


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    state: HoldState
    hold: NodeHold | None = None
    missing: tuple[str, ...] = ()
    is_cordoned: bool = False
    """Whatever we did: somebody else's cordon keeps pods away too."""
    upgrade: DriverUpgrade | None = None
    """What NVIDIA's operator is at on the node: while that `blocks`, nobody begins work there."""


def standing(node: Node, by: str) -> Holding:
    """How a node stands, as it was read, towards who asks."""
    hold, upgrade = hold_in(node), upgrade_of(node)
    if hold is None:
        return Holding(state=HoldState.FREE, is_cordoned=node.is_cordoned, upgrade=upgrade)
    lost = missing_in(node)
    state = HoldState.CONTESTED if lost else HoldState.HELD
    if hold.by != by:
        state = HoldState.ANOTHERS
    return Holding(
        state=state, hold=hold, missing=lost, is_cordoned=node.is_cordoned, upgrade=upgrade
    )


class NodeHolds:
    """Sets and ends holds."""

    def __init__(self, cluster: Cluster, *, may_write: MayWrite) -> None:
        """Nothing is asked before a method is."""
        self._cluster, self._may_write = cluster, may_write

    async def look(self, name: str, *, by: str) -> Holding:
        """How a node stands.

        Raises:
            ClusterError: the API server did not answer.
        """
        node = await read_node(self._cluster, name)
        return Holding(state=HoldState.UNKNOWN) if node is None else standing(node, by)

    async def hold(
        self,
        name: str,
        hold: NodeHold,
        *,
        again: bool = False,
        behind: Callable[[Node], bool] = lambda _node: True,
    ) -> Holding:
        """Hold a node, or bring the labels of our hold back.

        Args:
            name: of the node.
            hold: by whom and why; its `by` is who may end it. One of the same `by` keeps its beginning.
            again: a person ordered it anew: put a hold together again that somebody took apart.
            behind: whether a node that somebody else cordoned is held too, as it was read; else it is left
                `FREE`.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """

        async def once() -> Holding:
            node = await read_node(self._cluster, name)
            if node is None or node.is_going:
                return Holding(state=HoldState.UNKNOWN)
            now = standing(node, hold.by)
            if now.state is HoldState.ANOTHERS or (
                now.state is HoldState.HELD and _says_the_same(now.hold, hold)
            ):
                return now
            if now.state is HoldState.CONTESTED and not again and was_lifted(now.missing):
                return now
            if now.state is HoldState.FREE and node.is_cordoned and not behind(node):
                return now
            kept = now.hold or hold
            wanted = msgspec.structs.replace(hold, since_s=kept.since_s)
            return standing(await self._apply(held_body(node, wanted)), hold.by)

        return await unless_changed(
            once, else_=f"node {name}: others keep writing to it; its hold was not set"
        )

    async def mend(self, name: str, *, by: str) -> tuple[str, ...]:
        """Put labels of our hold back that somebody wrote over; which those were.

        None where it is held no more, or by somebody else, or where pods were let come again: no hold is
        begun by this.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """

        async def once() -> tuple[str, ...]:
            node = await read_node(self._cluster, name)
            if node is None or node.is_going:
                return ()
            now = standing(node, by)
            if now.state is not HoldState.CONTESTED or now.hold is None or was_lifted(now.missing):
                return ()
            await self._apply(held_body(node, now.hold))
            return now.missing

        return await unless_changed(
            once, else_=f"node {name}: others keep writing to it; its labels were not put back"
        )

    async def release(self, name: str, *, by: str) -> Holding:
        """End our hold: pods may come again, unless somebody else keeps them away.

        It permits draw, so only who decides raises asks for it. A contested hold is ended as well.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """

        async def once() -> Holding:
            node = await read_node(self._cluster, name)
            if node is None:
                return Holding(state=HoldState.UNKNOWN)
            now = standing(node, by)
            if now.state in {HoldState.FREE, HoldState.ANOTHERS}:
                return now
            if is_mistaken_for_cordoned(node):
                for body in corrections(node):
                    require_fence(self._may_write)
                    await self._cluster.apply(NODE, body, manager=UPGRADE_MANAGER)
                raise Conflict("written to by ourselves: it is read anew")
            return standing(await self._apply(released_body(node)), by)

        return await unless_changed(
            once, else_=f"node {name}: others keep writing to it; its hold was not ended"
        )

    async def _apply(self, body: dict[str, Any]) -> Node:
        """The node afterwards."""
        require_fence(self._may_write)
        return node_in(await self._cluster.apply(NODE, body, manager=MANAGER))


async def read_node(cluster: Cluster, name: str) -> Node | None:
    """A node as it is at this moment; `None` where there is none.

    Raises:
        ClusterError: the API server did not answer.
    """
    try:
        return node_in(await cluster.get(NODE, name))
    except NotFound:
        return None


def require_fence(may_write: MayWrite) -> None:
    """Nothing, while this process may write.

    Raises:
        FenceLost: another process acts for this site.
    """
    if not may_write():
        raise FenceLost("this process does not lead any more, and changes no node")


def _says_the_same(now: NodeHold | None, wanted: NodeHold) -> bool:
    """Whether the words on the node are those; its beginning is kept."""
    return now is not None and (now.why, now.until_s) == (wanted.why, _whole(wanted.until_s))


def _whole(at_s: float | None) -> float | None:
    return None if at_s is None else float(int(at_s))


def was_lifted(missing: tuple[str, ...]) -> bool:
    """Whether somebody let pods come again: that is meant, and labels that an operator wrote over are not."""
    return TAINT in missing or CORDON in missing
