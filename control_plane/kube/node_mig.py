"""Partition the GPUs of a drained node anew, through NVIDIA's MIG manager; what fails is put back."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from control_plane.core import limits
from control_plane.core.cluster import NODE, Cluster, ClusterError, Conflict
from control_plane.core.mig import (
    MANAGER,
    MigState,
    ask_body,
    done_body,
    mig_of,
    restore_body,
)
from control_plane.core.node_hold import Node
from control_plane.core.node_pods import DrainPolicy
from control_plane.core.ports import Clock, Rng
from control_plane.kube.node_drain import evidence
from control_plane.kube.node_hold import MayWrite, read_node, require_fence
from control_plane.kube.waiting import api_backoff

LOOK_S: Final = 5.0
"""Between two looks at the MIG manager's word, in wire seconds."""


class MigEnd(StrEnum):
    """Where a change is, or how it ended."""

    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    """The old profile is asked for again; a person looks at the node."""
    NOT_DRAINED = "not_drained"
    """Nothing was asked: the node is not held by who asks, or something runs there."""
    UNKNOWN = "unknown"
    """There is no such node, or it could not be read."""


class MigResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    end: MigEnd
    detail: str = ""


class NodeMig:
    """One change of one node."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        profile: str,
        *,
        by: str,
        clock: Clock,
        rng: Rng,
        may_write: MayWrite,
    ) -> None:
        """Nothing is asked before a method is.

        Args:
            cluster: where.
            name: of the node.
            profile: of the MIG manager's configuration, as `all-1g.10gb`.
            by: who holds the node.
            clock: policy time, and waits.
            rng: for waits.
            may_write: whether this process leads.
        """
        self._cluster, self._name, self._profile, self._by = cluster, name, profile, by
        self._clock, self._rng, self._may_write = clock, rng, may_write

    async def run(self) -> MigResult:
        """Go on until it has an end.

        Raises:
            FenceLost: another process acts for this site; whoever leads goes on.
        """
        away = api_backoff(self._rng)
        until_s = self._clock.wall_s() + 2 * limits.MIG_LASTS_S
        while True:
            try:
                now = await self.step()
            except ClusterError as error:
                if self._clock.wall_s() >= until_s:
                    return MigResult(end=MigEnd.UNKNOWN, detail=str(error))
                await self._clock.wire_sleep(away.next_s(error))
                continue
            away.reset()
            if now.end is not MigEnd.WORKING:
                return now
            await self._clock.wire_sleep(LOOK_S)

    async def step(self) -> MigResult:
        """One look, and what follows from it at once.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not answer.
        """
        node = await read_node(self._cluster, self._name)
        if node is None or node.is_going:
            return MigResult(end=MigEnd.UNKNOWN, detail=f"there is no node {self._name}")
        now_s = self._clock.wall_s()
        change = mig_of(node, self._profile, now_s=now_s, lasts_s=limits.MIG_LASTS_S)
        told = change.told or "nothing"
        match change.state:
            case MigState.TO_ASK:
                if not await self._is_drained():
                    why = f"{self._name} is not drained for {self._by}: the MIG manager needs idle GPUs"
                    return MigResult(end=MigEnd.NOT_DRAINED, detail=why)
                await self._apply(ask_body(node, self._profile, now_s=now_s))
            case MigState.WORKING:
                return MigResult(end=MigEnd.WORKING, detail=f"the MIG manager says {told}")
            case MigState.OVERDUE:
                await self._apply(restore_body(node, self._profile, change.before))
                return self._failed(told, change.before)
            case MigState.GAVE_UP:
                return self._failed(told, change.before)
            case MigState.DONE:
                await self._tidy(node)
                return MigResult(end=MigEnd.DONE)
        return MigResult(end=MigEnd.WORKING)

    def _failed(self, told: str, before: str) -> MigResult:
        back = f"{before} is asked for again" if before else "it had none before"
        why = f"{self._name} did not take {self._profile} (the MIG manager says {told}): {back}"
        return MigResult(end=MigEnd.FAILED, detail=why)

    async def _is_drained(self) -> bool:
        policy = DrainPolicy()
        found = await evidence(self._cluster, self._clock, self._name, by=self._by, policy=policy)
        return found is not None

    async def _tidy(self, node: Node) -> None:
        body = done_body(node, self._profile)
        if any(name.startswith("gridplane.dev/mig-") for name in node.annotations):
            await self._apply(body)

    async def _apply(self, body: dict[str, Any]) -> None:
        """Where somebody wrote in between, the next look decides anew."""
        require_fence(self._may_write)
        try:
            await self._cluster.apply(NODE, body, manager=MANAGER)
        except Conflict:
            return
