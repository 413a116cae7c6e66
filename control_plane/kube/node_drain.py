"""Empty a node by eviction, under its hold, until a deadline: what is left then, a person decides about.

All that a drain has to know stands on the node (`core.node_drain`), so that whoever leads next goes on with
the same deadline. "Drained" is what was read back, never what was asked for.
"""

from __future__ import annotations

from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.cluster import (
    NODE,
    POD,
    Cluster,
    ClusterError,
    Conflict,
    DisruptionRefused,
    NotFound,
    Rejected,
)
from control_plane.core.node_drain import (
    MANAGER,
    Drained,
    Draining,
    DrainOrder,
    DrainState,
    deadline_in,
    has_words,
    named,
    words,
    words_body,
)
from control_plane.core.node_hold import Node
from control_plane.core.node_pods import DrainPolicy, Pod, Sorted, pod_in, sort_pods
from control_plane.core.ports import Clock, Rng
from control_plane.kube.listing import list_all
from control_plane.kube.node_hold import (
    HoldState,
    MayWrite,
    read_node,
    require_fence,
    standing,
    was_lifted,
)
from control_plane.kube.waiting import Backoff, api_backoff

LOOK_S: Final = 2.0
"""Between two looks at a node that empties, in wire seconds."""
TELL_S: Final = 10.0
"""Between two words on the node while nothing but numbers changes, in wire seconds."""


class _Refusal(msgspec.Struct):
    """Why a pod was not evicted, and when it is asked again."""

    backoff: Backoff
    why: str = ""
    again_s: float = 0.0


class NodeDrain:
    """One drain. What it remembers between two looks are waits alone: a new one goes on where it was."""

    def __init__(
        self,
        cluster: Cluster,
        order: DrainOrder,
        *,
        clock: Clock,
        rng: Rng,
        may_write: MayWrite,
    ) -> None:
        """Nothing is asked before a method is."""
        self._cluster, self._order = cluster, order
        self._clock, self._rng, self._may_write = clock, rng, may_write
        self._refused: dict[str, _Refusal] = {}
        self._told: tuple[str, float] = ("", 0.0)
        self._until_s: float | None = None

    async def run(self) -> Draining:
        """Go on until the drain has an end: drained, a person's turn, or not to be known.

        Cancel it at any time, and run another one: it goes on. Past the deadline a server that does not
        answer makes the node unknown, which is not drained.

        Raises:
            FenceLost: another process acts for this site; nothing was ended since.
        """
        away = api_backoff(self._rng)
        until_s = self._clock.wall_s() + self._order.lasts_s
        while True:
            try:
                now = await self.step()
            except ClusterError as error:
                if self._clock.wall_s() >= until_s:
                    return Draining(state=DrainState.UNKNOWN, detail=str(error))
                await self._clock.wire_sleep(away.next_s(error))
                continue
            away.reset()
            if now.state is not DrainState.DRAINING:
                return now
            await self._clock.wire_sleep(LOOK_S)

    async def step(self) -> Draining:
        """One look, what follows from it at once, and the words of it on the node.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not answer; what was ended is ended.
        """
        order = self._order
        node = await read_node(self._cluster, order.node)
        if node is None or node.is_going:
            return Draining(state=DrainState.UNKNOWN, detail=f"there is no node {order.node}")
        if self._until_s is None:
            self._until_s = self._clock.wall_s() + order.lasts_s
        # Somebody may take the words away again and again: it ends all the same.
        deadline_s = min(deadline_in(node, order.by) or self._until_s, self._until_s)
        now, pods = await self._look(node, deadline_s)
        await self._tell(node, now)
        if now.state is DrainState.DRAINING:
            # Only once the deadline stands on the node: whoever goes on after a crash has the same one.
            await self._end(pods, is_late=self._clock.wall_s() >= deadline_s)
        return now

    # --- looking ---------------------------------------------------------------------------------

    async def _look(self, node: Node, deadline_s: float) -> tuple[Draining, tuple[Pod, ...]]:
        """How far it is, and which pods are to be ended now."""
        order, now_s = self._order, self._clock.wall_s()
        if (why := not_held(node, order.by)) is not None:
            # Held again it has all of its time again: somebody has decided meanwhile.
            return Draining(state=DrainState.WAITING_HUMAN, detail=why), ()
        there = await pods_on(self._cluster, node.name, order.policy)
        if there.is_clear:
            evidence = await _confirmed(self._cluster, node, order.by, now_s, there)
            state = DrainState.DRAINING if evidence is None else DrainState.DRAINED
            detail = "" if evidence else "nothing is left, and its hold has changed meanwhile"
            now = Draining(state=state, detail=detail, deadline_s=deadline_s, evidence=evidence)
            return now, ()
        left = tuple(pod.key for pod in there.go)
        if there.block:
            keys = tuple(f"{key} ({why.value})" for key, why in there.block.items())
            detail = f"the policy ends none of: {named(keys)}"
        elif now_s < deadline_s or self._may_delete(deadline_s):
            detail = f"{len(left)} to go: {named(left)}{self._refusals(there)}"
            now = Draining(
                state=DrainState.DRAINING, detail=detail, left=left, deadline_s=deadline_s
            )
            return now, there.go
        else:
            detail = (
                f"past its deadline with {len(left)} left: {named(left)}{self._refusals(there)}"
            )
        now = Draining(
            state=DrainState.WAITING_HUMAN,
            detail=detail,
            left=left + tuple(there.block),
            deadline_s=deadline_s,
        )
        return now, ()

    def _may_delete(self, deadline_s: float) -> bool:
        """Whether pods may be ended past their budgets, for as long as that may take."""
        order = self._order
        is_in_time = self._clock.wall_s() < deadline_s + limits.DRAIN_FORCED_S
        return order.policy.disable_eviction_when_unsafe and order.is_unsafe and is_in_time

    def _refusals(self, there: Sorted) -> str:
        said = {
            refusal.why
            for pod in there.go
            if (refusal := self._refused.get(pod.uid)) is not None and refusal.why
        }
        if any(pod.is_ending for pod in there.go):
            said.add("some are ending")
        return f" ({'; '.join(sorted(said)[:3])})" if said else ""

    # --- ending ----------------------------------------------------------------------------------

    async def _end(self, pods: tuple[Pod, ...], *, is_late: bool) -> None:
        """Ask for the end of each pod whose turn it is."""
        for pod in pods:
            if pod.is_ending:
                continue
            refusal = self._refused.get(pod.uid)
            if is_late:
                await self._delete(pod)
            elif refusal is None or refusal.again_s <= self._clock.wire_s():
                await self._evict(pod)

    async def _evict(self, pod: Pod) -> None:
        require_fence(self._may_write)
        try:
            await self._cluster.evict(pod.name, namespace=pod.namespace, uid=pod.uid)
        except (NotFound, Conflict):
            self._refused.pop(
                pod.uid, None
            )  # It has gone, or another one has its name: the next look tells.
        except (DisruptionRefused, Rejected) as error:
            refusal = self._refused.setdefault(pod.uid, _Refusal(self._budget_backoff()))
            refusal.why = str(error)
            refusal.again_s = self._clock.wire_s() + refusal.backoff.next_s(error)

    async def _delete(self, pod: Pod) -> None:
        require_fence(self._may_write)
        try:
            await self._cluster.delete(POD, pod.name, namespace=pod.namespace, uid=pod.uid)
        except (NotFound, Conflict):
            self._refused.pop(pod.uid, None)
        except Rejected as error:
            refusal = self._refused.setdefault(pod.uid, _Refusal(self._budget_backoff()))
            refusal.why = str(error)

    def _budget_backoff(self) -> Backoff:
        return Backoff(
            self._rng, first_s=limits.EVICTION_RETRY_MIN_S, max_s=limits.EVICTION_RETRY_MAX_S
        )

    # --- telling ---------------------------------------------------------------------------------

    async def _tell(self, node: Node, now: Draining) -> None:
        """Put the words on the node where they say something new; numbers alone not too often."""
        said = words(self._order.by, now)
        state, at_s = self._told
        is_soon = self._clock.wire_s() - at_s < TELL_S
        if has_words(node, said) or (state == now.state and is_soon):
            return
        require_fence(self._may_write)
        await self._cluster.apply(NODE, words_body(node, said), manager=MANAGER)
        self._told = (now.state.value, self._clock.wire_s())


