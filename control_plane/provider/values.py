"""Pulumi's values to plain ones and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc

from control_plane.core.errors import ControlPlaneError

# As it goes over the wire: what PropertyValue.computed() of 3.259 makes is neither marshalled nor read.
_NOT_KNOWN = PropertyValue(rpc.UNKNOWN)


def plain(values: Mapping[str, PropertyValue]) -> dict[str, Any]:
    """Properties as JSON has them: whole numbers are whole again, which Pulumi's are not.

    Raises:
        ControlPlaneError: a value is of a kind that no input of ours is, or not known yet.
    """
    return {key: _plain(value) for key, value in values.items()}


def wrapped(
    values: Mapping[str, Any],
    *,
    secrets: Collection[str] = (),
    unknown: Collection[str] = (),
) -> dict[str, PropertyValue]:
    """Plain values as Pulumi takes them.

    Args:
        values: JSON's.
        secrets: names of those that are marked as secret.
        unknown: names of those that are not known yet, whether they are in `values` or not.
    """
    found = {key: _wrapped(value).with_secret(key in secrets) for key, value in values.items()}
    return found | dict.fromkeys(unknown, _NOT_KNOWN)


def _plain(value: PropertyValue) -> Any:
    inner = value.value
    match inner:
        case rpc.UNKNOWN:
            raise ControlPlaneError(
                "an input is not known before another resource is made: gridplane's inputs come from the "
                "inventory alone, so that a preview tells the truth"
            )
        case bool() | str() | None:
            return inner
        case float() | int():
            return int(inner) if float(inner).is_integer() else inner
        case list() | tuple():
            return [_plain(item) for item in inner]
        case Mapping():
            return {str(key): _plain(item) for key, item in inner.items()}
        case _:
            raise ControlPlaneError(f"gridplane's resources take no {type(inner).__name__}")


def _wrapped(value: Any) -> PropertyValue:
    match value:
        case list() | tuple():
            return PropertyValue([_wrapped(item) for item in value])
        case dict():
            return PropertyValue({key: _wrapped(item) for key, item in value.items()})
        case int() if not isinstance(value, bool):
            return PropertyValue(float(value))
        case _:
            return PropertyValue(value)
