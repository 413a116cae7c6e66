"""Brings declared drivers and MIG profiles to GPU nodes, wave by wave, under one tenure.

What is decided is `core.gpu_rollout`. A driver is upgraded by NVIDIA's operator, which is let go to one node
after the other; MIG by its MIG manager, on a node that is held and drained here. How far a node is stands on
the node, so a dead leader leaves nothing that the next one does not see. Nobody is uncordoned but by the end
of a hold of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from control_plane.api.conditions import shortened
from control_plane.api.objects import GpuNodeStatus
from control_plane.core import limits
from control_plane.core.cluster import NODE, Cluster, ClusterError, Conflict, Rejected
from control_plane.core.domain_budget import Books, Cause, taken
from control_plane.core.driver_upgrade import Worker, upgrade_of
from control_plane.core.fleet import Device
from control_plane.core.gpu_rollout import (
    SoftwareRollout,
    SoftwareState,
    Stand,
    Standing,
    Turn,
    begun,
    turn,
)
from control_plane.core.gpu_software import (
    BY,
    MANAGER,
    Marks,
    Step,
    Want,
    marks_body,
    marks_in,
)
from control_plane.core.mig import WANTED
from control_plane.core.node_drain import DrainOrder, DrainState
from control_plane.core.node_hold import SKIP_DRIVER_UPGRADE, Node, NodeHold, hold_in
from control_plane.core.node_pods import DrainPolicy
from control_plane.core.overlay import covering, freeze_on, hold_on
from control_plane.core.ports import Clock, Rng
from control_plane.core.remedy_urgent import named_in
from control_plane.engine.log import Say
from control_plane.engine.records import Event
from control_plane.kube.gpu_rounds import Duty
from control_plane.kube.gpu_sight import Place, Seen
from control_plane.kube.gpu_software_view import (
    LOWERED,
    has_mig,
    is_untouched,
    mig_rests,
    standing_of,
    unwell,
    want_of,
)
from control_plane.kube.gpu_view import NodeFacts
from control_plane.kube.node_drain import NodeDrain, forget
from control_plane.kube.node_hold import HoldState, NodeHolds, read_node, require_fence
from control_plane.kube.node_mig import NodeMig

_AT_ONCE: Final = 64
"""Nodes that are marked in one round, at most: a hall is held back within a minute."""
_HELD_BACK: Final = Marks(step=Step.HELD)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One rollout, for people."""

    rollout: SoftwareRollout
    stands: Mapping[str, Standing]
    waits: Mapping[str, str] = field(default_factory=dict)
    """Nodes that could go, and what they wait for."""


@dataclass(frozen=True, kw_only=True)
class _Rest:
    """How a node stood, and what that was read from."""

    device: Device
    facts: NodeFacts | None
    told: GpuNodeStatus | None
    rollout: str
    standing: Standing

    def still(
        self,
        device: Device,
        facts: NodeFacts | None,
        told: GpuNodeStatus | None,
        rollout: str,
        now_s: float,
    ) -> bool:
        """Whether it stands so still: of one that is done and held back neither words nor deadlines count."""
        if self.standing.stand is not Stand.DONE or facts is None or told is None:
            return False
        if marks_in(facts.node).step is not Step.HELD or told.reported_at is None:
            return False
        is_same = self.device is device and self.facts is facts and self.told is told
        is_recent = now_s - told.reported_at.timestamp() < limits.GPU_SILENT_S
        return is_same and is_recent and self.rollout == rollout


