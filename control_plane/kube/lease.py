"""The Lease of an election, as it stands in `coordination.k8s.io/v1`."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from control_plane.core.cluster import Kind, Object

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


def spec_of(lease: Object) -> LeaseSpec:
    """What a Lease says; nothing where somebody wrote what is none."""
    try:
        return msgspec.json.decode(lease.spec, type=LeaseSpec | None) or LeaseSpec()
    except msgspec.DecodeError:
        return LeaseSpec()


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
