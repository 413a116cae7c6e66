"""The decision about one device: its next write, or the named reason why there is none.

The same function serves `plan` (for every device, writing nothing) and the engine (for one device,
on what it just saw). The engine does the first step only: after each write the device is looked at again.
"""

from __future__ import annotations

import msgspec

from control_plane.core import limits
from control_plane.core.change import Change, ChangeKind, StopMining, fields_written, kind_of
from control_plane.core.decision import Context, Decision, Held, Reason, Step, Why
from control_plane.core.diff import Difference, Direction, differences, unreadable
from control_plane.core.fleet import Device, DeviceKind, SlotState
from control_plane.core.observation import (
    Activity,
    Field,
    Observation,
    Settings,
    Unseen,
    UnseenReason,
)
from control_plane.core.overlay import freeze_on, hold_on, resolve
from control_plane.core.policy import awaits_owner, is_drift, lowers, verdict_on
from control_plane.core.rotation import Subject, subject_of
from control_plane.core.steps import chain, change_for, step_for, urgency
from control_plane.core.work_order import needs_person, speaks

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
    UnseenReason.OTHER_FAMILY: Reason.WORK_ORDER,
}


_LOCKED = {
    None: Reason.FLASHING,
    Subject.PASSWORD: Reason.ROTATING,
    Subject.ADDRESS: Reason.RENUMBERING,
}


def decide(ctx: Context) -> Decision:
    """Decide about one device. Total: every state of the world has a named answer."""
    desired = resolve(ctx.device, ctx.overlays, ctx.now_s)
    base = Decision(asset=ctx.device.asset, desired=desired)
    gone = _locked(ctx) or _not_judged(ctx)
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
        return _watched(ctx, base, seen)
    if base.converged:
        return msgspec.structs.replace(base, held=_evidence(ctx, desired, seen))
    return _judge(ctx, base, seen, unknown)


def _locked(ctx: Context) -> Held | None:
    """Firmware or the way in changes: what the device says meanwhile is neither drift nor a fault."""
    if not ctx.locked:
        return None
    return ctx.held(_LOCKED[subject_of(ctx.locked)], ctx.locked)


def _not_judged(ctx: Context) -> Held | None:
    """The reason why nothing can be said about the device, if there is one."""
    device = ctx.device
    if not device.is_managed:
        reason = {
            SlotState.VACANT: Reason.VACANT,
            SlotState.IN_REPAIR: Reason.IN_REPAIR,
        }.get(device.state, Reason.OUT_OF_SERVICE)
        return ctx.held(reason, device.state_reason)
    if ctx.capabilities is None:
        what = (
            "GPU nodes"
            if device.type.kind is DeviceKind.GPU_NODE
            else f"family {device.intent.family}"
        )
        return ctx.held(Reason.NO_DRIVER, f"no driver yet for {what}")
    if ctx.sighting is None:
        return ctx.held(Reason.NOT_SEEN)
    if isinstance(ctx.sighting, Unseen):
        return ctx.held(_UNSEEN[ctx.sighting.reason], ctx.sighting.detail)
    told = speaks(ctx.sighting)
    if told is not None and needs_person(device, told):
        # Of a look before the declaration changed: the driver of what is declared now has not asked yet.
        return ctx.held(Reason.WORK_ORDER, f"it speaks {told.family}, not {device.intent.family}")
    if not ctx.fresh:
        return ctx.held(Reason.STALE_TELEMETRY)
    return None


