"""Selectors: of labels as `kubectl -l` takes them, of fields as `--field-selector` does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from control_plane.core.cluster import Invalid, Object

_TERM = re.compile(
    r"\s*(?:!(?P<absent>[^\s,=!()]+)"
    r"|(?P<key>[^\s,=!()]+)\s*(?:(?P<op>==|=|!=|\b(?:in|notin)(?=\s*\())\s*"
    r"(?:\((?P<values>[^)]*)\)|(?P<value>[^\s,()]*)))?)\s*(?:,|$)"
)

Matches = Callable[[Object], bool]


class _Bound(msgspec.Struct, rename="camel"):
    node_name: str = ""


def _is_on(thing: Object, node: str) -> bool:
    if node.encode() not in bytes(thing.spec):
        return False  # hundreds of agents watch, each for its own node
    spec = msgspec.json.decode(thing.spec, type=_Bound | None)
    return (spec.node_name if spec else "") == node


_FIELDS: dict[str, Callable[[Object, str], bool]] = {
    "metadata.name": lambda thing, name: thing.metadata.name == name,
    "metadata.namespace": lambda thing, name: thing.metadata.namespace == name,
    "spec.nodeName": _is_on,
}
"""Those that are used; a real server has a few more for each kind."""


def selected(namespace: str | None, selector: str, fields: str = "") -> Matches:
    """Whether an object is in a namespace and meets a label selector, and one of fields.

    Raises:
        Invalid: a selector cannot be read, or names a field that is not selected by.
    """
    wanted = [_field(term) for term in fields.split(",") if term]
    terms: list[Callable[[Mapping[str, str]], bool]] = []
    at = 0
    while at < len(selector):
        term = _TERM.match(selector, at)
        if term is None:
            raise Invalid(f"unable to parse requirement: {selector[at:]!r}")
        terms.append(_term(**term.groupdict()))
        at = term.end()

    def matches(thing: Object) -> bool:
        meta = thing.metadata
        return (
            namespace in {None, meta.namespace}
            and all(term(meta.labels) for term in terms)
            and (all(is_so(thing, value) for is_so, value in wanted))
        )

    return matches


def _field(term: str) -> tuple[Callable[[Object, str], bool], str]:
    name, equals, value = term.partition("=")
    if name not in _FIELDS or not equals:
        raise Invalid(f"field label not supported: {term!r}")
    return _FIELDS[name], value


def _term(
    absent: str | None, key: str, op: str | None, value: str, values: str
) -> Callable[[Mapping[str, str]], bool]:
    if absent is not None:
        return lambda labels: absent not in labels
    if op is None:
        return lambda labels: key in labels
    wanted = {one.strip() for one in values.split(",")} if "in" in op else {value}
    if op in {"!=", "notin"}:
        return lambda labels: labels.get(key) not in wanted
    return lambda labels: labels.get(key) in wanted
