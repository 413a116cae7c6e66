"""What was sent, held against what an API server keeps of it.

A definition that is older than what is sent drops the fields that it does not know, and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def pruned(sent: Any, kept: Any, path: str = "") -> tuple[str, ...]:
    """Paths of what was sent and is not there, or is there with another value.

    What the server added is not looked at. Nothing, false, zero and what is empty may be left out.
    """
    match sent:
        case Mapping():
            if kept is not None and not isinstance(kept, Mapping):
                return (path,)
            found: list[str] = []
            for key, value in sent.items():
                below = None if kept is None else kept.get(key)
                found += pruned(value, below, f"{path}.{key}" if path else str(key))
            return tuple(found)
        case str() | bytes():
            return () if sent == kept or (not sent and kept is None) else (path,)
        case Sequence():
            if not isinstance(kept, Sequence) or len(kept) < len(sent):
                return (path,) if sent else ()
            return tuple(
                lost
                for index, value in enumerate(sent)
                for lost in pruned(value, kept[index], f"{path}[{index}]")
            )
        case _:
            return () if sent == kept or (not sent and kept is None) else (path,)


def said_of(name: str, lost: Sequence[str]) -> str:
    """The sentence for who reads it."""
    return (
        f"{name}: the API server keeps {', '.join(lost)} otherwise than it was sent. Its definition is older "
        "than what was sent, or somebody else writes it: compare `kubectl get -o yaml` with what is "
        "declared, and upgrade the definition first"
    )
