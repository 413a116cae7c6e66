"""The port `Cluster`, counted: what was asked of the API server, and how it ended."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator

from control_plane.core.cluster import (
    POD,
    Body,
    Cluster,
    ClusterAway,
    ClusterError,
    Conflict,
    DisruptionRefused,
    Event,
    Gone,
    Kind,
    NotFound,
    Object,
    Page,
    Rejected,
    Throttled,
    Unauthorized,
)

_WORDS: tuple[tuple[type[ClusterError], str], ...] = (
    (DisruptionRefused, "budget"),
    (Throttled, "throttled"),
    (ClusterAway, "away"),
    (Conflict, "conflict"),
    (Gone, "gone"),
    (NotFound, "not_found"),
    (Rejected, "rejected"),
    (Unauthorized, "unauthorized"),
)


class Counted:
    """Passes everything on."""

    def __init__(self, cluster: Cluster) -> None:
        self.results: Counter[tuple[str, str, str]] = Counter()
        """(verb, plural of the kind, how it ended) → requests."""
        self._cluster = cluster

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
        """See `core.cluster.Cluster`."""
        with self._counts("list", kind):
            return await self._cluster.list_page(
                kind, namespace=namespace, selector=selector, fields=fields, limit=limit, page=page
            )

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str | None = None,
        selector: str = "",
        timeout_s: float = 300.0,
    ) -> AsyncGenerator[Event, None]:
        """See `core.cluster.Cluster`."""
        events = self._cluster.watch(
            kind,
            resource_version=resource_version,
            namespace=namespace,
            selector=selector,
            timeout_s=timeout_s,
        )
        with self._counts("watch", kind):
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Object:
        """See `core.cluster.Cluster`."""
        with self._counts("get", kind):
            return await self._cluster.get(kind, name, namespace=namespace)

    async def create(self, kind: Kind, body: Body) -> Object:
        """See `core.cluster.Cluster`."""
        with self._counts("create", kind):
            return await self._cluster.create(kind, body)

    async def replace(self, kind: Kind, body: Body, *, subresource: str = "") -> Object:
        """See `core.cluster.Cluster`."""
        with self._counts("replace", kind):
            return await self._cluster.replace(kind, body, subresource=subresource)

    async def apply(
        self, kind: Kind, body: Body, *, manager: str, force: bool = True, subresource: str = ""
    ) -> Object:
        """See `core.cluster.Cluster`."""
        with self._counts("apply", kind):
            return await self._cluster.apply(
                kind, body, manager=manager, force=force, subresource=subresource
            )

    async def delete(
        self, kind: Kind, name: str, *, namespace: str | None = None, uid: str = ""
    ) -> None:
        """See `core.cluster.Cluster`."""
        with self._counts("delete", kind):
            await self._cluster.delete(kind, name, namespace=namespace, uid=uid)

    async def evict(self, name: str, *, namespace: str, uid: str = "") -> None:
        """See `core.cluster.Cluster`."""
        with self._counts("evict", POD):
            await self._cluster.evict(name, namespace=namespace, uid=uid)

    @contextlib.contextmanager
    def _counts(self, verb: str, kind: Kind) -> Iterator[None]:
        """What was cancelled has not ended, and is not counted."""
        try:
            yield
        except GeneratorExit:  # who watched has seen enough
            self.results[verb, kind.plural, "ok"] += 1
            raise
        except ClusterError as error:
            word = next((word for type_, word in _WORDS if isinstance(error, type_)), "error")
            self.results[verb, kind.plural, word] += 1
            raise
        self.results[verb, kind.plural, "ok"] += 1
