"""Each safeguard switched off by itself: seeds have to notice, or they prove nothing.

Where layers guard the same thing, each is cut alone and all of them together. A layer whose absence
nobody can notice while the others stand is named as such: that is what depth is for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from control_plane.core import decide as deciding
from control_plane.core import policy, steps
from control_plane.core.change import SetPools
from control_plane.core.decision import Reason, Why
from control_plane.core.memory import Memory, Pin, note_drift
from control_plane.core.observation import Field
from control_plane.core.power import Admission, Loads
from control_plane.core.rollout import judge_gate
from control_plane.engine import gate as gating
from control_plane.engine import reconciler as reconciling
from control_plane.engine import rollouts
from control_plane.engine.gate import Gate, WritePermit
from control_plane.engine.incidents import Incidents
from control_plane.engine.operations import Operations
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.roster import Roster
from control_plane.engine.slots import Budgets
from control_plane.engine.store import Store
from tests.scenarios.play import Report, play

SEEDS = 200
DEPTH_SEEDS = 25
"""Of an ablation that nobody can notice: enough to see that the other layers hold."""
Cut = tuple[object, str, Any]
"""(what is patched, its attribute, what stands there instead)."""


class Ablation(NamedTuple):
    """One safeguard, or several that guard the same, switched off."""

    name: str
    cuts: Callable[[], Iterable[Cut]]
    rules: frozenset[str]
    """The rules of the oracle of which one has to break; empty: nobody can notice."""


class Caught(NamedTuple):
    """How an ablation was noticed."""

    ablation: Ablation
    seed: int | None
    """`None`: it was not."""
    violation: str


def nothing(*_: object, **__: object) -> None:
    """In place of a check that raises or returns a refusal."""


def try_ablation(ablation: Ablation, seeds: Iterable[int] | None = None) -> Caught:
    """Play seeds without the safeguard until one of the rules breaks."""
    if seeds is None:
        seeds = range(SEEDS if ablation.rules else DEPTH_SEEDS)
    with contextlib.ExitStack() as stack:
        for target, name, instead in ablation.cuts():
            stack.enter_context(mock.patch.object(target, name, instead))
        for seed in seeds:
            violation = _noticed(play(seed), ablation.rules)
            if violation is not None:
                return Caught(ablation, seed, violation)
    return Caught(ablation, None, "")


def _noticed(report: Report, rules: frozenset[str]) -> str | None:
    for violation in report.violations:
        rule = violation.partition(" ")[2].partition(":")[0]
        if rule in rules or (not rules and rule not in {"liveness", "truth", "second plan"}):
            return violation
    return None


# --- the cuts -----------------------------------------------------------------------------------------


def _no_identity_check(self: Gate, intent: Any, overlays: Any, now_s: float) -> str | None:
    with mock.patch.object(Pin, "matches", return_value=True):
        return _REFUSAL(self, intent, overlays, now_s)


_REFUSAL = Gate._refusal
_DRIFT_VERDICT = policy._drift_verdict
_NOTE_DRIFT = note_drift
_CHANGE_FOR = steps.change_for


async def _no_look(self: Reconciler, slot: Any, step: Any) -> Any:
    return step


def _admit_all(loads: Loads, wishes: Iterable[Any]) -> Admission:
    return Admission(admitted=frozenset(wish.asset for wish in wishes), refused={})


def _take_anyway(self: Budgets, slot: Any) -> bool:
    self.take(slot)
    return True


def _heals(why: Why) -> Callable[..., Any]:
    """A drift policy that brings back whatever was lowered."""

    def verdict(ctx: Any, difference: Any) -> Any:
        told = _DRIFT_VERDICT(ctx, difference)
        lowered = getattr(told, "reason", None) is Reason.MANUAL_OVERRIDE
        return why if lowered else told

    return verdict


def _without_contests(memory: Memory, fields: Any, now_s: float) -> Memory:
    return msgspec.structs.replace(_NOTE_DRIFT(memory, fields, now_s), contested=frozenset())


def _no_pools(difference: Any, desired: Any) -> Any:
    """A planner gone mad."""
    change = _CHANGE_FOR(difference, desired)
    return SetPools(()) if difference.field is Field.POOLS else change


def _pass_every_gate(wave: Any, **more: Any) -> Any:
    return msgspec.structs.replace(judge_gate(wave, **more), passed=True, detail="")


def _pins() -> list[Cut]:
    return [(Pin, "matches", lambda *_: True)]


def ablation(name: str, cuts: Callable[[], Iterable[Cut]], *rules: str) -> Ablation:
    """One line of the table."""
    return Ablation(name, cuts, frozenset(rules))


HOLD = {
    "decision": (deciding, "hold_on", nothing),
    "gate": (gating, "hold_on", nothing),
    "permit": (Gate, "refuses", nothing),
}
FREEZE = {
    "decision": (deciding, "freeze_on", nothing),
    "gate": (gating, "freeze_on", nothing),
}
HEADROOM = {
    "admission": (reconciling, "admit", _admit_all),
    "before the write": (Reconciler, "_is_over", lambda *_: False),
}
ABLATIONS: tuple[Ablation, ...] = (
    ablation("hold: decision", lambda: [HOLD["decision"]], "two guards"),
    ablation("hold: gate and permit", lambda: [HOLD["gate"]], "hold"),
    ablation("hold, fence: permit", lambda: [HOLD["permit"]], "hold"),
    ablation("hold: all", HOLD.values, "hold"),
    ablation("freeze: decision", lambda: [FREEZE["decision"]], "two guards"),
    ablation("freeze: gate and permit", lambda: [FREEZE["gate"]], "freeze"),
    ablation("freeze: all", FREEZE.values, "freeze"),
    ablation("fence", lambda: [(Store, "check_fence", nothing)], "fence", "one at a time"),
    ablation("identity: decision", lambda: [(deciding, "_identity", nothing)], "two guards"),
    ablation("identity: gate", lambda: [(Gate, "_refusal", _no_identity_check)]),
    ablation("identity: all", _pins, "wrong device"),
    ablation("owner's pools: gate", lambda: [(Gate, "_pool_refusal", nothing)], "foreign pool"),
    ablation("zero pools: planner", lambda: [(deciding, "change_for", _no_pools)], "two guards"),
    ablation(
        "zero pools: planner and gate",
        lambda: [(deciding, "change_for", _no_pools), (Gate, "_pool_refusal", nothing)],
        "zero pools",
    ),
    ablation("headroom: admission", lambda: [HEADROOM["admission"]]),
    ablation("headroom: before the write", lambda: [HEADROOM["before the write"]]),
    ablation("headroom: all", HEADROOM.values, "cap"),
    ablation("released devices count", lambda: [(Loads, "count_released", nothing)], "cap"),
    ablation("budgets", lambda: [(Budgets, "acquire", _take_anyway)], "budget"),
    ablation(
        "drift raises: policy",
        lambda: [(policy, "_drift_verdict", _heals(Why.DRIFT))],
    ),
    ablation(
        "drift raises: all",
        lambda: [(policy, "_drift_verdict", _heals(Why.ROLLOUT))],
        "drift raises",
    ),
    ablation(
        "drift is told from rollout",
        lambda: [(where, "is_drift", lambda *_: False) for where in (deciding, policy)],
        "drift raises",
        "contest",
        "storm",
    ),
    ablation("contest", lambda: [(reconciling, "note_drift", _without_contests)], "contest"),
    ablation("stuck", lambda: [(Operations, "latch", nothing)], "stuck"),
    ablation("storm", lambda: [(Incidents, "_open_storm", lambda *_: [])], "storm"),
    ablation("lost together", lambda: [(Incidents, "_open_lost", lambda *_: [])], "lost"),
    ablation(
        "fresh look: decision and permit",
        lambda: [
            (Reconciler, "_looked_again", _no_look),
            (WritePermit, "_refusal", lambda self: self._gate.refuses(self._intent, 0.0)),
        ],
        "stale",
    ),
    ablation(
        "open operations are adopted",
        lambda: [(Roster, "adopt_operations", nothing)],
        "one at a time",
        "open",
    ),
    ablation("intents are kept", lambda: [(Store, "put_operations", nothing)], "intent"),
    ablation("waves", lambda: [(rollouts, "is_assigned", lambda *_: True)], "wave"),
    ablation("gates", lambda: [(rollouts, "judge_gate", _pass_every_gate)], "gate"),
)
