"""The decision about one device: its next write, or the named reason why there is none.

The same function serves `plan` (for every device, writing nothing) and the engine (for one device,
on what it just saw). The engine does the first step only: after each write the device is looked at again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import msgspec

from control_plane.core import limits
from control_plane.core.change import (
    Capabilities,
    Change,
    ChangeKind,
    Disturbance,
    Reboot,
    RestartMining,
    SetPools,
    SetPowerLimit,
    SetPowerMode,
    StartMining,
    StopMining,
    kind_of,
)
from control_plane.core.diff import Difference, Direction, differences, permitted_w, unreadable
from control_plane.core.fleet import Device, DeviceKind, Owner, SlotState, Tenure
from control_plane.core.memory import Memory
from control_plane.core.observation import (
    Activity,
    Field,
    Observation,
    PoolSetting,
    Settings,
    Unseen,
    UnseenReason,
)
from control_plane.core.overlay import Overlay, OverlayKind, freeze_on, hold_on, resolve


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
    WRITE_BUDGET = "write_budget_spent"
    NO_HEADROOM = "no_headroom"
    INCIDENT = "incident"
    FAULT = "fault"
    STARTING = "starting"


PENDING = frozenset({Reason.IN_FLIGHT, Reason.ROLLOUT_WAVE, Reason.STARTING, Reason.NOT_SEEN})
"""Reasons that pass by themselves; all others are known exceptions until a person or a part acts."""

_UNSEEN: dict[UnseenReason, Reason] = {
    UnseenReason.UNREACHABLE: Reason.UNREACHABLE,
    UnseenReason.AUTH_REJECTED: Reason.AUTH_REJECTED,
    UnseenReason.WRONG_IDENTITY: Reason.WRONG_IDENTITY,
    UnseenReason.UNEXPECTED_REPLY: Reason.UNEXPECTED_REPLY,
    UnseenReason.OVERSIZED_REPLY: Reason.UNEXPECTED_REPLY,
    UnseenReason.HARDWARE_FAULT: Reason.FAULT,
    UnseenReason.UNLOCATED: Reason.UNLOCATED,
    UnseenReason.NO_DRIVER: Reason.NO_DRIVER,
    UnseenReason.SECRET_MISSING: Reason.SECRET_MISSING,
    UnseenReason.INTERNAL_ERROR: Reason.INTERNAL_ERROR,
}


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
    """More than `MASS_SHARE` of the site's devices leave the declaration, or are managed no more."""


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


def decide(ctx: Context) -> Decision:
    """Decide about one device. Total: every state of the world has a named answer."""
    desired = resolve(ctx.device, ctx.overlays, ctx.now_s)
    base = Decision(asset=ctx.device.asset, desired=desired)
    gone = _not_judged(ctx)
    if gone is not None:
        return msgspec.structs.replace(base, held=(gone,))
    seen = ctx.sighting
    assert isinstance(seen, Observation)  # noqa: S101 - _not_judged() returns for all else
    found = differences(ctx.device, desired, seen)
    unknown = unreadable(desired, seen)
    converged = not found and not unknown
    base = Decision(asset=base.asset, desired=desired, differences=found, converged=converged)
    untrusted = _identity(ctx, seen)
    if untrusted is not None:
        return msgspec.structs.replace(base, converged=False, held=(untrusted,))
    if ctx.in_flight:
        return msgspec.structs.replace(base, held=(_held(ctx, Reason.IN_FLIGHT),))
    if base.converged:
        return msgspec.structs.replace(base, held=_evidence(ctx, desired, seen))
    return _judge(ctx, base, seen, unknown)


def allowed_pools(device: Device, owner: Owner) -> frozenset[PoolSetting]:
    """The owner's whole pool list as this device would send it: the allow-list of plan and gate."""
    everything = msgspec.structs.replace(device.intent, pools=owner.pools)
    return frozenset(msgspec.structs.replace(device, intent=everything).desired().pools or ())


def _held(ctx: Context, reason: Reason, detail: str = "", field: Field | None = None) -> Held:
    return Held(asset=ctx.device.asset, reason=reason, detail=detail, field=field)


