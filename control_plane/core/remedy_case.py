"""What is known of one GPU node when its remedy is decided, and the words that the decision is told in.

All values; who fills them in has to give each its time. What is not known is `None`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.breaker import Breaker
from control_plane.core.domain_budget import Books
from control_plane.core.gpu import Alert, Rung
from control_plane.core.overlay import Overlay


class Source(StrEnum):
    """Who says something of a node; any two of these are independent of each other."""

    CLUSTER = "cluster"
    """The API server: the lease of its kubelet, the pods on it."""
    AGENT = "agent"
    """NVML, on the node: processes on its GPUs, or memory that somebody holds there."""
    HOST = "host"
    """SSH: its kernel answers, or not."""
    BMC = "bmc"
    """Power state, sensors, event log."""
    METER = "meter"
    """What it draws, at the PDU."""
    PERSON = "person"
    """Somebody who stands before it, or reads what no program reads."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one source said at one moment. `None`: it did not say."""

    source: Source
    at_s: float
    drained: bool | None = None
    """No work of a tenant is on it. True only where the source saw that; silence is `None`."""
    well: bool | None = None
    """It serves as declared. True only where the source sees that: a kubelet that is ready says nothing of
    GPUs, one that offers all of them does."""
    unsafe: bool | None = None
    """It is a danger as it runs: too hot, wet."""


class Action(StrEnum):
    """What can be done to a node."""

    DRAIN = "drain"
    """Cordon, with the mark that keeps driver upgrades away, then evict within budgets."""
    RESET_GPU = "reset_gpu"
    RELOAD_DRIVER = "reload_driver"
    REBOOT = "reboot"
    POWER_CYCLE = "power_cycle"
    QUARANTINE = "quarantine"
    """Keep it out, and open a repair ticket."""
    RETURN = "return"
    """Take back the own cordon."""
    POWER_OFF = "power_off"
    """In an emergency only."""


ACTION_OF: Final[Mapping[Rung, Action]] = {
    Rung.DRAIN: Action.DRAIN,
    Rung.RESET_GPU: Action.RESET_GPU,
    Rung.RELOAD_DRIVER: Action.RELOAD_DRIVER,
    Rung.REBOOT: Action.REBOOT,
    Rung.POWER_CYCLE: Action.POWER_CYCLE,
    Rung.REPAIR: Action.QUARANTINE,
}
RUNG_OF: Final = {action: rung for rung, action in ACTION_OF.items()}
CURES: Final = frozenset(
    {Action.RESET_GPU, Action.RELOAD_DRIVER, Action.REBOOT, Action.POWER_CYCLE}
)
"""Done on a drained node only, and counted against the caps of it."""


class Outcome(StrEnum):
    """What came of an attempt, as far as it was carried out; whether it helped, alerts tell."""

    OPEN = "open"
    """It is kept before it leaves: it may have left."""
    DONE = "done"
    FAILED = "failed"
    """It did not take place."""
    UNKNOWN = "unknown"
    """Nobody can tell whether it did."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of a node's journal."""

    action: Action
    at_s: float
    """When it was about to leave."""
    gpu: str | None = None
    """Bus address; `None`: the whole node."""
    boot: str = ""
    """Id of the boot that it left in, where it was known."""
    xids: tuple[int, ...] = ()
    """Of the alerts that led to it: a restart forgets them, and the maker asks for them."""
    ended_s: float | None = None
    outcome: Outcome = Outcome.OPEN


class CordonedBy(StrEnum):
    """Whose a cordon is."""

    OURS = "ours"
    PERSON = "person"
    """Anybody whom nothing marks as a program."""
    PROGRAM = "program"
    """Some operator's, by its own label or owner."""


