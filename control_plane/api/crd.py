"""CustomResourceDefinitions, made from the classes of `objects`: schemas as an API server takes them.

msgspec writes JSON Schema 2020-12; a CRD takes a subset of OpenAPI 3.0. What differs: no references, no
`anyOf` with null, no numeric `exclusiveMinimum`, no `contentEncoding`, no default `null`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from control_plane.api.objects import GROUP, KINDS, VERSION, Kind


def definitions() -> dict[str, dict[str, Any]]:
    """The CRD of every kind, by file name."""
    return {f"{kind.plural}.{GROUP}.yaml": definition(kind) for kind in KINDS}


def definition(kind: Kind) -> dict[str, Any]:
    """The CRD of one kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "categories": ["gridplane"],
                **({"shortNames": list(kind.short)} if kind.short else {}),
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": _object(kind)},
                    "additionalPrinterColumns": [*map(_column, kind.columns), _AGE],
                    **(
                        {"selectableFields": [{"jsonPath": f".spec.{f}"} for f in kind.selectable]}
                        if kind.selectable
                        else {}
                    ),
                }
            ],
        },
    }


_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _column(column: Any) -> dict[str, Any]:
    told = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return {**told, "priority": 1} if column.wide else told


def _object(kind: Kind) -> dict[str, Any]:
    spec = structural(kind.spec)
    rules = [{"rule": rule, "message": message} for rule, message in kind.spec_rules]
    if rules:
        spec["x-kubernetes-validations"] = rules
    return {
        "type": "object",
        "description": (kind.spec.__doc__ or "").strip(),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural(kind.status),
        },
    }


def structural(part: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of a class as a CRD takes it."""
    schema = msgspec.json.schema(part)
    found = _plain(schema, schema.get("$defs", {}))
    assert isinstance(found, dict)  # noqa: S101 - a class is an object
    return found


def _plain(node: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """One node, with everything in place that it refers to."""
    if "anyOf" in node:
        return _optional(node, defs)
    if "$ref" in node:
        named = defs[node["$ref"].rpartition("/")[2]]
        beside = {key: value for key, value in node.items() if key not in {"$ref", "$defs"}}
        return {**_plain(named, defs), **_kept(beside)}
    found = _kept(node)
    if "enum" in found and "type" not in found:
        found["type"] = "string"
    if "items" in node:
        found["items"] = _plain(node["items"], defs)
    if "properties" in node:
        found["properties"] = {
            key: _plain(value, defs) for key, value in node["properties"].items()
        }
    if isinstance(node.get("additionalProperties"), Mapping):
        found["additionalProperties"] = _plain(node["additionalProperties"], defs)
    return found


def _optional(node: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """`T | None`: the field may be left out; `null` is dropped by the API server."""
    kinds = [one for one in node["anyOf"] if one.get("type") != "null"]
    assert len(kinds) == 1, "a field is of one kind, or left out"  # noqa: S101 - our own classes
    beside = {key: value for key, value in node.items() if key != "anyOf"}
    return {**_plain(kinds[0], defs), **_kept(beside)}


_DROPPED = frozenset(
    {"title", "$defs", "$ref", "items", "properties", "additionalProperties", "contentEncoding"}
)


def _kept(node: Mapping[str, Any]) -> dict[str, Any]:
    """The plain keys of a node, in the words of OpenAPI 3.0."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        match key:
            case "exclusiveMinimum" | "exclusiveMaximum":
                found[key.replace("exclusiveM", "m")] = value
                found[key] = True
            case "default" if not value:
                continue  # What is not there is not there: no zeros and empty lists are stored.
            case "required" if not value:
                continue
            case _ if key in _DROPPED:
                continue
            case _:
                found[key] = value
    if "contentEncoding" in node:
        # Not `format: byte`: rules on such a field decode base64 as URLs write it, and refuse a plus sign
        # (seen with an API server of 1.36.3).
        found["pattern"] = "^[A-Za-z0-9+/]+={0,2}$"
    return found
