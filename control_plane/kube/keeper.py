"""Keeps GPU nodes in service, for as long as this process leads: watches, rounds, conditions of nodes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from control_plane.api.objects import GpuNodeStatus
from control_plane.core import limits
from control_plane.core.cluster import NODE, Cluster, ClusterError, Object
from control_plane.core.errors import FenceLost, StoreBusy, StoreError
from control_plane.core.gpu import AlertKind
from control_plane.core.gpu_life import Record
from control_plane.core.node_conditions import conditions_in, says_more, told
from control_plane.core.ports import Bmc, Clock, Rng, Secrets
from control_plane.core.remedy_round import NodeView
from control_plane.engine.bugs import in_words
from control_plane.engine.log import Say
from control_plane.kube.cache import Bug, Cache
from control_plane.kube.gpu_bmc import Bmcs
from control_plane.kube.gpu_hands import Hands
from control_plane.kube.gpu_logins import Logins
from control_plane.kube.gpu_marks import Marks
from control_plane.kube.gpu_rounds import Duty, Rounds, Verdict
from control_plane.kube.gpu_sight import Place, Seen, place_of
from control_plane.kube.gpu_software import Shown, Software
from control_plane.kube.gpu_view import NodeFacts, facts_of
from control_plane.kube.handed_over import Answers, HandOvers
from control_plane.kube.node_conditions import NodeConditions
from control_plane.kube.reflector import Reflector

ROUND_S: Final = limits.GPU_LOOK_S
"""Between two rounds, in policy seconds."""


class Keeper:
    """One site's. A site without GPU nodes costs nothing: nobody is asked."""

    def __init__(
        self,
        cluster: Cluster,
        gpu_nodes: Cache,
        *,
        namespace: str,
        bmc: Bmc | None,
        secrets: Secrets,
        clock: Clock,
        rng: Rng,
        bug: Bug,
        say: Say,
    ) -> None:
        """Nothing is asked before `serve`.

        Args:
            cluster: the API server.
            gpu_nodes: the `GpuNode`s, with what agents told.
            namespace: of these.
            bmc: the driver of BMCs; `None`: none is commanded.
            secrets: of the BMCs.
            clock: the clock.
            rng: for the pauses of watches and drains.
            bug: told of bugs of ours.
            say: told of what people want to know.
        """
        self.verdicts: Mapping[str, Verdict] = {}
        """Of every node that is not known to be well: what is done to it, or why nothing is."""
        self.lives: Mapping[str, Record] = {}
        """Of every node, as of the last round."""
        self.software: Sequence[Shown] = ()
        """Waves of drivers and MIG profiles."""
        self.trouble = ""
        """Why nothing is decided, in words; empty where something is."""
        self._cluster, self._namespace, self._say = cluster, namespace, say
        self._clock, self._rng, self._bug = clock, rng, bug
        self._bmc, self._secrets = bmc, secrets
        self._facts: dict[str, NodeFacts] = {}
        self._told: dict[str, GpuNodeStatus] = {}
        self._nodes = Cache(NODE, bug=bug)
        self._nodes.tell(self._node_changed)
        gpu_nodes.tell(self._report_changed)
        self._place: Place | None = None

    async def serve(self, duty: Duty) -> None:
        """Round after round, for ever.

        Raises:
            FenceLost: another leader has taken over.
        """
        handed = HandOvers(
            self._cluster, clock=self._clock, rng=self._rng, bug=self._bug, say=self._say
        )
        seen = Seen(
            facts=self._facts, told=self._told, handed=handed.of,
            knows_handed=lambda: handed.are_known,
        )  # fmt: skip
        logins = Logins(duty.store, self._clock)
        bmcs = Bmcs(self._bmc, self._secrets, logins, say=self._say)
        hands = Hands(
            self._cluster, bmcs,
            clock=self._clock, rng=self._rng, may_act=duty.may_act, say=self._say,
            is_handed=lambda name: bool(handed.of(name)),
        )  # fmt: skip
        answers = Answers(
            self._cluster, handed, duty.store, self._facts,
            clock=self._clock, may_act=duty.may_act, say=self._say,
        )  # fmt: skip
        software = Software(
            duty, seen, self._cluster, clock=self._clock, rng=self._rng, say=self._say
        )
        rounds = Rounds(
            duty, seen, hands, bmcs,
            planned=software.taken, clock=self._clock, say=self._say,
        )  # fmt: skip
        marks = Marks(duty, self._facts, self._cluster, clock=self._clock, say=self._say)
        conditions = NodeConditions(self._cluster, clock=self._clock, may_write=duty.may_act)
        nodes = Reflector(
            self._cluster, self._nodes, clock=self._clock, rng=self._rng, bug=self._bug
        )
        watching: list[asyncio.Task[None]] = []
        try:
            while True:
                await self._clock.sleep(ROUND_S)
                place = self._placed(duty)
                if place is None or not place.devices:
                    self.verdicts = {}
                    continue
                watching = watching or [
                    asyncio.ensure_future(nodes.run()), asyncio.ensure_future(handed.run())
                ]  # fmt: skip
                if not nodes.is_fresh():
                    # What is known may be old: nothing is begun, and nobody is called well.
                    self.trouble = nodes.trouble or "nodes are not listed yet"
                    continue
                try:
                    views = await rounds.once(place)
                    self.verdicts, self.lives, self.trouble = rounds.verdicts, rounds.lives, ""
                    await answers.tell(place, self.verdicts)
                    await marks.look(place, self.lives)
                    if rounds.books is not None:
                        await software.once(place, rounds.books)
                        self.software = software.shown
                    await self._mark(duty, place, views, conditions)
                except (ClusterError, StoreBusy) as error:
                    self.trouble = str(error)
                except (FenceLost, StoreError):
                    raise
                except Exception as error:  # noqa: BLE001 - a bug costs a round, not the site's other work
                    self.trouble = in_words(error)
                    self._bug("gpu nodes", self.trouble)
        finally:
            self.verdicts = {}
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await bmcs.close()

    def _placed(self, duty: Duty) -> Place | None:
        site = duty.declared()
        if site is None:
            return None
        if self._place is None or self._place.site is not site:
            self._place = place_of(site)
        return self._place

    async def _mark(
        self,
        duty: Duty,
        place: Place,
        views: Mapping[str, NodeView],
        conditions: NodeConditions,
    ) -> None:
        """Have the conditions of nodes say what is wrong with their GPUs, for other remediators."""
        now_s = self._clock.wall_s()
        for name in place.devices if duty.may_act() else ():
            node, view = self._nodes.get(name), views.get(name)
            if node is None or name not in self._told or (view and view.alerts_at_s is None):
                continue
            said = view.alerts if view is not None else ()
            alerts = tuple(one for one in said if one.kind is not AlertKind.HANDED_OVER)
            before = conditions_in(node)
            if not before and not alerts:
                continue
            now = told(alerts, before, now_s=now_s)
            if says_more(now, before, beat_s=limits.NODE_CONDITION_BEAT_S):
                await conditions.tell(name, alerts)

    # --- what watches tell -----------------------------------------------------------------------------

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._facts[new.metadata.name] = facts_of(new)
        elif old is not None:
            self._facts.pop(old.metadata.name, None)

    def _report_changed(self, old: Object | None, new: Object | None) -> None:
        one = new or old
        if one is None or one.metadata.namespace != self._namespace:
            return
        self._told.pop(one.metadata.name, None)
        # What is not understood was told by a newer release: nothing is known of its node.
        with contextlib.suppress(msgspec.DecodeError):
            status = msgspec.json.decode(new.status, type=GpuNodeStatus | None) if new else None
            if status is not None:
                self._told[one.metadata.name] = status