class Cordon(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One reason for which no work is placed on a node."""

    by: CordonedBy
    who: str
    since_s: float


class Foreign(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Somebody else is at work on the node: a driver upgrade, another remediator that owns it."""

    owner: str
    """`nvidia driver upgrade`, `nvsentinel`, `medik8s` …"""
    state: str
    since_s: float


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word that a node may be taken further than an alert that asks, or an emergency, allows."""

    by: str
    at_s: float
    until_s: float
    up_to: Rung
    reason: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word that ended another one before its time."""

    by: str
    reason: str
    at_s: float


class BreakGlass(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Persons who set budgets, breakers and incidents aside for a while. Caps, holds and evidence stay."""

    id: str
    by: tuple[str, ...]
    """In the order in which they said it."""
    reason: str
    since_s: float
    until_s: float
    nodes: frozenset[str]
    watts: float
    """That all its nodes may draw together, with those of what was in force when it was said."""
    ended: Ended | None = None


class EmergencyKind(StrEnum):
    """What is approved in advance."""

    THERMAL = "thermal"
    LEAK = "leak"
    FEEDER = "feeder"
    GRID = "grid"


class Emergency(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that cannot wait, in domains that it names."""

    id: str
    kind: EmergencyKind
    domains: frozenset[str]
    """Ids of failure domains; nothing outside them is touched for it."""
    plan: str = ""
    """Id of the standing order that approved it in advance; empty where a person says it."""
    by: str = ""
    """The person who says it; empty where a program found it."""
    reason: str = ""
    source: Source
    since_s: float
    until_s: float
    ended: Ended | None = None


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the return gate found (`core.gpu_gate`)."""

    at_s: float
    missing: tuple[str, ...]
    """Why the node may not come back, in words; empty: it may."""


class Part(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A GPU as a ticket names it."""

    gpu: str
    """Bus address."""
    serial: str | None = None
    uuid: str | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a site lets remediation do by itself, for a class of nodes."""

    acts: bool = False
    """Off: it says what it would do, and does nothing."""
    rungs: frozenset[Rung] = frozenset(Rung)
    """Those that the node has: none without a BMC, no driver of which is part of its image."""
    gpus_reset_alone: bool = True
    """Off where GPUs of one fabric are reset together."""
    drains_for_people: bool = False
    """Whether a node that a person cordoned may be drained. The cordon stays, whatever is done."""


class NodeCase(msgspec.Struct, frozen=True, kw_only=True):
    """All that a remedy depends on."""

    node: str
    now_s: float
    books: Books
    slot: str = ""
    serial: str | None = None
    parts: tuple[Part, ...] = ()
    policy: Policy = Policy(acts=True)
    alerts: tuple[Alert, ...] = ()
    """What is wrong. One lasts until a look that could see says otherwise: a node that cannot be read keeps
    its own, beside that it cannot be read."""
    alerts_at_s: float | None = None
    """When somebody looked for what is wrong last; `None`: never."""
    evidence: tuple[Evidence, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    """Of `REMEDY_WINDOW_S` at least, in order of `at_s`."""
    cordons: tuple[Cordon, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    """Those that cover it."""
    locks: tuple[str, ...] = ()
    """Work that no power may be cut under: a flash, by its grant."""
    foreign: tuple[Foreign, ...] = ()
    maintenance_ended_s: float | None = None
    repaired_s: float | None = None
    """When a person closed its last ticket. What was tried before counts against no cap, and is no word on
    what helps the machine as it is now."""
    breakers: tuple[Breaker, ...] = ()
    """Those of its domains."""
    incident: str | None = None
    """An open incident above it, in words."""
    approvals: tuple[Approval, ...] = ()
    glass: tuple[BreakGlass, ...] = ()
    emergencies: tuple[Emergency, ...] = ()
    gate: GateResult | None = None
    no_power: str | None = None
    """The node of the feed tree that could not bear it at full draw (`no_power_for`)."""
    ticket: str | None = None
    """Id of its open repair ticket."""

    @property
    def fresh(self) -> tuple[Evidence, ...]:
        """The evidence that counts: neither old, nor from a clock that runs ahead."""
        return tuple(one for one in self.evidence if is_fresh(one.at_s, self.now_s))

    def cordon_of(self, by: CordonedBy) -> Cordon | None:
        """The first cordon of a kind."""
        return next((cordon for cordon in self.cordons if cordon.by is by), None)


def is_fresh(at_s: float | None, now_s: float) -> bool:
    """Whether something seen then may be acted on now."""
    return at_s is not None and 0.0 <= now_s - at_s <= limits.GPU_EVIDENCE_TTL_S


class Why(StrEnum):
    """What causes a remedy."""

    ALERT = "alert"
    """The least that its alerts ask for."""
    NO_HELP = "no_help"
    """The rung below was tried and did not help."""
    FINAL = "final"
    """No rung can help."""
    CAP_SPENT = "cap_spent"
    """So much was tried that a person goes on."""
    WELL = "well"
    """Nothing is wrong any more."""
    EMERGENCY = "emergency"


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """The one next action on a node."""

    node: str
    action: Action
    why: Why
    gpu: str | None = None
    """Bus address; `None`: the whole node."""
    detail: str = ""
    """For people."""
    alerts: tuple[Alert, ...] = ()
    """Those that led to it."""
    evidence: tuple[Evidence, ...] = ()
    """On which it rests."""
    authority: str = ""
    """Id of the emergency, or of its plan, or of the break-glass that it needs; empty where rules suffice."""

    @property
    def rung(self) -> Rung | None:
        """Of the ladder; `None` for what is not on it."""
        return RUNG_OF.get(self.action)


class Stay(StrEnum):
    """Why nothing is done to a node now. Stable words, shown to people."""

    WELL = "well"
    OBSERVED = "observed"
    """Its alerts ask for nothing but a look."""
    MONITOR_ONLY = "monitor_only"
    HOLD = "hold"
    FREEZE = "freeze"
    CURTAILED = "curtailed"
    HUMAN_CORDON = "human_cordon"
    LOCKED = "locked"
    FOREIGN = "foreign_operation"
    FOREIGN_OVERDUE = "foreign_operation_overdue"
    """It does not end. Nothing is taken over: a person looks into it."""
    ACTING = "acting"
    GRACE = "grace"
    MAINTENANCE_GRACE = "maintenance_grace"
    SETTLING = "settling"
    """So new that others may follow, or that it passes."""
    STALE = "stale_telemetry"
    ONE_SOURCE = "one_source"
    """The second independent source is missing."""
    CONTRADICTION = "contradictory_evidence"
    INCIDENT = "incident"
    BREAKER = "breaker_open"
    BUDGET = "waiting_budget"
    NO_POWER = "no_headroom"
    DRAINING = "draining"
    DRAIN_OVERDUE = "drain_overdue"
    ASKS = "person_decides"
    GATE = "return_gate"
    GATE_OVERDUE = "return_gate_overdue"
    EMERGENCY = "emergency"
    """Off, or drained, for one that a person ends."""
    IN_REPAIR = "in_repair"


NEEDS_PERSON: Final = frozenset(
    {
        Stay.HOLD,
        Stay.FREEZE,
        Stay.HUMAN_CORDON,
        Stay.FOREIGN_OVERDUE,
        Stay.CONTRADICTION,
        Stay.ONE_SOURCE,
        Stay.INCIDENT,
        Stay.BREAKER,
        Stay.DRAIN_OVERDUE,
        Stay.ASKS,
        Stay.GATE_OVERDUE,
        Stay.EMERGENCY,
        Stay.IN_REPAIR,
        Stay.MONITOR_ONLY,
    }
)
"""What no time ends: somebody is named."""


class Stayed(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is left as it is, and why."""

    node: str
    reason: Stay
    detail: str = ""
    until_s: float | None = None
    """When it is worth asking again, where time alone ends it."""
    would: Remedy | None = None
    """What would be done, where only `MONITOR_ONLY`, the budget or a breaker is in the way."""


class RepairTicket(msgspec.Struct, frozen=True, kw_only=True):
    """What goes to the bench, or to the maker, and what is known of it."""

    id: str
    node: str
    slot: str
    serial: str | None
    parts: tuple[Part, ...]
    """The GPUs that alerts name; all of the node's where none does."""
    why: Why
    alerts: tuple[Alert, ...]
    attempts: tuple[Attempt, ...]
    evidence: tuple[Evidence, ...]
    opened_s: float


def ticket_of(case: NodeCase, remedy: Remedy) -> RepairTicket:
    """The record that a quarantine leaves. One per node and moment: asked twice it is the same."""
    named = {alert.gpu for alert in remedy.alerts if alert.gpu is not None}
    known = {part.gpu: part for part in case.parts}
    parts = tuple(known.get(gpu, Part(gpu=gpu)) for gpu in sorted(named)) or case.parts
    return RepairTicket(
        id=f"{case.node}-{int(case.now_s)}",
        node=case.node,
        slot=case.slot,
        serial=case.serial,
        parts=parts,
        why=remedy.why,
        alerts=remedy.alerts,
        attempts=case.attempts,
        evidence=case.fresh,
        opened_s=case.now_s,
    )
