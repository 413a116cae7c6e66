"""A GPU node of the lab that is in repair."""

from __future__ import annotations

from control_plane.core.remedy_case import RepairTicket, Why
from control_plane.core.remedy_kept import NodeKept

ONE = "lab-g1-n1"


def ticket(opened_s: float) -> RepairTicket:
    """Its ticket."""
    return RepairTicket(
        id=f"{ONE}-7", node=ONE, slot="g1/1", serial=None, parts=(), why=Why.FINAL, alerts=(),
        attempts=(), evidence=(), opened_s=opened_s,
    )  # fmt: skip


def in_repair(opened_s: float) -> NodeKept:
    """What is kept of it."""
    return NodeKept(asset=ONE, ticket=ticket(opened_s))
