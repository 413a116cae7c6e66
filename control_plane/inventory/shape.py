"""Plain values → typed documents; of a value that does not fit, everything that is wrong with it.

msgspec decides, at 40 times the speed; the generated JSON Schema is asked only to enumerate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from control_plane.api.schema import schema_of
from control_plane.api.v1alpha1 import Document as Doc
from control_plane.inventory import errors
from control_plane.inventory.errors import Code
from control_plane.inventory.problems import Problems
from control_plane.inventory.source import quoted
from control_plane.inventory.text import Document, Step

T = TypeVar("T", bound=Doc)


class File(NamedTuple, Generic[T]):
    """One file: as it was written, and as its class."""

    doc: Document
    data: T


def read_shape(doc: Document, kind: type[T], problems: Problems) -> File[T] | None:
    """The document as its class, or `None` and findings."""
    try:
        return File(doc, msgspec.convert(doc.value, kind))
    except msgspec.ValidationError as error:
        found = False
        for one in _enumerate(doc.value, kind):
            _note(doc, one, problems)
            found = True
        if not found:  # the schema is laxer than the class: its own words then
            problems.add(errors.BAD_FORMAT, doc, doc.spot(), str(error))
        return None


def _enumerate(value: Any, kind: type[Doc]) -> Iterator[Any]:
    """Each `jsonschema.ValidationError`: its own types are looser than what they hold."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - slow to import, seldom needed

    yield from Draft202012Validator(schema_of(kind)).iter_errors(value)


def _note(doc: Document, error: Any, problems: Problems) -> None:
    if error.validator == "anyOf" and error.context:
        # `X | null`: what is wrong is what keeps it from being an X.
        branches = [e for e in error.context if e.validator_value != "null"]
        for branch in branches or error.context[:1]:
            _note(doc, branch, problems)
        return
    path: tuple[Step, ...] = tuple(error.absolute_path)
    rule, instance = str(error.validator), error.instance
    if "propertyNames" in error.absolute_schema_path:
        _bad_key(doc, path, error, problems)
        return
    match rule:
        case "additionalProperties":
            _unknown_keys(doc, path, error, problems)
        case "required":
            _missing_key(doc, path, error, problems)
        case _:
            code, expected = _EXPECTED.get(rule, (errors.BAD_FORMAT, _as_told))
            what = f"{_label(path)} is {_told(instance)}; expected {expected(error)}"
            known = error.validator_value if rule == "enum" else ()
            word = instance if rule == "enum" and isinstance(instance, str) else None
            problems.add(code, doc, doc.spot(*path), what, word=word, known=known)


def _unknown_keys(doc: Document, path: tuple[Step, ...], error: Any, problems: Problems) -> None:
    known = error.schema["properties"]
    for key in error.instance:
        if key not in known:
            what = f"{_label(path)} has no key {quoted(key)}"
            fix = f"correct the key or remove it; known are {', '.join(sorted(known))}"
            spot = doc.key(*path, key)
            problems.add(errors.UNKNOWN_KEY, doc, spot, what, fix=fix, word=key, known=known)


def _missing_key(doc: Document, path: tuple[Step, ...], error: Any, problems: Problems) -> None:
    key = error.message.split("'")[1]
    name = error.instance.get("id") or error.instance.get("name")
    who = f"{_label(path)} ({quoted(name)})" if isinstance(name, str) else _label(path)
    what = f"{who} lacks the key '{key}'"
    expected = error.schema["properties"].get(key, {}).get("description")
    fix = f"add '{key}': {expected}" if expected else f"add '{key}'"
    problems.add(errors.MISSING_KEY, doc, doc.spot(*path), what, fix=fix)


def _bad_key(doc: Document, path: tuple[Step, ...], error: Any, problems: Problems) -> None:
    key = str(error.instance)
    rule = error.schema
    if "enum" in rule:
        what = f"{_label(path)} has the key {quoted(key)}; expected one of {_list(rule['enum'])}"
        spot = doc.key(*path, key)
        problems.add(errors.NOT_A_CHOICE, doc, spot, what, word=key, known=rule["enum"])
        return
    what = f"key {quoted(key)} of {_label(path)}; expected {_as_described(rule)}"
    problems.add(errors.BAD_FORMAT, doc, doc.key(*path, key), what)


def _label(path: Sequence[Step]) -> str:
    if not path:
        return "the file"
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")


def _told(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {quoted(value)}"
        case int() | float():
            return f"the number {value}"
        case list():
            return f"a list of {len(value)}"
        case _:
            return "a mapping"


_KINDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def _list(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _as_described(schema: Mapping[str, Any]) -> str:
    described = str(schema.get("description", "")).rstrip(".")
    if not described:
        return f"the form {schema.get('pattern')}"
    is_word = described[1:2].islower() or described[1:2] == "-"
    return described[0].lower() + described[1:] if is_word else described


def _as_told(error: Any) -> str:
    return f"{error.validator} {error.validator_value}"


_EXPECTED: Final[Mapping[str, tuple[Code, Any]]] = {
    "type": (errors.WRONG_TYPE, lambda e: _KINDS.get(str(e.validator_value), "another kind")),
    "enum": (errors.NOT_A_CHOICE, lambda e: f"one of {_list(e.validator_value)}"),
    "const": (errors.NOT_A_CHOICE, lambda e: str(e.validator_value)),
    "pattern": (errors.BAD_FORMAT, lambda e: _as_described(e.schema)),
    "minimum": (errors.OUT_OF_RANGE, lambda e: f"at least {e.validator_value}"),
    "maximum": (errors.OUT_OF_RANGE, lambda e: f"at most {e.validator_value}"),
    "exclusiveMinimum": (errors.OUT_OF_RANGE, lambda e: f"more than {e.validator_value}"),
    "exclusiveMaximum": (errors.OUT_OF_RANGE, lambda e: f"less than {e.validator_value}"),
    "minLength": (errors.BAD_LENGTH, lambda e: f"at least {e.validator_value} characters"),
    "maxLength": (errors.BAD_LENGTH, lambda e: f"at most {e.validator_value} characters"),
    "minItems": (errors.BAD_LENGTH, lambda e: f"at least {e.validator_value} entries"),
    "maxItems": (errors.BAD_LENGTH, lambda e: f"at most {e.validator_value} entries"),
    "minProperties": (errors.BAD_LENGTH, lambda e: f"at least {e.validator_value} keys"),
}