class Software:
    """That of one tenure. What it remembers is lost with it, and found again."""

    def __init__(
        self, duty: Duty, seen: Seen, cluster: Cluster, *, clock: Clock, rng: Rng, say: Say
    ) -> None:
        """Nothing is asked before `once`."""
        self.shown: tuple[Shown, ...] = ()
        self._duty, self._seen, self._cluster = duty, seen, cluster
        self._clock, self._rng, self._say = clock, rng, say
        self._holds = NodeHolds(cluster, may_write=duty.may_act)
        self._left: dict[str, float] = {}
        """Node → when it was let go; until a watch shows it."""
        self._named: frozenset[str] = frozenset()
        """Nodes of domains in which an emergency goes on."""
        self._troubles: dict[str, str] = {}
        """Node → what the API server says to its steps, as it was said last."""
        self._drains: dict[str, NodeDrain] = {}
        self._rests: dict[str, _Rest] = {}
        """What was worked out of each node last: a hall at rest costs next to nothing."""

    def taken(self) -> frozenset[str]:
        """Nodes that were let go, and are not seen so yet: whoever counts counts them too."""
        now_s = self._clock.wall_s()
        for name, at_s in list(self._left.items()):
            facts = self._seen.facts.get(name)
            if now_s - at_s >= limits.DRAIN_LEFT_S or (
                facts is not None and marks_in(facts.node).since_s >= int(at_s)
            ):
                del self._left[name]
        return frozenset(self._left)

    async def once(self, place: Place, books: Books) -> None:
        """One round, after that of remedies.

        Args:
            place: the nodes.
            books: who is down, those that remedies have just begun on among them.

        Raises:
            FenceLost: another leader has taken over.
            ClusterError, StoreBusy: the next round goes on.
        """
        if not self._duty.may_act():
            self.shown = ()
            return
        emergencies = self._duty.store.remedy_site().emergencies
        self._named = named_in(emergencies, books, now_s=self._clock.wall_s())
        for name in self.taken():
            books = taken(books=books, node=name, cause=Cause.DRIVER_UPGRADE)
        classes = _classes(place)
        managed = {name for devices in classes.values() for name in devices}
        await self._give_back(place, managed)
        shown: list[Shown] = []
        for profile, devices in sorted(classes.items()):
            one = self._decided(place, profile, devices, books)
            shown.append(one[0])
            for name in one[1].begin:
                books = taken(books=books, node=name, cause=Cause.DRIVER_UPGRADE)
            await self._carry_out(place, devices, *one)
        self.shown = tuple(shown)
        self._forget(managed, {one.rollout.profile for one in shown})

    # --- deciding ----------------------------------------------------------------------------------

    def _decided(
        self, place: Place, profile: str, devices: Mapping[str, Device], books: Books
    ) -> tuple[Shown, Turn]:
        store, now_s = self._duty.store, self._clock.wall_s()
        site = store.remedy_site()
        want = want_of(next(iter(devices.values())))
        before = site.software.get(profile)
        if before is None or before.want != want:
            stands = self._stands(place, devices, "")
            rollout = begun(profile, want, stands, now_s=now_s)
        else:
            rollout = before
        stands = self._stands(place, devices, rollout.id)
        found = turn(
            rollout, stands, books=books,
            racks={name: device.rack for name, device in devices.items()},
            max_failure_share=place.site.strategy.max_new_failure_share, now_s=now_s,
        )  # fmt: skip
        after = found.rollout
        if after != before:
            with store.transaction():
                software = {**site.software, profile: after}
                store.put_remedy_site(msgspec.structs.replace(site, software=software))
                store.put_events(
                    Event(at_s=now_s, kind="rollout", text=words, asset=None)
                    for words in _news(before, after)
                )
        return Shown(rollout=after, stands=stands, waits=found.waits), found

    def _stands(
        self, place: Place, devices: Mapping[str, Device], rollout: str
    ) -> dict[str, Standing]:
        store, now_s = self._duty.store, self._clock.wall_s()
        overlays, kept = store.overlays(), store.remedies()
        found: dict[str, Standing] = {}
        for name, device in devices.items():
            facts, told = self._seen.facts.get(name), self._seen.told.get(name)
            rests = self._rests.get(name)
            if rests is None or not rests.still(device, facts, told, rollout, now_s):
                one = standing_of(
                    device, facts, told, rollout=rollout,
                    overlays=covering(overlays, place.above[name]), kept=kept.get(name),
                    others=self._others(name), now_s=now_s,
                )  # fmt: skip
                rests = _Rest(device=device, facts=facts, told=told, rollout=rollout, standing=one)
                self._rests[name] = rests
            found[name] = rests.standing
        return found

    def _standing(
        self, place: Place, device: Device, rollout: str, *, node: Node | None = None
    ) -> Standing:
        """Of one node at this moment: as it is seen, or as it was just read."""
        name, store = device.asset, self._duty.store
        facts: NodeFacts | None = self._seen.facts.get(name)
        if facts is not None and node is not None:
            facts = msgspec.structs.replace(facts, node=node)
        return standing_of(
            device, facts, self._seen.told.get(name), rollout=rollout,
            overlays=covering(store.overlays(), place.above[name]), kept=store.remedy(name),
            others=self._others(name), now_s=self._clock.wall_s(),
        )  # fmt: skip

    # --- acting ------------------------------------------------------------------------------------

    async def _carry_out(
        self, place: Place, devices: Mapping[str, Device], shown: Shown, found: Turn
    ) -> None:
        rollout, stands = shown.rollout, shown.stands
        is_held_back = await self._held_back(devices)
        for name in found.again:
            await self._mark(name, _HELD_BACK, lambda node: marks_in(node).step is Step.FAILED)
        for name, one in stands.items():
            facts = self._seen.facts.get(name)
            if facts is None:
                continue
            try:
                await self._follow(place, devices[name], rollout, one, facts.node)
                self._troubles.pop(name, None)
            except ClusterError as error:
                # One node's trouble is not that of the others, nor of those that are to be held back.
                self._note(name, str(error))
        if not is_held_back:
            return  # who is not held back may be upgraded by the operator beside those that are let go
        if found.begin:
            await self._duty.durable()
        for name in found.begin:
            await self._let_go(place, devices[name], rollout)

    async def _follow(
        self, place: Place, device: Device, rollout: SoftwareRollout, one: Standing, node: Node
    ) -> None:
        """What follows for a node that was let go, now or before."""
        name, marks = device.asset, marks_in(node)
        is_held = (hold := hold_in(node)) is not None and hold.by == BY
        if marks.step is Step.GOING:
            halted = rollout.state is SoftwareState.HALTED and one.stand is Stand.GOING
            if one.stand is Stand.RECALLED or halted:
                if await self._recall(place, device, rollout):
                    return
            elif one.stand is Stand.FAILED:
                await self._fail(name, marks, one.detail)
            elif one.stand is Stand.DONE:
                await self._mark(name, msgspec.structs.replace(marks, step=Step.HELD), _is_going)
            if one.stand is Stand.GOING:
                await self._part(place, device, rollout, node)
            return
        if is_held and mig_rests(node) and self._is_well(device) and not self._barred(place, name):
            await self._end_hold(name)
        elif marks.step is Step.FAILED and one.stand is not Stand.FAILED:
            # It got well, and stays counted as failed until a person speaks; or it failed at another thing.
            held = msgspec.structs.replace(marks, step=Step.HELD, why="")
            await self._mark(name, held, lambda node: marks_in(node).step is Step.FAILED)

    def _note(self, name: str, trouble: str) -> None:
        if self._troubles.get(name) != trouble:
            self._say(f"{name}: {trouble}", kind="rollout", level="warning", asset=name)
        self._troubles[name] = trouble

    def _is_well(self, device: Device) -> bool:
        facts, told = self._seen.facts.get(device.asset), self._seen.told.get(device.asset)
        return facts is not None and unwell(device, facts, told, self._clock.wall_s()) is None

    def _barred(self, place: Place, name: str) -> bool:
        """Whether a person or want of power keeps it as it is: under that it is not let back, either."""
        above, now_s = (
            covering(self._duty.store.overlays(), place.above[name]),
            self._clock.wall_s(),
        )
        if name in self._named or hold_on(above) is not None or freeze_on(above, now_s) is not None:
            return True
        return any(one.kind in LOWERED and not one.is_expired(now_s) for one in above)

    def _others(self, name: str) -> str | None:
        """Who has it beside what its `Node` and overlays tell."""
        if name in self._named:
            return "an emergency goes on in its domain"
        return "NVSentinel has handed it over" if self._seen.handed(name) else None

    async def _held_back(self, devices: Mapping[str, Device]) -> bool:
        """Mark who is not marked yet, or not any more; whether all of them are seen marked."""
        bare = [
            name
            for name in devices
            if (facts := self._seen.facts.get(name)) is not None
            and not facts.node.is_going
            and not _is_held_back(facts.node)
        ]
        for name in bare[:_AT_ONCE]:
            marks = marks_in(self._seen.facts[name].node)
            again = _HELD_BACK if marks.step is Step.NONE else marks

            def may(node: Node, marks: Marks = marks) -> bool:
                return marks_in(node) == marks and not _is_held_back(node)

            await self._mark(name, again, may)
        return not bare

    async def _give_back(self, place: Place, managed: set[str]) -> None:
        """Let the operator have those again whose software does not come in waves any more."""
        strange = [
            name
            for name in place.devices
            if name not in managed
            and (facts := self._seen.facts.get(name)) is not None
            and marks_in(facts.node).step is not Step.NONE
        ]
        for name in strange[:_AT_ONCE]:
            if self._barred(place, name):
                continue
            hold = hold_in(self._seen.facts[name].node)
            if hold is not None and hold.by == BY:
                if not mig_rests(self._seen.facts[name].node):
                    continue
                if not self._is_well(place.devices[name]):
                    continue
                await self._end_hold(name)
            await self._mark(name, Marks(step=Step.NONE), lambda node: not _is_bare(node))

    async def _let_go(self, place: Place, device: Device, rollout: SoftwareRollout) -> None:
        """Its wave has come, and there is room for it: looked at once more, and counted from here on."""
        at_s = self._clock.wall_s()
        marks = Marks(step=Step.GOING, rollout=rollout.id, since_s=at_s)

        def may(node: Node) -> bool:
            return self._standing(place, device, rollout.id, node=node).stand is Stand.BEHIND

        self._left[device.asset] = at_s
        # The operator is let to a node for its driver alone, never for another one than is declared.
        upgrades = not self._runs(device.asset, rollout.want)
        if await self._mark(device.asset, marks, may, lets_upgrade=upgrades):
            self._say(f"{device.asset} goes: {rollout.want}", kind="rollout", asset=device.asset)
        else:
            del self._left[device.asset]

    async def _recall(self, place: Place, device: Device, rollout: SoftwareRollout) -> bool:
        """Keep everybody off a node again, as long as nobody has begun; whether it was so."""
        runs = self._runs(device.asset, rollout.want)

        def may(node: Node) -> bool:
            return _is_going(node) and is_untouched(node, rollout.want, rollout.id, runs=runs)

        if not await self._mark(device.asset, _HELD_BACK, may):
            return False
        why = self._standing(place, device, rollout.id).detail
        self._say(f"{device.asset} is held back again: {why}", kind="rollout")
        return True

    async def _part(
        self, place: Place, device: Device, rollout: SoftwareRollout, node: Node
    ) -> None:
        """One step of another MIG profile: hold, drain, ask, wait."""
        name, profile = device.asset, rollout.want.mig
        if profile is None or not self._runs(name, rollout.want) or has_mig(node, rollout.want):
            return
        if upgrade_of(node).worker is not Worker.NOBODY or self._barred(place, name):
            return
        hold = NodeHold(by=BY, why=f"MIG {profile}", since_s=self._clock.wall_s())
        holding = await self._holds.hold(name, hold, behind=lambda _node: False)
        if holding.state is not HoldState.HELD:
            return
        if node.annotations.get(WANTED) != profile:
            drain = self._drains.get(name)
            if drain is None:
                order = DrainOrder(
                    node=name, by=BY, policy=DrainPolicy(), lasts_s=limits.DRAIN_DEADLINE_S
                )
                drain = self._drains[name] = NodeDrain(
                    self._cluster, order, clock=self._clock, rng=self._rng,
                    may_write=self._duty.may_act,
                )  # fmt: skip
            now = await drain.step()
            if now.state is DrainState.WAITING_HUMAN:
                # Nothing was asked of its GPUs: it goes back to its tenants, and a person is asked.
                await self._fail(name, marks_in(node), f"not drained for MIG: {now.detail}")
            if now.state is not DrainState.DRAINED:
                return
        mig = NodeMig(
            self._cluster, name, profile, by=BY, clock=self._clock, rng=self._rng,
            may_write=self._duty.may_act,
        )  # fmt: skip
        await mig.step()

    async def _fail(self, name: str, marks: Marks, why: str) -> None:
        failed = msgspec.structs.replace(marks, step=Step.FAILED, why=shortened(why))
        await self._mark(name, failed, _is_going)

    def _runs(self, name: str, want: Want) -> bool:
        told = self._seen.told.get(name)
        return want.driver is None or (told is not None and told.driver == want.driver)

    async def _end_hold(self, name: str) -> None:
        self._drains.pop(name, None)
        await self._holds.release(name, by=BY)
        await forget(self._cluster, name, may_write=self._duty.may_act)

    async def _mark(
        self,
        name: str,
        marks: Marks,
        may: Callable[[Node], bool],
        *,
        lets_upgrade: bool = False,
    ) -> bool:
        """Read a node, and mark it where that is still right; whether it was.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: the next round looks.
        """
        node = await read_node(self._cluster, name)
        if node is None or node.is_going or not may(node):
            return False
        require_fence(self._duty.may_act)
        body = marks_body(node, marks, lets_upgrade=lets_upgrade)
        try:
            await self._cluster.apply(NODE, body, manager=MANAGER)
        except Conflict:
            return False
        except Rejected as error:
            self._say(f"{name}: {error}", kind="rollout", level="warning", asset=name)
            return False
        return True

    def _forget(self, managed: set[str], profiles: set[str]) -> None:
        for known in (self._drains, self._rests):
            for name in known.keys() - managed:
                known.pop(name)
        store = self._duty.store
        site = store.remedy_site()
        if site.software.keys() - profiles:
            software = {name: one for name, one in site.software.items() if name in profiles}
            store.put_remedy_site(msgspec.structs.replace(site, software=software))