def _not_judged(ctx: Context) -> Held | None:
    """The reason why nothing can be said about the device, if there is one."""
    device = ctx.device
    if not device.is_managed:
        reason = {
            SlotState.VACANT: Reason.VACANT,
            SlotState.IN_REPAIR: Reason.IN_REPAIR,
        }.get(device.state, Reason.OUT_OF_SERVICE)
        return _held(ctx, reason, device.state_reason)
    if ctx.capabilities is None:
        what = (
            "GPU nodes"
            if device.type.kind is DeviceKind.GPU_NODE
            else f"family {device.intent.family}"
        )
        return _held(ctx, Reason.NO_DRIVER, f"no driver yet for {what}")
    if ctx.sighting is None:
        return _held(ctx, Reason.NOT_SEEN)
    if isinstance(ctx.sighting, Unseen):
        return _held(ctx, _UNSEEN[ctx.sighting.reason], ctx.sighting.detail)
    if not ctx.fresh:
        return _held(ctx, Reason.STALE_TELEMETRY)
    return None


def _identity(ctx: Context, seen: Observation) -> Held | None:
    """The reason why this machine must not be written to, if identity gives one."""
    pin = ctx.memory.pin
    if pin is None or (pin.mac is None and pin.serial is None):
        return _held(
            ctx, Reason.UNTRUSTED, "no identity is pinned; `gridplane trust` pins what answers now"
        )
    if seen.identity is None:
        return _held(ctx, Reason.UNTRUSTED, "the device told no identity")
    match = pin.matches(seen.identity)
    if match is None:
        return _held(ctx, Reason.UNTRUSTED, "the device told neither MAC nor serial")
    if not match:
        told = seen.identity.mac or seen.identity.serial
        return _held(
            ctx, Reason.WRONG_IDENTITY, f"{told} answers, {pin.mac or pin.serial} is pinned"
        )
    model = seen.identity.model
    if model is not None and not _is_model(ctx.device, model):
        return _held(
            ctx, Reason.WRONG_MODEL, f"a {model} answers, {ctx.device.type.model} is declared"
        )
    return None


def _is_model(device: Device, reported: str) -> bool:
    told = reported.casefold()
    kind = device.type
    return told == kind.model.casefold() or told in kind.reported_models


def _evidence(ctx: Context, desired: Settings, seen: Observation) -> tuple[Held, ...]:
    """Settings are as declared: does the machine do what they say? If not, that is a fault, not drift."""
    telemetry = seen.telemetry
    if desired.mining is False or telemetry.hashrate_ths is None:
        return ()
    if telemetry.activity in {Activity.STARTING, Activity.TUNING, Activity.UPDATING}:
        return (_held(ctx, Reason.STARTING),)
    expected = ctx.device.hashrate_at(desired.power_mode)
    if telemetry.hashrate_ths < expected * limits.HASH_EVIDENCE_SHARE:
        detail = f"{telemetry.hashrate_ths:.0f} of {expected:.0f} TH/s"
        if telemetry.errors:
            detail += f" ({', '.join(telemetry.errors[:3])})"
        return (_held(ctx, Reason.FAULT, detail),)
    return ()


def _judge(ctx: Context, base: Decision, seen: Observation, unknown: frozenset[Field]) -> Decision:
    """Differences (or unreadable fields) exist: which one is acted upon, which are held?"""
    held = [_held(ctx, Reason.UNREADABLE, field=f) for f in sorted(unknown)]
    steps: list[Step] = []
    enforced: set[Field] = set()
    overridden = False
    for difference in base.differences:
        verdict = _verdict(ctx, difference)
        if isinstance(verdict, Held):
            held.append(verdict)
            overridden = overridden or verdict.reason is Reason.MANUAL_OVERRIDE
            if verdict.reason is Reason.CONTESTED and difference.field in ctx.memory.contested:
                enforced.add(difference.field)
            continue
        if verdict is Why.DRIFT or _is_drift(ctx, difference):
            enforced.add(difference.field)
        change = _change_for(difference, base.desired)
        step = _barred(ctx, difference, change, seen) or _step(
            ctx, difference, change, verdict, seen
        )
        if isinstance(step, Held):
            held.append(step)
        else:
            steps.append(step)
    if Field.POOLS in ctx.memory.contested:
        steps += _stop_contested(ctx, base, seen)
    return msgspec.structs.replace(
        base,
        steps=_chain(ctx.device, sorted(steps, key=_urgency)) if steps else (),
        held=tuple(held),
        drifting=frozenset(enforced),
        overridden=overridden,
    )


