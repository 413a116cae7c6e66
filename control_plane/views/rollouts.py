"""Rollouts as people read them: all of a site, or one with its gates and what became of each machine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec

from control_plane.core.digest import short
from control_plane.core.firmware_rollout import FirmwareRollout, FirmwareState
from control_plane.core.flashing import FlashEntry, Grant, Purpose
from control_plane.core.gpu_rollout import SoftwareRollout
from control_plane.core.rollout import GateResult, Rollout
from control_plane.core.rotation_rollout import Rotation
from control_plane.views.rotations import in_brief, what_of
from control_plane.views.table import one_line, table


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout in the table of all."""

    id: str
    what: str
    state: str
    wave: int
    """From 1; the open one."""
    waves: int
    machines: int
    gates_passed: int
    gates: int
    detail: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one machine under one grant."""

    operation: str
    wave: int
    """From 1."""
    purpose: Purpose
    bundle: str
    """Digest of what was to be installed: of a roll-back, what ran before."""
    entry: FlashEntry
    j_per_th_before: float | None = None
    """At the device, as it tells its power."""
    j_per_th_after: float | None = None


class FirmwareShown(msgspec.Struct, frozen=True, kw_only=True):
    """A firmware rollout with its evidence."""

    rollout: FirmwareRollout
    machines: tuple[Machine, ...]


def overview(
    rollouts: Sequence[Rollout],
    firmware: Sequence[FirmwareRollout],
    rotations: Sequence[Rotation] = (),
    software: Iterable[SoftwareRollout] = (),
) -> list[Line]:
    """All of them, the newest of each kind first."""
    of_rotations = [
        Line(
            id=r.id,
            what=what_of(r.aim),
            state=r.state,
            wave=r.wave + 1,
            waves=len(r.waves),
            machines=r.waves[-1],
            gates_passed=r.earned,
            gates=r.rounds,
            detail=r.detail,
        )
        for r in reversed(rotations)
    ]
    of_firmware = [_line(f, f"{f.version} for {f.model}", f.detail) for f in reversed(firmware)]
    of_settings = [
        _line(
            r,
            f"revision {short(r.to)}",
            r.gates[-1].detail if r.gates and not r.gates[-1].passed else "",
        )
        for r in reversed(rollouts)
    ]
    of_software = [_line(s, f"{s.want} for {s.profile}", s.detail) for s in software if s.waves]
    return of_rotations + of_firmware + of_software + of_settings


def _line(rollout: Rollout | FirmwareRollout | SoftwareRollout, what: str, detail: str) -> Line:
    return Line(
        id=rollout.id,
        what=what,
        state=rollout.state,
        wave=rollout.wave + 1,
        waves=len(rollout.waves),
        machines=rollout.waves[-1] if rollout.waves else 0,
        gates_passed=sum(gate.passed for gate in rollout.gates),
        gates=len(rollout.gates),
        detail=detail,
    )


def in_status(rollout: FirmwareRollout) -> list[str]:
    """What `status` says of a firmware rollout: a line, and where it needs a person, what to say."""
    lines = [f"Firmware    {in_brief(rollout)}: {rollout.version} for {rollout.model}"]
    if rollout.state is FirmwareState.HALTED:
        lines.append(f"            stopped: {one_line(rollout.detail)}")
        lines.append(f"            go on with: gridplane release {rollout.id}")
    elif rollout.awaits_person:
        lines.append(f"            let it go with: gridplane release {rollout.id}")
    elif rollout.detail:
        lines.append(f"            {one_line(rollout.detail)}")
    return lines


def listed(lines: Iterable[Line]) -> str:
    """The table of all."""
    header = ("ROLLOUT", "WHAT", "STATE", "WAVE", "MACHINES", "GATES", "WAITS FOR")
    return table(
        header,
        [
            (
                e.id,
                e.what,
                e.state,
                f"{e.wave}/{e.waves}",
                e.machines,
                f"{e.gates_passed} of {e.gates} passed" if e.gates else None,
                e.detail,
            )
            for e in lines
        ],
    )


def machine_of(grant: Grant, asset: str) -> Machine:
    """What became of a machine under a grant."""
    entry = grant.entries[asset]
    return Machine(
        operation=grant.operation,
        wave=grant.wave + 1,
        purpose=grant.purpose,
        bundle=grant.digest,
        entry=entry,
        j_per_th_before=entry.j_per_th_before,
        j_per_th_after=entry.j_per_th_after,
    )


def of_firmware(rollout: FirmwareRollout, grants: Iterable[Grant]) -> FirmwareShown:
    """One with what became of each machine, by wave and purpose; `grants` are all that are known."""
    own = [grant for grant in grants if grant.rollout == rollout.id]
    return FirmwareShown(
        rollout=rollout,
        machines=tuple(
            machine_of(grant, asset)
            for grant in sorted(own, key=lambda g: (g.wave, g.round, g.operation))
            for asset in sorted(grant.entries)
        ),
    )


def told(shown: FirmwareShown) -> str:
    """One in words and two tables."""
    rollout = shown.rollout
    lines = [
        f"{rollout.id}: {rollout.version} for {rollout.model}, {rollout.waves[-1]:,} machines",
        f"{rollout.state}, wave {rollout.wave + 1} of {len(rollout.waves)}"
        + (f": {rollout.detail}" if rollout.detail else ""),
    ]
    if rollout.released:
        lines.append(f"waves up to {rollout.released} were let go by {rollout.released_by}")
    if rollout.gates:
        lines += ["", gates(rollout.gates)]
    if shown.machines:
        header = (
            "MACHINE", "WAVE", "FOR", "STEP", "BEFORE", "AFTER", "TH/S BEFORE", "AFTER",
            "J/TH BEFORE", "AFTER", "IMAGE", "COMMITTED", "BOOTED", "DETAIL",
        )  # fmt: skip
        rows = [
            (
                m.entry.asset, m.wave, m.purpose.replace("_", " "), m.entry.step.value, m.entry.before,
                m.entry.after, m.entry.hash_before_ths, m.entry.hash_after_ths,
                _tenths(m.j_per_th_before), _tenths(m.j_per_th_after),
                short(m.entry.image) if m.entry.image else None,
                _clock(m.entry.committed_at_s), _clock(m.entry.booted_at_s), m.entry.detail,
            )
            for m in shown.machines
        ]  # fmt: skip
        lines += ["", table(header, rows)]
    return "\n".join(lines)


def of_software(rollout: SoftwareRollout) -> str:
    """Waves of a driver or a MIG profile, with their gates."""
    where = f"wave {rollout.wave + 1} of {len(rollout.waves)}"
    lines = [f"{rollout.id}: {rollout.want} for {rollout.profile}: {rollout.state}, {where}"]
    if rollout.detail:
        lines.append(one_line(rollout.detail))
    if rollout.failed:
        lines.append(f"failed: {', '.join(rollout.failed)}")
    return "\n".join([*lines, "", gates(rollout.gates)])


def gates(found: Sequence[GateResult]) -> str:
    """What each gate saw."""
    header = ("GATE OF WAVE", "PASSED", "TREATED", "FAILED", "CONTROL", "FAILED", "DETAIL")
    rows = [
        (g.wave + 1, g.passed, g.treated, g.treated_failed, g.control, g.control_failed, g.detail)
        for g in found
    ]
    return table(header, rows)


def _tenths(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _clock(at_s: float | None) -> str | None:
    if at_s is None:
        return None
    return dt.datetime.fromtimestamp(at_s, dt.UTC).strftime("%Y-%m-%d %H:%MZ")
