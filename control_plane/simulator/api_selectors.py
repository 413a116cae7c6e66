"""Label selectors, as `kubectl -l` takes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from control_plane.core.cluster import Invalid, Object

_TERM = re.compile(
    r"\s*(?:!(?P<absent>[^\s,=!()]+)"
    r"|(?P<key>[^\s,=!()]+)\s*(?:(?P<op>==|=|!=|\b(?:in|notin)(?=\s*\())\s*"
    r"(?:\((?P<values>[^)]*)\)|(?P<value>[^\s,()]*)))?)\s*(?:,|$)"
)

Matches = Callable[[Object], bool]


def selected(namespace: str | None, selector: str) -> Matches:
    """Whether an object is in a namespace and meets a label selector.

    Raises:
        Invalid: the selector cannot be read.
    """
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
        return namespace in {None, meta.namespace} and all(term(meta.labels) for term in terms)

    return matches


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
