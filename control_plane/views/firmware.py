"""What a plan's firmware would do, as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.core.digest import short
from control_plane.core.firmware_plan import FirmwareEffect
from control_plane.views.table import counted, hashrate, one_line, power

_BUNDLES = 2
_WAVES = 3


def firmware_lines(effects: Sequence[FirmwareEffect]) -> list[str]:
    """The section of a plan; nothing where no machine is to run another firmware."""
    lines = []
    for effect in effects[:_BUNDLES]:
        lines += _of_bundle(effect)
    if more := effects[_BUNDLES:]:
        machines = sum(effect.machines for effect in more)
        lines.append(f"            and {len(more)} more, {counted(machines, 'machine')}")
    return lines


def _of_bundle(effect: FirmwareEffect) -> list[str]:
    what = f"{effect.version} for {effect.make} {effect.model}"
    unknown = f", {effect.unknown:,} of them told nothing" if effect.unknown else ""
    images = ", ".join(f"{one_line(i.file)} {short(i.sha256)}" for i in effect.images)
    lines = [
        (
            f"Firmware    {one_line(what)}: {counted(effect.machines, 'machine')}{unknown}; "
            "each wave is let go by a person"
        ),
        f"            images {images}",
    ]
    lines += [
        f"            wave {w.wave} of {effect.of_waves}: {counted(w.machines, 'machine')}, up to "
        f"{hashrate(w.lost_ths_h)} for an hour lost, a swing of up to {power(w.swing_w)}"
        for w in effect.waves[:_WAVES]
    ]
    if more := effect.waves[_WAVES:]:
        machines = sum(wave.machines for wave in more)
        lines.append(
            f"            {counted(len(more), 'more wave')}, {counted(machines, 'machine')}"
        )
    if effect.voided:
        lines.append(f"            {counted(effect.voided, 'machine')} will lose the warranty")
    if effect.is_final:
        lines.append("            no machine goes back by itself: only another flash changes it")
    return lines
