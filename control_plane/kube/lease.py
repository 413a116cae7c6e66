"""The Lease of an election: what stands in it, and how long this process has seen it stand there."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from control_plane.core import limits
from control_plane.core.cluster import Kind, Object
from control_plane.core.ports import Clock
from control_plane.kube.cache import number

CLAIM_EARLY_S = 2.0
"""A Lease is claimed before it runs out, but after its holder stopped: the round trips are over by then."""

LEASE = Kind(group="coordination.k8s.io", version="v1", kind="Lease", plural="leases")


class LeaseSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Who holds it. Its times are for people: no clock but the own one judges anything."""

    holder_identity: str | None = None
    """Who; nobody after a clean release."""
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None
    """Tenures so far: the fence."""


class SeenLease:
    """The Lease as it was last seen, and since when, by the own clock."""

    def __init__(self, clock: Clock) -> None:
        self.object: Object | None = None
        self.spec = LeaseSpec()
        self.highest_fence = 0
        """Of all that were ever seen."""
        self.since_s = 0.0
        """Since when it has stood there as it does."""
        self._clock = clock

    @property
    def holder(self) -> str:
        """Who has it; nobody is the empty string."""
        return self.spec.holder_identity or ""

    @property
    def ends_s(self) -> float:
        """When whoever has it is surely done with writing, by the own clock."""
        patience_s = max(limits.LEASE_DURATION_S, self.spec.lease_duration_seconds or 0)
        return self.since_s + (patience_s if self.holder else 0.0)

    @property
    def claimable_s(self) -> float:
        """When it may be claimed, for a tenure that begins at `ends_s`."""
        return self.ends_s - CLAIM_EARLY_S if self.holder else self.since_s

    def read(self, lease: Object) -> bool:
        """What the server has at this moment; whether that is news."""
        now, before = lease.metadata, self.object.metadata if self.object else None
        if before and (now.uid, now.resource_version) == (before.uid, before.resource_version):
            return False
        self.object, self.spec, self.since_s = lease, spec_of(lease), self._clock.wire_s()
        self.highest_fence = max(self.highest_fence, self.spec.lease_transitions or 0)
        return True

    def heard(self, lease: Object) -> None:
        """What the server had when it told it: something newer may have been seen since."""
        if self.object is None or number(lease.metadata.resource_version) > number(
            self.object.metadata.resource_version
        ):
            self.read(lease)

    def forget(self) -> None:
        """There is none."""
        self.object, self.spec = None, LeaseSpec()


def lease_name(site: str) -> str:
    """The Lease for which the controllers of a site stand."""
    return f"gridplane-{site}"


def spec_of(lease: Object) -> LeaseSpec:
    """What a Lease says; nothing where somebody wrote what is none."""
    try:
        return msgspec.json.decode(lease.spec, type=LeaseSpec | None) or LeaseSpec()
    except msgspec.DecodeError:
        return LeaseSpec()


def tenure_of(identity: str, *, fence: int, wall_s: float) -> LeaseSpec:
    """What a new holder writes."""
    now = micro_time(wall_s)
    return LeaseSpec(
        holder_identity=identity,
        lease_duration_seconds=int(limits.LEASE_DURATION_S),
        acquire_time=now,
        renew_time=now,
        lease_transitions=fence,
    )


def body_of(spec: LeaseSpec, metadata: dict[str, Any]) -> dict[str, Any]:
    """A Lease as it is sent."""
    return {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": metadata,
        "spec": msgspec.to_builtins(spec),
    }


def micro_time(wall_s: float) -> str:
    """A moment as Kubernetes writes a MicroTime."""
    moment = dt.datetime.fromtimestamp(wall_s, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
