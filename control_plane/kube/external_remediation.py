"""Answer NVSentinel's hand-overs: how it goes, and how it went."""

from __future__ import annotations

from typing import Final

import msgspec

from control_plane.core.cluster import Cluster, NotFound, Object
from control_plane.core.errors import ControlPlaneError
from control_plane.core.external_remediation import (
    REQUEST,
    Answer,
    Request,
    answer_body,
    request_in,
)
from control_plane.core.ports import Clock
from control_plane.kube.node_hold import MayWrite, require_fence
from control_plane.kube.rereading import unless_changed

_REASONS: Final = {
    Answer.NONE: "RemediationInProgress",
    Answer.DONE: "RemediationSucceeded",
    Answer.FAILED: "RemediationFailed",
}


class AnsweredOtherwise(ControlPlaneError):
    """The request has another answer already, which is final: a person looks at the node."""


class ExternalRemediations:
    """Answers to the requests of a cluster (`kube.handed_over` watches them)."""

    def __init__(self, cluster: Cluster, *, clock: Clock, may_write: MayWrite) -> None:
        """Nothing is asked before a method is."""
        self._cluster, self._clock, self._may_write = cluster, clock, may_write

    async def progress(self, request: Request, message: str) -> bool:
        """Tell that somebody is at it; whether the request is still open.

        Raises:
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """
        return await self._answer(request, Answer.NONE, message)

    async def succeeded(self, request: Request, message: str) -> bool:
        """Give the node back. Our own hold has to be ended before: NVSentinel leaves out what is held.

        Returns:
            False where the request has gone, and the node with it to NVSentinel.

        Raises:
            AnsweredOtherwise: it was answered with a failure.
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """
        return await self._answer(request, Answer.DONE, message)

    async def failed(self, request: Request, message: str) -> bool:
        """Tell that it did not work: the node stays out, held by us as well, until a person acts.

        Returns:
            False where the request has gone, and the node with it to NVSentinel.

        Raises:
            AnsweredOtherwise: it was answered with a success.
            FenceLost: another process acts for this site.
            ClusterError: the API server did not do it, or perhaps did: ask again.
        """
        return await self._answer(request, Answer.FAILED, message)

    async def _answer(self, request: Request, answer: Answer, message: str) -> bool:
        async def once() -> bool:
            try:
                now = _read(await self._cluster.get(REQUEST, request.name))
            except NotFound:
                return False
            if now is None or now.uid != request.uid or now.is_going or not now.is_released:
                return False
            if now.answer is answer and now.said == message:
                return True
            if now.answer is not Answer.NONE:
                if now.answer is answer:
                    return True
                if answer is Answer.NONE:
                    return False
                raise AnsweredOtherwise(
                    f"ExternalRemediationRequest {now.name} was answered {now.answer.value} ({now.reason}), "
                    f"and not {answer.value}"
                )
            body = answer_body(
                now, answer, reason=_REASONS[answer], message=message, now_s=self._clock.wall_s()
            )
            require_fence(self._may_write)
            await self._cluster.replace(REQUEST, body, subresource="status")
            return True

        return await unless_changed(
            once, else_=f"ExternalRemediationRequest {request.name}: others keep writing to it"
        )


def _read(thing: Object) -> Request | None:
    """A request; one that has another shape is none of ours to answer."""
    try:
        return request_in(thing)
    except msgspec.MsgspecError:
        return None
