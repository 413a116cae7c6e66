"""Change what a ClusterQueue lets run: lower and stop freely, raise and resume only by those names.

Every change is read back. A lower quota evicts nothing: what is used above it runs on (`Quota.used`), and
only a stop with a drain ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec

from control_plane.core.cluster import Cluster, Conflict, NotFound
from control_plane.core.errors import ControlPlaneError
from control_plane.core.kueue import (
    CLUSTER_QUEUE,
    QUOTA_MANAGER,
    STOP_MANAGER,
    Queue,
    StopPolicy,
    queue_in,
    quota_body,
    resume_body,
    stop_body,
)
from control_plane.kube.node_hold import MayWrite, require_fence
from control_plane.kube.rereading import unless_changed


class QueueRefused(ControlPlaneError):
    """The queue is not what the change takes it for; who asked decides anew, or a person does."""


class QuotaChange(msgspec.Struct, frozen=True, kw_only=True):
    """A quota that was changed, or stood like that already."""

    before: Fraction
    after: Fraction
    """As it was read back."""
    used: Fraction | None


class Queues:
    """The ClusterQueues of a cluster."""

    def __init__(self, cluster: Cluster, *, may_write: MayWrite) -> None:
        """Nothing is asked before a method is."""
        self._cluster, self._may_write = cluster, may_write

    async def look(self, name: str) -> Queue:
        """A queue as it is at this moment.

        Raises:
            QueueRefused: there is none, or it cannot be read.
            ClusterError: the API server did not answer.
        """
        try:
            return queue_in(await self._cluster.get(CLUSTER_QUEUE, name))
        except NotFound as error:
            raise QueueRefused(
                f"there is no ClusterQueue {name}: declare it, or install Kueue"
            ) from error
        except (ValueError, msgspec.MsgspecError) as error:
            raise QueueRefused(f"ClusterQueue {name} cannot be read: {error}") from error

    async def lower(
        self, name: str, flavor: str, resource: str, *, to: int, by: str, why: str
    ) -> QuotaChange:
        """Let less be used.

        Raises:
            QueueRefused: that would raise it; or the queue does not have such a quota.
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """
        return await self._set(name, (flavor, resource), to, (by, why), lambda now: now < to)

    async def raise_quota(
        self, name: str, flavor: str, resource: str, *, to: int, by: str, why: str
    ) -> QuotaChange:
        """Let more be used: it permits draw, so only who decides raises asks for it.

        Raises:
            QueueRefused: that would lower it; or the queue does not have such a quota.
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """
        return await self._set(name, (flavor, resource), to, (by, why), lambda now: now > to)

    async def stop(
        self, name: str, policy: StopPolicy, *, by: str, why: str, until_s: float | None = None
    ) -> Queue:
        """Let nothing new run, or nothing at all; a stop that is stricter already stays so.

        Raises:
            QueueRefused: it is stopped by us for somebody else, a person resumed it, or `policy` is no stop.
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """
        if policy is StopPolicy.NONE:
            raise QueueRefused("to let a queue run again is to resume it")

        def make(queue: Queue) -> dict[str, Any] | None:
            _require_own(queue, by)
            if queue.stop is None:
                raise QueueRefused(f"ClusterQueue {name} has a stopPolicy of a later release")
            if queue.stopped_by == by and queue.stop is StopPolicy.NONE:
                raise QueueRefused(
                    f"ClusterQueue {name}: somebody resumed it under our stop ({queue.stopped_why});"
                    " resume it here too, or stop it anew"
                )
            if queue.stopped_by == by and queue.stop >= policy:
                return None
            return stop_body(queue, max(policy, queue.stop), by=by, why=why, until_s=until_s)

        return await self._change(name, make, manager=STOP_MANAGER)

    async def resume(self, name: str, *, by: str) -> Queue:
        """End our stop: it permits draw, so only who decides raises asks for it. Others' stops stay.

        Raises:
            QueueRefused: it is stopped by us for somebody else.
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """

        def make(queue: Queue) -> dict[str, Any] | None:
            _require_own(queue, by)
            return resume_body(queue) if queue.stopped_by else None

        return await self._change(name, make, manager=STOP_MANAGER)

    async def _set(
        self,
        name: str,
        place: tuple[str, str],
        to: int,
        who: tuple[str, str],
        refuses: Callable[[Fraction], bool],
    ) -> QuotaChange:
        flavor, resource = place
        before: Fraction | None = None

        def make(queue: Queue) -> dict[str, Any] | None:
            nonlocal before
            quota = queue.quotas.get(place)
            if quota is None:
                raise QueueRefused(f"ClusterQueue {name} has no quota of {resource} in {flavor}")
            if refuses(quota.nominal):
                raise QueueRefused(
                    f"ClusterQueue {name}: {resource} in {flavor} is at {quota.nominal}, and {to} is on the"
                    " other side of that"
                )
            before = quota.nominal
            if quota.nominal == to:
                return None
            return quota_body(queue, flavor, resource, to, by=who[0], why=who[1])

        if to < 0:
            raise QueueRefused("a quota is at least 0")
        await self._change(name, make, manager=QUOTA_MANAGER)
        after = (await self.look(name)).quotas.get(place)
        if after is None or before is None or after.nominal != to:
            raise Conflict(
                f"ClusterQueue {name}: somebody else sets {resource} in {flavor} as well"
            )
        return QuotaChange(before=before, after=after.nominal, used=after.used)

    async def _change(
        self, name: str, make: Callable[[Queue], dict[str, Any] | None], *, manager: str
    ) -> Queue:
        async def once() -> Queue:
            queue = await self.look(name)
            body = make(queue)
            if body is None:
                return queue
            require_fence(self._may_write)
            return queue_in(await self._cluster.apply(CLUSTER_QUEUE, body, manager=manager))

        return await unless_changed(once, else_=f"ClusterQueue {name}: others keep writing to it")


def _require_own(queue: Queue, by: str) -> None:
    if queue.stopped_by not in {"", by}:
        raise QueueRefused(
            f"ClusterQueue {queue.name} is stopped by {queue.stopped_by} ({queue.stopped_why}), not by {by}"
        )
