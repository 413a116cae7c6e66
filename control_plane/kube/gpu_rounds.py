"""Rounds over the GPU nodes of a site, under one tenure: what is seen, decided, kept and done.

What is decided is `core.remedy`, round by `core.remedy_round`. An attempt is durable before it leaves; right
before it leaves its case is looked at anew; that it took place is evidence of a later round, never an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core import remedy as deciding
from control_plane.core import remedy_round as rounds
from control_plane.core.cluster import ClusterError
from control_plane.core.domain_budget import Books, Cause, taken
from control_plane.core.fleet import Site
from control_plane.core.gpu_life import Life, Record
from control_plane.core.ports import Clock, Permit
from control_plane.core.remedy_case import (
    CURES,
    Action,
    Attempt,
    NodeCase,
    Outcome,
    Remedy,
    Stay,
    Stayed,
)
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.remedy_round import NodeView
from control_plane.core.remedy_site_words import with_site_words_of, without_past
from control_plane.core.remedy_urgent import goes_on, in_force, named_in
from control_plane.core.remedy_words import with_words_of
from control_plane.engine.log import Say
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.engine.store_work import DECIDED
from control_plane.kube.gpu_bmc import Bmcs
from control_plane.kube.gpu_hands import Hands
from control_plane.kube.gpu_lives import in_words, lives_after
from control_plane.kube.gpu_sight import Place, Seen, Sight
from control_plane.kube.gpu_view import NodeFacts, is_ours

Verdict = Remedy | Stayed
_OF_POWER: Final = frozenset({Action.POWER_CYCLE, Action.POWER_OFF})
_EMPTIES: Final = frozenset({Stay.DRAINING, Stay.DRAIN_OVERDUE})
"""With these the drain of a node goes on."""


@dataclass(frozen=True, kw_only=True)
class Duty:
    """What one tenure gives."""

    store: Store
    """A connection that is not the engine's."""
    durable: Callable[[], Awaitable[None]]
    """Returns once all that the Store holds is kept where the next leader finds it."""
    declared: Callable[[], Site | None]
    """The site as the revision in force declares it."""
    may_act: Callable[[], bool]
    """Whether this process leads, and the `Site` says `enforce`."""


