"""What a controller does around the pure core: sees, asks, keeps, acts, and dies at any moment.

What it keeps before it acts, and after, outlives it: the journal on each node, breakers, incidents. It has
no rule of its own about what may be done.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from control_plane.core import remedy as deciding
from control_plane.core.breaker import Breaker, began, reset
from control_plane.core.correlate import Incident, incident_above
from control_plane.core.domain_budget import Books, Cause, taken
from control_plane.core.remedy_case import (
    CURES,
    Action,
    Approval,
    Attempt,
    BreakGlass,
    Cordon,
    CordonedBy,
    Emergency,
    Foreign,
    NodeCase,
    Outcome,
    Part,
    Policy,
    Remedy,
    Source,
    Stay,
    Stayed,
    Why,
    ticket_of,
)
from control_plane.core.remedy_ladder import grace_end
from control_plane.core.remedy_storm import incidents_after
from tests.scenarios.hall import BOOT_S, Busy, Hall, Node
from tests.scenarios.hall_oracle import Oracle

TAKES_S = {
    Action.RESET_GPU: (10.0, 40.0),
    Action.RELOAD_DRIVER: (60.0, 140.0),
    Action.REBOOT: BOOT_S,
    Action.POWER_CYCLE: BOOT_S,
}


class Died(Exception):
    """The process is gone."""


class Kept(msgspec.Struct, kw_only=True):
    """What outlives a process, beside the journals."""

    breakers: dict[str, Breaker] = {}
    incidents: tuple[Incident, ...] = ()
    calm_since_s: dict[str, float] = {}
    """Node → when an incident above it ended: people had it, as in a maintenance."""
    approvals: dict[str, Approval] = {}
    glass: tuple[BreakGlass, ...] = ()
    emergencies: tuple[Emergency, ...] = ()


class Faults(msgspec.Struct, kw_only=True):
    """Safeguards of whoever calls the core, that an ablation may switch off."""

    keeps_journal: bool = True
    counts_within_a_round: bool = True


class Controller:
    """One process."""

    def __init__(
        self, hall: Hall, kept: Kept, oracle: Oracle, dies: Callable[[str], bool], faults: Faults
    ) -> None:
        self._hall, self._kept, self._oracle = hall, kept, oracle
        self._dies, self._faults = dies, faults
        self.verdicts: dict[str, Remedy | Stayed] = {}

    def round(self) -> None:
        """Look at everything that is not known to be well, and act."""
        hall = self._hall
        for name in sorted(hall.active):
            self._close(hall.nodes[name])
        self._correlate()
        books = self._books()
        self.verdicts = {name: v for name, v in self.verdicts.items() if name in hall.active}
        for name in sorted(hall.active):
            node = hall.nodes[name]
            case = self._case(node, books)
            verdict = deciding.remedy(case)
            if verdict != self.verdicts.get(name):
                said = verdict.action if isinstance(verdict, Remedy) else verdict.reason
                self._oracle.trace(f"{hall.now_s:.0f} {name} {said}: {verdict.detail}")
            self.verdicts[name] = verdict
            if isinstance(verdict, Remedy):
                self._act(node, case, verdict)
                if verdict.action is Action.DRAIN and self._faults.counts_within_a_round:
                    books = taken(books=books, node=name, cause=Cause.REMEDIATION)

    def _books(self) -> Books:
        books = self._hall.books()
        for name in sorted(self._hall.active):
            node = self._hall.nodes[name]
            if any(a.action is Action.DRAIN and a.outcome is Outcome.OPEN for a in node.journal):
                books = taken(books=books, node=name, cause=Cause.REMEDIATION)
        waits = {
            name
            for name, verdict in self.verdicts.items()
            if isinstance(verdict, Stayed) and verdict.reason is Stay.BUDGET
        }
        return msgspec.structs.replace(books, waiting=frozenset(waits))

    def _correlate(self) -> None:
        hall, kept = self._hall, self._kept
        population: dict[str, int] = {}
        unwell: dict[str, float] = {}
        hands: set[str] = set()
        for name, path in hall.paths.items():
            node = hall.nodes[name]
            if name in hall.active:
                if node.said[Source.CLUSTER].well is False and node.unwell_since_s is not None:
                    unwell[name] = node.unwell_since_s
                if self._explained(node):
                    hands.add(name)
                    continue
            for above in path:
                population[above] = population.get(above, 0) + 1
        after = incidents_after(
            kept.incidents, unwell=unwell, on_purpose=hands, paths=hall.paths,
            population=population, now_s=hall.now_s,
        )  # fmt: skip
        for ended in [one for one in kept.incidents if one not in after]:
            self._oracle.trace(f"{hall.now_s:.0f} incident over: {ended.id}")
            below = [name for name, path in hall.paths.items() if ended.node in path]
            kept.calm_since_s.update(dict.fromkeys(below, hall.now_s))
        kept.incidents = after

    def _explained(self, node: Node) -> bool:
        """Whether somebody's work on it is why it may be unwell. That it is cordoned is no reason."""
        return (
            bool(self._hall.causes(node) - {Cause.FAULT, Cause.UNKNOWN, Cause.REMEDIATION})
            or node.ticket is not None
            or any(a.action is Action.POWER_OFF for a in node.journal)
            or any(a.action in CURES and self._hall.now_s < grace_end(a) for a in node.journal)
        )

    def _case(self, node: Node, books: Books) -> NodeCase:
        hall, kept = self._hall, self._kept
        open_at = {one.node: one for one in kept.incidents}
        foreign: tuple[Foreign, ...] = ()
        if node.foreign_since_s is not None:
            foreign = (Foreign(owner="driver", state="upgrade", since_s=node.foreign_since_s),)
        approval = kept.approvals.get(node.name)
        return NodeCase(
            node=node.name,
            now_s=hall.now_s,
            books=books,
            slot=f"{node.rack}/1",
            serial=f"S-{node.name}",
            parts=(Part(gpu="0F", serial=f"G-{node.name}"),),
            policy=Policy(acts=True),
            alerts=node.alerts,
            alerts_at_s=node.alerts_at_s,
            evidence=tuple(node.said[source] for source in sorted(node.said)),
            attempts=tuple(node.journal),
            cordons=tuple(node.cordons),
            overlays=hall.covering(node),
            locks=("fw",) if node.flash_until_s is not None else (),
            foreign=foreign,
            maintenance_ended_s=kept.calm_since_s.get(node.name),
            breakers=tuple(
                kept.breakers[name] for name in hall.domains.of[node.name] if name in kept.breakers
            ),
            incident=incident_above(open_at, hall.paths[node.name]),
            approvals=() if approval is None else (approval,),
            glass=kept.glass,
            emergencies=kept.emergencies,
            gate=node.gate,
            ticket=node.ticket.id if node.ticket is not None else None,
        )

    # --- acting ---------------------------------------------------------------------------------

    def _act(self, node: Node, case: NodeCase, what: Remedy) -> None:
        hall, now_s = self._hall, self._hall.now_s
        if self._faults.keeps_journal:
            node.journal.append(Attempt(action=what.action, at_s=now_s, gpu=what.gpu))
        if what.action is Action.DRAIN and what.why is not Why.EMERGENCY:
            self._note_begin(node)
        if self._dies("kept"):
            raise Died
        self._oracle.acting(node, what)
        outcome = self._do(node, case, what)
        if self._dies("done"):
            raise Died
        if outcome is not Outcome.OPEN:
            self._end(node, outcome, what.action)
        hall.wake(node)

    def _note_begin(self, node: Node) -> None:
        breakers = self._kept.breakers
        for name in self._hall.domains.of[node.name]:
            members = len(self._hall.domains.domains[name].members)
            breakers[name] = began(
                breakers.get(name, Breaker(domain=name)),
                node=node.name, members=members, now_s=self._hall.now_s,
            )  # fmt: skip

    def _do(self, node: Node, case: NodeCase, what: Remedy) -> Outcome:
        now_s = self._hall.now_s
        match what.action:
            case Action.DRAIN:
                node.cordons.append(Cordon(by=CordonedBy.OURS, who="gridplane", since_s=now_s))
                if node.has_work and node.drain_takes_s < 1e9:
                    node.work_ends_s = now_s + node.drain_takes_s
                return Outcome.OPEN
            case Action.RETURN:
                node.cordons = [c for c in node.cordons if c.by is not CordonedBy.OURS]
                node.work_ends_s = None
            case Action.QUARANTINE:
                node.ticket = ticket_of(case, what)
            case Action.POWER_OFF:
                node.powered, node.has_work, node.busy, node.unsafe = False, False, None, False
            case _:
                return self._cure(node, what)
        return Outcome.DONE

    def _cure(self, node: Node, what: Remedy) -> Outcome:
        hall, now_s = self._hall, self._hall.now_s
        if what.action is not Action.POWER_CYCLE and not node.is_up(now_s):
            return Outcome.FAILED
        low, high = TAKES_S[what.action]
        until_s = now_s + hall.rng.uniform(low, high)
        node.busy = Busy(action=what.action, gpu=what.gpu, until_s=until_s)
        node.done.append((now_s, what.action, what.gpu))
        if what.action is Action.POWER_CYCLE:
            node.powered = node.rack not in hall.dark_since_s
        return Outcome.OPEN

    def _close(self, node: Node) -> None:
        """End what evidence shows to have ended: a boot id that is another one, an answer, an empty node."""
        for attempt in list(node.journal):
            if attempt.outcome is not Outcome.OPEN:
                continue
            if attempt.action is Action.DRAIN:
                cluster = node.said.get(Source.CLUSTER)
                ours = node.cordon(CordonedBy.OURS)
                if ours is None:
                    if self._hall.now_s >= attempt.at_s + 60.0:
                        self._end(node, Outcome.FAILED, attempt.action)
                elif cluster is not None and cluster.drained and cluster.at_s > ours.since_s:
                    self._end(node, Outcome.DONE, attempt.action)
            elif (
                (attempt.action in CURES and node.busy is None and self._was_done(node, attempt))
                or (attempt.action is Action.RETURN and node.cordon(CordonedBy.OURS) is None)
                or (attempt.action is Action.QUARANTINE and node.ticket is not None)
            ):
                self._end(node, Outcome.DONE, attempt.action)

    def _was_done(self, node: Node, attempt: Attempt) -> bool:
        """Whether evidence of it is there: another boot id, an uptime, an answer."""
        return any(at_s >= attempt.at_s and act is attempt.action for at_s, act, _ in node.done)

    def _end(self, node: Node, outcome: Outcome, action: Action) -> None:
        for number, attempt in enumerate(node.journal):
            if attempt.outcome is Outcome.OPEN and attempt.action is action:
                node.journal[number] = msgspec.structs.replace(
                    attempt, outcome=outcome, ended_s=self._hall.now_s
                )

    def reset_breakers(self, by: str) -> None:
        """A person looked into all that is open."""
        now_s = self._hall.now_s
        for name, breaker in self._kept.breakers.items():
            if breaker.is_open(now_s):
                self._kept.breakers[name] = reset(breaker, by=by, now_s=now_s)
                self._oracle.reset(name)
