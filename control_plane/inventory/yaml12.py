"""Plain scalars by the core schema of YAML 1.2.2 (section 10.3.2): `no` is a word, `22:30` is text."""

from __future__ import annotations

import re
from typing import Final

Scalar = None | bool | int | float | str

_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_STARTS: Final = frozenset("0123456789+-.")
_INT: Final = re.compile(r"[-+]?[0-9]+")
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

DIGITS_MAX: Final = 40
"""A longer number is no quantity; converting one of a million digits would take minutes."""


class TooLong(ValueError):
    """A number of more than `DIGITS_MAX` characters."""


def resolve(text: str) -> Scalar:
    """The value of a plain scalar.

    Raises:
        TooLong: it reads as a number, but as none that anybody meant.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _STARTS:
        return text
    if len(text) > DIGITS_MAX:
        if text[:DIGITS_MAX].lstrip("+-").isdigit() and _FLOAT.fullmatch(text):
            raise TooLong(text)
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
