"""Two declarations compared, as a reviewer reads it."""

from __future__ import annotations

from collections import Counter

from control_plane.core.against import Comparison, Total
from control_plane.core.units import j_per_th
from control_plane.views.plan import DANGER
from control_plane.views.table import hashrate, power
from control_plane.views.work_orders import work_order_lines

_LINES = 20


def render_comparison(comparison: Comparison, *, reference: str) -> str:
    """The text of a comparison with the inventory at `reference`."""
    before, after = comparison.before, comparison.after
    lines = [
        f"{comparison.site}: this inventory against {reference}; no device was asked",
        "",
        f"Power       {_power(before)} -> {_power(after)} declared",
        f"Hash        {_hash(before)} -> {_hash(after)} by nameplate",
        f"Efficiency  {_joules(before)} -> {_joules(after)} J/TH, of the miners",
        (
            f"Devices     {before.devices if before else 0:,} -> {after.devices:,}; "
            f"{len(comparison.added):,} added, {len(comparison.removed):,} removed, "
            f"{len(comparison.retired):,} managed no more"
        ),
    ]
    if comparison.waves:
        sizes = " -> ".join(f"{size:,}" for size in comparison.waves)
        noun = "device" if sizes == "1" else "devices"
        lines.append(f"Waves       {sizes} {noun}, a gate after each")
    groups = Counter((c.field, c.before, c.after) for c in comparison.changes)
    per_field = Counter(c.field for c in comparison.changes)
    distinct = Counter(field for field, _, _ in groups)
    if comparison.changes:
        lines += ["", f"Changes     {len(comparison.changes):,}"]
    shown = 0
    for field, count in per_field.most_common():
        if distinct[field] > _LINES:
            lines.append(f"  {count:>6,}  {field}: differs per device")
            continue
        for (name, was, now), number in groups.most_common():
            if name == field and shown < _LINES:
                lines.append(f"  {number:>6,}  {field}: {was} -> {now}")
                shown += 1
    if orders := work_order_lines(comparison.work_orders):
        lines += ["", *orders]
    for words in comparison.steps_back:
        lines += ["", f"Refused     {words}, unless its waves are still under way"]
    lines += ["", f"Danger {comparison.danger} ({DANGER[comparison.danger]})."]
    return "\n".join(lines)


def _power(total: Total | None) -> str:
    return power(total.power_w) if total else "-"


def _hash(total: Total | None) -> str:
    return hashrate(total.hashrate_ths) if total else "-"


def _joules(total: Total | None) -> str:
    value = j_per_th(power_w=total.miners_w, hashrate_ths=total.hashrate_ths) if total else None
    return "-" if value is None else f"{value:.1f}"
