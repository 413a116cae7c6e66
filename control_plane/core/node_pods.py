"""Which pods of a node have to go before it may be worked on, which stay, and which nobody may end unasked.

The words are those of `kubectl drain` (release 1.36): pods of DaemonSets and of the kubelet's own manifests
stay, pods without a controller go by `force`, pods with an `emptyDir` by `delete_emptydir_data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from control_plane.core.cluster import Object

_MIRROR: Final = "kubernetes.io/config.mirror"
_ENDED: Final = frozenset({"Succeeded", "Failed"})


class DrainPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done to the pods of a node, as its declaration says."""

    force: bool = False
    """End pods that no controller makes again."""
    delete_emptydir_data: bool = False
    """End pods whose local data goes with them."""
    disable_eviction_when_unsafe: bool = False
    """Past the deadline, and only where the hardware is told to be unsafe: delete in place of evicting, which
    asks no PodDisruptionBudget. Each pod keeps its own grace all the same."""


class Stays(StrEnum):
    """Why a pod stays where it is, and does not count."""

    DAEMON_SET = "daemon_set"
    MIRROR = "mirror"
    """Of the kubelet's own manifests."""
    ENDED = "ended"
    """It has finished; only its record is there."""


class Blocks(StrEnum):
    """Why a pod may not be ended by this policy: a person decides."""

    UNMANAGED = "unmanaged"
    """No controller makes it again."""
    EMPTY_DIR = "empty_dir"
    """It has local data."""


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a pod."""

    namespace: str
    name: str
    uid: str
    phase: str
    controller: str = ""
    """Kind of what made it; empty where nobody did."""
    is_mirror: bool = False
    has_empty_dir: bool = False
    is_ending: bool = False
    made_at: str = ""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Sorted(msgspec.Struct, frozen=True, kw_only=True):
    """The pods of a node, by what is to become of them."""

    go: tuple[Pod, ...] = ()
    """To be ended, or ending."""
    stay: Mapping[str, Stays] = {}
    """Pod → why it does not count."""
    block: Mapping[str, Blocks] = {}
    """Pod → why nobody may end it unasked. While there is one, nothing is ended."""

    @property
    def is_clear(self) -> bool:
        """Whether nothing runs there that has to go."""
        return not self.go and not self.block


class _Volume(msgspec.Struct, rename="camel"):
    empty_dir: dict[str, Any] | None = None


class _Spec(msgspec.Struct):
    volumes: list[_Volume] | None = None


class _Status(msgspec.Struct):
    phase: str = ""


def pod_in(thing: Object) -> Pod:
    """A pod as the API server has it."""
    meta = thing.metadata
    spec = msgspec.json.decode(thing.spec, type=_Spec | None) or _Spec()
    status = msgspec.json.decode(thing.status, type=_Status | None) or _Status()
    return Pod(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        phase=status.phase,
        controller=next((each.kind for each in meta.owner_references if each.controller), ""),
        is_mirror=_MIRROR in meta.annotations,
        has_empty_dir=any(volume.empty_dir is not None for volume in spec.volumes or ()),
        is_ending=bool(meta.deletion_timestamp),
        made_at=meta.creation_timestamp,
    )


def sort_pods(pods: Iterable[Pod], policy: DrainPolicy) -> Sorted:
    """What is to become of each pod of a node.

    Every pod is in exactly one of the three; one that nothing is known of goes.
    """
    go: list[Pod] = []
    stay: dict[str, Stays] = {}
    block: dict[str, Blocks] = {}
    for pod in sorted(pods, key=lambda each: each.key):
        if (why := _stays(pod)) is not None:
            stay[pod.key] = why
        elif not pod.is_ending and (what := _blocks(pod, policy)) is not None:
            block[pod.key] = what
        else:
            go.append(pod)
    return Sorted(go=tuple(go), stay=stay, block=block)


def _stays(pod: Pod) -> Stays | None:
    if pod.is_mirror:
        return Stays.MIRROR
    if pod.phase in _ENDED:
        return Stays.ENDED
    return Stays.DAEMON_SET if pod.controller == "DaemonSet" else None


def _blocks(pod: Pod, policy: DrainPolicy) -> Blocks | None:
    if not pod.controller and not policy.force:
        return Blocks.UNMANAGED
    if pod.has_empty_dir and not policy.delete_emptydir_data:
        return Blocks.EMPTY_DIR
    return None
