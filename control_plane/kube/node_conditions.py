"""Write what is wrong with a node's GPUs onto its `Node`: on change, and once in a long while."""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.core import limits
from control_plane.core.cluster import NODE, Cluster, NotFound
from control_plane.core.gpu import Alert
from control_plane.core.node_conditions import (
    MANAGER,
    conditions_body,
    conditions_in,
    says_more,
    told,
)
from control_plane.core.ports import Clock
from control_plane.kube.node_hold import MayWrite, require_fence


class NodeConditions:
    """Writes conditions; those of the kubelet and of others are not looked at."""

    def __init__(self, cluster: Cluster, *, clock: Clock, may_write: MayWrite) -> None:
        """Nothing is asked before a method is."""
        self._cluster, self._clock, self._may_write = cluster, clock, may_write

    async def tell(self, name: str, alerts: Iterable[Alert]) -> bool:
        """Let a node's conditions be these; whether that took a write.

        Args:
            name: of the node.
            alerts: from a look at its GPUs. Without a look nothing is told: unknown is not healthy.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """
        try:
            node = await self._cluster.get(NODE, name)
        except NotFound:
            return False
        before = conditions_in(node)
        now = told(alerts, before, now_s=self._clock.wall_s())
        if not says_more(now, before, beat_s=limits.NODE_CONDITION_BEAT_S):
            return False
        require_fence(self._may_write)
        body = conditions_body(name, now)
        await self._cluster.apply(NODE, body, manager=MANAGER, subresource="status")
        return True
