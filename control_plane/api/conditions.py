"""Conditions as kstatus reads them: `Ready`, `Reconciling`, `Stalled`, and when each last changed.

A reader (kstatus, Flux, Argo CD) sees deletion first, then an old `observedGeneration`, then `Reconciling`,
then `Stalled`, and only then `Ready`. `Reconciling` and `Stalled` are there only while they hold.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal

import msgspec

from control_plane.api.objects import Condition

Truth = Literal["True", "False", "Unknown"]
READY, RECONCILING, STALLED = "Ready", "Reconciling", "Stalled"
MESSAGE_MAX = 1_024
"""Of the schema."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a condition says now, without its history."""

    type: str
    status: Truth
    reason: str
    """One CamelCase word."""
    message: str = ""


def conditions(
    told: Iterable[Told], before: Iterable[Condition], *, generation: int, now_s: float
) -> tuple[Condition, ...]:
    """What is told, each with the time of its last change; what is told no more is left out.

    Args:
        told: the conditions of now.
        before: those that the object has.
        generation: of the spec that they are about.
        now_s: seconds since the epoch.
    """
    known = {condition.type: condition for condition in before}
    now = moment(now_s)
    return tuple(
        Condition(
            type=one.type,
            status=one.status,
            reason=one.reason,
            message=shortened(one.message),
            observed_generation=generation,
            last_transition_time=known[one.type].last_transition_time
            if one.type in known and known[one.type].status == one.status
            else now,
        )
        for one in told
    )


def ready(status: Truth, reason: str, message: str = "") -> Told:
    """Whether it stands as declared."""
    return Told(type=READY, status=status, reason=reason, message=message)


def reconciling(reason: str, message: str) -> Told:
    """Something is under way that ends by itself."""
    return Told(type=RECONCILING, status="True", reason=reason, message=message)


def stalled(reason: str, message: str) -> Told:
    """Nothing goes on until a person acts."""
    return Told(type=STALLED, status="True", reason=reason, message=message)


def shortened(text: str) -> str:
    """What the schema takes."""
    return text if len(text) <= MESSAGE_MAX else f"{text[: MESSAGE_MAX - 1]}…"


def moment(at_s: float) -> dt.datetime:
    """A time as Kubernetes keeps it: to the second."""
    return dt.datetime.fromtimestamp(int(at_s), dt.UTC)


def camel(word: str) -> str:
    """`manual_override` → `ManualOverride`: a reason of ours as a reason of a condition."""
    return "".join(part.capitalize() for part in word.split("_"))
