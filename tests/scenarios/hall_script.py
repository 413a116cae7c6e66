"""What goes wrong in a hall, and who else is at work there: drawn from a seed, at any moment.

Racks lose their power, nodes fail in every way, sources fall silent or lie, people cordon, hold and freeze,
an operator upgrades drivers without asking anybody, firmware and curtailment ask, and nobody waits for
anybody.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from control_plane.core import domain_budget
from control_plane.core.domain_budget import Cause
from control_plane.core.gpu import Rung
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.remedy_case import (
    Approval,
    BreakGlass,
    Cordon,
    CordonedBy,
    Emergency,
    EmergencyKind,
    Source,
)
from control_plane.core.remedy_kept import NodeKept
from control_plane.core.remedy_words import repaired
from tests.scenarios.hall import BOOT_S, LOOK_S, Fault, FaultKind, Hall, Node
from tests.scenarios.hall_controller import Kept
from tests.scenarios.hall_oracle import Oracle

TROUBLE_S = 4 * 3_600.0
NEVER = 7
Event = tuple[float, Callable[[], None]]


class Script:
    """The events of one seed, each at its second after the beginning."""

    def __init__(self, seed: int, hall: Hall, kept: Kept, oracle: Oracle) -> None:
        self._rng = random.Random(f"{seed}/script")
        self._hall, self._kept, self._oracle = hall, kept, oracle
        self.waiting: Callable[[], frozenset[str]] = frozenset
        """Nodes that remediation waits for a budget for."""
        self._numbers = iter(range(10_000))
        rng = self._rng
        menu: list[tuple[Callable[[], None], int, int]] = [
            (self._fault, 10, 40),
            (self._rack_lost, 0, 2),
            (self._silence, 5, 30),
            (self._lie, 1, 8),
            (self._cordon, 2, 12),
            (self._hold, 2, 10),
            (self._upgrade, 1, 6),
            (self._flash, 1, 5),
            (self._curtail, 1, 5),
            (self._glass, 0, 1),
            (self._leak, 0, 1),
            (self._passing, 0, 10),
            (self._phantom, 0, 2),
            (self._late_work, 0, 3),
        ]
        self.events: list[Event] = [
            (hall.now_s + rng.uniform(0.0, TROUBLE_S), act)
            for act, least, most in menu
            for _ in range(rng.randint(least, most))
        ]
        # Of a stream of its own: the halls of before there were repairs stay what they were.
        self._bench = random.Random(f"{seed}/bench")
        self.events += [
            (hall.now_s + self._bench.uniform(0.25, 1.0) * TROUBLE_S, self._repair)
            for _ in range(self._bench.choice((0, 0, 3, 10)))
        ]
        # Early, so that there is time for it to come back.
        self.events += [(hall.now_s + rng.uniform(0.0, 3_600.0), self._recurring) for _ in range(3)]
        self.events.sort(key=lambda event: event[0])

    def until(self, now_s: float) -> None:
        """Let happen what is due."""
        while self.events and self.events[0][0] <= now_s:
            _, act = self.events.pop(0)
            act()

    def _later(self, after_s: float, act: Callable[[], None]) -> None:
        self.events.append((self._hall.now_s + after_s, act))
        self.events.sort(key=lambda event: event[0])

    def _node(self, *, busy_share: float = 0.6) -> Node:
        """Someone, with a liking for those that are in trouble already."""
        hall, rng = self._hall, self._rng
        names = (
            sorted(hall.active) if rng.random() < busy_share and hall.active else list(hall.nodes)
        )
        return hall.nodes[rng.choice(names)]

    def _say(self, text: str) -> None:
        self._oracle.trace(f"{self._hall.now_s:.0f} * {text}")

    # --- what breaks ----------------------------------------------------------------------------

    def _fault(self) -> None:
        node, rng = self._node(busy_share=0.25), self._rng
        kinds = set(FaultKind) - {FaultKind.PHANTOM}
        kind = rng.choice((*sorted(kinds), FaultKind.HANG, FaultKind.LOST, FaultKind.WEDGED))
        least = {FaultKind.HANG: 2, FaultKind.LOST: 4, FaultKind.WEDGED: 5}.get(kind, 2)
        mends = (
            NEVER if kind is FaultKind.REMAP else rng.choice((least, least, least + 1, 5, NEVER))
        )
        self._ail(node, kind, max(mends, least))

    def _passing(self) -> None:
        node = self._node(busy_share=0.0)
        self._ail(node, FaultKind.HANG, NEVER)
        if node.fault is not None:
            node.fault.passes_s = self._hall.now_s + self._rng.uniform(10.0, 400.0)

    def _recurring(self) -> None:
        node = self._node(busy_share=0.0)
        mends, after_s = self._rng.choice(((2, 200.0), (5, 2_000.0)))
        self._ail(node, FaultKind.HANG, mends)
        if node.fault is not None:
            node.fault.recurs_after_s = after_s * self._rng.uniform(1.0, 2.0)
            node.drain_takes_s = min(node.drain_takes_s, 100.0)

    def _phantom(self) -> None:
        self._ail(self._node(busy_share=0.0), FaultKind.PHANTOM, NEVER)

    def _late_work(self) -> None:
        """Work is placed on an idle node between the last look and its cordon, and then nobody looks."""
        node = self._node(busy_share=0.0)
        if node.name in self._hall.active:
            return
        node.has_work = False
        self._ail(node, FaultKind.HANG, 2)
        self._later(LOOK_S, lambda: self._works_unseen(node))

    def _works_unseen(self, node: Node) -> None:
        node.has_work = True
        for source in (Source.CLUSTER, Source.AGENT, Source.BMC):
            node.silent_until_s[source] = self._hall.now_s + 200.0

    def _ail(self, node: Node, kind: FaultKind, mends: int) -> None:
        if node.fault is not None or node.ticket is not None:
            return
        self._hall.wake(node)
        takes = self._rng.choice((30.0, 300.0, 1_800.0, 1e12))
        node.drain_takes_s = self._rng.uniform(0.2, 1.0) * takes
        node.fault = Fault(kind=kind, since_s=self._hall.now_s, mends=mends)
        self._say(f"{kind} on {node.name}, mended by {mends}")

    def _rack_lost(self) -> None:
        hall, rng = self._hall, self._rng
        rack = self._node(busy_share=0.3).rack
        if rack in hall.dark_since_s:
            return
        hall.dark_since_s[rack] = hall.now_s
        self._say(f"{rack} lost its power")
        for node in self._in(rack):
            hall.wake(node)
            node.powered, node.has_work, node.busy = False, False, None
        self._later(rng.uniform(200.0, 3_000.0), lambda: self._rack_back(rack))

    def _rack_back(self, rack: str) -> None:
        hall = self._hall
        hall.dark_since_s.pop(rack, None)
        self._say(f"{rack} has power again")
        for node in self._in(rack):
            node.powered = True
            node.boots_until_s = hall.now_s + self._rng.uniform(*BOOT_S)

    def _in(self, rack: str) -> list[Node]:
        return [node for node in self._hall.nodes.values() if node.rack == rack]

    def _silence(self) -> None:
        node, rng = self._node(busy_share=0.9), self._rng
        self._hall.wake(node)
        sources = rng.sample((Source.CLUSTER, Source.AGENT, Source.BMC), rng.choice((1, 1, 2)))
        for source in sources:
            node.silent_until_s[source] = self._hall.now_s + rng.uniform(60.0, 1_500.0)
        self._say(f"{', '.join(sources)} fall silent on {node.name}")

    def _lie(self) -> None:
        node = self._node(busy_share=0.9)
        self._hall.wake(node)
        node.lies_until_s = self._hall.now_s + self._rng.uniform(100.0, 2_000.0)
        self._say(f"the BMC of {node.name} lies")

    def _leak(self) -> None:
        hall, rng = self._hall, self._rng
        node = self._node(busy_share=0.2)
        wet = rng.sample(self._in(node.rack), rng.choice((1, 2)))
        for one in wet:
            hall.wake(one)
            one.unsafe = True
        for one in self._in(node.rack):
            hall.wake(one)
        emergency = Emergency(
            id=f"em{next(self._numbers)}", kind=EmergencyKind.LEAK, domains=frozenset({node.rack}),
            plan="so-1", source=Source.METER, since_s=hall.now_s, until_s=hall.now_s + 1_200.0,
        )  # fmt: skip
        self._kept.emergencies = (*self._kept.emergencies, emergency)
        self._say(f"a leak in {node.rack}: {', '.join(one.name for one in wet)}")
        liar = self._node(busy_share=0.9)
        hall.wake(liar)
        liar.lies_until_s = hall.now_s + 600.0

    # --- people ---------------------------------------------------------------------------------

    def _cordon(self) -> None:
        node, hall = self._node(), self._hall
        if node.cordon(CordonedBy.PERSON) is not None:
            return
        hall.wake(node)
        node.cordons.append(Cordon(by=CordonedBy.PERSON, who="kim", since_s=hall.now_s))
        self._say(f"kim cordons {node.name}")
        self._later(self._rng.uniform(100.0, 5_000.0), lambda: self._uncordon(node))

    def _uncordon(self, node: Node) -> None:
        node.cordons = [c for c in node.cordons if c.by is not CordonedBy.PERSON]

    def _hold(self) -> None:
        node, rng = self._node(), self._rng
        place = rng.choice((node.name, node.name, node.rack))
        kind = rng.choice(
            (OverlayKind.SAFETY_HOLD, OverlayKind.MAINTENANCE_HOLD, OverlayKind.FREEZE)
        )
        self._overlay(kind, place, for_s=rng.uniform(100.0, 5_000.0))

    def _overlay(self, kind: OverlayKind, place: str, *, for_s: float) -> None:
        hall, name = self._hall, f"o{next(self._numbers)}"
        for node in hall.nodes.values():
            if place in {node.name, node.rack}:
                hall.wake(node)
        hall.overlays[name] = Overlay(
            id=name, kind=kind, node=place, owner="kim", reason="work", since_s=hall.now_s
        )
        self._say(f"{kind} on {place} for {for_s:.0f} s")
        self._later(for_s, lambda: self._lift(name))

    def _lift(self, name: str) -> None:
        self._hall.overlays.pop(name, None)

    def _glass(self) -> None:
        hall = self._hall
        nodes = frozenset(self._node().name for _ in range(3))
        glass = BreakGlass(
            id=f"bg{next(self._numbers)}", by=("kim",), reason="a customer waits", since_s=hall.now_s,
            until_s=hall.now_s + 3_600.0, nodes=nodes, watts=30_000.0,
        )  # fmt: skip
        self._kept.glass = (*self._kept.glass, glass)

    def glass_on(self, node: Node) -> bool:
        """Whether persons set budgets aside for a node."""
        now_s = self._hall.now_s
        return any(
            node.name in g.nodes and g.since_s <= now_s < g.until_s for g in self._kept.glass
        )

    def emergency_in(self, node: Node) -> bool:
        """Whether an emergency names its rack."""
        now_s = self._hall.now_s
        return any(
            node.rack in one.domains and one.since_s <= now_s < one.until_s
            for one in self._kept.emergencies
        )

    def approve(self, node: Node) -> None:
        """A person says that a node may be taken as far as it goes."""
        now_s = self._hall.now_s
        self._kept.approvals[node.name] = Approval(
            by="kim", at_s=now_s, until_s=now_s + 14_400.0, up_to=Rung.REPAIR
        )

    def approved(self, node: Node) -> bool:
        """Whether a person has said so."""
        approval = self._kept.approvals.get(node.name)
        return approval is not None and approval.until_s > self._hall.now_s

    def _repair(self) -> None:
        """Somebody at the bench has repaired one, or says so."""
        tickets = [n for n in sorted(self._hall.active) if self._hall.nodes[n].ticket is not None]
        if tickets:
            self._close(self._hall.nodes[self._bench.choice(tickets)])

    def _close(self, node: Node) -> None:
        """Close a ticket. The first repair of a node may be none; then its fault is there still."""
        hall = self._hall
        if node.repaired is not None or self._bench.random() < 0.7:
            node.fault = node.last_fault = node.recurs_at_s = None
        kept = NodeKept(asset=node.name, attempts=tuple(node.journal), ticket=node.ticket)
        after = repaired(kept, by="lee", reason="new parts", now_s=hall.now_s)
        node.journal, node.ticket, node.repaired = list(after.attempts), None, after.repaired
        node.powered = node.rack not in hall.dark_since_s
        self._say(f"lee has repaired {node.name}" + (", and did not" if node.fault else ""))

    # --- other writers --------------------------------------------------------------------------

    def _upgrade(self) -> None:
        """The operator asks nobody; what is ours carries the mark that keeps it away."""
        hall, rng = self._hall, self._rng
        for _ in range(rng.randint(1, 5)):
            node = self._node(busy_share=0.4)
            busy = node.busy or node.ticket or node.foreign_until_s or node.flash_until_s
            if busy or node.cordon(CordonedBy.OURS) is not None:
                continue
            hall.wake(node)
            node.foreign_since_s = hall.now_s
            node.foreign_until_s = hall.now_s + rng.choice((600.0, 1_200.0, 1_200.0, 1e12))
            node.cordons.append(
                Cordon(by=CordonedBy.PROGRAM, who="gpu-operator", since_s=hall.now_s)
            )
            self._say(f"the operator upgrades {node.name}")

    def _flash(self) -> None:
        def take(node: Node) -> None:
            node.flash_until_s = self._hall.now_s + self._rng.uniform(600.0, 1_800.0)
            node.has_work = False

        self._planned(Cause.FIRMWARE, take)

    def _curtail(self) -> None:
        for_s = self._rng.uniform(600.0, 3_000.0)
        self._planned(
            Cause.CURTAILMENT,
            lambda node: self._overlay(OverlayKind.CURTAILMENT, node.name, for_s=for_s),
        )

    def _planned(self, cause: Cause, take: Callable[[Node], None]) -> None:
        """Some nodes, of those that the budget lets through, one after another."""
        hall = self._hall
        books = msgspec.structs.replace(hall.books(), waiting=self.waiting())
        for _ in range(12):
            node = self._node(busy_share=0.2)
            if hall.down(node) or node.fault is not None or hall.held(node):
                continue
            if domain_budget.refusal(books=books, node=node.name, cause=cause) is not None:
                continue
            self._oracle.takes(node, f"{cause} of {node.name}", spare=1)
            books = domain_budget.taken(books=books, node=node.name, cause=cause)
            hall.wake(node)
            take(node)
            self._say(f"{cause} takes {node.name}")

    # --- and people who mend --------------------------------------------------------------------

    def help(self, breakers: Callable[[str], None]) -> None:
        """People come by: they end what only they can end."""
        hall = self._hall
        hall.overlays.clear()
        for name in sorted(hall.active):
            node = hall.nodes[name]
            node.cordons = [c for c in node.cordons if c.by is CordonedBy.OURS]
            node.foreign_since_s = node.foreign_until_s = None
            node.silent_until_s.clear()
            node.lies_until_s = 0.0
            node.unsafe = False
            if node.last_fault is not None:
                node.recurs_at_s = node.last_fault.recurs_after_s = None
            if node.fault is not None and node.fault.kind is FaultKind.PHANTOM:
                node.fault = None
            if node.cordon(CordonedBy.OURS) is not None:
                node.has_work, node.work_ends_s = False, None
            self.approve(node)
            if node.ticket is not None:
                self._close(node)
        breakers("kim")
