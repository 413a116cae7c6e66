"""A plan as people read it: physical effect first, then what is done, then what is not and why.

14,000 equal changes are one line; the whole text stays within 40 lines whatever the site, and
20 more where firmware changes, or its family.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from control_plane.core.change import (
    Change,
    SetPools,
    SetPowerLimit,
    SetPowerMode,
    StartMining,
    StopMining,
    kind_of,
)
from control_plane.core.decision import PENDING, Danger, Held, Step, Why
from control_plane.core.digest import short
from control_plane.core.plan import NodeHeadroom, Plan
from control_plane.core.units import j_per_th
from control_plane.views.firmware import firmware_lines
from control_plane.views.rotations import plan_lines
from control_plane.views.table import counted, hashrate, listed, power
from control_plane.views.work_orders import work_order_lines

_STEP_LINES = 14
_HEADROOM_NODES = 3
DANGER = {
    Danger.D0: "nothing is written",
    Danger.D1: "reversible settings",
    Danger.D2: "pools",
    Danger.D3: "a large share of the site's power",
    Danger.D4: "firmware",
    Danger.D5: "mass removal",
}
"""What each class of danger is about."""


def render_plan(plan: Plan, *, command: str | None = None) -> str:
    """The text of a plan.

    Args:
        plan: to show.
        command: what accepts it, as the last line; left out where nothing is to be done or accepted.
    """
    lines = [_title(plan), "", *_effect(plan), *_steps(plan), *_firmware(plan), *_orders(plan)]
    left = [*exceptions_line(plan), *waiting_line(plan), *_removed(plan)]
    if command and plan.effect.exceptions:
        left.append(
            f"            which: gridplane get devices --site {plan.site} --reason REASON; "
            "why: gridplane explain DEVICE"
        )
    lines += ["", *left, ""] if left else [""]
    if plan.actionable:
        devices = len({step.asset for step in plan.steps})
        lines.append(
            f"Plan {short(plan.digest)}: {counted(plan.actionable, 'step')} on "
            f"{counted(devices, 'device')}, danger {plan.danger} ({DANGER[plan.danger]})."
        )
    elif plan.managed and not plan.fresh:
        lines.append("Nothing can be said: no managed device was seen just now.")
    else:
        what = "No settings to write" if plan.firmware or plan.credentials else "Nothing to do"
        lines.append(
            f"{what}: zero actionable steps; {plan.converged:,} of {plan.managed:,} managed "
            "are as declared."
        )
    if command and (plan.actionable or plan.accepted not in {None, plan.revision}):
        lines.append(f"Accept it:  {command}")
    return "\n".join(lines)


def _firmware(plan: Plan) -> list[str]:
    lines = [*firmware_lines(plan.firmware), *plan_lines(plan.credentials)]
    return ["", *lines] if lines else []


def _orders(plan: Plan) -> list[str]:
    planned = "" if plan.accepted == plan.revision else " --planned"
    how = f"gridplane workorder{planned} --site {plan.site}"
    lines = work_order_lines(plan.work_orders, sheet=how)
    return ["", *lines] if lines else []


def _removed(plan: Plan) -> list[str]:
    lines = []
    if plan.removed:
        devices = counted(len(plan.removed), "device")
        lines.append(
            f"Removed     {devices} from the declaration: released, left running, still counted"
        )
    if plan.retired:
        devices = counted(len(plan.retired), "device")
        lines.append(f"Retired     {devices} declared and managed no more: left as they are")
    return lines


def _title(plan: Plan) -> str:
    if plan.accepted is None:
        standing = "nothing accepted yet"
    elif plan.accepted == plan.revision:
        standing = "the accepted one"
    else:
        standing = f"accepted is {short(plan.accepted)}"
    return (
        f"{plan.site}: revision {short(plan.revision)} ({standing}); {counted(plan.devices, 'slot')}, "
        f"{plan.managed:,} managed, {plan.fresh:,} seen just now"
    )


def _effect(plan: Plan) -> list[str]:
    effect = plan.effect
    before = j_per_th(power_w=effect.seen_before_w, hashrate_ths=effect.before_ths)
    after = j_per_th(power_w=effect.seen_after_w, hashrate_ths=effect.after_ths)
    unknown = counted(effect.unknown, "unknown device")
    nameplate = f"; {unknown} at nameplate" if effect.unknown else ""
    lines = [
        f"Power       {power(effect.before_w)} -> {power(effect.after_w)} permitted{nameplate}",
        (
            f"Hash        {hashrate(effect.before_ths)} -> {hashrate(effect.after_ths)} by nameplate; "
            f"{hashrate(effect.measured_ths)} measured now"
        ),
        f"Efficiency  {_joules(before)} -> {_joules(after)} J/TH, of the miners that were seen",
    ]
    if effect.lost_ths_h:
        lines.append(
            f"Lost        {hashrate(effect.lost_ths_h)} for an hour, to restarts and ramps"
        )
    if plan.waves:
        sizes = " -> ".join(f"{size:,}" for size in plan.waves)
        lines += [
            f"Waves       {sizes} {'device' if sizes == '1' else 'devices'}, a gate after each",
            (
                f"At worst    {counted(effect.worst_first_devices, 'device')}, "
                f"{power(effect.worst_first_w)}, lost before the first gate"
            ),
        ]
    tight = sorted(plan.headroom, key=_relative)[:_HEADROOM_NODES]
    if tight:
        lines.append(f"Headroom    after: {'; '.join(map(_headroom, tight))}")
    return lines


def _joules(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _relative(node: NodeHeadroom) -> float:
    return (node.usable_w - node.after_w) / node.usable_w if node.usable_w > 0 else 0.0


def _headroom(node: NodeHeadroom) -> str:
    return f"{node.node} {power(node.usable_w - node.after_w)} of {power(node.usable_w)}"


def _steps(plan: Plan) -> list[str]:
    if not plan.steps:
        return []
    groups: dict[tuple[str, str, str, str], list[Step]] = {}
    for step in plan.steps:
        key = (step.why, kind_of(step.change), _summary(step), step.disturbance)
        groups.setdefault(key, []).append(step)
    ordered = sorted(groups.items(), key=lambda item: (_WHY[item[1][0].why], -len(item[1])))
    lines = ["", f"Steps       {plan.actionable:,}"]
    for (why, _, summary, disturbance), steps in ordered[:_STEP_LINES]:
        delta_w = sum(s.after_w - s.before_w for s in steps)
        watts = f", {'+' if delta_w > 0 else '-'}{power(abs(delta_w))}" if abs(delta_w) > 1 else ""
        lines.append(
            f"  {len(steps):>6,}  {summary}  ({why}, {disturbance.replace('_', ' ')}{watts})"
        )
    rest = ordered[_STEP_LINES:]
    if rest:
        count = sum(len(steps) for _, steps in rest)
        lines.append(f"  {count:>6,}  in {len(rest)} more kinds (-o json lists every step)")
    return lines


_WHY = {Why.CAP: 0, Why.CONTESTED: 1, Why.DRIFT: 2, Why.ROLLOUT: 3}


def _summary(step: Step) -> str:
    return change_text(step.change)


def change_text(change: Change) -> str:
    """A change in a few words; devices with equal words are shown as one line."""
    match change:
        case SetPools(pools=pools):
            hosts = ", ".join(pool.url.rpartition("/")[2] for pool in pools)
            return f"set pools to {hosts}"
        case SetPowerMode(power_mode=mode):
            return f"set power mode to {mode}"
        case SetPowerLimit(power_limit_w=watts):
            return f"set power limit to {power(watts)}"
        case StopMining():
            return "stop mining"
        case StartMining(power_mode=mode):
            return f"start mining in mode {mode}" if mode else "start mining"
        case _:
            return kind_of(change).replace("_", " ")


def exceptions_line(plan: Plan) -> list[str]:
    """Known exceptions, in one line, with their cost."""
    known = _per_device(h for h in plan.held if h.reason not in PENDING)
    if not known:
        return []
    lost_ths = plan.effect.exceptions_ths
    cost = f", {hashrate(lost_ths)} not hashed" if round(lost_ths) else ""
    devices = counted(plan.effect.exceptions, "device")
    return [f"Exceptions  {devices}{cost}: {listed(known.items())}"]


def waiting_line(plan: Plan) -> list[str]:
    """What passes by itself."""
    pending = _per_device(h for h in plan.held if h.reason in PENDING)
    if not pending:
        return []
    devices = counted(sum(pending.values()), "device")
    return [f"Waiting     {devices}: {listed(pending.items())}"]


def _per_device(held: Iterable[Held]) -> Counter[str]:
    """Devices per reason; a device with two reasons counts under both."""
    return Counter(reason.value for _, reason in {(h.asset, h.reason) for h in held})
