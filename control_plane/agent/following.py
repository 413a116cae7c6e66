"""Following the one object of a node: list, watch, resume; a wait that grows while the server is away."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from control_plane.api.objects import GpuNodeSpec, GpuNodeStatus
from control_plane.core.cluster import ClusterError, Event, Gone, Object
from control_plane.core.ports import Clock, Rng

_FIRST_S: Final = 1.0
_MOST_S: Final = 60.0


class Contact(StrEnum):
    """What is known of the object."""

    NONE = "none"
    """The server has not answered yet."""
    FOUND = "found"
    NOT_DECLARED = "not_declared"
    """No `GpuNode` names this node."""
    AMBIGUOUS = "ambiguous"
    """More than one does: none of them is obeyed."""
    NOT_UNDERSTOOD = "not_understood"
    """Its spec is of a newer release, or broken."""


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """The object, decoded."""

    name: str
    uid: str
    generation: int
    spec: GpuNodeSpec
    status: GpuNodeStatus


class OneNode(Protocol):
    """What is asked of the API server."""

    async def of_node(self, node: str) -> tuple[tuple[Object, ...], str]:
        """Its objects, and the version."""
        ...

    def watch(self, node: str, version: str) -> AsyncGenerator[Event, None]:
        """What happens to them."""
        ...


class Follower:
    """Tells of the object, whenever it is another one than before. `run` never ends by itself."""

    def __init__(
        self,
        api: OneNode,
        node: str,
        *,
        told: Callable[[Contact, Own | None], None],
        say: Callable[[str], None],
        clock: Clock,
        rng: Rng,
    ) -> None:
        """Nothing is asked before `run`.

        Args:
            api: the API server.
            node: name of this `Node`.
            told: is handed what is known, whenever that changed.
            say: a line for the log.
            clock: the clock.
            rng: for jitter.
        """
        self._api, self._node = api, node
        self._told, self._say = told, say
        self._clock, self._rng = clock, rng
        self._wait_s = _FIRST_S
        self._said = ""

    async def run(self) -> None:
        """Follow it for ever."""
        while True:
            try:
                await self._follow()
            except Gone:
                # What was missed is in the next list; a server that says so again is not asked at once.
                await self._clock.wire_sleep(_FIRST_S * self._rng.uniform(0.5, 1.0))
            except ClusterError as error:
                text = f"{type(error).__name__}: {error}"
                if text != self._said:
                    self._say(f"the API server does not answer: {text}")
                    self._said = text
                await self._clock.wire_sleep(self._wait_s * self._rng.uniform(0.5, 1.0))
                self._wait_s = min(self._wait_s * 2, _MOST_S)

    async def _follow(self) -> None:
        items, version = await self._api.of_node(self._node)
        self._answered()
        held = {item.metadata.uid: item for item in items}
        self._tell(held)
        while True:
            # The server ends a watch every few minutes: it goes on from where it was.
            begun_s = self._clock.wire_s()
            async with contextlib.aclosing(self._api.watch(self._node, version)) as events:
                async for event in events:
                    self._answered()
                    version = event.object.metadata.resource_version or version
                    if event.type == "BOOKMARK":
                        continue
                    if event.type == "DELETED":
                        held.pop(event.object.metadata.uid, None)
                    else:
                        held[event.object.metadata.uid] = event.object
                    self._tell(held)
            if self._clock.wire_s() - begun_s < _FIRST_S:
                # One that ends at once is not asked again at once.
                await self._clock.wire_sleep(_FIRST_S)

    def _answered(self) -> None:
        self._wait_s = _FIRST_S
        if self._said:
            self._say("the API server answers again")
            self._said = ""

    def _tell(self, held: dict[str, Object]) -> None:
        if len(held) != 1:
            self._told(Contact.AMBIGUOUS if held else Contact.NOT_DECLARED, None)
            return
        (item,) = held.values()
        own = understood(item)
        if own is None or own.spec.node_name != self._node:
            self._told(Contact.NOT_UNDERSTOOD, None)
        else:
            self._told(Contact.FOUND, own)


def understood(item: Object) -> Own | None:
    """The object, where its spec is one that this release knows."""
    try:
        spec = msgspec.json.decode(item.spec, type=GpuNodeSpec)
    except msgspec.DecodeError:
        return None
    try:
        status = msgspec.json.decode(item.status, type=GpuNodeStatus | None)
    except msgspec.DecodeError:
        status = None
    meta = item.metadata
    return Own(
        name=meta.name, uid=meta.uid, generation=meta.generation, spec=spec,
        status=status or GpuNodeStatus(),
    )  # fmt: skip
