"""What is done to a GPU node that is remedied, and the closer looks that only a node under our hold gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.bmc import BootProgress, Part, Power
from control_plane.core.cluster import Cluster, ClusterError
from control_plane.core.fleet import Device, Site
from control_plane.core.handed_over import is_cordoned_by_nvsentinel
from control_plane.core.node_drain import Drained, DrainOrder, DrainState
from control_plane.core.node_hold import Node, NodeHold
from control_plane.core.node_pods import DrainPolicy
from control_plane.core.ports import Clock, Permit, Rng
from control_plane.core.remedy_case import Action, Outcome, Remedy
from control_plane.engine.log import Say
from control_plane.kube.gpu_bmc import Bmcs, cycles_by_itself
from control_plane.kube.gpu_view import BY, Known, NodeFacts
from control_plane.kube.node_drain import NodeDrain, evidence, forget
from control_plane.kube.node_hold import HoldState, NodeHolds

_NOTHING: Final = frozenset[Part]()
_HOT: Final = frozenset({Part.SENSORS})


class Hands:
    """Those of one tenure. Every write asks first whether this process may still act."""

    def __init__(
        self,
        cluster: Cluster,
        bmcs: Bmcs,
        *,
        clock: Clock,
        rng: Rng,
        may_act: Callable[[], bool],
        say: Say,
        is_handed: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        """Nothing is asked before a method is.

        Args:
            cluster: the API server.
            bmcs: of the nodes.
            clock: the clock.
            rng: for the pauses of drains.
            may_act: whether this process leads, and the site is enforced.
            say: told of what people want to know.
            is_handed: whether another remediator has handed a node over, whose cordon is on it.
        """
        self.known: dict[str, Known] = {}
        """Node under our hold → what the last closer look found."""
        self._cluster, self._bmcs, self._clock, self._rng = cluster, bmcs, clock, rng
        self._may_act, self._say, self._is_handed = may_act, say, is_handed
        self._holds = NodeHolds(cluster, may_write=may_act)
        self._drains: dict[str, NodeDrain] = {}

    async def look(
        self,
        site: Site,
        devices: Mapping[str, Device],
        held: Collection[str],
        *,
        draining: Collection[str],
        named: Collection[str] = (),
        cycling: Mapping[str, tuple[NodeFacts, Permit]],
    ) -> None:
        """Look closer at all that we hold: what is on it, and what its BMC says.

        Args:
            site: of the nodes.
            devices: the nodes, by name.
            held: those that we hold.
            draining: those of them whose drain goes on; on the others nothing is ended.
            named: nodes that an emergency names: their BMCs are asked how hot it is, too.
            cycling: those of them in a power cycle of ours, as they were known before it, and whether it goes
                on: a BMC that only takes power is told to give it back.

        Raises:
            FenceLost: another process acts for this site.
        """
        for name in self.known.keys() - set(held):
            del self.known[name]
        for name in self._drains.keys() - set(held):
            del self._drains[name]
        looks = (
            self._look(
                site,
                devices[name],
                ends=name in draining,
                parts=_HOT if name in named else _NOTHING,
            )
            for name in sorted(held)
        )
        await asyncio.gather(*looks)
        for name in sorted(cycling.keys() & self.known.keys()):
            bmc, (facts, permit) = self.known[name].bmc, cycling[name]
            if bmc is not None and bmc.power is Power.OFF and not cycles_by_itself(bmc):
                await self._bmcs.power_on(site, devices[name], facts=facts, permit=permit)

    async def _look(
        self, site: Site, device: Device, *, ends: bool, parts: frozenset[Part]
    ) -> None:
        name, known = device.asset, self.known.get(device.asset, Known())
        drained, left = await (self._drain(name) if ends else self._is_drained(name))
        bmc, at_s = known.bmc, known.bmc_at_s
        if self._clock.wall_s() - at_s >= limits.GPU_ATTENTION_S:
            at_s = self._clock.wall_s()
            bmc = await self._bmcs.look(site, device, parts)
        runs = bmc is not None and bmc.progress is BootProgress.OS_RUNNING
        self.known[name] = msgspec.structs.replace(
            known, drained=drained, left=left, bmc=bmc, bmc_at_s=at_s,
            tells_boot=known.tells_boot or runs,
        )  # fmt: skip

    async def _is_drained(self, name: str) -> tuple[Drained | None, str]:
        """What is read of it, and nothing ended."""
        try:
            return await evidence(self._cluster, self._clock, name, by=BY, policy=DrainPolicy()), ""
        except ClusterError as error:
            self._not_known(name, error)
            return None, ""

    async def _drain(self, name: str) -> tuple[Drained | None, str]:
        """One step, what it read back, and what is left."""
        drain = self._drains.get(name)
        if drain is None:
            order = DrainOrder(
                node=name, by=BY, policy=DrainPolicy(), lasts_s=limits.DRAIN_DEADLINE_S
            )
            drain = self._drains[name] = NodeDrain(
                self._cluster, order, clock=self._clock, rng=self._rng, may_write=self._may_act
            )
        try:
            now = await drain.step()
        except ClusterError as error:
            self._not_known(name, error)
            return None, ""
        if now.state is DrainState.DRAINED:
            return now.evidence, ""
        return None, now.detail

    def _not_known(self, name: str, error: ClusterError) -> None:
        self._say(f"{name}: what is on it is not known: {error}", kind="remedy")

    async def do(
        self, site: Site, device: Device, what: Remedy, facts: NodeFacts, *, permit: Permit
    ) -> Outcome:
        """Carry out an attempt that is kept; what came of it, as far as that is known at once.

        Args:
            site: of the node.
            device: the node.
            what: is done.
            facts: of its `Node`.
            permit: why it may not leave any more, asked right before it does.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: evidence tells.
        """
        name = device.asset
        match what.action:
            case Action.DRAIN:
                hold = NodeHold(by=BY, why=what.detail, since_s=self._clock.wall_s())
                state = (await self._holds.hold(name, hold, behind=self._is_of_hand_over)).state
                return Outcome.OPEN if state is HoldState.HELD else Outcome.FAILED
            case Action.RETURN:
                await self._holds.release(name, by=BY)
                await forget(self._cluster, name, may_write=self._may_act)
                return Outcome.DONE
            case Action.QUARANTINE:
                return Outcome.DONE  # its ticket is kept, and it stays held
            case _:
                return await self._bmcs.act(site, device, what.action, facts=facts, permit=permit)

    def _is_of_hand_over(self, node: Node) -> bool:
        """Whether the cordon of a node is of who handed it over; behind anybody else's nothing is drained."""
        return self._is_handed(node.name) and is_cordoned_by_nvsentinel(node)
