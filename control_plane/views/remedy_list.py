"""What keeps GPU nodes of a site out of service: what is done about each, or why nothing is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.breaker import Breaker
from control_plane.core.correlate import Incident
from control_plane.core.fleet import Site
from control_plane.core.gpu_domains import gpu_devices
from control_plane.core.remedy_case import (
    CURES,
    NEEDS_PERSON,
    Approval,
    BreakGlass,
    Emergency,
    Stay,
)
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.remedy_urgent import goes_on
from control_plane.engine.records import Event
from control_plane.views.remedy_said import said_in_words
from control_plane.views.table import counted, one_line, span, table

_WELL: Final = frozenset({Stay.WELL, Stay.OBSERVED})
_DETAIL: Final = 72
"""Characters of it in the text; scripts get all."""


class NodeListed(msgspec.Struct, frozen=True, kw_only=True):
    """One node that is not well, or not in service."""

    node: str
    rack: str
    doing: str
    """The action that is next, or the reason why there is none."""
    detail: str
    since_s: float | None
    """When that was decided; `None`: nobody has said anything of it yet."""
    needs_person: bool
    acts: bool
    """Whether its profile lets remedies act; else they are told."""
    ticket: str | None
    attempts: int
    """At a cure, within the window of the caps, since it was repaired last."""
    approvals: tuple[Approval, ...]
    left: str | None = None
    """Serial of the machine that left for its maker, while no other one stands there."""


class LoginListed(msgspec.Struct, frozen=True, kw_only=True):
    """A BMC that refused a login: it is not sent again."""

    node: str
    address: str
    user: str
    at_s: float


class RemedyListed(msgspec.Struct, frozen=True, kw_only=True):
    """Of one site."""

    site: str
    at_s: float
    nodes: tuple[NodeListed, ...]
    incidents: tuple[Incident, ...]
    """Open ones, above nodes."""
    breakers: tuple[Breaker, ...]
    """Open ones; one that was reset cools down."""
    emergencies: tuple[Emergency, ...] = ()
    """That go on."""
    glass: tuple[BreakGlass, ...] = ()
    """In force, or waiting for a second person."""
    logins: tuple[LoginListed, ...] = ()
    """Refused ones, of BMCs."""


def listed(
    site: Site,
    kept: dict[str, NodeKept],
    together: SiteKept,
    said: dict[str, Event],
    *,
    now_s: float,
) -> RemedyListed:
    """What is shown of a site.

    Args:
        site: as it is declared.
        kept: by node.
        together: of all of them.
        said: node → what was decided of it last; of nobody else anything was.
        now_s: policy time.
    """
    nodes = []
    for device in gpu_devices(site):
        name, last = device.asset, said.get(device.asset)
        of = kept.get(name, NodeKept(asset=name))
        word, _, detail = last.text.partition(": ") if last is not None else ("", "", "")
        approvals = tuple(one for one in of.approvals if now_s < one.until_s)
        if of.ticket is None and not approvals and (not word or word in _WELL):
            continue
        nodes.append(
            NodeListed(
                node=name,
                rack=device.rack,
                doing=word or (Stay.IN_REPAIR if of.ticket is not None else Stay.WELL),
                detail=detail,
                since_s=last.at_s if last is not None else None,
                needs_person=word.partition(",")[0] in NEEDS_PERSON,
                acts=device.intent.gpu is not None and device.intent.gpu.acts,
                ticket=of.ticket.id if of.ticket is not None else None,
                attempts=_today(of, now_s),
                approvals=approvals,
                left=of.left.serial if of.left is not None else None,
            )
        )
    return RemedyListed(
        site=site.id,
        at_s=now_s,
        nodes=tuple(nodes),
        incidents=together.incidents,
        breakers=open_breakers(together, now_s),
        emergencies=tuple(one for one in together.emergencies if goes_on(one, now_s=now_s)),
        glass=tuple(one for one in together.glass if one.ended is None and now_s < one.until_s),
        logins=refused_logins(kept),
    )


def open_breakers(together: SiteKept, now_s: float) -> tuple[Breaker, ...]:
    """Those that begin nothing now, by the name of their domain."""
    found = (one for one in together.breakers.values() if one.is_open(now_s))
    return tuple(sorted(found, key=lambda one: one.domain))


def refused_logins(kept: dict[str, NodeKept]) -> tuple[LoginListed, ...]:
    """Those of BMCs, by node."""
    rows = ((n, one.login.refused) for n, one in sorted(kept.items()) if one.login is not None)
    return tuple(
        LoginListed(node=name, address=one.address, user=one.user, at_s=one.at_s)
        for name, one in rows
        if one is not None
    )


def _today(kept: NodeKept, now_s: float) -> int:
    repaired_s = kept.repaired.at_s if kept.repaired is not None else 0.0
    since_s = max(now_s - limits.REMEDY_WINDOW_S, repaired_s)
    return sum(one.action in CURES and one.at_s > since_s for one in kept.attempts)


def told(found: RemedyListed) -> str:
    """The same as text."""
    now_s = found.at_s
    together = found.incidents or found.breakers or found.emergencies or found.glass
    if not (found.nodes or together or found.logins):
        return f"All GPU nodes of {found.site} are well, as far as anybody says."
    rows = [
        (one.node, one.rack, one.doing, _ago(one.since_s, now_s), one.attempts, one.ticket,
         _detail(one, now_s))
        for one in found.nodes
    ]  # fmt: skip
    header = ("NODE", "RACK", "DOING", "SINCE", "ATTEMPTS", "TICKET", "WHY")
    parts = [table(header, rows)] if rows else []
    parts += said_in_words(found.emergencies, now_s) + said_in_words(found.glass, now_s)
    parts += _incidents(found.incidents, now_s)
    parts += [_breaker(one, now_s) for one in found.breakers]
    parts += [_login(one, now_s) for one in found.logins]
    persons = sum(one.needs_person for one in found.nodes)
    if persons:
        parts.append(f"{counted(persons, 'node')} of these wait for a person.")
    return "\n\n".join(parts)


def _ago(at_s: float | None, now_s: float) -> str | None:
    return None if at_s is None else f"{span(now_s - at_s)} ago"


def _detail(one: NodeListed, now_s: float) -> str:
    words = [f"{one.left} left for its maker"] if one.left is not None else []
    words += [one.detail] if one.detail else []
    words += [
        f"up to {a.up_to.name.lower()} approved by {a.by}, {span(a.until_s - now_s)} more"
        for a in one.approvals
    ]
    text = one_line("; ".join(words))
    return text if len(text) <= _DETAIL else f"{text[: _DETAIL - 1]}…"


def _incidents(incidents: Iterable[Incident], now_s: float) -> list[str]:
    return [
        f"Incident {one.id}, for {span(now_s - one.since_s)}: {one_line(one.detail)}"
        for one in incidents
    ]


def _login(one: LoginListed, now_s: float) -> str:
    return (
        f"BMC of {one.node}: {one.address} refused user {one_line(one.user)} {span(now_s - one.at_s)} ago, "
        "and is not asked any more\n  next  another password, or, where the account was unlocked, "
        f"`gridplane remedy reset bmc/{one.node} --reason ...`"
    )


def _breaker(one: Breaker, now_s: float) -> str:
    tripped_s = one.tripped_at_s or now_s
    text = f"Breaker of {one.domain} open for {span(now_s - tripped_s)}"
    if one.is_reset:
        left_s = tripped_s + limits.BREAKER_COOLDOWN_S - now_s
        return f"{text}: {one_line(one.reset_by)} reset it, it cools down for {span(left_s)} more"
    begun, then = (
        ", ".join(sorted(one.begun)),
        f"`gridplane remedy reset {one.domain} --reason ...`",
    )
    return f"{text}: begun on {begun}\n  next  look for what they have in common, then {then}"
