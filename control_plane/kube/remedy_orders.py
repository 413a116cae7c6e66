"""What persons order about remedies of GPU nodes. Each has its whole effect in one transaction of the Store.

A leader that ends before that is durable leaves the order open, and the next one obeys it again: what has
happened since (another ticket, another trip of a breaker) is not ended by a word of before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from control_plane.api.conditions import Told, moment, ready
from control_plane.api.objects import OrderSpec
from control_plane.core import limits
from control_plane.core.breaker import reset
from control_plane.core.fleet import Site
from control_plane.core.gpu import Rung
from control_plane.core.gpu_domains import domains_of, gpu_devices
from control_plane.core.gpu_rollout import SoftwareState, continued
from control_plane.core.remedy_case import Approval, BreakGlass
from control_plane.core.remedy_kept import NodeKept
from control_plane.core.remedy_site_words import word_named
from control_plane.core.remedy_words import approved, login_allowed, repaired
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.kube.remedy_machine_orders import accept, rma
from control_plane.kube.remedy_site_orders import break_glass, emergency, end, sign
from control_plane.kube.saying import Refused, is_later, near, nothing_to_do, reason_of


def heard(spec: OrderSpec, store: Store, declared: Site, *, now_s: float) -> Told:
    """Have the effect of an order in the Store; what is told of it.

    Args:
        spec: of a kind of `OF_REMEDIES`.
        store: of the tenure.
        declared: the site as it is in force.
        now_s: policy time.

    Raises:
        Refused: it is about nothing that there is, lacks what it needs, or comes too late.
    """
    return OF_REMEDIES[spec.kind](spec, store, declared, now_s)


def _repaired(spec: OrderSpec, store: Store, declared: Site, now_s: float) -> Told:
    kept = _kept_of(spec, store, declared)
    reason = reason_of(spec)
    if kept.ticket is None:
        last = kept.repaired
        by = f": {last.by} closed {last.ticket}" if last is not None else ""
        return nothing_to_do(f"{spec.target} has no open repair ticket{by}")
    ticket = kept.ticket
    if is_later(ticket.opened_s, spec):
        raise Refused(
            f"ticket {ticket.id} was opened after this word: look at {spec.target}, and say it anew"
        )
    with store.transaction():
        store.put_remedies([repaired(kept, by=spec.by, reason=reason, now_s=now_s)])
        _note(store, spec, f"{spec.target} is repaired, {ticket.id} is closed", now_s)
    return ready(
        "True", "Closed", f"{ticket.id} is closed; the node comes back once its return gate is open"
    )


def _approve(spec: OrderSpec, store: Store, declared: Site, now_s: float) -> Told:
    if isinstance(word_named(store.remedy_site(), spec.target), BreakGlass):
        return sign(spec, store, now_s)
    kept = _kept_of(spec, store, declared)
    reason = reason_of(spec)
    if spec.up_to is None or spec.until is None:
        raise Refused("an order `approve` needs `up_to`, the rung, and `until`")
    word = Approval(
        by=spec.by, at_s=spec.at.timestamp(), until_s=spec.until.timestamp(),
        up_to=Rung[spec.up_to.upper()], reason=reason,
    )  # fmt: skip
    until = spec.until.isoformat()
    if word in kept.approvals:
        return nothing_to_do(f"{spec.up_to} is approved of until {until}")
    if word.until_s <= now_s:
        raise Refused(f"its time was over at {until}")
    if word.until_s - word.at_s > limits.APPROVAL_MAX_S:
        hours = limits.APPROVAL_MAX_S / 3_600
        raise Refused(f"an approval is of {hours:.0f} h at most: who looks again approves again")
    with store.transaction():
        store.put_remedies([approved(kept, word)])
        _note(store, spec, f"{spec.target} may be taken up to {spec.up_to} until {until}", now_s)
    return ready("True", "Approved", f"up to {spec.up_to} until {until}")


def _rma(spec: OrderSpec, store: Store, declared: Site, now_s: float) -> Told:
    return rma(spec, store, _kept_of(spec, store, declared), now_s)


def _accept(spec: OrderSpec, store: Store, declared: Site, now_s: float) -> Told:
    return accept(spec, store, _kept_of(spec, store, declared), now_s)


def _breaker(spec: OrderSpec, store: Store, declared: Site, now_s: float) -> Told:
    site, name = store.remedy_site(), spec.target
    reason, breaker = reason_of(spec), site.breakers.get(name)
    domains = domains_of(declared).domains
    if breaker is None and name not in domains:
        raise Refused(f"{declared.id} has no failure domain '{name}'{near(name, domains)}")
    if breaker is None or breaker.tripped_at_s is None or not breaker.is_open(now_s):
        return nothing_to_do(f"the breaker of {name} is closed")
    if is_later(breaker.tripped_at_s, spec):
        raise Refused(f"the breaker of {name} tripped after this word: look, and say it anew")
    cooled = moment(breaker.tripped_at_s + limits.BREAKER_COOLDOWN_S).isoformat()
    if breaker.is_reset:
        return nothing_to_do(f"{breaker.reset_by} reset it; it cools down until {cooled}")
    after = reset(breaker, by=spec.by, now_s=now_s, reason=reason)
    with store.transaction():
        breakers = {**site.breakers, name: after}
        store.put_remedy_site(msgspec.structs.replace(site, breakers=breakers))
        _note(store, spec, f"the breaker of {name} is reset", now_s)
    told = f"it cools down until {cooled}" if after.is_open(now_s) else "it is closed"
    return ready("True", "Reset", told)


def _login(spec: OrderSpec, store: Store, declared: Site, now_s: float) -> Told:
    kept = _kept_of(spec, store, declared)
    reason_of(spec)
    refused = kept.login.refused if kept.login is not None else None
    if refused is None:
        return nothing_to_do(f"the BMC of {spec.target} refuses no login that is known of")
    if is_later(refused.at_s, spec):
        raise Refused(f"{refused.address} refused user {refused.user} after this word: say it anew")
    with store.transaction():
        store.put_remedies([login_allowed(kept)])
        _note(store, spec, f"{refused.address} may be sent user {refused.user} again", now_s)
    return ready("True", "Allowed", f"user {refused.user} is sent to {refused.address} once more")


OF_REMEDIES: Final[Mapping[str, Callable[[OrderSpec, Store, Site, float], Told]]] = {
    "repaired": _repaired,
    "approve": _approve,
    "breaker": _breaker,
    "emergency": emergency,
    "break_glass": break_glass,
    "end": end,
    "rma": _rma,
    "accept": _accept,
    "login": _login,
}
"""By kind of order."""


def is_of_software(spec: OrderSpec, store: Store) -> bool:
    """Whether an order is about waves of drivers or MIG profiles, which the engine knows nothing of."""
    software = store.remedy_site().software
    return spec.kind == "rollout" and any(one.id == spec.target for one in software.values())


def gone_on(spec: OrderSpec, store: Store, *, now_s: float) -> Told:
    """Let halted waves of GPU software go on: who failed may go again."""
    site = store.remedy_site()
    one = next(one for one in site.software.values() if one.id == spec.target)
    if one.state is not SoftwareState.HALTED:
        return nothing_to_do(f"{one.id} is {one.state}")
    if is_later(one.since_s, spec):
        raise Refused(f"{one.id} halted after this word: look at {one.detail}, and say it anew")
    software = {**site.software, one.profile: continued(one, by=spec.by, now_s=now_s)}
    with store.transaction():
        store.put_remedy_site(msgspec.structs.replace(site, software=software))
        words = f"{one.id} goes on, says {spec.by}"
        store.put_events([Event(at_s=now_s, kind="order", text=words)])
    return ready("True", "Obeyed", f"{one.id} goes on with wave {one.wave + 1}")


def _kept_of(spec: OrderSpec, store: Store, declared: Site) -> NodeKept:
    """What is kept of its node; a node that left the declaration may have a ticket still.

    Raises:
        Refused: there is no such GPU node.
    """
    kept = store.remedy(spec.target)
    if kept is not None:
        return kept
    names = [device.asset for device in gpu_devices(declared)]
    if spec.target not in names:
        raise Refused(f"{declared.id} has no GPU node '{spec.target}'{near(spec.target, names)}")
    return NodeKept(asset=spec.target)


def _note(store: Store, spec: OrderSpec, text: str, now_s: float) -> None:
    """Who said it and why, beside what comes of it."""
    words = f"{text}, says {spec.by}: {spec.reason}"
    where = spec.target.rpartition("/")[2]
    asset = None if spec.kind == "breaker" else spec.target
    store.put_events([Event(at_s=now_s, kind="order", text=words, asset=asset, node=where)])
