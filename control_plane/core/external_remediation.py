"""A node that NVSentinel hands over by an `ExternalRemediationRequest`: what is asked, how it is answered.

Wire form: `nvsentinel.dgxc.nvidia.com/v1`, cluster-scoped, after NVSentinel's tutorial on external
remediation (v1.24). Fields after its CRD, whose older snapshots have the group `nvsentinel.nvidia.com`;
ADR-040 is older still and differs. `janitor` taints the node and writes `NVSentinelOwnershipReleased`; who
repairs writes `ExternalRemediationComplete`. True gives the node back, False keeps it out until a person
deletes the request. `status.conditions` is one value: it is written whole.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from control_plane.core.cluster import Kind, Object
from control_plane.core.moments import moment_text, seconds_in

REQUEST: Final = Kind(
    group="nvsentinel.dgxc.nvidia.com", version="v1", kind="ExternalRemediationRequest",
    plural="externalremediationrequests", is_namespaced=False,
)  # fmt: skip
RELEASED: Final = "NVSentinelOwnershipReleased"
COMPLETE: Final = "ExternalRemediationComplete"
_MESSAGE_MAX: Final = 1_024


class Answer(StrEnum):
    """What the request has been answered; the values are the condition's status."""

    NONE = "Unknown"
    DONE = "True"
    FAILED = "False"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One node that was handed over."""

    name: str
    uid: str
    version: str
    generation: int
    node: str
    action: str
    """What NVSentinel recommends: `RESTART_BM`, `COMPONENT_RESET`, `CUSTOM` …, or the number of it."""
    custom_action: str
    check: str
    codes: tuple[str, ...]
    """Error codes, as `79`."""
    message: str
    since_s: float
    """When it was released, or made where that is not told, by clocks of the cluster."""
    is_released: bool
    """Only then is the node ours to work on."""
    answer: Answer
    reason: str
    """Of the answer."""
    said: str
    """Message of the answer."""
    is_going: bool
    """It is being deleted: NVSentinel takes the node back."""
    status: dict[str, Any]
    """All of it, as it is sent back."""

    @property
    def is_open(self) -> bool:
        """Whether somebody is to work on it."""
        return bool(
            self.node and self.is_released and self.answer is Answer.NONE and not self.is_going
        )


class _Event(msgspec.Struct, rename="camel"):
    node_name: str = ""
    recommended_action: str | int = ""
    custom_recommended_action: str = ""
    check_name: str = ""
    error_code: list[str] | None = None
    message: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    health_event: _Event | None = None


def request_in(thing: Object) -> Request:
    """A request as the API server has it.

    Raises:
        msgspec.MsgspecError: it does not have the shape of one.
    """
    spec = msgspec.json.decode(thing.spec, type=_Spec | None) or _Spec()
    event = spec.health_event or _Event()
    status = msgspec.json.decode(thing.status, type=dict[str, Any] | None) or {}
    known = {one.get("type"): one for one in status.get("conditions") or () if one}
    complete, released = known.get(COMPLETE, {}), known.get(RELEASED, {})
    meta = thing.metadata
    return Request(
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        generation=meta.generation,
        node=event.node_name,
        action=str(event.recommended_action),
        custom_action=event.custom_recommended_action,
        check=event.check_name,
        codes=tuple(event.error_code or ()),
        message=event.message,
        since_s=seconds_in(str(released.get("lastTransitionTime", "")))
        or seconds_in(meta.creation_timestamp)
        or 0.0,
        is_released=released.get("status") == "True",
        answer=_answer(complete.get("status")),
        reason=complete.get("reason", ""),
        said=complete.get("message", ""),
        is_going=bool(meta.deletion_timestamp),
        status=status,
    )


def answer_body(
    request: Request, answer: Answer, *, reason: str, message: str, now_s: float
) -> dict[str, Any]:
    """The status with our condition, onto the request as it was read; all else in it stays as it is."""
    now = moment_text(now_s)
    conditions = list(request.status.get("conditions") or ())
    before: dict[str, Any] = next(
        (one for one in conditions if one and one.get("type") == COMPLETE), {}
    )
    same = _answer(before.get("status")) is answer
    ours = {
        "type": COMPLETE,
        "status": answer.value,
        "reason": reason,
        "message": message[:_MESSAGE_MAX],
        "observedGeneration": request.generation,
        "lastTransitionTime": before.get("lastTransitionTime", now) if same else now,
    }
    kept = [one for one in conditions if not one or one.get("type") != COMPLETE]
    return {
        "apiVersion": REQUEST.api_version,
        "kind": REQUEST.kind,
        "metadata": {
            "name": request.name,
            "uid": request.uid,
            "resourceVersion": request.version,
        },
        "status": {**request.status, "conditions": [*kept, ours]},
    }


def _answer(status: object) -> Answer:
    return Answer(status) if status in {"True", "False"} else Answer.NONE
