"""A secret that cannot be printed by accident."""

from __future__ import annotations


class Secret:
    """Holds one secret text. `repr`, `str` and format give `***`; only `reveal()` gives the text.

    Compared by value, so tests can check it; not hashable, not picklable, not encodable.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself. Callers: drivers, at the moment of use."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> str:
        raise TypeError("a Secret does not leave the process")