async def evidence(
    cluster: Cluster, clock: Clock, name: str, *, by: str, policy: DrainPolicy
) -> Drained | None:
    """That a node is held and empty at this moment; `None` where it is not, or where that is not known.

    Raises:
        ClusterError: the API server did not answer: nothing is known.
    """
    node = await read_node(cluster, name)
    if node is None or node.is_going or not_held(node, by) is not None:
        return None
    at_s = clock.wall_s()
    there = await pods_on(cluster, name, policy)
    return await _confirmed(cluster, node, by, at_s, there) if there.is_clear else None


async def forget(cluster: Cluster, name: str, *, may_write: MayWrite) -> None:
    """Take the words of a drain off a node that is in service again.

    Raises:
        FenceLost: another process acts for this site.
        ClusterError: the API server did not do it, or perhaps did: ask again.
    """
    node = await read_node(cluster, name)
    if node is not None:
        require_fence(may_write)
        await cluster.apply(NODE, words_body(node, {}), manager=MANAGER)


async def pods_on(cluster: Cluster, name: str, policy: DrainPolicy) -> Sorted:
    """The pods that are bound to a node, as the API server has them at this moment.

    Raises:
        ClusterError: the API server did not answer.
    """
    found = await list_all(cluster, POD, namespace=None, fields=f"spec.nodeName={name}")
    return sort_pods(map(pod_in, found), policy)


def not_held(node: Node, by: str) -> str | None:
    """Why nothing may be done to the pods of a node; `None` where it is held, so that none comes after."""
    now = standing(node, by)
    match now.state:
        case HoldState.HELD:
            return None
        case HoldState.CONTESTED:
            if not was_lifted(now.missing):
                return None
            return f"somebody took away {named(now.missing)}: pods may come again"
        case HoldState.ANOTHERS:
            whom = now.hold.by if now.hold else ""
            return f"it is held by {whom or 'nobody that is known'}, not by {by}"
        case _:
            return f"it is not held by {by}"


async def _confirmed(
    cluster: Cluster, node: Node, by: str, at_s: float, there: Sorted
) -> Drained | None:
    """Of a list that was taken between two looks at the hold: nothing was scheduled in between."""
    after = await read_node(cluster, node.name)
    if after is None or after.uid != node.uid or not_held(after, by) is not None:
        return None
    return Drained(node=node.name, uid=node.uid, at_s=at_s, stays=there.stay)