def _classes(place: Place) -> dict[str, dict[str, Device]]:
    """Profile → its nodes, where what is declared of their software comes in waves."""
    found: dict[str, dict[str, Device]] = {}
    for name, device in place.devices.items():
        if want_of(device) != Want():
            found.setdefault(device.intent.profile, {})[name] = device
    return found


def _is_going(node: Node) -> bool:
    return marks_in(node).step is Step.GOING


def _is_held_back(node: Node) -> bool:
    """Whether the operator keeps off it, or was let to it by us."""
    step = marks_in(node).step
    if step in {Step.HELD, Step.FAILED}:
        return node.labels.get(SKIP_DRIVER_UPGRADE) == "true"
    return step is Step.GOING


def _is_bare(node: Node) -> bool:
    return marks_in(node).step is Step.NONE


def _news(before: SoftwareRollout | None, after: SoftwareRollout) -> list[str]:
    """What people want to hear of it."""
    where = f"wave {after.wave + 1} of {len(after.waves)}"
    if before is None or before.id != after.id:
        return [f"{after.id}: {after.want}: {len(after.waves)} waves"] if after.waves else []
    if (before.state, before.wave) != (after.state, after.wave):
        why = f": {after.detail}" if after.state is SoftwareState.HALTED else ""
        return [f"{after.id}: {after.state} ({where}){why}"]
    return []
