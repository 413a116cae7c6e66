"""What people say, as objects and as the Store keeps it, and what is told of it. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from control_plane.api.conditions import READY, STALLED, Told, conditions, moment, ready
from control_plane.api.objects import (
    OrderSpec,
    OrderStatus,
    OverlaySpec,
    OverlayStatus,
    Part,
    PinPart,
    Status,
)
from control_plane.core.cluster import Body, Object
from control_plane.core.memory import Pin
from control_plane.core.overlay import HOLDS, Overlay, OverlayKind
from control_plane.kube.kinds import ORDER, OVERLAY

SAYABLE = HOLDS | {OverlayKind.FREEZE}
"""Kinds of overlay that people say: these have objects."""
S = TypeVar("S", bound=Status)
P = TypeVar("P", bound=Part)


class Malformed(ValueError):
    """An object that says nothing that can be understood; who wrote it says it anew."""


class Refused(ValueError):
    """An order that is not obeyed; its words say why."""


class _OfSite(msgspec.Struct):
    site: str = ""


def site_of(each: Object) -> str:
    """Whose an object is, however malformed the rest of it; empty where it does not tell."""
    try:
        return msgspec.json.decode(each.spec, type=_OfSite).site
    except msgspec.DecodeError:
        return ""


def read_spec(of: Object, kind: type[P]) -> P:
    """The spec of an object.

    Raises:
        Malformed: with what is wrong.
    """
    try:
        return msgspec.json.decode(of.spec, type=kind)
    except msgspec.DecodeError as error:
        raise Malformed(f"it cannot be understood: {error}") from error


def overlay_in(of: Object) -> Overlay:
    """What an `Overlay` says; its id is the name of the object.

    Raises:
        Malformed: it cannot be understood.
    """
    spec = read_spec(of, OverlaySpec)
    return Overlay(
        id=of.metadata.name,
        kind=OverlayKind(spec.kind),
        node=spec.node,
        owner=spec.owner,
        reason=spec.reason,
        since_s=spec.since.timestamp(),
        expires_s=spec.expires.timestamp() if spec.expires else None,
        assets=frozenset(spec.assets),
    )


def overlay_body(overlay: Overlay, *, site: str, namespace: str) -> Body:
    """The object of an overlay that a person said."""
    spec = OverlaySpec(
        site=site,
        kind=overlay.kind.value,  # type: ignore[arg-type]  # of SAYABLE
        node=overlay.node,
        owner=shortened_text(overlay.owner),
        reason=shortened_text(overlay.reason),
        since=moment(overlay.since_s),
        expires=None if overlay.expires_s is None else moment(overlay.expires_s),
        assets=tuple(sorted(overlay.assets)),
    )
    return {
        "apiVersion": OVERLAY.api_version,
        "kind": OVERLAY.kind,
        "metadata": {"name": overlay.id, "namespace": namespace},
        "spec": msgspec.to_builtins(spec),
    }


def order_body(spec: OrderSpec, *, name: str, namespace: str) -> Body:
    """The object of an order."""
    return {
        "apiVersion": ORDER.api_version,
        "kind": ORDER.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": msgspec.to_builtins(spec),
    }


def is_same_word(kept: Overlay, said: Overlay) -> bool:
    """Whether an object says what is kept under its name: that may cover more than was said."""

    def words(one: Overlay) -> tuple[object, ...]:
        ends = None if one.expires_s is None else int(one.expires_s)
        return (
            one.kind,
            one.node,
            shortened_text(one.owner),
            shortened_text(one.reason),
            int(one.since_s),
            ends,
        )

    return words(kept) == words(said) and said.assets <= kept.assets


def pin_in(part: PinPart) -> Pin:
    """The pin of an order `trust`."""
    return Pin(mac=part.mac, serial=part.serial, source=part.source)


def nothing_to_do(words: str) -> Told:
    """What was asked for is so already: perhaps a leader obeyed it that could not tell any more."""
    return ready("True", "NothingToDo", words)


def reason_of(spec: OrderSpec) -> str:
    """Why it was said.

    Raises:
        Refused: it does not say so.
    """
    if spec.reason is None:
        raise Refused(f"an order `{spec.kind}` needs a reason")
    return spec.reason


def is_later(at_s: float, spec: OrderSpec) -> bool:
    """Whether something came to be after the word was said; times in objects are whole seconds."""
    return int(at_s) > spec.at.timestamp()


def near(name: str, names: Iterable[str]) -> str:
    """What might be meant, as the end of a sentence."""
    found = difflib.get_close_matches(name, list(names), n=3)
    return f". Did you mean {' or '.join(found)}?" if found else ""


def is_ended(order: Object) -> bool:
    """Whether an order was obeyed or refused: it is not looked at again."""
    return ended_at_s(order) is not None


def ended_at_s(order: Object) -> float | None:
    """When an order was obeyed or refused; `None` while it is open."""
    try:
        status = msgspec.json.decode(order.status, type=OrderStatus | None)
    except msgspec.DecodeError:
        return None
    for one in status.conditions if status else ():
        if one.status == "True" and one.type in {READY, STALLED}:
            return one.last_transition_time.timestamp()
    return None


def told_status(of: Object, kind: type[S], told: Iterable[Told], now_s: float) -> object:
    """The status of an object with these conditions, as the writer takes it."""
    try:
        before = msgspec.json.decode(of.status, type=kind | None)
    except msgspec.DecodeError:
        before = None
    generation = of.metadata.generation
    found = conditions(
        told, before.conditions if before else (), generation=generation, now_s=now_s
    )
    return msgspec.to_builtins(kind(conditions=found, observed_generation=generation))


def overlay_told(of: Object, told: Iterable[Told], now_s: float) -> object:
    """The status of an `Overlay`."""
    return told_status(of, OverlayStatus, told, now_s)


def order_told(of: Object, told: Iterable[Told], now_s: float) -> object:
    """The status of an `Order`."""
    return told_status(of, OrderStatus, told, now_s)


_TEXT_MAX = 200
"""Of the schema."""


def shortened_text(text: str) -> str:
    """What the schema takes of what a person says."""
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"