def _chain(device: Device, steps: list[Step]) -> tuple[Step, ...]:
    """Each step starts where the one before it ends, so that effects add up."""
    chained: list[Step] = []
    for step in steps:
        if chained:
            last = chained[-1]
            after = settings_after(last.after, step.change)
            chained.append(
                msgspec.structs.replace(
                    step,
                    before=last.after,
                    after=after,
                    before_w=last.after_w,
                    after_w=permitted_w(device.type, after),
                    before_ths=last.after_ths,
                    after_ths=nameplate_ths(device, after),
                )
            )
        else:
            chained.append(step)
    return tuple(chained)


def nameplate_ths(device: Device, settings: Settings) -> float:
    """Nameplate TH/s of this unit at the settings; unknown settings count as running."""
    return 0.0 if settings.mining is False else device.hashrate_at(settings.power_mode)


def _urgency(step: Step) -> tuple[int, str]:
    """Lowering first, then pools, then the rest, raises last."""
    if step.after_w < step.before_w:
        return (0, step.field)
    if step.field is Field.POOLS:
        return (1, step.field)
    return (3 if step.raises else 2, step.field)


def _is_drift(ctx: Context, difference: Difference) -> bool:
    """Whether the device left a value that it had: then a repair is judged, not a rollout.

    Field by field: a new pool list is no reason to start a machine that somebody stopped.
    """
    return bool(getattr(ctx.memory.equalled, difference.field.value) == difference.declared)


def _verdict(ctx: Context, difference: Difference) -> Why | Held:
    field, contested = difference.field, ctx.memory.contested
    if difference.direction is Direction.UNKNOWN:
        return _held(
            ctx,
            Reason.UNKNOWN_MODE,
            f"{difference.observed} is no mode of {ctx.device.type.id}: it may draw anything",
            field,
        )
    if field in contested:
        return _held(ctx, Reason.CONTESTED, "re-drifted twice within 24 h; a person decides", field)
    if Field.POOLS in contested and not _lowers(difference):
        return _held(ctx, Reason.CONTESTED, "its pools are contested: it stays stopped", field)
    return (
        _drift_verdict(ctx, difference)
        if _is_drift(ctx, difference)
        else _rollout_verdict(ctx, difference)
    )


def _rollout_verdict(ctx: Context, difference: Difference) -> Why | Held:
    field = difference.field
    expected = ctx.memory.expected
    if expected is not None:
        planned = getattr(expected, field.value)
        if planned is not None and planned != difference.observed and not _lowers(difference):
            if _is_hijack(ctx, difference):
                return Why.DRIFT  # A thief does not win by being faster than the rollout.
            return _held(ctx, Reason.MOVED, "it changed after the plan was shown", field)
    unapproved = _unapproved(ctx, field)
    if unapproved is not None and not _lowers(difference):
        return unapproved
    if not ctx.assigned and not _is_urgent(ctx, difference):
        return _held(ctx, Reason.ROLLOUT_WAVE, field=field)
    return Why.ROLLOUT


def _is_urgent(ctx: Context, difference: Difference) -> bool:
    """Whether a lowering cannot wait for its wave: a node is over its cap, or an overlay asserts it.

    Any other lowering is a change like others: it restarts machines too.
    """
    return _lowers(difference) and (ctx.over_cap or _set_by_lowering_overlay(ctx, difference.field))


def _unapproved(ctx: Context, field: Field) -> Held | None:
    approvers = ctx.owner.approvals.get(field, ())
    if not approvers or field in ctx.approved:
        return None
    return _held(ctx, Reason.OWNER_APPROVAL, f"{ctx.owner.id}: {' or '.join(approvers)}", field)