def _identity(ctx: Context, seen: Observation) -> Held | None:
    """The reason why this machine must not be written to, if identity gives one."""
    pin = ctx.memory.pin
    if pin is None or (pin.mac is None and pin.serial is None):
        return ctx.held(
            Reason.UNTRUSTED, "no identity is pinned; `gridplane trust` pins what answers now"
        )
    if seen.identity is None:
        return ctx.held(Reason.UNTRUSTED, "the device told no identity")
    match = pin.matches(seen.identity)
    if match is None:
        return ctx.held(Reason.UNTRUSTED, "the device told neither MAC nor serial")
    if not match:
        told = seen.identity.mac or seen.identity.serial
        return ctx.held(Reason.WRONG_IDENTITY, f"{told} answers, {pin.mac or pin.serial} is pinned")
    model = seen.identity.model
    if model is not None and not _is_model(ctx.device, model):
        return ctx.held(
            Reason.WRONG_MODEL, f"a {model} answers, {ctx.device.type.model} is declared"
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
        return (ctx.held(Reason.STARTING),)
    expected = ctx.device.hashrate_at(desired.power_mode)
    if telemetry.hashrate_ths < expected * limits.HASH_EVIDENCE_SHARE:
        detail = f"{telemetry.hashrate_ths:.0f} of {expected:.0f} TH/s"
        if telemetry.errors:
            detail += f" ({', '.join(telemetry.errors[:3])})"
        return (ctx.held(Reason.FAULT, detail),)
    return ()


def _judge(ctx: Context, base: Decision, seen: Observation, unknown: frozenset[Field]) -> Decision:
    """Differences (or unreadable fields) exist: which one is acted upon, which are held?"""
    held = [ctx.held(Reason.UNREADABLE, field=f) for f in sorted(unknown)]
    steps: list[Step] = []
    enforced: set[Field] = set()
    overridden = False
    for difference in base.differences:
        verdict = verdict_on(ctx, difference)
        if isinstance(verdict, Held):
            held.append(verdict)
            overridden = overridden or verdict.reason is Reason.MANUAL_OVERRIDE
            if verdict.reason is Reason.CONTESTED and difference.field in ctx.memory.contested:
                enforced.add(difference.field)
            continue
        if verdict is Why.DRIFT or is_drift(ctx, difference):
            enforced.add(difference.field)
        change = change_for(difference, base.desired)
        step = _barred(ctx, difference, change, seen) or step_for(
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
        steps=chain(ctx.device, sorted(steps, key=urgency)) if steps else (),
        held=tuple(held),
        drifting=frozenset(enforced),
        overridden=overridden,
    )


def _watched(ctx: Context, base: Decision, seen: Observation) -> Decision:
    """A write is under way: nothing is begun, but what drifts meanwhile counts, for contest and storm.

    What is being repaired drifts until it reads as declared.
    """
    begun = ctx.memory.drifting & {difference.field for difference in base.differences}
    return msgspec.structs.replace(
        base,
        drifting=begun | _judge(ctx, base, seen, frozenset()).drifting,
        held=(ctx.held(Reason.IN_FLIGHT),),
    )


def _barred(
    ctx: Context, difference: Difference, change: Change | None, seen: Observation
) -> Held | None:
    """What forbids this write, from the strongest reason down."""
    field = difference.field
    stop = isinstance(change, StopMining)
    hold = hold_on(ctx.overlays)
    if hold is not None and not stop:
        return ctx.held(Reason.HOLD, f"{hold.kind} hold of {hold.owner}: {hold.reason}", field)
    fields = {field} if change is None else fields_written(change, seen.settings)
    for written in sorted(fields):
        if written in ctx.tenure.host_actions:
            return ctx.held(Reason.HOST_ACTION, f"only {ctx.tenure.host} may change it", written)
        unapproved = None if stop else awaits_owner(ctx, written)
        if unapproved is not None and written is not field:
            return unapproved
    freeze = freeze_on(ctx.overlays, ctx.now_s)
    if freeze is not None and not lowers(difference):
        return ctx.held(Reason.FREEZE, f"{freeze.owner}: {freeze.reason}", field)
    if ctx.incident is not None and not lowers(difference):
        return ctx.held(Reason.INCIDENT, ctx.incident, field)
    capabilities = ctx.capabilities
    if field is Field.ADDRESSING:
        return _of_addressing(ctx, difference)
    if change is None:
        return _of_firmware(ctx, difference, seen)
    kind = kind_of(change)
    if capabilities is None or kind not in capabilities.writes:
        return ctx.held(Reason.UNSUPPORTED, f"the family cannot {kind.replace('_', ' ')}", field)
    if _is_shut(ctx, seen):
        return ctx.held(Reason.WRITE_API_DISABLED, "its write interface is switched off", field)
    if kind in ctx.memory.stuck:
        tries = ctx.memory.attempts.get(kind, 0)
        return ctx.held(Reason.STUCK, f"{tries} writes did not stick", field)
    if not stop and capabilities.writes[kind].persistent and ctx.memory.writes_left(ctx.now_s) <= 0:
        return ctx.held(Reason.WRITE_BUDGET, "the day's persistent writes are spent", field)
    return None


def _of_firmware(ctx: Context, difference: Difference, seen: Observation) -> Held:
    """Why a difference that no configuration write ends is left: at best its firmware rollout brings it."""
    field = difference.field
    if field is Field.FIRMWARE and (ctx.capabilities is None or ctx.capabilities.firmware is None):
        return ctx.held(Reason.UNSUPPORTED, "no driver installs firmware of the family", field)
    if _is_shut(ctx, seen):
        return ctx.held(Reason.WRITE_API_DISABLED, "its write interface is switched off", field)
    return ctx.held(
        Reason.FIRMWARE_JOB, f"{difference.observed} instead of {difference.declared}", field
    )


def _of_addressing(ctx: Context, difference: Difference) -> Held:
    """Why a machine keeps its way of addressing for now: a change of it may cut it off."""
    told = f"{difference.observed} instead of {difference.declared}"
    if ctx.device.renumbering is None:
        told += ": its rack names no addressing before"
    return ctx.held(Reason.ADDRESS_ROLLOUT, told, difference.field)


def _is_shut(ctx: Context, seen: Observation) -> bool:
    """Whether the device's write interface is off, as far as anybody knows."""
    return seen.write_enabled is False and not ctx.tries_writes


def _stop_contested(ctx: Context, base: Decision, seen: Observation) -> list[Step]:
    """A machine whose pools somebody else keeps changing is stopped: it works for nobody then."""
    pools = next((d for d in base.differences if d.field is Field.POOLS), None)
    if pools is None or seen.settings.mining is not True or ctx.capabilities is None:
        return []
    if ChangeKind.STOP_MINING not in ctx.capabilities.writes:
        return []
    if Field.MINING in ctx.tenure.host_actions or _is_shut(ctx, seen):
        return []
    stop = Difference(field=Field.MINING, declared=False, observed=True, direction=Direction.MORE)
    step = step_for(ctx, stop, StopMining(), Why.CONTESTED, seen)
    return [step] if isinstance(step, Step) else []
