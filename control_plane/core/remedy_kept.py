"""What outlives the process that remedies GPU nodes: kept before anything leaves, read by whoever goes on."""

from __future__ import annotations

import msgspec

from control_plane.core.breaker import Breaker
from control_plane.core.correlate import Incident
from control_plane.core.gpu_life import Record
from control_plane.core.gpu_rollout import SoftwareRollout
from control_plane.core.refused_login import BmcLogin
from control_plane.core.remedy_case import Approval, Attempt, BreakGlass, Emergency, RepairTicket


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word that closed a ticket: the same machine goes back."""

    ticket: str
    """Id of the ticket that it closed."""
    by: str
    reason: str
    at_s: float
    """From when it holds. What was tried before is of a machine that was not repaired yet."""


class Rma(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's word that a machine left its slot for its maker, with all that its maker is to be told."""

    ticket: RepairTicket
    """As it stood: alerts with their XIDs, parts, what was tried, who said what."""
    serial: str
    """Of the machine, as the person read it."""
    board: str | None
    """UUID of its board, where one was known: the machine that comes is another one."""
    by: str
    reason: str
    at_s: float

    @property
    def xids(self) -> tuple[int, ...]:
        """All that were seen from the first attempt on."""
        found = {one.xid for one in self.ticket.alerts if one.xid is not None}
        return tuple(sorted(found.union(*(one.xids for one in self.ticket.attempts))))


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word that a machine is what it is to be, though it is made of something else."""

    board: str | None
    """UUID of its board: of another machine nothing was said."""
    differs: str
    """In the words in which it was found; what differs later is another thing."""
    by: str
    reason: str
    at_s: float


class NodeKept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one node."""

    asset: str
    attempts: tuple[Attempt, ...] = ()
    """Its journal, in order of `at_s`."""
    ticket: RepairTicket | None = None
    """Open until a person closes it."""
    calm_since_s: float | None = None
    """When an incident above it ended: people had it, as in a maintenance."""
    life: Record | None = None
    """How far it has come; nothing is decided by it. `None`: nobody looked since it is kept."""
    repaired: Repaired | None = None
    """The last word that closed a ticket of it."""
    approvals: tuple[Approval, ...] = ()
    """Those whose time is not over, in the order in which they were said."""
    rma: Rma | None = None
    """Of the last machine that left for its maker; while its ticket is open, nobody stands in its place."""
    accepted: Accepted | None = None
    login: BmcLogin | None = None
    """What its BMC refused; `None`: nothing, ever."""

    @property
    def left(self) -> Rma | None:
        """The machine that left, while no other one stands there."""
        is_out = self.rma and self.ticket and self.rma.ticket.id == self.ticket.id
        return self.rma if is_out else None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is kept that anything hangs on now."""
        return self == NodeKept(
            asset=self.asset, life=self.life, rma=self.rma, accepted=self.accepted, login=self.login
        )


class SiteKept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of all nodes of a site together."""

    breakers: dict[str, Breaker] = {}
    """By domain."""
    incidents: tuple[Incident, ...] = ()
    """Those that are open."""
    software: dict[str, SoftwareRollout] = {}
    """By profile: how far its waves have come."""
    emergencies: tuple[Emergency, ...] = ()
    """Whose time is not over: one that a person ended is kept until then, so that it is not heard again."""
    glass: tuple[BreakGlass, ...] = ()
    """Likewise; one that lacks a second person sets nothing aside."""

    @property
    def words(self) -> tuple[Emergency | BreakGlass, ...]:
        """All that persons set in force for many nodes, whatever became of it."""
        return (*self.emergencies, *self.glass)
