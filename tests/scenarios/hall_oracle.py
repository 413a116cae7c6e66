"""What must never happen in a hall, checked against how the nodes truly are, at every action.

It believes no decision and no evidence, and counts by itself. What nobody could know yet (a rack that went
dark a moment ago) is not held against anybody.
"""

from __future__ import annotations

from collections.abc import Callable

from control_plane.core import limits
from control_plane.core.domain_budget import Domain, DomainKind
from control_plane.core.remedy_case import CURES, Action, CordonedBy, Remedy, Why
from tests.scenarios.hall import LOOK_S, NOT_READY_S, SERVE, FaultKind, Hall, Node

KNOWABLE_S = NOT_READY_S + limits.CORRELATED_WINDOW_S + LOOK_S
GRACES_S = {
    Action.RESET_GPU: 120.0,
    Action.RELOAD_DRIVER: 300.0,
    Action.REBOOT: 1_200.0,
    Action.POWER_CYCLE: 1_800.0,
}
DAY_S = 86_400.0
MOST = {DomainKind.CLUSTER: 20, DomainKind.SITE: 20}
"""One node of so many may be down; of ten where nothing stands."""


def allowed(domain: Domain) -> int:
    """How many may be down, counted anew."""
    members = len(domain.members)
    if domain.kind is DomainKind.CONTROL_PLANE:
        return 1 if members >= 3 else 0
    return 0 if members < 2 else max(1, members // MOST.get(domain.kind, 10))


class Oracle:
    """`violations` stays empty."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self.violations: list[str] = []
        self.actions = 0
        self.trace: Callable[[str], None] = lambda _: None
        self.approved: Callable[[Node], bool] = lambda _: False
        self.emergency_in: Callable[[Node], bool] = lambda _: False
        self.glass_on: Callable[[Node], bool] = lambda _: False
        self._begun: dict[str, dict[str, float]] = {}
        self._tripped: dict[str, float] = {}
        self._reset: dict[str, float] = {}

    def violate(self, rule: str, text: str) -> None:
        """Note what must never happen."""
        self.trace(f"VIOLATION {rule}: {text}")
        self.violations.append(f"{self._hall.now_s:.0f} {rule}: {text}")

    def acting(self, node: Node, what: Remedy) -> None:
        """Something is about to be done to a node."""
        self.actions += 1
        hall, now_s, action = self._hall, self._hall.now_s, what.action
        text = f"{action} of {node.name}"
        stops = action is Action.POWER_OFF
        by_rule = what.why is not Why.EMERGENCY and not self.glass_on(node)
        ill = node.fault is not None and node.fault.kind not in SERVE
        fault_s = now_s - node.fault.since_s if node.fault is not None else 0.0
        dark_s = now_s - hall.dark_since_s.get(node.rack, now_s)
        wrong = {
            "hold": hall.held(node) and not stops,
            "human": node.cordon(CordonedBy.PERSON) is not None and not stops,
            "lock": node.flash_until_s is not None,
            "foreign": node.foreign_until_s is not None and what.why is not Why.EMERGENCY,
            "curtailed": hall.curtailed(node) and what.why is not Why.EMERGENCY,
            "undrained": action in {*CURES, Action.QUARANTINE} and node.has_work,
            "overlap": node.busy is not None and not stops,
            "grace": action in CURES and self._in_grace(node),
            "caps": action in CURES and self._is_spent(node, what),
            "mass": action in CURES and by_rule and dark_s > KNOWABLE_S,
            "stale": not stops
            and what.why is not Why.EMERGENCY
            and now_s - node.alerts_at_s > limits.GPU_EVIDENCE_TTL_S,
            "asks": action in CURES
            and node.fault is not None
            and node.fault.kind is FaultKind.ODD
            # On a node that nobody can read it is not known.
            and any(alert.asks for alert in node.alerts)
            and not self.approved(node),
            "power": action is Action.POWER_CYCLE and node.serves(now_s),
            "return": action is Action.RETURN
            and ((ill and fault_s > limits.GPU_EVIDENCE_TTL_S) or now_s < node.capped_at_s),
            # A BMC that lies where something truly leaks is believed: the emergency is the other source.
            "emergency": stops
            and not ((node.unsafe or now_s < node.lies_until_s) and self.emergency_in(node)),
            "breaker": by_rule and action in {*CURES, Action.DRAIN} and self._stormed(node),
        }
        for rule, broken in wrong.items():
            if broken:
                self.violate(rule, text)
        if action is Action.DRAIN:
            if by_rule:
                self.takes(node, text, spare=0)
            if what.why is not Why.EMERGENCY:
                self._begins(node)

    def takes(self, node: Node, text: str, *, spare: int) -> None:
        """A node that works is about to be taken down; `spare` is how many have to be left for others."""
        if self._is_down(node) or node.lost_since_s is not None:
            return
        for name in self._hall.domains.of[node.name]:
            domain = self._hall.domains.domains[name]
            down = sum(self._is_down(self._hall.nodes[other]) for other in domain.members)
            most = allowed(domain)
            if down + 1 > most - (spare if most > 1 else 0):
                rule = "reserve" if down + 1 <= most else "budget"
                self.violate(rule, f"{text}: {down} of {most} of {name} were down")

    def reset(self, domain: str) -> None:
        """A person resets a breaker."""
        self._reset[domain] = self._hall.now_s

    def _is_down(self, node: Node) -> bool:
        """For whatever reason, as far as anybody could know."""
        hall = self._hall
        if node.name not in hall.active:
            return False
        since_s = node.lost_since_s
        known = since_s is not None and hall.now_s - since_s >= NOT_READY_S + LOOK_S
        taken = node.cordons or node.ticket or node.foreign_until_s or node.flash_until_s
        return bool(known or taken or hall.curtailed(node))

    def _in_grace(self, node: Node) -> bool:
        return any(self._hall.now_s < at_s + GRACES_S[act] for at_s, act, _ in node.done)

    def _is_spent(self, node: Node, what: Remedy) -> bool:
        since_s = node.repaired.at_s if node.repaired is not None else 0.0
        today = [
            one for one in node.done if self._hall.now_s - one[0] < DAY_S and one[0] >= since_s
        ]
        same = [one for one in today if one[1:] == (what.action, what.gpu)]
        return len(today) >= 6 or len(same) >= 2

    def _stormed(self, node: Node) -> bool:
        for name in self._hall.domains.of[node.name]:
            tripped_s = self._tripped.get(name)
            if tripped_s is None:
                continue
            reset = self._reset.get(name, 0.0) >= tripped_s
            if not reset or self._hall.now_s < tripped_s + 1_800.0:
                return True
        return False

    def _begins(self, node: Node) -> None:
        now_s = self._hall.now_s
        for name in self._hall.domains.of[node.name]:
            since_s = max(now_s - 3_600.0, self._reset.get(name, 0.0))
            begun = self._begun.setdefault(name, {})
            begun[node.name] = now_s
            many = sum(at_s >= since_s for at_s in begun.values())
            if many >= max(3, len(self._hall.domains.domains[name].members) // 10):
                self._tripped.setdefault(name, now_s)
                if self._reset.get(name, 0.0) >= self._tripped[name]:
                    self._tripped[name] = now_s
