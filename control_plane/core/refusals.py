"""What an API server says instead of an answer, as the errors of the port."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from control_plane.core.cluster import (
    ClusterAway,
    ClusterError,
    Conflict,
    DisruptionRefused,
    Exists,
    Gone,
    Invalid,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
)

_UNTYPED: Final = "failed to create typed patch object"
"""How a server-side apply begins its words where the patch does not fit the schema: a field that an older CRD
does not have. It comes as a 500 without a reason (kubernetes/kubernetes#139253), as of release 1.36."""
_BUDGET: Final = "DisruptionBudget"
"""Cause of a 429 that is about one pod, and not about a server with too much to do."""
_TWO_BUDGETS: Final = "This pod has more than one PodDisruptionBudget"
"""How an eviction that nobody can decide about is refused: a 500 without a reason, as of release 1.36."""


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: int = 0
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


_status = msgspec.json.Decoder(_Status)


def refusal(code: int, said: bytes, headers: Mapping[str, str]) -> ClusterError:
    """What the server did instead; a code of 0 is in what it said."""
    try:
        status = _status.decode(said)
    except msgspec.MsgspecError:
        status = _Status(message=said[:200].decode(errors="replace"))
    code = code or status.code
    text = f"{code} {status.reason}: {status.message}"
    after = headers.get("Retry-After", "")
    asked_s = float(after) if after.isdecimal() else None
    if asked_s is None and status.details and status.details.retry_after_seconds:
        asked_s = float(status.details.retry_after_seconds)
    match code:
        case HTTPStatus.UNAUTHORIZED:
            return Unauthorized(text)
        case HTTPStatus.NOT_FOUND:
            return NotFound(text)
        case HTTPStatus.CONFLICT:
            return Exists(text) if status.reason == "AlreadyExists" else Conflict(text)
        case HTTPStatus.GONE:
            return Gone(text)
        case HTTPStatus.TOO_MANY_REQUESTS:
            for cause in (status.details.causes if status.details else None) or ():
                if cause.reason == _BUDGET:
                    return DisruptionRefused(f"{text} {cause.message}".rstrip(), asked_s)
            return Throttled(text, asked_s)
        case (
            HTTPStatus.BAD_REQUEST
            | HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            | HTTPStatus.UNPROCESSABLE_ENTITY
        ):
            return Invalid(text)
        case _ if not status.reason and status.message.startswith(_TWO_BUDGETS):
            return DisruptionRefused(text, asked_s)
        case _ if not status.reason and status.message.startswith(_UNTYPED):
            return Invalid(text)
        case _ if code >= HTTPStatus.INTERNAL_SERVER_ERROR or not code:
            return ClusterAway(text, asked_s)
        case _:
            return Rejected(text)
