"""What persons order about many GPU nodes at once: an emergency, break-glass, its second person, an end.

As `kube/remedy_orders.py`, which hands them here: the whole effect in one transaction, and nothing twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from control_plane.api.conditions import Told, moment, ready
from control_plane.api.objects import OrderSpec
from control_plane.core import limits
from control_plane.core.fleet import Site
from control_plane.core.gpu_domains import domains_of, gpu_devices
from control_plane.core.remedy_case import BreakGlass, Emergency, EmergencyKind, Ended, Source
from control_plane.core.remedy_site_words import (
    SiteWord,
    ended,
    is_said_again,
    signed,
    watts_under_glass,
    with_word,
    word_named,
)
from control_plane.core.remedy_urgent import persons_missing
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.kube.saying import Refused, is_later, near, nothing_to_do, reason_of

_AHEAD_S: Final = 60.0
"""By how much the clock of whoever says a word may be ahead."""


def emergency(spec: OrderSpec, store: Store, declared: Site, now_s: float) -> Told:
    """Begin an emergency: the nodes of its domains are drained, and what is unsafe is switched off.

    Raises:
        Refused: it names nothing, has no class or no end, or comes too late.
    """
    reason, domains = reason_of(spec), domains_of(declared).domains
    if spec.emergency is None or not spec.domains:
        raise Refused("an order `emergency` needs `emergency`, its class, and `domains`")
    for name in spec.domains:
        if name not in domains:
            raise Refused(f"{declared.id} has no failure domain '{name}'{near(name, domains)}")
    until_s = _until(spec, limits.EMERGENCY_MAX_S, now_s)
    word = Emergency(
        id=spec.target, kind=EmergencyKind(spec.emergency), domains=frozenset(spec.domains),
        by=spec.by, reason=reason, source=Source.PERSON, since_s=spec.at.timestamp(),
        until_s=until_s,
    )  # fmt: skip
    again = _again(store, word)
    if again is not None:
        return again
    where = ", ".join(sorted(word.domains))
    nodes = frozenset[str]().union(*(domains[name].members for name in word.domains))
    _keep(store, word, spec, f"{word.kind} emergency {word.id} in {where}", now_s)
    told = f"{_nodes(nodes)} to be drained, unless held; until {moment(until_s).isoformat()}"
    return ready("True", "InForce", told)


def break_glass(spec: OrderSpec, store: Store, declared: Site, now_s: float) -> Told:
    """Set budgets, breakers and incidents aside for some nodes, or wait for the second person.

    Raises:
        Refused: it names nobody, has no end, or comes too late.
    """
    reason = reason_of(spec)
    draws_w = {device.asset: device.type.max_w for device in gpu_devices(declared)}
    if not spec.nodes:
        raise Refused("an order `break_glass` needs `nodes`")
    for name in spec.nodes:
        if name not in draws_w:
            raise Refused(f"{declared.id} has no GPU node '{name}'{near(name, draws_w)}")
    word = BreakGlass(
        id=spec.target, by=(spec.by,), reason=reason, since_s=spec.at.timestamp(),
        until_s=_until(spec, limits.BREAK_GLASS_MAX_S, now_s), nodes=frozenset(spec.nodes),
        watts=watts_under_glass(store.remedy_site(), spec.nodes, draws_w, now_s=now_s),
    )  # fmt: skip
    again = _again(store, word)
    if again is not None:
        return again
    _keep(store, word, spec, f"break-glass {word.id}", now_s, nodes=word.nodes)
    return _glass(word)


def sign(spec: OrderSpec, store: Store, now_s: float) -> Told:
    """Another person stands behind a break-glass.

    Raises:
        Refused: it is ended, or came to be after this word.
    """
    site = store.remedy_site()
    reason_of(spec)
    found = word_named(site, spec.target)
    assert isinstance(found, BreakGlass)  # noqa: S101 - whoever hands it here has looked
    if found.ended is not None:
        raise Refused(f"{found.ended.by} ended {found.id}: {found.ended.reason}")
    if is_later(found.since_s, spec):
        raise Refused(f"{found.id} was said after this word: look, and say it anew")
    if found.until_s <= now_s:
        raise Refused(f"the time of {found.id} was over at {moment(found.until_s).isoformat()}")
    if spec.by == found.by[0] and persons_missing(found):
        raise Refused(f"{spec.by} said {found.id}: another person approves of it")
    after = signed(found, by=spec.by)
    if after == found:
        return nothing_to_do(f"{spec.by} stands behind {found.id} already")
    _keep(store, after, spec, f"break-glass {found.id} is approved of", now_s, nodes=found.nodes)
    return _glass(after)


def end(spec: OrderSpec, store: Store, declared: Site, now_s: float) -> Told:
    """End an emergency or a break-glass. What is drained comes back through its gate, if nothing is wrong.

    Raises:
        Refused: there is none of that name, or it was said after this word.
    """
    site, reason = store.remedy_site(), reason_of(spec)
    found = word_named(site, spec.target)
    if found is None:
        names = [one.id for one in site.words if one.ended is None]
        hint = near(spec.target, names) or (f": there is {', '.join(names)}" if names else "")
        if not hint:
            return nothing_to_do(f"{declared.id} has no emergency and no break-glass now")
        raise Refused(f"{declared.id} has no emergency or break-glass '{spec.target}'{hint}")
    if found.ended is not None:
        return nothing_to_do(f"{found.ended.by} ended {found.id}: {found.ended.reason}")
    if is_later(found.since_s, spec):
        raise Refused(f"{found.id} was said after this word: look, and say it anew")
    after = ended(found, Ended(by=spec.by, reason=reason, at_s=now_s))
    nodes = found.nodes if isinstance(found, BreakGlass) else frozenset[str]()
    _keep(store, after, spec, f"{found.id} is ended", now_s, nodes=nodes)
    return ready(
        "True", "Ended", f"{found.id} is over; what it drained comes back through its gate"
    )


def _nodes(names: Collection[str]) -> str:
    return f"{len(names):,} GPU node{'s' if len(names) != 1 else ''}"


def _until(spec: OrderSpec, most_s: float, now_s: float) -> float:
    if spec.until is None:
        raise Refused(f"an order `{spec.kind}` needs `until`")
    if spec.at.timestamp() > now_s + _AHEAD_S:
        raise Refused(
            f"it was said at {spec.at.isoformat()}, which is not yet: set the clock right"
        )
    until_s = spec.until.timestamp()
    if until_s <= now_s:
        raise Refused(f"its time was over at {spec.until.isoformat()}")
    if until_s - spec.at.timestamp() > most_s:
        raise Refused(f"`{spec.kind}` is of {most_s / 60.0:,.0f} min at most: say it anew then")
    return until_s


def _again(store: Store, word: SiteWord) -> Told | None:
    """What is told of a word whose name is known; `None` of a new one."""
    kept = word_named(store.remedy_site(), word.id)
    if kept is None:
        return None
    if not is_said_again(kept, word):
        raise Refused(f"{word.id} is the name of something else that was said: choose another")
    if kept.ended is not None:
        return nothing_to_do(f"{kept.ended.by} ended {kept.id}: {kept.ended.reason}")
    return nothing_to_do(f"{kept.id} is said already")


def _glass(word: BreakGlass) -> Told:
    until = moment(word.until_s).isoformat()
    if persons_missing(word):
        most_mw = limits.BREAK_GLASS_ONE_PERSON_W / 1e6
        return ready(
            "True",
            "SecondPerson",
            f"{word.id} sets nothing aside yet: it is of {word.watts / 1e6:.2f} MW, and above "
            f"{most_mw:.0f} MW another person says `gridplane remedy approve {word.id} --reason ...` "
            f"before {until}",
        )
    told = f"budgets, breakers and incidents stand back for {_nodes(word.nodes)} until {until}"
    return ready("True", "InForce", told)


def _keep(
    store: Store,
    word: SiteWord,
    spec: OrderSpec,
    text: str,
    now_s: float,
    *,
    nodes: Iterable[str] = (),
) -> None:
    """The word, and who said it and why: once for the site, and once for each node that is named."""
    words = f"{text}, says {spec.by}: {spec.reason}"
    with store.transaction():
        store.put_remedy_site(with_word(store.remedy_site(), word))
        store.put_events(
            [
                Event(at_s=now_s, kind="order", text=words, node=word.id),
                *(Event(at_s=now_s, kind="order", text=words, asset=one) for one in sorted(nodes)),
            ]
        )
