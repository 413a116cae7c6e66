"""Play one seed of a hall: four hours in which all goes wrong, then people help, and it is well again."""

from __future__ import annotations

import random
import zlib
from collections import Counter

import msgspec

from control_plane.core.remedy_case import NEEDS_PERSON, Remedy, Stay, Stayed
from tests.scenarios.hall import LOOK_S, Hall, Node
from tests.scenarios.hall_controller import Controller, Died, Faults, Kept
from tests.scenarios.hall_oracle import Oracle
from tests.scenarios.hall_script import TROUBLE_S, Script

_HELPED = {Stay.BREAKER, Stay.HUMAN_CORDON, Stay.HOLD, Stay.FREEZE, Stay.IN_REPAIR}
"""What the people who come by end: nobody may be left with it."""
# In these halls every node has a BMC that answers in the end.
_NOT_HELPED = NEEDS_PERSON - _HELPED - {Stay.ONE_SOURCE}
SETTLE_S = 16 * 3_600.0
"""A node may wait for its turn, go up the whole ladder, and once more after a repair that was none."""
HELP_S = 1_200.0


class HallReport(msgspec.Struct, kw_only=True):
    """What came of a seed."""

    seed: int
    violations: list[str] = []
    actions: dict[str, int] = {}
    """By their names."""
    nodes: int = 0
    starts: int = 0
    """Controller processes."""
    hours: float = 0.0
    tickets: int = 0
    """That were opened; all of them are closed in the end."""
    incidents: int = 0
    digest: int = 0
    lines: list[str] = []


def play_hall(seed: int, *, keep: bool = False, faults: Faults | None = None) -> HallReport:
    """From its beginning to its end, or to the first violation."""
    return _Play(seed, keep=keep, faults=faults or Faults()).run()


class _Play:
    def __init__(self, seed: int, *, keep: bool, faults: Faults) -> None:
        self._hall, self._kept = Hall(seed), Kept()
        self._oracle = Oracle(self._hall)
        self._script = Script(seed, self._hall, self._kept, self._oracle)
        self._rng = random.Random(f"{seed}/deaths")
        self._faults = faults
        self._report = HallReport(seed=seed, nodes=len(self._hall.nodes))
        self._counts: Counter[str] = Counter()
        self._lines: list[str] = []
        self._keep = keep
        self._oracle.trace = self._trace
        self._oracle.approved = self._script.approved
        self._oracle.emergency_in = self._script.emergency_in
        self._oracle.glass_on = self._script.glass_on
        self._deadly = self._rng.choice((0.0, 0.02, 0.1))
        self._controller: Controller | None = None
        self._starts_s = 0.0
        self._incidents: set[str] = set()
        self._tickets: set[str] = set()
        self._script.waiting = self._waiting

    def _trace(self, line: str) -> None:
        self._report.digest = zlib.crc32(line.encode(), self._report.digest)
        if self._keep:
            self._lines.append(line)

    def _waiting(self) -> frozenset[str]:
        verdicts = self._controller.verdicts if self._controller is not None else {}
        return frozenset(
            name for name, v in verdicts.items()
            if isinstance(v, Stayed) and v.reason is Stay.BUDGET
        )  # fmt: skip

    def run(self) -> HallReport:
        hall, began_s = self._hall, self._hall.now_s
        while hall.now_s < began_s + TROUBLE_S and not self._oracle.violations:
            self._step()
        ends_s, helped_s = hall.now_s + SETTLE_S, 0.0
        while not self._oracle.violations and (left := self._left()):
            if hall.now_s >= ends_s:
                self._oracle.violate("liveness", "; ".join(left[:3]))
                break
            if hall.now_s >= helped_s + HELP_S and self._controller is not None:
                helped_s = hall.now_s
                self._script.help(self._controller.reset_breakers)
            self._step()
        report = self._report
        report.violations = self._oracle.violations
        report.actions = dict(sorted(self._counts.items()))
        report.hours = (hall.now_s - began_s) / 3_600.0
        report.tickets = len(self._tickets)
        report.incidents = len(self._incidents)
        report.lines = self._lines
        return report

    def _step(self) -> None:
        hall = self._hall
        hall.pass_time()
        self._script.until(hall.now_s)
        if self._controller is None and hall.now_s >= self._starts_s:
            self._report.starts += 1
            self._controller = Controller(hall, self._kept, self._oracle, self._dies, self._faults)
        if self._controller is None:
            return
        try:
            self._controller.round()
        except Died:
            self._trace(f"{hall.now_s:.0f} the controller dies")
            self._controller = None
            self._starts_s = hall.now_s + self._rng.uniform(LOOK_S, 400.0)
            return
        self._incidents |= {one.id for one in self._kept.site.incidents}
        tickets = (self._hall.nodes[name].ticket for name in self._hall.active)
        self._tickets |= {one.id for one in tickets if one is not None}
        for verdict in self._controller.verdicts.values():
            if isinstance(verdict, Remedy):
                self._counts[verdict.action] += 1

    def _dies(self, _where: str) -> bool:
        return self._rng.random() < self._deadly

    def _left(self) -> list[str]:
        """Nodes that are neither well, nor waiting for somebody who is named and does not come by."""
        hall = self._hall
        if self._controller is None or self._script.events:
            return ["it goes on"]
        left = []
        for name in sorted(hall.active):
            node, verdict = hall.nodes[name], self._controller.verdicts.get(name)
            if isinstance(verdict, Stayed) and self._may_end(node, verdict.reason):
                continue
            said = verdict.reason if isinstance(verdict, Stayed) else "acting"
            left.append(f"{name} is {said}")
        return left

    def _may_end(self, node: Node, reason: Stay) -> bool:
        if reason is Stay.WELL:
            return node.serves(self._hall.now_s)
        if reason is Stay.OBSERVED:
            return not node.cordons
        if reason is Stay.BUDGET:
            return self._is_behind_somebody(node.name)
        return reason in _NOT_HELPED

    def _is_behind_somebody(self, name: str) -> bool:
        """Whether a node of its domains waits for somebody who does not come by, and it for that node."""
        assert self._controller is not None
        domains, verdicts = self._hall.domains, self._controller.verdicts
        members = {other for one in domains.of[name] for other in domains.domains[one].members}
        said = (verdicts.get(other) for other in members)
        return any(isinstance(one, Stayed) and one.reason in _NOT_HELPED for one in said)
