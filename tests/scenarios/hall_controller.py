"""What a controller does around the pure core: sees, asks, keeps, acts, and dies at any moment.

What it keeps before it acts, and after, outlives it: the journal on each node, breakers, incidents. It has
no rule of its own about what may be done.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from control_plane.core import remedy as deciding
from control_plane.core import remedy_round as rounds
from control_plane.core.breaker import reset
from control_plane.core.domain_budget import Books, Cause
from control_plane.core.remedy_case import (
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
    Stay,
    Stayed,
)
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.remedy_round import NodeView
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
    """What outlives a process, beside the journals and tickets of the nodes."""

    site: SiteKept = SiteKept()
    calm_since_s: dict[str, float] = {}
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
        hall, now_s = self._hall, self._hall.now_s
        views = {name: self._view(hall.nodes[name]) for name in sorted(hall.active)}
        for name, view in views.items():
            self._close(hall.nodes[name], view)
        self._correlate(views)
        books = self._books(views)
        self.verdicts = {name: v for name, v in self.verdicts.items() if name in hall.active}
        for name, view in views.items():
            node = hall.nodes[name]
            case = rounds.case_of(
                view, self._kept_of(node), self._with_people(), books,
                path=hall.paths[name], now_s=now_s,
            )  # fmt: skip
            verdict = deciding.remedy(case)
            if verdict != self.verdicts.get(name):
                said = verdict.action if isinstance(verdict, Remedy) else verdict.reason
                self._oracle.trace(f"{hall.now_s:.0f} {name} {said}: {verdict.detail}")
            self.verdicts[name] = verdict
            if isinstance(verdict, Remedy):
                self._act(node, case, verdict)
                if self._faults.counts_within_a_round:
                    books = rounds.also_counted(books, verdict)

    def _with_people(self) -> SiteKept:
        """What is kept of the site at this moment: each node that is begun on may trip a breaker."""
        kept = self._kept
        return msgspec.structs.replace(kept.site, glass=kept.glass, emergencies=kept.emergencies)

    def _view(self, node: Node) -> NodeView:
        foreign: tuple[Foreign, ...] = ()
        if node.foreign_since_s is not None:
            foreign = (Foreign(owner="driver", state="upgrade", since_s=node.foreign_since_s),)
        return NodeView(
            node=node.name,
            policy=Policy(acts=True),
            slot=f"{node.rack}/1",
            serial=f"S-{node.name}",
            parts=(Part(gpu="0F", serial=f"G-{node.name}"),),
            alerts=node.alerts,
            alerts_at_s=node.alerts_at_s,
            evidence=tuple(node.said[source] for source in sorted(node.said)),
            cordons=tuple(node.cordons),
            overlays=self._hall.covering(node),
            locks=("fw",) if node.flash_until_s is not None else (),
            foreign=foreign,
            gate=node.gate,
            causes=self._hall.causes(node) - {Cause.REMEDIATION},
            unwell_since_s=node.unwell_since_s,
        )

    def _kept_of(self, node: Node) -> NodeKept:
        approval = self._kept.approvals.get(node.name)
        return NodeKept(
            asset=node.name,
            attempts=tuple(node.journal),
            ticket=node.ticket,
            calm_since_s=self._kept.calm_since_s.get(node.name),
            repaired=node.repaired,
            approvals=() if approval is None else (approval,),
        )

    def _close(self, node: Node, view: NodeView) -> None:
        """End what evidence shows to have ended."""

        def took_place(attempt: Attempt) -> bool:
            """Evidence of it is there: another boot id, an uptime, an answer."""
            return node.busy is None and any(
                at_s >= attempt.at_s and act is attempt.action for at_s, act, _ in node.done
            )

        after = rounds.closed(self._kept_of(node), view, took_place, now_s=self._hall.now_s)
        node.journal = list(after.attempts)

    def _correlate(self, views: dict[str, NodeView]) -> None:
        hall, kept = self._hall, self._kept
        of = {name: self._kept_of(hall.nodes[name]) for name in views}
        after, below = rounds.together(
            kept.site, views.values(), of, paths=hall.paths, now_s=hall.now_s
        )
        for ended in rounds.over(kept.site, after):
            self._oracle.trace(f"{hall.now_s:.0f} incident over: {ended.id}")
        kept.calm_since_s.update(dict.fromkeys(below, hall.now_s))
        kept.site = after

    def _books(self, views: dict[str, NodeView]) -> Books:
        waits = {
            name
            for name, verdict in self.verdicts.items()
            if isinstance(verdict, Stayed) and verdict.reason is Stay.BUDGET
        }
        of = {name: self._kept_of(self._hall.nodes[name]) for name in views}
        return rounds.counted(
            self._hall.domains, views.values(), of, waiting=waits, now_s=self._hall.now_s
        )

    # --- acting ---------------------------------------------------------------------------------

    def _act(self, node: Node, case: NodeCase, what: Remedy) -> None:
        hall, kept = self._hall, self._kept
        after, site = rounds.kept_for(self._kept_of(node), kept.site, case, what)
        if self._faults.keeps_journal:
            node.journal = list(after.attempts)
        kept.site = site
        if self._dies("kept"):
            raise Died
        self._oracle.acting(node, what)
        outcome = self._do(node, after, what)
        if self._dies("done"):
            raise Died
        if outcome is not Outcome.OPEN:
            ended = rounds.ended(self._kept_of(node), what.action, outcome, now_s=hall.now_s)
            node.journal = list(ended.attempts)
        hall.wake(node)

    def _do(self, node: Node, kept: NodeKept, what: Remedy) -> Outcome:
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
                node.ticket = kept.ticket
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

    def reset_breakers(self, by: str) -> None:
        """A person looked into all that is open."""
        now_s, breakers = self._hall.now_s, dict(self._kept.site.breakers)
        for name, breaker in breakers.items():
            if breaker.is_open(now_s):
                breakers[name] = reset(breaker, by=by, now_s=now_s)
                self._oracle.reset(name)
        self._kept.site = msgspec.structs.replace(self._kept.site, breakers=breakers)
