"""Keep a node's labels and taints as its declaration has them: by own field managers, others' untouched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from control_plane.core.cluster import NODE, Cluster
from control_plane.core.node_hold import TAINT, Taint
from control_plane.core.node_labels import (
    MANAGER,
    TAINT_MANAGER,
    drifted,
    labels_body,
    taints_body,
    with_taints,
)
from control_plane.kube.node_hold import MayWrite, read_node, require_fence
from control_plane.kube.rereading import unless_changed


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    is_there: bool = True
    """Whether there is such a node."""
    labels: frozenset[str] = frozenset()
    """Labels that were not as declared, and are now."""
    taints: bool = False
    """Whether taints were not as declared, and are now."""


class NodeLabels:
    """Corrects nodes; one that is as declared costs a read."""

    def __init__(self, cluster: Cluster, *, may_write: MayWrite) -> None:
        """Nothing is asked before a method is."""
        self._cluster, self._may_write = cluster, may_write

    async def keep(
        self,
        name: str,
        labels: Mapping[str, str],
        *,
        taints: Iterable[Taint] = (),
        taint_keys: frozenset[str] = frozenset(),
    ) -> Labelled:
        """Make a node's labels and taints those of its declaration.

        Args:
            name: of the node.
            labels: all that are declared; of `core.node_labels.OURS` any other goes.
            taints: those that are declared.
            taint_keys: all that are the declaration's to set.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """
        if TAINT in taint_keys:
            raise ValueError(f"{TAINT} is set and ended with a hold alone")
        node = await read_node(self._cluster, name)
        if node is None or node.is_going:
            return Labelled(is_there=False)
        wrong = drifted(node, labels)
        if wrong:
            stale = dict.fromkeys(wrong - labels.keys(), "")
            # Whoever labelled it at its join owns what is stale as well; ours alone, it goes once given up.
            for wanted in ([{**labels, **stale}] if stale else []) + [dict(labels)]:
                require_fence(self._may_write)
                await self._cluster.apply(NODE, labels_body(node, wanted), manager=MANAGER)
        changed = await self._taint(name, tuple(taints), taint_keys) if taint_keys else False
        return Labelled(labels=wrong, taints=changed)

    async def _taint(self, name: str, taints: tuple[Taint, ...], keys: frozenset[str]) -> bool:
        async def once() -> bool:
            node = await read_node(self._cluster, name)
            wanted = None if node is None else with_taints(node, taints, keys)
            if node is None or wanted is None:
                return False
            require_fence(self._may_write)
            await self._cluster.apply(NODE, taints_body(node, wanted), manager=TAINT_MANAGER)
            return True

        return await unless_changed(
            once, else_=f"node {name}: others keep writing to it; its taints are not as declared"
        )
