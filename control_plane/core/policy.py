"""What is to be done about one difference: its rollout, the drift policy, or a named reason for nothing."""

from __future__ import annotations

import msgspec

from control_plane.core.decision import Context, Held, Reason, Why
from control_plane.core.diff import Difference, Direction
from control_plane.core.fleet import Device, Owner
from control_plane.core.observation import Field, PoolSetting
from control_plane.core.overlay import OverlayKind


def verdict_on(ctx: Context, difference: Difference) -> Why | Held:
    """What causes the step that ends a difference, or why there is none."""
    field, contested = difference.field, ctx.memory.contested
    if difference.direction is Direction.UNKNOWN:
        return ctx.held(
            Reason.UNKNOWN_MODE,
            f"{difference.observed} is no mode of {ctx.device.type.id}: it may draw anything",
            field,
        )
    if field in contested:
        return ctx.held(Reason.CONTESTED, "re-drifted twice within 24 h; a person decides", field)
    if Field.POOLS in contested and not lowers(difference):
        return ctx.held(Reason.CONTESTED, "its pools are contested: it stays stopped", field)
    return (
        _drift_verdict(ctx, difference)
        if is_drift(ctx, difference)
        else _rollout_verdict(ctx, difference)
    )


def is_drift(ctx: Context, difference: Difference) -> bool:
    """Whether the device left a value that it had: then a repair is judged, not a rollout.

    Field by field: a new pool list is no reason to start a machine that somebody stopped.
    """
    return bool(getattr(ctx.memory.equalled, difference.field.value) == difference.declared)


def _rollout_verdict(ctx: Context, difference: Difference) -> Why | Held:
    field = difference.field
    expected = ctx.memory.expected
    if expected is not None:
        planned = getattr(expected, field.value)
        if planned is not None and planned != difference.observed and not lowers(difference):
            if _is_hijack(ctx, difference):
                return Why.DRIFT  # A thief does not win by being faster than the rollout.
            return ctx.held(Reason.MOVED, "it changed after the plan was shown", field)
    unapproved = awaits_owner(ctx, field)
    if unapproved is not None and not lowers(difference):
        return unapproved
    if not ctx.assigned and not _is_urgent(ctx, difference):
        return ctx.held(Reason.ROLLOUT_WAVE, field=field)
    return Why.ROLLOUT


def _is_urgent(ctx: Context, difference: Difference) -> bool:
    """Whether a lowering cannot wait for its wave: a node is over its cap, or an overlay asserts it.

    Any other lowering is a change like others: it restarts machines too.
    """
    return lowers(difference) and (ctx.over_cap or _set_by_lowering_overlay(ctx, difference.field))


def awaits_owner(ctx: Context, field: Field) -> Held | None:
    """The reason why a field waits for its owner's approvers, if it does."""
    approvers = ctx.owner.approvals.get(field, ())
    if not approvers or field in ctx.approved:
        return None
    return ctx.held(Reason.OWNER_APPROVAL, f"{ctx.owner.id}: {' or '.join(approvers)}", field)


def _is_hijack(ctx: Context, difference: Difference) -> bool:
    """Whether the device works for somebody else: a pool, or a worker, that is not its owner's."""
    if difference.field is not Field.POOLS or not isinstance(difference.observed, tuple):
        return False
    return not set(difference.observed) <= _allowed_pools(ctx.device, ctx.owner)


def _allowed_pools(device: Device, owner: Owner) -> frozenset[PoolSetting]:
    """The owner's whole pool list as this device would send it: the allow-list of the plan."""
    everything = msgspec.structs.replace(device.intent, pools=owner.pools)
    return frozenset(msgspec.structs.replace(device, intent=everything).desired().pools or ())


def lowers(difference: Difference) -> bool:
    """Whether ending the difference permits less."""
    return difference.direction is Direction.MORE


def _drift_verdict(ctx: Context, difference: Difference) -> Why | Held:
    """The drift policy, by field and direction (design §3)."""
    field = difference.field
    match field:
        case Field.POOLS:
            declared = difference.declared
            if isinstance(declared, tuple) and not ctx.assigned:
                gone = set(declared) - _allowed_pools(ctx.device, ctx.owner)
                if gone:
                    # The older revision's pools are nobody's any more: its wave brings the new ones.
                    return ctx.held(Reason.ROLLOUT_WAVE, field=field)
            return Why.DRIFT
        case Field.FIRMWARE | Field.ADDRESSING:
            return ctx.held(
                Reason.ASK, f"{difference.observed} instead of {difference.declared}", field
            )
        case Field.MINING | Field.POWER_MODE | Field.POWER_LIMIT_W:
            if difference.direction is Direction.MORE:
                if _set_by_lowering_overlay(ctx, field):
                    return Why.ROLLOUT
                if ctx.over_cap:
                    return Why.CAP
                return ctx.held(
                    Reason.ASK, "runs above its declaration; every cap still holds", field
                )
            detail = (
                "stopped by hand"
                if field is Field.MINING
                else f"set to {difference.observed} by hand"
            )
            return ctx.held(Reason.MANUAL_OVERRIDE, detail, field)


def _set_by_lowering_overlay(ctx: Context, field: Field) -> bool:
    """Whether a curtailment or guard overlay asserts the field: OFF is asserted all the time."""
    return any(
        overlay.kind in {OverlayKind.CURTAILMENT, OverlayKind.GUARD}
        and not overlay.is_expired(ctx.now_s)
        and getattr(overlay.fields, field.value) is not None
        for overlay in ctx.overlays
    )
