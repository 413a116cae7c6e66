"""Durable records of the Store that core does not know."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from control_plane.core.memory import Pin
from control_plane.core.observation import Field, Settings


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One approver's word on one field of one owner's machines."""

    owner: str
    field: Field
    by: str


class RevisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted declaration of a site."""

    digest: str
    seq: int
    """Order of acceptance; the highest is in force."""
    commit: str | None
    accepted_at_s: float
    accepted_by: str
    plan_digest: str
    approvals: tuple[Approval, ...] = ()
    source: str | None = None
    """Name of the `FleetRevision` that it came in; none of the command line."""


class ShownPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was shown: what `apply DIGEST` may accept."""

    digest: str
    revision: str
    at_s: float
    expected: dict[str, Settings]
    """Settings of each device as the plan saw them: who moves since is held."""
    approvals: tuple[Approval, ...] = ()
    """What was approved when it was made: its steps are those that these allow."""


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """A device that left the declaration: not managed, left running, still counted."""

    asset: str
    feed: str
    power_w: float
    since_s: float


class AuditMark(msgspec.Struct, frozen=True, kw_only=True):
    """How far the audit file had come when the Store last heard of it."""

    size: int
    """Bytes."""
    head: str
    """Hash of its last line."""


class OrderKind(StrEnum):
    """What a person may order about one device, one rollout or one incident."""

    TRUST = "trust"
    OVERRIDE = "override"
    """Bring an overridden device back to its declaration."""
    CONTESTED = "contested"
    STUCK = "stuck"
    ROLLOUT = "rollout"
    """Continue a halted rollout."""
    INCIDENT = "incident"
    FIRMWARE = "firmware"
    """Let the open wave of a firmware rollout go, or a halted one continue."""
    CREDENTIALS = "credentials"
    """The same of a rotation of a password."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A person's order to the engine; obeyed once."""

    kind: OrderKind
    target: str
    """Asset, rollout id or incident id."""
    by: str
    at_s: float
    through: int | None = None
    """With `firmware` and `credentials`: the last wave to go, from 1; `None` for the open one alone."""
    pin: Pin | None = None
    """With `trust`: the machine that is the asset from now on."""


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The engine process, by its own word."""

    pid: int
    pid_space: str = ""
    """Where that id means this process."""
    epoch: int
    mode: str
    """`run` or `apply`."""
    started_at_s: float
    at_s: float
    """Policy time of the last heartbeat."""
    real_at_s: float
    """The same in unscaled seconds since the epoch."""
    taken_up_s: float = 0.0
    """When the revision was accepted, or accepted again, that every device has been judged by."""
    actionable: int = 0
    in_flight: int = 0
    waiting: int = 0
    """Writes that were accepted and wait for their evidence."""
    note: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, for people."""

    at_s: float
    kind: str
    """`intent`, `outcome`, `verified`, `drift`, `override`, `hold`, `release`, `incident`, `page` …"""
    text: str
    asset: str | None = None
    node: str | None = None
