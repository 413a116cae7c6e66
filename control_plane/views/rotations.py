"""Rotations of passwords and addresses as people read them. No view is given a password: references alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec

from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.fleet import Credentials, Device
from control_plane.core.memory import Memory
from control_plane.core.renumbering import first_place, is_there
from control_plane.core.rotation import RotationEntry, Subject, ref_in_use
from control_plane.core.rotation_rollout import (
    Aim,
    Password,
    Rotation,
    RotationEffect,
    RotationState,
)
from control_plane.views.table import counted, one_line, table


class RotationShown(msgspec.Struct, frozen=True, kw_only=True):
    """A rotation with what became of each machine."""

    rotation: Rotation
    machines: tuple[RotationEntry, ...]


def what_of(aim: Aim) -> str:
    """What is rotated, in a few words."""
    if isinstance(aim, Password):
        return f"{aim.secret_ref} for {aim.user} of {aim.family}"
    return f"addresses in {aim.network} for {aim.family}"


def _before(aim: Aim) -> str:
    if isinstance(aim, Password):
        return ", ".join(aim.previous)
    return "other static ones" if aim.before == "static" else f"DHCP in {aim.before}"


def _title(aim: Aim) -> str:
    return "Credentials" if isinstance(aim, Password) else "Network    "


def plan_lines(effects: Sequence[RotationEffect]) -> list[str]:
    """The section of a plan; nothing where no machine is to have another password or address."""
    lines = []
    for effect in effects:
        aim = effect.aim
        boots = ", which boot for it" if effect.reboots else ""
        lines.append(
            f"{_title(aim)} {what_of(aim)}: {counted(effect.machines, 'machine')} from {_before(aim)}"
            f"{boots}; each wave is let go by a person"
        )
        if not effect.can:
            what, where = (
                ("password", "the profile")
                if isinstance(aim, Password)
                else ("address", "the rack")
            )
            lines.append(
                f"            {aim.family} has no {what} that can be set over the network: "
                f"take `previous` out of {where}"
            )
    return lines


def in_brief(rollout: Rotation | FirmwareRollout) -> str:
    """Where something that a person lets go wave by wave stands, in a few words."""
    return (
        f"{rollout.id} {rollout.state}{' for a person' if rollout.awaits_person else ''}, "
        f"wave {rollout.wave + 1} of {len(rollout.waves)}"
    )


def in_status(rotation: Rotation) -> list[str]:
    """What `status` says of a rotation: a line, and what it waits for or what to say."""
    lines = [f"{_title(rotation.aim)} {in_brief(rotation)}: {what_of(rotation.aim)}"]
    if rotation.state is RotationState.HALTED:
        lines.append(f"            stopped: {one_line(rotation.detail)}")
    elif rotation.detail:
        lines.append(f"            {one_line(rotation.detail)}")
    if rotation.state is RotationState.HALTED or (
        rotation.failed and rotation.state is RotationState.DONE
    ):
        lines.append(f"            go on with: gridplane release {rotation.id}")
    return lines


def of_rotation(rotation: Rotation, entries: Iterable[RotationEntry]) -> RotationShown:
    """One with its machines."""
    own = sorted((e for e in entries if e.rotation == rotation.id), key=lambda e: e.asset)
    return RotationShown(rotation=rotation, machines=tuple(own))


def told(shown: RotationShown) -> str:
    """One in words and a table."""
    rotation = shown.rotation
    lines = [
        (
            f"{rotation.id}: {what_of(rotation.aim)}, {rotation.waves[-1]:,} machines, "
            f"from {_before(rotation.aim)}"
        ),
        f"{rotation.state}, wave {rotation.wave + 1} of {len(rotation.waves)}"
        + (f": {one_line(rotation.detail)}" if rotation.detail else ""),
    ]
    if rotation.released:
        lines.append(f"waves up to {rotation.released} were let go by {rotation.released_by}")
    if shown.machines:
        by = "LOGS IN WITH" if rotation.subject is Subject.PASSWORD else "ANSWERS AT"
        header = ("MACHINE", "STEP", by, "SENT", "ENDED", "FAILED", "DETAIL")
        rows = [
            (
                m.asset, m.step.value, m.verified, _clock(m.committed_at_s), _clock(m.ended_at_s),
                m.fault.value if m.fault else None, m.detail,
            )
            for m in shown.machines
        ]  # fmt: skip
        lines += ["", table(header, rows)]
    return "\n".join(lines)


def in_explanation(
    given: Credentials | None,
    memory: Memory,
    rotation: Rotation | None,
    entry: RotationEntry | None,
) -> list[str]:
    """What `explain` says of a device whose password is rotated, or was."""
    if given is None or not (given.previous or entry):
        return []
    used = ref_in_use(given, memory.login)
    if used == given.secret_ref:
        return [f"Login       {given.user} with {used}"]
    where = f"; {in_brief(rotation)}" if rotation else ""
    lines = [f"Login       {given.user} with {used}, to be {given.secret_ref}{where}"]
    if entry is not None and entry.step:
        why = entry.fault or entry.step
        detail = f": {one_line(entry.detail)}" if entry.detail else ""
        lines.append(f"            {entry.rotation} {why}{detail}")
    return lines


def address_lines(
    device: Device, memory: Memory, rotation: Rotation | None, entry: RotationEntry | None
) -> list[str]:
    """What `explain` says of where a device is, and of the address that it is to have."""
    place = first_place(device, memory.located) or f"DHCP in {device.searched}"
    if is_there(device, memory.located) or device.address == place:
        return [f"Address     {place}"]
    where = f"; {in_brief(rotation)}" if rotation else ""
    lines = [f"Address     {place}, to be {device.address}{where}"]
    if entry is not None:
        detail = f": {one_line(entry.detail)}" if entry.detail else ""
        lines.append(f"            {entry.rotation} {entry.fault or entry.step}{detail}")
    return lines


def _clock(at_s: float | None) -> str | None:
    if at_s is None:
        return None
    return dt.datetime.fromtimestamp(at_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
