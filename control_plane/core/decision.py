"""What is decided from, and the words that a decision is told in."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from control_plane.core.change import Capabilities, Change, ChangeKind, Disturbance, kind_of
from control_plane.core.diff import Difference
from control_plane.core.fleet import Device, Owner, Tenure
from control_plane.core.memory import Memory
from control_plane.core.observation import Field, Observation, Settings, Unseen
from control_plane.core.overlay import Overlay


class Reason(StrEnum):
    """Why a device, or one of its fields, is left as it is. Stable words, shown to people."""

    VACANT = "vacant"
    OUT_OF_SERVICE = "out_of_service"
    IN_REPAIR = "in_repair"
    NO_DRIVER = "no_driver"
    NOT_SEEN = "not_seen"
    UNREACHABLE = "unreachable"
    UNLOCATED = "unlocated"
    AUTH_REJECTED = "auth_rejected"
    SECRET_MISSING = "secret_missing"  # noqa: S105 - the name of a state
    INTERNAL_ERROR = "internal_error"
    UNEXPECTED_REPLY = "unexpected_reply"
    STALE_TELEMETRY = "stale_telemetry"
    WORK_ORDER = "work_order"
    UNTRUSTED = "untrusted"
    WRONG_IDENTITY = "wrong_identity"
    WRONG_MODEL = "wrong_model"
    HOLD = "hold"
    FREEZE = "freeze"
    IN_FLIGHT = "in_flight"
    ROLLOUT_WAVE = "rollout_wave"
    MOVED = "moved_since_plan"
    UNREADABLE = "setting_unreadable"
    WRITE_API_DISABLED = "write_api_disabled"
    UNSUPPORTED = "unsupported_by_family"
    UNKNOWN_MODE = "unknown_mode"
    HOST_ACTION = "host_action"
    OWNER_APPROVAL = "owner_approval"
    MANUAL_OVERRIDE = "manual_override"
    ASK = "drift_needs_decision"
    CONTESTED = "contested"
    STUCK = "stuck"
    FIRMWARE_JOB = "firmware_job"
    FLASHING = "flashing"
    ROTATING = "rotating"
    ADDRESS_ROLLOUT = "address_rollout"
    RENUMBERING = "renumbering"
    WRITE_BUDGET = "write_budget_spent"
    NO_HEADROOM = "no_headroom"
    INCIDENT = "incident"
    FAULT = "fault"
    STARTING = "starting"


PENDING = frozenset(
    {
        Reason.IN_FLIGHT,
        Reason.FLASHING,
        Reason.ROTATING,
        Reason.RENUMBERING,
        Reason.ROLLOUT_WAVE,
        Reason.STARTING,
        Reason.NOT_SEEN,
    }
)
"""Reasons that pass by themselves; all others are known exceptions until a person or a part acts."""


class Why(StrEnum):
    """What causes a step."""

    ROLLOUT = "rollout"
    """The declaration (or an overlay) changed."""
    DRIFT = "drift"
    """The device left its declaration; such a step never raises power."""
    CAP = "cap"
    """Lowered because a node of the feed tree is over its cap."""
    CONTESTED = "contested"
    """Stopped because somebody else keeps changing its pools."""


class Danger(StrEnum):
    """How much a plan could harm; of its worst step, its megawatts, and what it takes away."""

    D0 = "D0"
    """Nothing is written."""
    D1 = "D1"
    """Reversible settings of single devices."""
    D2 = "D2"
    """Pools: whom machines work for."""
    D3 = "D3"
    """More than `D3_SHARE` of the site's permitted watts move."""
    D4 = "D4"
    """Firmware, BMC."""
    D5 = "D5"
    """So many of the site's devices leave the declaration, or are managed no more, that somebody has to say
    that it is meant."""


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One write to one device."""

    asset: str
    change: Change
    why: Why
    field: Field
    danger: Danger
    before: Settings
    after: Settings
    before_w: float
    """Permitted watts before, by nameplate."""
    after_w: float
    before_ths: float
    """Nameplate hash of this unit before and after, not measured."""
    after_ths: float
    disturbance: Disturbance
    lost_ths_s: float
    """Hash lost while it restarts or ramps: TH/s × s."""

    @property
    def kind(self) -> ChangeKind:
        """The kind of its change."""
        return kind_of(self.change)

    @property
    def raises(self) -> bool:
        """Whether it lifts the permitted draw."""
        return self.after_w > self.before_w


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something that is not done, and why."""

    asset: str
    reason: Reason
    detail: str = ""
    field: Field | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is to be done about one device now."""

    asset: str
    desired: Settings
    differences: tuple[Difference, ...] = ()
    steps: tuple[Step, ...] = ()
    """In order; the engine does the first and looks again, the plan shows all."""
    held: tuple[Held, ...] = ()
    converged: bool = False
    """Every declared field was read and equals; says nothing about hashing."""
    drifting: frozenset[Field] = frozenset()
    """Fields that drift and that policy enforces: counted towards `contested`."""
    overridden: bool = False

    @property
    def state(self) -> str:
        """Where the device stands, in one word: `converged`, `to_do`, why it is left, or `unknown`."""
        if self.steps:
            return "to_do"
        if self.held:
            return self.held[0].reason.value
        return "converged" if self.converged else "unknown"


class Context(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that a decision depends on."""

    device: Device
    """As the revision declares it that the rollout assigned to it."""
    owner: Owner
    tenure: Tenure
    capabilities: Capabilities | None
    """`None`: no driver for the declared family."""
    memory: Memory
    sighting: Observation | Unseen | None
    fresh: bool = True
    """Whether the sighting is younger than `TELEMETRY_TTL_S`."""
    overlays: tuple[Overlay, ...] = ()
    """Those that cover the device."""
    now_s: float
    in_flight: bool = False
    assigned: bool = True
    """Whether a rollout wave has reached the device."""
    approved: frozenset[Field] = frozenset()
    """Fields that the owner's approvers approved for the accepted revision."""
    over_cap: bool = False
    """Whether a node above the device counts more than it may."""
    incident: str | None = None
    """An open incident that stops writes to this device."""
    locked: str = ""
    """The grant under which firmware is being installed on it; empty without."""
    tries_writes: bool = False
    """Whether a write interface that was off is tried again: only a write tells that it is on."""

    def held(self, reason: Reason, detail: str = "", field: Field | None = None) -> Held:
        """The device, or one of its fields, left as it is."""
        return Held(asset=self.device.asset, reason=reason, detail=detail, field=field)
