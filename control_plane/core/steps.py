"""From a difference to a write: which one, where it leads, what it costs, and in what order."""

from __future__ import annotations

import msgspec

from control_plane.core.change import (
    Change,
    SetPools,
    SetPowerLimit,
    SetPowerMode,
    StartMining,
    StopMining,
    kind_of,
    settings_after,
)
from control_plane.core.decision import Context, Danger, Held, Reason, Step, Why
from control_plane.core.diff import Difference, nameplate_ths, permitted_w
from control_plane.core.fleet import Device
from control_plane.core.observation import Field, Observation, Settings


def change_for(difference: Difference, desired: Settings) -> Change | None:
    """The write that ends a difference; `None` where no driver has one."""
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


def step_for(
    ctx: Context, difference: Difference, change: Change | None, why: Why, seen: Observation
) -> Step | Held:
    """The write with its effect and its cost; held where a repair of drift would raise power."""
    if change is None or ctx.capabilities is None:
        return ctx.held(Reason.UNSUPPORTED, field=difference.field)
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
        return ctx.held(Reason.MANUAL_OVERRIDE, "a repair would raise power", difference.field)
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


def chain(device: Device, steps: list[Step]) -> tuple[Step, ...]:
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


def urgency(step: Step) -> tuple[int, str]:
    """Lowering first, then pools, then the rest, raises last."""
    if step.after_w < step.before_w:
        return (0, step.field)
    if step.field is Field.POOLS:
        return (1, step.field)
    return (3 if step.raises else 2, step.field)
