"""What a process that nobody watches says: one thing at a time, with its kind and its fields."""

from __future__ import annotations

from typing import Literal, Protocol

Level = Literal["info", "warning", "error"]


class Say(Protocol):
    """Where it is said. What writes it adds time and site."""

    def __call__(
        self, message: str, /, *, level: Level = "info", kind: str = "controller", **fields: object
    ) -> None:
        """Say one thing.

        Args:
            message: for people, in one sentence; it names what the fields name.
            level: `warning` where somebody should look, `error` where something is broken.
            kind: one word for what it is about, such as `leader`, `revision` or `page`.
            fields: plain values, for machines.
        """
        ...


def silent(
    message: str, /, *, level: Level = "info", kind: str = "controller", **fields: object
) -> None:
    """Nobody listens."""