def _is_hijack(ctx: Context, difference: Difference) -> bool:
    """Whether the device works for somebody else: a pool, or a worker, that is not its owner's."""
    if difference.field is not Field.POOLS or not isinstance(difference.observed, tuple):
        return False
    return not set(difference.observed) <= allowed_pools(ctx.device, ctx.owner)


def _lowers(difference: Difference) -> bool:
    return difference.direction is Direction.MORE


def _drift_verdict(ctx: Context, difference: Difference) -> Why | Held:
    """The drift policy, by field and direction (design §3)."""
    field = difference.field
    match field:
        case Field.POOLS:
            declared = difference.declared
            if isinstance(declared, tuple) and not ctx.assigned:
                gone = set(declared) - allowed_pools(ctx.device, ctx.owner)
                if gone:
                    # The older revision's pools are nobody's any more: its wave brings the new ones.
                    return _held(ctx, Reason.ROLLOUT_WAVE, field=field)
            return Why.DRIFT
        case Field.FIRMWARE | Field.ADDRESSING:
            return _held(
                ctx, Reason.ASK, f"{difference.observed} instead of {difference.declared}", field
            )
        case Field.MINING | Field.POWER_MODE | Field.POWER_LIMIT_W:
            if difference.direction is Direction.MORE:
                if _set_by_lowering_overlay(ctx, field):
                    return Why.ROLLOUT
                if ctx.over_cap:
                    return Why.CAP
                return _held(
                    ctx, Reason.ASK, "runs above its declaration; every cap still holds", field
                )
            detail = (
                "stopped by hand"
                if field is Field.MINING
                else f"set to {difference.observed} by hand"
            )
            return _held(ctx, Reason.MANUAL_OVERRIDE, detail, field)


def _set_by_lowering_overlay(ctx: Context, field: Field) -> bool:
    """Whether a curtailment or guard overlay asserts the field: OFF is asserted all the time."""
    return any(
        overlay.kind in {OverlayKind.CURTAILMENT, OverlayKind.GUARD}
        and not overlay.is_expired(ctx.now_s)
        and getattr(overlay.fields, field.value) is not None
        for overlay in ctx.overlays
    )


def _change_for(difference: Difference, desired: Settings) -> Change | None:
    match difference.field:
        case Field.POOLS:
            return SetPools(desired.pools or ())
        case Field.MINING:
            return StartMining(desired.power_mode) if desired.mining else StopMining()
        case Field.POWER_MODE:
            return SetPowerMode(desired.power_mode or "")
        case Field.POWER_LIMIT_W:
            return SetPowerLimit(desired.power_limit_w or 0)
        case Field.FIRMWARE | Field.ADDRESSING:
            return None


def fields_written(change: Change, before: Settings) -> frozenset[Field]:
    """The fields that a change writes: waking to another mode writes the mode too."""
    match change:
        case SetPools():
            return frozenset({Field.POOLS})
        case SetPowerMode():
            return frozenset({Field.POWER_MODE})
        case SetPowerLimit():
            return frozenset({Field.POWER_LIMIT_W})
        case StartMining(power_mode=mode) if mode is not None and mode != before.power_mode:
            return frozenset({Field.MINING, Field.POWER_MODE})
        case StartMining() | StopMining():
            return frozenset({Field.MINING})
        case RestartMining() | Reboot():
            return frozenset()
        case _:
            assert_never(change)


