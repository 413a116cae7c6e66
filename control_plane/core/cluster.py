"""A Kubernetes API as gridplane sees it: objects, events, what a server refuses, and the port to it.

The real adapter is `kube/client.py`, the in-memory twin `simulator/api_server.py`; one conformance suite
holds the two together. Only what is used is here. Wire facts: Kubernetes API concepts, release 1.36.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, Protocol

import msgspec

from control_plane.core.errors import ControlPlaneError

# --- what there is -------------------------------------------------------------------------------


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of object, and where the server has it."""

    group: str
    """Empty for the core group."""
    version: str
    kind: str
    plural: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As it stands in an object."""
        return f"{self.group}/{self.version}" if self.group else self.version


POD = Kind(group="", version="v1", kind="Pod", plural="pods")
NODE = Kind(group="", version="v1", kind="Node", plural="nodes", is_namespaced=False)
PDB = Kind(group="policy", version="v1", kind="PodDisruptionBudget", plural="poddisruptionbudgets")


class Owner(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A reference to the object that an object goes with."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is read of an object's metadata: `managedFields` is half of the bytes, and left out."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
    owner_references: list[Owner] = []


class Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One object; what is below `spec`, `status` and `data` is decoded by who wants it."""

    api_version: str = ""
    kind: str = ""
    metadata: Metadata = Metadata()
    spec: msgspec.Raw = msgspec.Raw(b"null")
    status: msgspec.Raw = msgspec.Raw(b"null")
    data: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def key(self) -> str:
        """`namespace/name`, or the name alone: its place in a cache and in a queue."""
        meta = self.metadata
        return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a list."""

    items: tuple[Object, ...]
    resource_version: str
    """Of the whole list: where a watch goes on from."""
    next: str = ""
    """The token of the next page; empty after the last."""
    remaining: int | None = None
    """How many are still to come, where the server says so."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a watch told."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


Body = Mapping[str, Any]
"""An object as it is sent: plain values, in camelCase."""

# --- what is refused -----------------------------------------------------------------------------


class ClusterError(ControlPlaneError):
    """The API server did not do what it was asked. Who asked backs off and asks again, or says why not."""


class ClusterAway(ClusterError):
    """Nobody answered, the line broke, or the server has an error of its own (5xx)."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        """What the server asked for, where it did."""


class Throttled(ClusterAway):
    """The server has too much to do (429)."""


class DisruptionRefused(Throttled):
    """Its PodDisruptionBudgets do not let a pod go now (429; 500 where it has two): later, or a person."""


class Gone(ClusterError):
    """The resource version, or the page token, is too old (410): list anew."""


class Conflict(ClusterError):
    """Somebody else was first, or owns a field (409): read again, then decide again."""


class Exists(Conflict):
    """An object of this name is there already (409, AlreadyExists)."""


class NotFound(ClusterError):
    """There is no such object, or no such kind (404)."""


class Unauthorized(ClusterError):
    """The credentials are not, or no longer, taken (401)."""


class Rejected(ClusterError):
    """The server does not take this (403): its words say why. A person acts."""


class Invalid(Rejected):
    """It will never take this very content (400, 413, 422, or a field that its schema does not have).

    Sent again unchanged it fails again. Whoever sends it says so, and waits for other content.
    """


# --- the port ------------------------------------------------------------------------------------


class Cluster(Protocol):
    """One API server. Every call raises a `ClusterError`; none of them retries, waits or caches."""

    async def list_page(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        selector: str = "",
        fields: str = "",
        limit: int = 500,
        page: str = "",
    ) -> Page:
        """A part of all objects of a kind, consistent over its pages.

        Args:
            kind: which.
            namespace: only there; `None` for every one.
            selector: of labels, as `kubectl -l` takes it.
            fields: selector of fields that the server has for the kind, as `spec.nodeName=n1` of pods.
            limit: objects in the page, at most.
            page: `next` of the page before.

        Raises:
            Gone: the token has expired: begin anew.
        """
        ...

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str | None = None,
        selector: str = "",
        timeout_s: float = 300.0,
    ) -> AsyncGenerator[Event, None]:
        """What happens from a resource version on, bookmarks included; it ends when the server ends it.

        Close it (`contextlib.aclosing`): it holds a connection. From a version that is still to come (of
        before a restore of etcd) it tells nothing, not even bookmarks, and raises nothing.

        Raises:
            Gone: the resource version is too old.
        """
        ...

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Object:
        """One object, as it is at this moment."""
        ...

    async def create(self, kind: Kind, body: Body) -> Object:
        """A new object.

        Raises:
            Exists: there is one of that name.
        """
        ...

    async def replace(self, kind: Kind, body: Body, *, subresource: str = "") -> Object:
        """The whole object, which must carry the resource version that it was read at.

        A Lease that is not there is made anew, unless the body carries its uid as well.

        Raises:
            Conflict: it has changed since.
        """
        ...

    async def apply(
        self, kind: Kind, body: Body, *, manager: str, force: bool = True, subresource: str = ""
    ) -> Object:
        """Server-side apply: these fields are the manager's; those that it gave up go.

        An object that is not there is made, unless the body carries a uid. A resource version in it holds
        for one that is there; with a subresource the uid is not looked at.

        Raises:
            Conflict: without `force`, another manager owns one of the fields.
        """
        ...

    async def delete(
        self, kind: Kind, name: str, *, namespace: str | None = None, uid: str = ""
    ) -> None:
        """Delete an object in the background.

        Args:
            kind: which kind.
            name: its name.
            namespace: where it is.
            uid: only if it is still the very same object.

        Raises:
            Conflict: it is another one.
        """
        ...

    async def evict(self, name: str, *, namespace: str, uid: str = "") -> None:
        """Ask that a pod be ended with its own grace, where its disruption budget allows that.

        It is there until it has ended: an eviction that was taken is no evidence that it has gone.

        Args:
            name: of the pod.
            namespace: where it is.
            uid: only if it is still the very same pod.

        Raises:
            DisruptionRefused: its budget does not allow it now.
            NotFound: it has gone.
            Conflict: another one has its name.
        """
        ...
