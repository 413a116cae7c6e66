"""How far a GPU node has come; where it fails, what was done, what came of it, and whether more would be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.findings import SourceRef
from control_plane.core.fleet import Device, DeviceKind
from control_plane.core.gpu import Alert
from control_plane.core.gpu_life import Operation, Record, Transition
from control_plane.core.gpu_rollout import SoftwareRollout, SoftwareState
from control_plane.core.remedy_case import (
    Approval,
    Attempt,
    BreakGlass,
    Emergency,
    Outcome,
    RepairTicket,
    Why,
)
from control_plane.core.remedy_kept import Accepted, NodeKept, Repaired, Rma, SiteKept
from control_plane.core.remedy_urgent import goes_on
from control_plane.views.remedy_said import said_in_words
from control_plane.views.table import counted, one_line, span

_NOTHING: Final = SiteKept()
_LAST: Final = 5
"""Attempts that the text shows; scripts get all that are kept."""
_WHY: Final[Mapping[Why, str]] = {
    Why.ALERT: "what is wrong asks for it",
    Why.NO_HELP: "what was tried did not help",
    Why.FINAL: "nothing that can be done from here helps",
    Why.CAP_SPENT: "so much was tried that a person goes on",
    Why.WELL: "nothing is wrong any more",
    Why.EMERGENCY: "an emergency",
}
_OUTCOME: Final[Mapping[Outcome, str]] = {
    Outcome.OPEN: "it may have left, and has not ended",
    Outcome.DONE: "done",
    Outcome.FAILED: "did not take place",
    Outcome.UNKNOWN: "nobody can tell whether it took place",
}


class RemediesShown(msgspec.Struct, frozen=True, kw_only=True):
    """Of one GPU node."""

    acts: bool
    """Whether its profile lets remedies act; else they are told."""
    declared_at: SourceRef | None
    """`gpu` of its profile; `None`: the profile says nothing of GPUs."""
    software: SoftwareRollout | None = None
    """The one of its profile, where drivers and MIG profiles come in waves."""
    kept: NodeKept
    """An empty one where nothing was ever tried."""
    emergencies: tuple[Emergency, ...] = ()
    """That go on in a domain of it."""
    glass: tuple[BreakGlass, ...] = ()
    """That name it, in force or waiting for a second person."""


def remedies_shown(
    device: Device,
    kept: NodeKept | None,
    together: SiteKept = _NOTHING,
    *,
    domains: Collection[str] = (),
    now_s: float = 0.0,
) -> RemediesShown | None:
    """What is shown of a device's remedies; `None` of one that is no GPU node.

    Args:
        device: as it is declared.
        kept: of it.
        together: of all nodes.
        domains: ids of the failure domains that it is in.
        now_s: policy time.
    """
    if device.type.kind is not DeviceKind.GPU_NODE:
        return None
    gpu = device.intent.gpu
    return RemediesShown(
        acts=gpu is not None and gpu.acts,
        declared_at=device.intent.origins.get("gpu"),
        software=together.software.get(device.intent.profile),
        kept=kept or NodeKept(asset=device.asset),
        emergencies=tuple(
            one
            for one in together.emergencies
            if one.domains.intersection(domains) and goes_on(one, now_s=now_s)
        ),
        glass=tuple(
            one
            for one in together.glass
            if device.asset in one.nodes and one.ended is None and now_s < one.until_s
        ),
    )


def remedy_lines(shown: RemediesShown | None, now_s: float) -> list[str]:
    """The lines of an explanation; none of a device that is no GPU node."""
    if shown is None:
        return []
    kept = shown.kept
    where = f" ({shown.declared_at})" if shown.declared_at else ""
    says = "act" if shown.acts else "tell what would be done, and do nothing"
    lines = [f"Remedies    {says}{where}"]
    for text in said_in_words(shown.emergencies, now_s) + said_in_words(shown.glass, now_s):
        lines += [f"  {line}" for line in text.splitlines()]
    if shown.software is not None:
        lines += _software(shown.software, now_s)
    if kept.life is not None:
        lines += _life(kept.life, now_s)
    if kept.calm_since_s is not None:
        left_s = kept.calm_since_s + limits.MAINTENANCE_GRACE_S - now_s
        if left_s > 0.0:
            ago = span(now_s - kept.calm_since_s)
            lines.append(f"  calm      an incident above it ended {ago} ago: {span(left_s)} more")
    if kept.ticket is not None:
        lines += _ticket(kept.ticket, now_s, is_out=kept.left is not None)
    if kept.login is not None and kept.login.refused is not None:
        refused = kept.login.refused
        what = f"{refused.address} refused user {one_line(refused.user)}"
        lines.append(
            f"  bmc       {what} {span(now_s - refused.at_s)} ago, and is not asked any more"
        )
    if kept.rma is not None:
        lines += _rma(kept.rma, now_s, is_out=kept.left is not None)
    if kept.accepted is not None:
        word = kept.accepted
        lines.append(f"  accepted  {one_line(word.differs)}: {_word(word, now_s)}")
    if kept.repaired is not None:
        lines.append(f"  repaired  {kept.repaired.ticket}: {_word(kept.repaired, now_s)}")
    lines += [
        f"  approved  up to {one.up_to.name.lower()}, {span(one.until_s - now_s)} more: {_word(one, now_s)}"
        for one in kept.approvals
        if now_s < one.until_s
    ]
    lines += [f"  {_attempt(one, now_s)}" for one in kept.attempts[: -_LAST - 1 : -1]]
    if len(kept.attempts) > _LAST:
        lines.append(f"  {counted(len(kept.attempts) - _LAST, 'older attempt')}: `-o json`")
    return lines


def _software(one: SoftwareRollout, now_s: float) -> list[str]:
    """How far the waves of its profile are. How far the node itself is stands on its `Node`."""
    if not one.waves:
        return [f"  software  {one.want}: nothing to do"]
    where = f"{one.state}, wave {one.wave + 1} of {len(one.waves)}, for {span(now_s - one.since_s)}"
    lines = [f"  software  {one.want}: {one.id} {where}"]
    if one.detail:
        lines.append(f"            {one_line(one.detail)}")
    if one.state is SoftwareState.HALTED:
        lines.append(f"            go on with: gridplane release {one.id}")
    return lines


def _life(record: Record, now_s: float) -> list[str]:
    what = ""
    if record.operation is not Operation.IDLE:
        what = f": {record.operation.replace('_', ' ')}"
    older = len(record.history) - _LAST
    return [
        f"  life      {record.life}, for {span(now_s - record.since_s)}{what}",
        *(f"  {_step(one, now_s)}" for one in record.history[: -_LAST - 1 : -1]),
        *([f"  {counted(older, 'older step')}: `-o json`"] if older > 0 else []),
    ]


def _step(step: Transition, now_s: float) -> str:
    by = step.by
    why = f"{by.source}: {one_line(by.detail)}" if by.detail else by.source
    return f"{span(now_s - by.at_s):>6} ago  {step.before} -> {step.after} ({why})"


def _ticket(ticket: RepairTicket, now_s: float, *, is_out: bool) -> list[str]:
    parts = ", ".join(
        part.gpu + (f" ({part.serial})" if part.serial else "") for part in ticket.parts
    )
    alerts = "; ".join(_alert(alert) for alert in ticket.alerts)
    lines = [
        f"  ticket    {ticket.id}, opened {span(now_s - ticket.opened_s)} ago: {_WHY[ticket.why]}",
        *([f"  wrong     {one_line(alerts)}"] if alerts else []),
        *([f"  parts     {one_line(parts)}"] if parts else []),
    ]
    then = f"`gridplane remedy repaired {ticket.node} --reason ...`"
    return [*lines, *([] if is_out else [f"  next      it stays out until a person says {then}"])]


def _rma(word: Rma, now_s: float, *, is_out: bool) -> list[str]:
    xids = f", XID {', '.join(map(str, word.xids))}" if word.xids else ""
    tried = counted(len(word.ticket.attempts), "attempt")
    line = (
        f"  rma       {one_line(word.serial)} left for its maker ({word.ticket.id}{xids}, {tried}): "
        f"{_word(word, now_s)}"
    )
    then = f"or, where the same one is back, `gridplane remedy repaired {word.ticket.node}`"
    return [line, f"  next      another machine in its slot, {then}"] if is_out else [line]


def _word(word: Repaired | Approval | Rma | Accepted, now_s: float) -> str:
    reason = f" ({one_line(word.reason)})" if word.reason else ""
    return f"{one_line(word.by)}, {span(now_s - word.at_s)} ago{reason}"


def _alert(alert: Alert) -> str:
    words = [alert.kind.value]
    if alert.xid is not None:
        words.append(str(alert.xid))
    if alert.gpu is not None:
        words.append(f"on {alert.gpu}")
    return " ".join(words) + (f": {alert.detail}" if alert.detail else "")


def _attempt(attempt: Attempt, now_s: float) -> str:
    what = attempt.action.replace("_", " ") + (f" {one_line(attempt.gpu)}" if attempt.gpu else "")
    after = ""
    if attempt.ended_s is not None and attempt.ended_s > attempt.at_s:
        after = f", after {span(attempt.ended_s - attempt.at_s)}"
    return f"{span(now_s - attempt.at_s):>6} ago  {what} -> {_OUTCOME[attempt.outcome]}{after}"