def _barred(
    ctx: Context, difference: Difference, change: Change | None, seen: Observation
) -> Held | None:
    """What forbids this write, from the strongest reason down."""
    field = difference.field
    stop = isinstance(change, StopMining)
    hold = hold_on(ctx.overlays)
    if hold is not None and not stop:
        return _held(ctx, Reason.HOLD, f"{hold.kind} hold of {hold.owner}: {hold.reason}", field)
    if change is None:
        return _held(
            ctx,
            Reason.FIRMWARE_JOB,
            f"{difference.observed} instead of {difference.declared}",
            field,
        )
    for written in sorted(fields_written(change, seen.settings)):
        if written in ctx.tenure.host_actions:
            return _held(ctx, Reason.HOST_ACTION, f"only {ctx.tenure.host} may change it", written)
        unapproved = None if stop else _unapproved(ctx, written)
        if unapproved is not None and written is not field:
            return unapproved
    freeze = freeze_on(ctx.overlays, ctx.now_s)
    if freeze is not None and not _lowers(difference):
        return _held(ctx, Reason.FREEZE, f"{freeze.owner}: {freeze.reason}", field)
    if ctx.incident is not None and not _lowers(difference):
        return _held(ctx, Reason.INCIDENT, ctx.incident, field)
    capabilities = ctx.capabilities
    kind = kind_of(change)
    if capabilities is None or kind not in capabilities.writes:
        return _held(ctx, Reason.UNSUPPORTED, f"the family cannot {kind.replace('_', ' ')}", field)
    if seen.write_enabled is False:
        return _held(ctx, Reason.WRITE_API_DISABLED, "its write interface is switched off", field)
    if kind in ctx.memory.stuck:
        tries = ctx.memory.attempts.get(kind, 0)
        return _held(ctx, Reason.STUCK, f"{tries} writes did not stick", field)
    if not stop and capabilities.writes[kind].persistent and ctx.memory.writes_left(ctx.now_s) <= 0:
        return _held(ctx, Reason.WRITE_BUDGET, "the day's persistent writes are spent", field)
    return None


def _step(
    ctx: Context, difference: Difference, change: Change | None, why: Why, seen: Observation
) -> Step | Held:
    if change is None or ctx.capabilities is None:
        return _held(ctx, Reason.UNSUPPORTED, field=difference.field)
    device, before = ctx.device, seen.settings
    after = settings_after(before, change)
    cost = ctx.capabilities.writes[kind_of(change)]
    before_w, before_ths = permitted_w(device.type, before), nameplate_ths(device, before)
    if isinstance(change, SetPools):
        after_w, after_ths = before_w, before_ths
    else:
        after_w, after_ths = permitted_w(device.type, after), nameplate_ths(device, after)
    if why is not Why.ROLLOUT and after_w > before_w:
        # The second guard behind the policy table: no repair of drift ever raises power.
        return _held(ctx, Reason.MANUAL_OVERRIDE, "a repair would raise power", difference.field)
    return Step(
        asset=device.asset,
        change=change,
        why=why,
        field=difference.field,
        danger=Danger.D2 if difference.field is Field.POOLS else Danger.D1,
        before=before,
        after=after,
        before_w=before_w,
        after_w=after_w,
        before_ths=before_ths,
        after_ths=after_ths,
        disturbance=cost.disturbance,
        lost_ths_s=min(before_ths, after_ths) * cost.lost_s,
    )


def settings_after(before: Settings, change: Change) -> Settings:
    """The settings as they should read after a change.

    A limit that was in force in one mode says nothing about another (asic-devices, trap 13): with a
    new mode it is unknown, so that the step counts at the mode's full watts.
    """
    match change:
        case SetPools(pools=pools):
            return msgspec.structs.replace(before, pools=pools)
        case SetPowerMode(power_mode=mode):
            return msgspec.structs.replace(before, power_mode=mode, power_limit_w=None)
        case SetPowerLimit(power_limit_w=watts):
            return msgspec.structs.replace(before, power_limit_w=watts)
        case StopMining():
            return msgspec.structs.replace(before, mining=False)
        case StartMining(power_mode=mode):
            return msgspec.structs.replace(
                before, mining=True, power_mode=mode or before.power_mode, power_limit_w=None
            )
        case _:
            return before


def _stop_contested(ctx: Context, base: Decision, seen: Observation) -> list[Step]:
    """A machine whose pools somebody else keeps changing is stopped: it works for nobody then."""
    pools = next((d for d in base.differences if d.field is Field.POOLS), None)
    if pools is None or seen.settings.mining is not True or ctx.capabilities is None:
        return []
    if ChangeKind.STOP_MINING not in ctx.capabilities.writes:
        return []
    if Field.MINING in ctx.tenure.host_actions or seen.write_enabled is False:
        return []
    stop = Difference(field=Field.MINING, declared=False, observed=True, direction=Direction.MORE)
    step = _step(ctx, stop, StopMining(), Why.CONTESTED, seen)
    return [step] if isinstance(step, Step) else []
