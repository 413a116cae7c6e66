"""Nodes that NVSentinel hands over: watched where its kind is installed, answered while this process leads.

What is answered is decided anew in each round, from what is kept and what is seen (`core.handed_over`): a
leader that dies between an action and its answer leaves that answer to the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.cluster import Cluster, ClusterError, NotFound, Object
from control_plane.core.external_remediation import REQUEST, Answer, Request, request_in
from control_plane.core.handed_over import answer_of, says_more
from control_plane.core.ports import Clock, Rng
from control_plane.engine.log import Say
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.kube.cache import Bug, Cache
from control_plane.kube.external_remediation import AnsweredOtherwise, ExternalRemediations
from control_plane.kube.gpu_rounds import Verdict
from control_plane.kube.gpu_sight import Place
from control_plane.kube.gpu_view import NodeFacts, is_ours
from control_plane.kube.reflector import Reflector

_KIND: Final = "nvsentinel"


class HandOvers:
    """The open hand-overs of a cluster, as a watch tells them."""

    def __init__(self, cluster: Cluster, *, clock: Clock, rng: Rng, bug: Bug, say: Say) -> None:
        """Nothing is asked before `run`."""
        self._cluster, self._clock, self._rng, self._bug = cluster, clock, rng, bug
        self._say = say
        self._requests: dict[str, Request] = {}
        self._by_node: dict[str, tuple[Request, ...]] | None = {}
        """`None`: to be made anew."""
        self._cache = Cache(REQUEST, bug=bug)
        self._cache.tell(self._changed)
        self._reflector: Reflector | None = None
        self._is_absent = False
        self._trouble = ""

    @property
    def are_known(self) -> bool:
        """Whether all there are are known; where NVSentinel is not installed there are none."""
        return self._is_absent or (self._reflector is not None and self._reflector.is_fresh())

    def of(self, node: str) -> tuple[Request, ...]:
        """Those of a node that are open, by name."""
        if self._by_node is None:
            self._by_node = {}
            for one in self.open():
                self._by_node[one.node] = (*self._by_node.get(one.node, ()), one)
        return self._by_node.get(node, ())

    def open(self) -> tuple[Request, ...]:
        """All that are open, by name."""
        return tuple(self._requests[name] for name in sorted(self._requests))

    async def run(self) -> None:
        """Watch them, for ever; where there is no such kind, ask for it once in a while."""
        while True:
            try:
                await self._cluster.list_page(REQUEST, limit=1)
            except NotFound:
                self._is_absent, self._trouble = True, ""
                self._cache.replace((), 0)
                await self._clock.wire_sleep(limits.HAND_OVERS_LOOK_S)
                continue
            except ClusterError as error:
                if not self._is_absent:
                    self._told(str(error))
                await self._clock.wire_sleep(limits.HAND_OVERS_AGAIN_S)
                continue
            self._is_absent = False
            await self._watch()

    async def _watch(self) -> None:
        """Until nobody tells anything any more."""
        reflector = self._reflector = Reflector(
            self._cluster, self._cache, clock=self._clock, rng=self._rng, bug=self._bug
        )
        watching = asyncio.ensure_future(reflector.run())
        try:
            while True:
                await self._clock.wire_sleep(limits.HAND_OVERS_AGAIN_S)
                if reflector.synced.is_set() and not reflector.is_fresh():
                    self._told(reflector.trouble or "nobody tells anything of them")
                    return
                if not reflector.synced.is_set():
                    self._told(reflector.trouble)
                    return
                self._trouble = ""
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def _told(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            words = f"what NVSentinel hands over is not known: {trouble}"
            self._say(words, kind=_KIND, level="warning")
        self._trouble = trouble

    def _changed(self, old: Object | None, new: Object | None) -> None:
        self._by_node = None
        if old is not None:
            self._requests.pop(old.metadata.name, None)
        if new is None:
            return
        try:
            request = request_in(new)
        except msgspec.MsgspecError as error:
            words = f"ExternalRemediationRequest {new.metadata.name} is none that we understand: {error}"
            self._say(words, kind=_KIND, level="warning")
            return
        if request.is_open:
            self._requests[request.name] = request


class Answers:
    """What one tenure tells of them."""

    def __init__(
        self,
        cluster: Cluster,
        handed: HandOvers,
        store: Store,
        facts: Mapping[str, NodeFacts],
        *,
        clock: Clock,
        may_act: Callable[[], bool],
        say: Say,
    ) -> None:
        """Nothing is asked before `tell`.

        Args:
            cluster: the API server.
            handed: those that are open.
            store: of the tenure.
            facts: of `Node`s, by name.
            clock: the clock.
            may_act: whether this process leads, and the site is enforced.
            say: told of what people want to know.
        """
        self._handed, self._store, self._facts = handed, store, facts
        self._clock, self._may_act, self._say = clock, may_act, say
        self._requests = ExternalRemediations(cluster, clock=clock, may_write=may_act)
        self._next_s: dict[str, float] = {}
        self._said: set[tuple[str, str]] = set()
        """(uid of a request, what was said of it), of those that are open."""

    async def tell(self, place: Place, verdicts: Mapping[str, Verdict]) -> None:
        """Answer what is over, and tell how the others go.

        Args:
            place: the nodes of the site.
            verdicts: of this round.

        Raises:
            FenceLost: another process acts for this site.
        """
        there = self._handed.open() if self._may_act() else ()
        uids = {one.uid for one in there}
        self._said = {one for one in self._said if one[0] in uids}
        self._next_s = {uid: at_s for uid, at_s in self._next_s.items() if uid in uids}
        for request in there:
            if request.node not in place.devices:
                words = (
                    f"{request.node} is no GPU node that is managed here: whoever has it answers"
                )
                self._once(request, words)
                continue
            if self._clock.wall_s() < self._next_s.get(request.uid, 0.0):
                continue
            try:
                await self._tell(request, verdicts.get(request.node))
            except AnsweredOtherwise as error:
                self._once(request, f"{error}: a person looks at its node", is_wrong=True)
            except ClusterError as error:
                self._next_s[request.uid] = self._clock.wall_s() + limits.HAND_OVERS_AGAIN_S
                self._once(request, f"it is not answered: {error}")

    async def _tell(self, request: Request, verdict: Verdict | None) -> None:
        facts = self._facts.get(request.node)
        answer, words = answer_of(
            request,
            self._store.remedy(request.node),
            verdict,
            is_held=None if facts is None else is_ours(facts.node),
        )
        if answer is Answer.NONE:
            if says_more(request, words):
                await self._requests.progress(request, words)
            return
        is_done = answer is Answer.DONE
        tell = self._requests.succeeded if is_done else self._requests.failed
        if await tell(request, words):
            self._once(request, f"answered {answer.value}: {words}")

    def _once(self, request: Request, words: str, *, is_wrong: bool = False) -> None:
        """Note something of a request for `explain` and the log, once; where a person has to look, say so."""
        if (request.uid, words) in self._said:
            return
        self._said.add((request.uid, words))
        text = f"NVSentinel's {request.name}: {words}"
        event = Event(at_s=self._clock.wall_s(), kind=_KIND, text=text, asset=request.node)
        self._store.put_events([event])
        if is_wrong:
            self._say(f"{request.node}: {text}", kind=_KIND, level="error", asset=request.node)
