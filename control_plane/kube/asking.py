"""A person's word to a cluster: make the objects, then wait until whoever leads the site has answered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping

import msgspec

from control_plane.api.conditions import READY, STALLED
from control_plane.api.objects import Status
from control_plane.core.cluster import Body, Cluster, ClusterAway, Exists, Kind, Object
from control_plane.core.ports import Clock
from control_plane.kube.listing import list_all

WAIT_S = 30.0
"""Wire seconds for an answer: longer than a failover takes."""
_AGAIN_S = 0.5
_TELLS_S = 5.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader said of one object."""

    is_done: bool
    """In force, or obeyed, durably; else refused."""
    reason: str
    words: str


async def ask(
    cluster: Cluster,
    kind: Kind,
    bodies: Collection[Body],
    *,
    namespace: str,
    clock: Clock,
    waits: Callable[[int], None] = lambda _left: None,
) -> Mapping[str, Answer]:
    """Make objects, and wait for the answer to each.

    Args:
        cluster: the API server.
        kind: of all of them.
        bodies: what is said; nobody else uses their names.
        namespace: where they go.
        clock: the clock.
        waits: told from time to time how many are not answered yet.

    Returns:
        By name, what was answered; a name that is missing was said, and is not answered yet.

    Raises:
        ClusterAway: the API server did not take them; what it took of them stays said.
        ClusterError: it refuses.
    """
    until_s = clock.wire_s() + WAIT_S
    for body in bodies:
        await _made(cluster, kind, body, clock=clock, until_s=until_s)
    names = {str(body["metadata"]["name"]) for body in bodies}
    # Said is said: from here on only the answer is waited for.
    until_s, told_s = clock.wire_s() + WAIT_S, clock.wire_s()
    answers: dict[str, Answer] = {}
    while True:
        with contextlib.suppress(ClusterAway):
            answers |= await _answers(cluster, kind, names - answers.keys(), namespace)
        now_s = clock.wire_s()
        if answers.keys() == names or now_s >= until_s:
            return answers
        if now_s - told_s >= _TELLS_S:
            told_s = now_s
            waits(len(names) - len(answers))
        await clock.wire_sleep(_AGAIN_S)


async def _made(cluster: Cluster, kind: Kind, body: Body, *, clock: Clock, until_s: float) -> None:
    while True:
        try:
            await cluster.create(kind, body)
        except Exists:
            return  # by the try before, whose reply was lost
        except ClusterAway:
            if clock.wire_s() >= until_s:
                raise
            await clock.wire_sleep(_AGAIN_S)
        else:
            return


async def _answers(
    cluster: Cluster, kind: Kind, names: Collection[str], namespace: str
) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for each in await list_all(cluster, kind, namespace=namespace):
        answer = _answer(each) if each.metadata.name in names else None
        if answer is not None:
            found[each.metadata.name] = answer
    return found


def _answer(each: Object) -> Answer | None:
    status = msgspec.json.decode(each.status, type=Status | None)
    for one in status.conditions if status else ():
        if one.status == "True" and one.type in {READY, STALLED}:
            return Answer(is_done=one.type == READY, reason=one.reason, words=one.message)
    return None
