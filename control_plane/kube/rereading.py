"""Read, make, write: anew where somebody else wrote in between, for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from control_plane.core.cluster import Conflict

TRIES: Final = 5
"""Kubelets and controllers write to the same objects: so often they are read anew before somebody is told."""
T = TypeVar("T")


async def unless_changed(once: Callable[[], Awaitable[T]], *, else_: str) -> T:
    """What came of the first time in which nobody wrote in between.

    Args:
        once: reads, makes and writes onto the version that it read.
        else_: told where others keep writing.

    Raises:
        Conflict: others keep writing.
        ClusterError: the API server did not do it, or perhaps did: ask again.
    """
    for _ in range(TRIES):
        try:
            return await once()
        except Conflict:
            continue
    raise Conflict(else_)
