"""Kueue's ClusterQueue as a limit on what may run: quotas by flavor and resource, and its stop.

Kueue has no word for power: watts are a resource of the queue like any other (`gridplane.dev/watts`), of
which each pod asks its share, and `nominalQuota` is what may be drawn. Wire form: `kueue.x-k8s.io/v1beta2`
(`apis/kueue/v1beta2/clusterqueue_types.go`, release 0.19): `resourceGroups` is one value to server-side
apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from fractions import Fraction
from typing import Any, Final

import msgspec

from control_plane.core.cluster import Kind, Object
from control_plane.core.moments import moment_text

CLUSTER_QUEUE: Final = Kind(
    group="kueue.x-k8s.io", version="v1beta2", kind="ClusterQueue", plural="clusterqueues",
    is_namespaced=False,
)  # fmt: skip
QUOTA_MANAGER: Final = "gridplane-quota"
STOP_MANAGER: Final = "gridplane-stop"
"""Another one: what a manager leaves out it gives up."""
BY: Final = "gridplane.dev/stop-by"
WHY: Final = "gridplane.dev/stop-why"
UNTIL: Final = "gridplane.dev/stop-until"
"""When it should be over; nothing ends by itself."""
FOUND: Final = "gridplane.dev/stop-found"
"""The stop of somebody else that ours is on top of."""
QUOTA_BY: Final = "gridplane.dev/quota-by"
QUOTA_WHY: Final = "gridplane.dev/quota-why"
"""Who changed a quota last, and why."""
_UNITS: Final[Mapping[str, Fraction]] = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{unit: Fraction(1000**power) for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", start=1)},
}


class StopPolicy(IntEnum):
    """What a queue lets run, from everything to nothing."""

    NONE = 0
    HOLD = 1
    """What was admitted runs to its end."""
    HOLD_AND_DRAIN = 2
    """What was admitted is evicted."""

    @property
    def wire(self) -> str:
        """As it stands in the object."""
        return _WIRE[self]


_WIRE: Final = {
    StopPolicy.NONE: "None",
    StopPolicy.HOLD: "Hold",
    StopPolicy.HOLD_AND_DRAIN: "HoldAndDrain",
}
_READ: Final = {text: policy for policy, text in _WIRE.items()}


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a resource a queue may use of a flavor."""

    nominal: Fraction
    used: Fraction | None = None
    """By workloads that are admitted; `None`: the queue's status does not say."""


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a ClusterQueue."""

    name: str
    uid: str
    version: str
    generation: int
    stop: StopPolicy | None
    """`None`: a policy that is not known here, of a later release."""
    stopped_by: str
    """Who of ours stopped it; empty where we did not."""
    stopped_why: str
    found: StopPolicy
    """What it was at when we stopped it."""
    groups: list[dict[str, Any]]
    """`resourceGroups`, as they are sent back."""
    quotas: Mapping[tuple[str, str], Quota]
    """(flavor, resource) → quota."""
    admitted: int | None
    """Workloads that run."""
    reserving: int | None
    """Workloads that hold quota, running or about to."""
    is_seen: bool = False
    """Whether Kueue has counted since the queue was changed last, and lets nothing new in."""

    @property
    def is_empty(self) -> bool:
        """Whether it is stopped and nothing of it runs or is about to, as Kueue has counted since."""
        is_stopped = self.stop in {StopPolicy.HOLD, StopPolicy.HOLD_AND_DRAIN}
        return is_stopped and self.is_seen and self.admitted == 0 and self.reserving == 0


class _Usage(msgspec.Struct):
    name: str
    total: int | str = 0


class _FlavorUsage(msgspec.Struct):
    name: str
    resources: list[_Usage] = []


class _Condition(msgspec.Struct, rename="camel"):
    type: str
    status: str = ""
    observed_generation: int = 0


class _Status(msgspec.Struct, rename="camel"):
    conditions: list[_Condition] | None = None
    flavors_usage: list[_FlavorUsage] | None = None
    admitted_workloads: int | None = None
    reserving_workloads: int | None = None


class _Spec(msgspec.Struct, rename="camel"):
    resource_groups: list[dict[str, Any]] | None = None
    stop_policy: str = "None"


def quantity(said: int | str) -> Fraction:
    """A Kubernetes quantity: `8`, `1500m`, `250k`, `2Ti`, `1e3`.

    Raises:
        ValueError: it is none.
    """
    text = str(said)
    number = text.rstrip("numkKMGTPEi")
    unit = text[len(number) :]
    if unit not in _UNITS:
        raise ValueError(f"no quantity: {said!r}")
    return Fraction(number) * _UNITS[unit]


def queue_in(thing: Object) -> Queue:
    """A ClusterQueue as the API server has it.

    Raises:
        ValueError: a quota of it is no quantity.
    """
    meta = thing.metadata
    spec = msgspec.json.decode(thing.spec, type=_Spec | None) or _Spec()
    status = msgspec.json.decode(thing.status, type=_Status | None)
    used = {
        (flavor.name, one.name): quantity(one.total)
        for flavor in (status.flavors_usage if status else None) or ()
        for one in flavor.resources
    }
    groups = spec.resource_groups or []
    return Queue(
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        generation=meta.generation,
        stop=_READ.get(spec.stop_policy),
        stopped_by=meta.annotations.get(BY, ""),
        stopped_why=meta.annotations.get(WHY, ""),
        found=_READ.get(meta.annotations.get(FOUND, "None"), StopPolicy.HOLD_AND_DRAIN),
        groups=groups,
        quotas={
            place: Quota(nominal=quantity(one["nominalQuota"]), used=used.get(place))
            for place, one in _places(groups)
        },
        admitted=status.admitted_workloads if status else None,
        reserving=status.reserving_workloads if status else None,
        is_seen=any(
            one.type == "Active"
            and one.status == "False"
            and one.observed_generation >= meta.generation
            for one in (status.conditions if status else None) or ()
        ),
    )


def quota_body(
    queue: Queue, flavor: str, resource: str, to: int, *, by: str, why: str
) -> dict[str, Any]:
    """What is applied for a quota; onto the queue as it was read, and nothing else of it changes."""
    groups = msgspec.json.decode(msgspec.json.encode(queue.groups))
    for place, one in _places(groups):
        if place == (flavor, resource):
            one["nominalQuota"] = str(to)
    words = {QUOTA_BY: by, QUOTA_WHY: why}
    return _body(queue, {"annotations": words}, {"resourceGroups": groups})


def stop_body(
    queue: Queue, policy: StopPolicy, *, by: str, why: str, until_s: float | None = None
) -> dict[str, Any]:
    """What is applied for a stop."""
    found = queue.found if queue.stopped_by else queue.stop or StopPolicy.NONE
    words = {
        BY: by,
        WHY: why,
        **({} if until_s is None else {UNTIL: moment_text(until_s)}),
        **({FOUND: found.wire} if found else {}),
    }
    return _body(queue, {"annotations": words}, {"stopPolicy": policy.wire})


def resume_body(queue: Queue) -> dict[str, Any]:
    """What is applied to end our stop: somebody else's stands again as it did."""
    return _body(queue, {}, {"stopPolicy": queue.found.wire} if queue.found else {})


def _body(queue: Queue, meta: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": CLUSTER_QUEUE.api_version,
        "kind": CLUSTER_QUEUE.kind,
        "metadata": {
            "name": queue.name,
            "uid": queue.uid,
            "resourceVersion": queue.version,
            **meta,
        },
        **({"spec": dict(spec)} if spec else {}),
    }


def _places(groups: list[dict[str, Any]]) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    return [
        ((flavor["name"], one["name"]), one)
        for group in groups
        for flavor in group.get("flavors") or ()
        for one in flavor.get("resources") or ()
    ]