class Rounds:
    """Those of one tenure. What it remembers beside the Store is lost with it, and found again."""

    def __init__(
        self,
        duty: Duty,
        seen: Seen,
        hands: Hands,
        bmcs: Bmcs,
        *,
        planned: Callable[[], Collection[str]] = tuple,
        clock: Clock,
        say: Say,
    ) -> None:
        """Nothing is read before `once`.

        Args:
            duty: what the tenure gives.
            seen: what watches know.
            hands: what is done.
            bmcs: of the nodes.
            planned: nodes that were let go for other software, and are not seen so yet.
            clock: the clock.
            say: told of what people want to know.
        """
        self.books: Books | None = None
        """Of the last round: who is down, those that it has begun on among them."""
        self.verdicts: Mapping[str, Verdict] = {}
        """Of the last round: of every node that is not known to be well."""
        self.lives: Mapping[str, Record] = {}
        """Of all nodes, as they are kept."""
        self._duty, self._seen, self._hands = duty, seen, hands
        self._planned = planned
        self._sight = Sight(seen, hands, bmcs, may_act=duty.may_act)
        self._clock, self._say = clock, say
        self._told: dict[str, str] | None = None
        """Node → the word that was said of it last; `None`: not looked up yet."""
        self._heard: dict[str, str] = {}
        """Emergencies and break-glass that were in force in the last round: name → in words."""

    async def once(self, place: Place) -> dict[str, NodeView]:
        """One round; what was seen of the nodes that are not known to be well.

        Raises:
            FenceLost: another leader has taken over.
            ClusterError, StoreBusy: what is kept is kept; the next round goes on.
        """
        store = self._duty.store
        now_s = self._clock.wall_s()
        kept = self._without_strangers(place, store.remedies(), now_s)
        self._hear(now_s)
        named = named_in(store.remedy_site().emergencies, place.domains, now_s=now_s)
        views = self._sight.views(place, kept, store.overlays(), now_s, named=named)
        kept = self._closed(views, kept, now_s)
        site, kept = self._together(place, views, kept, now_s)
        waiting = {n for n, v in self.verdicts.items() if _reason(v) is Stay.BUDGET}
        books = self._counted(place, views, kept, waiting, now_s)
        verdicts: dict[str, Verdict] = {}
        cases: dict[str, NodeCase] = {}
        acts: list[tuple[NodeCase, Remedy]] = []
        for name, view in views.items():
            case = rounds.case_of(
                view,
                kept.get(name, NodeKept(asset=name)),
                site,
                books,
                path=place.paths[name],
                now_s=now_s,
            )
            verdict = self._in_words(deciding.remedy(case))
            cases[name], verdicts[name] = case, verdict
            if isinstance(verdict, Remedy):
                acts.append((case, verdict))
                books = rounds.also_counted(books, verdict)
        self._tell(place, verdicts, now_s)
        self.verdicts, self.books = verdicts, books
        self._live(place, kept, now_s)
        for case, verdict in acts:
            await self._act(place, case, verdict)
        if self._duty.may_act():
            # Only where this very round has decided that it goes on: never under a person's word, behind
            # a cordon, beside an operator, or on a node that is well again.
            going = {n for n, v in verdicts.items() if _reason(v) in _EMPTIES}
            out = self._out(place, store.remedies())
            cycling = {n: self._cycling(place, cases[n]) for n in out if self._is_cycling(n)}
            await self._hands.look(
                place.site, place.devices, out, draining=going, named=named, cycling=cycling
            )
        return views

    def _counted(
        self,
        place: Place,
        views: Mapping[str, NodeView],
        kept: Mapping[str, NodeKept],
        waiting: Collection[str],
        now_s: float,
    ) -> Books:
        books = rounds.counted(place.domains, views.values(), kept, waiting=waiting, now_s=now_s)
        for name in self._planned():
            books = taken(books=books, node=name, cause=Cause.DRIVER_UPGRADE)
        return books

    def _is_cycling(self, name: str) -> bool:
        """Whether a power cycle of ours goes on, and nobody's word is in its way."""
        kept, verdict = self._duty.store.remedy(name), self.verdicts.get(name)
        if kept is None or verdict is None or _reason(verdict) is not Stay.ACTING:
            return False
        of_power = [a for a in kept.attempts if a.action in _OF_POWER]
        last = of_power[-1] if of_power else None
        return last is not None and (last.action, last.outcome) == (
            Action.POWER_CYCLE,
            Outcome.OPEN,
        )

    def _cycling(self, place: Place, case: NodeCase) -> tuple[NodeFacts, Permit]:
        def permit() -> str | None:
            if not self._duty.may_act():
                return "this process does not act any more"
            kept = self._duty.store.remedy(case.node) or NodeKept(asset=case.node)
            now = self._anew(place, case, kept, self._duty.store.remedy_site())
            return None if _reason(now) is Stay.ACTING else f"it is {_said(now)} by now"

        return self._seen.facts[case.node], permit

    def _in_words(self, verdict: Verdict) -> Verdict:
        """A drain that goes on names what is left."""
        known = self._hands.known.get(verdict.node)
        if _reason(verdict) not in _EMPTIES or known is None or not known.left:
            return verdict
        return msgspec.structs.replace(verdict, detail=known.left)

    def _out(self, place: Place, kept: Mapping[str, NodeKept]) -> list[str]:
        """Nodes that we hold, and that nobody repairs."""
        facts = self._seen.facts
        return [
            name
            for name in place.devices
            if name in facts
            and is_ours(facts[name].node)
            and (name not in kept or kept[name].ticket is None)
        ]

    def _without_strangers(
        self, place: Place, kept: dict[str, NodeKept], now_s: float
    ) -> dict[str, NodeKept]:
        """Forget what was tried on nodes that are declared no more, once nothing of it can be under way.

        Their holds stay: they may be ill, and whose they are now nobody told.
        """
        gone = [
            name
            for name, one in kept.items()
            if name not in place.declared
            and (one.life is None or one.life.life is Life.RETIRED)
            and all(now_s >= a.at_s + limits.POWER_CYCLE_GRACE_S for a in one.attempts)
        ]
        if not gone:
            return kept
        for name in gone:
            facts = self._seen.facts.get(name)
            held = "; our hold of it stays until a person ends it"
            words = held if facts is not None and is_ours(facts.node) else ""
            self._say(f"{name} is declared no more{words}", kind="remedy", level="warning")
        self._duty.store.drop_remedies(gone)
        return {name: one for name, one in kept.items() if name not in gone}

    # --- before anything is decided ---------------------------------------------------------------

    def _hear(self, now_s: float) -> None:
        """Say what persons set in force for many nodes, and forget it when its time is over."""
        store = self._duty.store
        site = store.remedy_site()
        after = without_past(site, now_s=now_s)
        if after != site:
            store.put_remedy_site(after)
        going = {
            e.id: f"{e.kind} emergency {e.id}" for e in after.emergencies if goes_on(e, now_s=now_s)
        }
        going |= {g.id: f"break-glass {g.id}" for g in in_force(after.glass, now_s=now_s)}
        for name in sorted(going.keys() - self._heard.keys()):
            self._say(f"{going[name]} is in force", kind="remedy", level="error")
        for name in sorted(self._heard.keys() - going.keys()):
            self._say(f"{self._heard[name]} is over", kind="remedy", level="warning")
        self._heard = going

    def _closed(
        self, views: Mapping[str, NodeView], kept: dict[str, NodeKept], now_s: float
    ) -> dict[str, NodeKept]:
        after = {
            name: rounds.closed(
                one, views[name], _in_another_boot(self._seen.facts.get(name)), now_s=now_s
            )
            for name, one in kept.items()
            if name in views
        }
        changed = {name: one for name, one in after.items() if one != kept[name]}
        if changed:
            self._duty.store.put_remedies(changed.values())
        return {**kept, **changed}

    def _together(
        self,
        place: Place,
        views: Mapping[str, NodeView],
        kept: dict[str, NodeKept],
        now_s: float,
    ) -> tuple[SiteKept, dict[str, NodeKept]]:
        store = self._duty.store
        site = store.remedy_site()
        after, below = rounds.together(site, views.values(), kept, paths=place.paths, now_s=now_s)
        if after == site:
            return site, kept
        calm = rounds.calmed(kept, below, now_s=now_s)
        with store.transaction():
            store.put_remedy_site(after)
            store.put_remedies(calm.values())
        for one in after.incidents:
            if one not in site.incidents:
                self._say(f"incident {one.id}: {one.detail}", kind="remedy", level="error")
        for one in rounds.over(site, after):
            self._say(f"incident over: {one.id}", kind="remedy")
        return after, {**kept, **calm}

    def _tell(self, place: Place, verdicts: Mapping[str, Verdict], now_s: float) -> None:
        """Say what is decided anew, and note it for `explain` and `remedy list`."""
        store, events = self._duty.store, list[Event]()
        if self._told is None:
            last = {name: store.remedy_said(name) for name in place.devices}
            self._told = {name: said.text.partition(": ")[0] for name, said in last.items() if said}
        # Of who is not looked at any more everybody says that it is well.
        for name in sorted(self._told.keys() | verdicts.keys()):
            verdict = verdicts.get(name) or Stayed(node=name, reason=Stay.WELL)
            word, before = _said(verdict), self._told.get(name)
            if word == before or (
                before is None and _reason(verdict) in {Stay.WELL, Stay.OBSERVED}
            ):
                continue
            self._told[name] = word
            words = f"{word}: {verdict.detail}" if verdict.detail else word
            events.append(Event(at_s=now_s, kind=DECIDED, text=words, asset=name))
        if events:
            store.put_events(events)

    def _live(self, place: Place, kept: Mapping[str, NodeKept], now_s: float) -> None:
        """Keep what was seen of the lives of nodes, and say which of them came to a stand."""
        store, seen = self._duty.store, self._seen
        lived = lives_after(
            kept, place.devices, declared=place.declared, facts=seen.facts, told=seen.told,
            verdicts=self.verdicts, now_s=now_s,
        )  # fmt: skip
        after = {one.kept.asset: one.kept for one in lived}
        if lived:
            with store.transaction():
                store.put_remedies(after.values())
                store.put_events(
                    Event(at_s=now_s, kind="remedy", text=in_words(one.steps), asset=one.kept.asset)
                    for one in lived
                    if one.steps
                )
        self.lives = {n: one.life for n, one in {**kept, **after}.items() if one.life is not None}
        for one in lived:
            life = one.kept.life
            if one.got_stuck and life is not None:
                words = f"{one.kept.asset}: stuck: {life.detail}"
                self._say(words, kind="remedy", level="warning", asset=one.kept.asset)

    # --- acting --------------------------------------------------------------------------------------

    async def _act(self, place: Place, case: NodeCase, what: Remedy) -> None:
        """Keep the attempt, have it leave, and look at the case anew right before it does."""
        store, name = self._duty.store, case.node
        before, site = store.remedy(name) or NodeKept(asset=name), store.remedy_site()
        facts = self._seen.facts.get(name)
        kept, after = rounds.kept_for(
            before, site, case, what, boot=facts.boot if facts is not None else ""
        )
        with store.transaction():
            store.put_remedies([kept])
            store.put_remedy_site(after)
        await self._duty.durable()

        def permit() -> str | None:
            if not self._duty.may_act():
                return "this process does not act any more"
            now = self._anew(place, case, before, site)
            return None if _is_the_same(now, what) else f"it is {_said(now)} by now"

        facts, outcome = self._seen.facts.get(name), Outcome.FAILED
        if facts is not None and permit() is None:
            try:
                outcome = await self._hands.do(
                    place.site, place.devices[name], what, facts, permit=permit
                )
            except ClusterError as error:
                # It may have been done: evidence ends it, or its time.
                self._say(f"{name}: {what.action}: {error}", kind="remedy", level="warning")
                return
        if outcome is not Outcome.OPEN:
            # Persons may have said something of it meanwhile.
            kept = with_words_of(kept, store.remedy(name))
            ended = rounds.ended(kept, what.action, outcome, now_s=self._clock.wall_s())
            store.put_remedies([ended])

    def _anew(self, place: Place, case: NodeCase, before: NodeKept, site: SiteKept) -> Verdict:
        """What is decided at this moment, without the attempt that was just kept."""
        store, now_s = self._duty.store, self._clock.wall_s()
        before = with_words_of(before, store.remedy(case.node))
        site = with_site_words_of(site, store.remedy_site())
        kept = {**store.remedies(), case.node: before}
        named = named_in(site.emergencies, place.domains, now_s=now_s)
        views = self._sight.views(place, kept, store.overlays(), now_s, named=named)
        view = views.get(case.node)
        if view is None:
            return Stayed(node=case.node, reason=Stay.WELL)
        books = self._counted(place, views, kept, (), now_s)
        case = rounds.case_of(
            view,
            before,
            site,
            books,
            path=place.paths[case.node],
            now_s=now_s,
        )
        return deciding.remedy(case)


def _in_another_boot(facts: NodeFacts | None) -> rounds.TookPlace:
    """A restart took place where the node is ready in another boot than the attempt left in."""

    def took_place(attempt: Attempt) -> bool:
        if facts is None or not facts.is_ready or not facts.boot or not attempt.boot:
            return False
        return attempt.action in CURES and facts.boot != attempt.boot

    return took_place


def _is_the_same(now: Verdict, before: Remedy) -> bool:
    return isinstance(now, Remedy) and (now.action, now.gpu) == (before.action, before.gpu)


def _reason(verdict: Verdict) -> Stay | None:
    return verdict.reason if isinstance(verdict, Stayed) else None


def _said(verdict: Verdict) -> str:
    """Its one word."""
    if isinstance(verdict, Remedy):
        return verdict.action.value
    would = f", would {verdict.would.action}" if verdict.would is not None else ""
    return f"{verdict.reason.value}{would}"
