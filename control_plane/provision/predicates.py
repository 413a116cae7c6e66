"""What must hold of an object, said once: evaluated here, and written as CEL for an API server.

Both readings have to agree: `tests/stacks/test_admission.py` asks a real API server. Paths are dotted names
of mappings. A part that is missing reads as empty text, false, zero, or an empty list or mapping.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Predicate(Protocol):
    """A yes or no about a value of JSON."""

    def holds(self, value: Any) -> bool:
        """Whether it holds."""

    def cel(self, variable: str, depth: int = 0) -> str:
        """The same as CEL about `variable`; `depth` keeps the names of nested variables apart."""


class AtLeast(msgspec.Struct, frozen=True):
    """A number is that large."""

    path: str
    least: int

    def holds(self, value: Any) -> bool:
        """Whether it is."""
        found = _read(value, self.path)
        return isinstance(found, int | float) and found >= self.least

    def cel(self, variable: str, depth: int = 0) -> str:
        """Of a number or nothing."""
        return f"{_optional(variable, self.path)}.orValue(0) >= {self.least}"


class Zero(msgspec.Struct, frozen=True):
    """A count is zero."""

    path: str

    def holds(self, value: Any) -> bool:
        """Whether it is not there, or zero."""
        return not _read(value, self.path)

    def cel(self, variable: str, depth: int = 0) -> str:
        """Of a number or nothing."""
        return f"{_optional(variable, self.path)}.orValue(0) == 0"


class Never(msgspec.Struct, frozen=True):
    """A switch is off."""

    path: str

    def holds(self, value: Any) -> bool:
        """Whether it is not there, or false."""
        return not _read(value, self.path)

    def cel(self, variable: str, depth: int = 0) -> str:
        """Of a boolean or nothing."""
        return f"!{_optional(variable, self.path)}.orValue(false)"


class Empty(msgspec.Struct, frozen=True):
    """A text is empty."""

    path: str

    def holds(self, value: Any) -> bool:
        """Whether it is not there, or empty."""
        return not _read(value, self.path)

    def cel(self, variable: str, depth: int = 0) -> str:
        """Of a text or nothing."""
        return f'{_optional(variable, self.path)}.orValue("") == ""'


class Unlike(msgspec.Struct, frozen=True):
    """A text does not match an expression (RE2, anywhere in the text)."""

    path: str
    pattern: str

    def holds(self, value: Any) -> bool:
        """Whether it does not."""
        return re.search(self.pattern, _read(value, self.path) or "") is None

    def cel(self, variable: str, depth: int = 0) -> str:
        """Of a text or nothing."""
        return f'!{_optional(variable, self.path)}.orValue("").matches({json.dumps(self.pattern)})'


class Without(msgspec.Struct, frozen=True):
    """A list or a mapping is empty, or not there."""

    path: str

    def holds(self, value: Any) -> bool:
        """Whether it is."""
        return not _read(value, self.path)

    def cel(self, variable: str, depth: int = 0) -> str:
        """Of a list or a mapping."""
        found = _optional(variable, self.path)
        return f"(!{found}.hasValue() || size({found}.value()) == 0)"


class KeysUnlike(msgspec.Struct, frozen=True):
    """No key of a mapping matches an expression."""

    path: str
    pattern: str

    def holds(self, value: Any) -> bool:
        """Whether none does."""
        return not any(re.search(self.pattern, key) for key in _read(value, self.path) or {})

    def cel(self, variable: str, depth: int = 0) -> str:
        """Of a mapping or nothing."""
        name = f"k{depth}"
        pattern = json.dumps(self.pattern)
        return f"{_optional(variable, self.path)}.orValue({{}}).all({name}, !{name}.matches({pattern}))"


class OnlyListed(msgspec.Struct, frozen=True):
    """Whatever matches an expression, in a text or in any text of a mapping, is in a list."""

    path: str
    pattern: str
    listed: tuple[str, ...]
    is_mapping: bool = False

    def holds(self, value: Any) -> bool:
        """Whether it is."""
        found = _read(value, self.path)
        texts = list((found or {}).values()) if self.is_mapping else [found or ""]
        return all(hit in self.listed for text in texts for hit in re.findall(self.pattern, text))

    def cel(self, variable: str, depth: int = 0) -> str:
        """Of a text, or of a mapping of texts."""
        hit, listed = f"h{depth}", json.dumps(list(self.listed))
        each = f".findAll({json.dumps(self.pattern)}).all({hit}, {hit} in {listed})"
        found = _optional(variable, self.path)
        if not self.is_mapping:
            return f'{found}.orValue(""){each}'
        return f"{found}.orValue({{}}).all(k{depth}, {found}.value()[k{depth}]{each})"


class Every(msgspec.Struct, frozen=True):
    """Something holds of each item of some lists."""

    paths: tuple[str, ...]
    of: Predicate

    def holds(self, value: Any) -> bool:
        """Whether it does."""
        return all(self.of.holds(item) for path in self.paths for item in _read(value, path) or [])

    def cel(self, variable: str, depth: int = 0) -> str:
        """One `all` for each list."""
        name = f"x{depth}"
        inner = self.of.cel(name, depth + 1)
        each = (f"{_optional(variable, p)}.orValue([]).all({name}, {inner})" for p in self.paths)
        return " && ".join(each)


class Both(msgspec.Struct, frozen=True):
    """All of them hold."""

    of: tuple[Predicate, ...]

    def holds(self, value: Any) -> bool:
        """Whether they do."""
        return all(one.holds(value) for one in self.of)

    def cel(self, variable: str, depth: int = 0) -> str:
        """In their order."""
        return " && ".join(f"({one.cel(variable, depth)})" for one in self.of)


class Either(msgspec.Struct, frozen=True):
    """At least one of them holds."""

    of: tuple[Predicate, ...]

    def holds(self, value: Any) -> bool:
        """Whether one does."""
        return any(one.holds(value) for one in self.of)

    def cel(self, variable: str, depth: int = 0) -> str:
        """In their order."""
        return " || ".join(f"({one.cel(variable, depth)})" for one in self.of)


def _read(value: Any, path: str) -> Any:
    """The value at a path; `None` where a part of it is missing."""
    for step in _steps(path):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value


def _optional(variable: str, path: str) -> str:
    return variable + "".join(f".?{step}" for step in _steps(path))


def _steps(path: str) -> Iterator[str]:
    for step in path.split("."):
        if not _NAME.fullmatch(step):
            raise ValueError(f"{path!r} is no path of plain names")
        yield step
