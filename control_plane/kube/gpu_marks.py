"""Labels that GPU nodes have to carry, kept while this process leads: those declared, and those of our holds.

What watches know decides who is written to: a node that is as it should be costs nothing. A label of the
declaration is corrected until somebody else's writes to it are a contest (design §3). One of a hold keeps an
operator off a node that is being repaired: it is put back for as long as the hold lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.cluster import Cluster, ClusterError
from control_plane.core.fleet import Site
from control_plane.core.gpu_life import Life, Record
from control_plane.core.node_hold import Node, missing_in
from control_plane.core.node_labels import drifted, gpu_node_labels
from control_plane.core.overlay import covering, freeze_on, hold_on
from control_plane.core.ports import Clock
from control_plane.engine.log import Say
from control_plane.engine.records import Event
from control_plane.kube.gpu_rounds import Duty
from control_plane.kube.gpu_sight import Place
from control_plane.kube.gpu_view import BY, NodeFacts, is_ours
from control_plane.kube.node_hold import NodeHolds, was_lifted
from control_plane.kube.node_labels import NodeLabels

KNOWN: Final = frozenset(
    {
        Life.PROVISIONING,
        Life.JOINING,
        Life.VALIDATING,
        Life.READY,
        Life.DEGRADED,
        Life.DRAINING,
        Life.REPAIR,
    }
)
"""Lives in which what stands in the slot is what is declared: where any other machine stands nobody knows."""


class _Kept(msgspec.Struct):
    """What was done to the labels of one `Node`."""

    uid: str
    corrected_s: list[float] = msgspec.field(default_factory=list)
    """Of the declaration's, within `REDRIFT_WINDOW_S`."""
    mended_s: list[float] = msgspec.field(default_factory=list)
    """Of a hold's, likewise."""
    next_s: float = 0.0
    """Not before, after the API server did not do it."""
    is_contested: bool = False


class Marks:
    """Those of one tenure. How often it wrote is lost with it: the next one begins to count anew."""

    def __init__(
        self,
        duty: Duty,
        facts: Mapping[str, NodeFacts],
        cluster: Cluster,
        *,
        clock: Clock,
        say: Say,
    ) -> None:
        """Nothing is asked before `look`.

        Args:
            duty: of the tenure.
            facts: of `Node`s, by name; kept up to date by others.
            cluster: the API server.
            clock: the clock.
            say: told of what people want to know.
        """
        self._duty, self._facts, self._clock, self._say = duty, facts, clock, say
        self._labels = NodeLabels(cluster, may_write=duty.may_act)
        self._holds = NodeHolds(cluster, may_write=duty.may_act)
        self._kept: dict[str, _Kept] = {}
        self._declared: tuple[Site | None, dict[str, dict[str, str]]] = (None, {})

    async def look(self, place: Place, lives: Mapping[str, Record]) -> None:
        """Write what is not as it should be, to a few nodes at most.

        Args:
            place: the nodes.
            lives: how far each has come.

        Raises:
            FenceLost: another process acts for this site.
        """
        if not self._duty.may_act():
            return
        now_s, left = self._clock.wall_s(), limits.NODES_LABELLED_AT_ONCE
        for name in self._kept.keys() - place.devices.keys():
            del self._kept[name]
        declared = self._declared_of(place)
        for name in place.devices:
            facts = self._facts.get(name)
            if facts is None or facts.node.is_going:
                continue
            is_overwritten = self._is_overwritten(facts.node)
            drift = drifted(facts.node, declared[name]) if _is_known(lives.get(name)) else ()
            if not drift and not is_overwritten:
                continue
            kept = self._kept_of(name, facts.node, now_s)
            if now_s < kept.next_s:
                continue
            try:
                if is_overwritten:
                    left -= await self._mend(name, kept, now_s)
                if drift and left > 0 and not self._is_forbidden(place, name, now_s):
                    left -= await self._correct(name, declared[name], kept, now_s)
            except ClusterError as error:
                kept.next_s = now_s + limits.NODE_LABELS_AGAIN_S
                self._say(f"{name}: its labels: {error}", kind="labels", level="warning")
            if left <= 0:
                return

    def _declared_of(self, place: Place) -> Mapping[str, Mapping[str, str]]:
        if self._declared[0] is not place.site:
            made = {n: gpu_node_labels(place.site, one) for n, one in place.devices.items()}
            self._declared = place.site, made
        return self._declared[1]

    def _kept_of(self, name: str, node: Node, now_s: float) -> _Kept:
        """What was done to it; a `Node` that was made anew is another one."""
        kept = self._kept.get(name)
        if kept is None or kept.uid != node.uid:
            kept = self._kept[name] = _Kept(uid=node.uid)
        since_s = now_s - limits.REDRIFT_WINDOW_S
        kept.corrected_s = [at_s for at_s in kept.corrected_s if at_s > since_s]
        kept.mended_s = [at_s for at_s in kept.mended_s if at_s > since_s]
        return kept

    def _is_overwritten(self, node: Node) -> bool:
        """Whether labels of our hold are not what they were, and nobody let pods come again."""
        lost = missing_in(node) if is_ours(node) else ()
        return bool(lost) and not was_lifted(lost)

    def _is_forbidden(self, place: Place, name: str, now_s: float) -> bool:
        """Whether a person's word keeps us from it."""
        overlays = covering(self._duty.store.overlays(), place.above[name])
        return hold_on(overlays) is not None or freeze_on(overlays, now_s) is not None

    async def _mend(self, name: str, kept: _Kept, now_s: float) -> bool:
        """Put labels of our hold back; whether it wrote."""
        if kept.mended_s and now_s < kept.mended_s[-1] + limits.NODE_LABELS_AGAIN_S:
            return False
        back = await self._holds.mend(name, by=BY)
        if not back:
            return False
        kept.mended_s.append(now_s)
        words = f"labels of our hold were overwritten, and are put back: {', '.join(back)}"
        if len(kept.mended_s) <= limits.REDRIFTS_TO_CONTEST:
            self._tell(name, words)
        elif len(kept.mended_s) == limits.REDRIFTS_TO_CONTEST + 1:
            more = "; somebody keeps writing over them: find out who"
            self._tell(name, words + more, is_wrong=True)
        return True

    async def _correct(
        self, name: str, declared: Mapping[str, str], kept: _Kept, now_s: float
    ) -> bool:
        """Make its labels those of the declaration; whether it wrote."""
        if len(kept.corrected_s) >= limits.REDRIFTS_TO_CONTEST:
            if not kept.is_contested:
                kept.is_contested = True
                words = "somebody keeps writing over labels of the declaration: they are left as they are"
                self._tell(name, words, is_wrong=True)
            return False
        kept.is_contested = False
        done = await self._labels.keep(name, declared)
        if not done.labels:
            return False
        kept.corrected_s.append(now_s)
        self._tell(name, f"labels as declared: {', '.join(sorted(done.labels))}")
        return True

    def _tell(self, name: str, words: str, *, is_wrong: bool = False) -> None:
        """Note it for `explain` and the log; where somebody has to look, say so."""
        event = Event(at_s=self._clock.wall_s(), kind="labels", text=words, asset=name)
        self._duty.store.put_events([event])
        if is_wrong:
            self._say(f"{name}: {words}", kind="labels", level="error", asset=name)


def _is_known(record: Record | None) -> bool:
    return record is not None and record.life in KNOWN
