"""Quotas and stops of Kueue's queues: lowered by one word, raised by another, others' stops kept."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core.cluster import Conflict
from control_plane.core.errors import FenceLost
from control_plane.core.kueue import (
    CLUSTER_QUEUE,
    QUOTA_BY,
    QUOTA_WHY,
    Queue,
    StopPolicy,
    quantity,
    queue_in,
    quota_body,
)
from control_plane.kube.kueue import QueueRefused, Queues
from control_plane.simulator.api_client import Call
from control_plane.simulator.api_controllers import edit
from tests.kube.nodes import Hall, hall

WATTS = "gridplane.dev/watts"
WHO = {"by": "pivot-1", "why": "less sun"}
GROUPS: list[dict[str, Any]] = [
    {
        "coveredResources": ["nvidia.com/gpu", WATTS],
        "flavors": [
            {
                "name": name,
                "resources": [
                    {"name": "nvidia.com/gpu", "nominalQuota": "64", "borrowingLimit": "8"},
                    {"name": WATTS, "nominalQuota": "80k"},
                ],
            }
            for name in ("h200", "b200")
        ],
    },
    {
        "coveredResources": ["cpu"],
        "flavors": [{"name": "any", "resources": [{"name": "cpu", "nominalQuota": 1500}]}],
    },
]  # fmt: skip


async def have(h: Hall, **spec: Any) -> None:
    body = {
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": "q1"},
        "spec": {"resourceGroups": GROUPS, "cohortName": "all", **spec},
    }  # fmt: skip
    await h.client.create(CLUSTER_QUEUE, body)


def queue(h: Hall) -> Queue:
    return queue_in(h.server.get(CLUSTER_QUEUE, "q1"))


def spec(h: Hall) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(h.server.get(CLUSTER_QUEUE, "q1").spec)
    return found


def queues(h: Hall) -> Queues:
    return Queues(h.client, may_write=lambda: h.leads)


@pytest.mark.parametrize(
    ("said", "want"),
    [
        (8, 8), ("8", 8), ("80k", 80_000), ("2Ti", 2 * 1024**4), ("1500m", Fraction(3, 2)),
        ("1e3", 1000), ("12E", 12 * 1000**6), ("0.5", Fraction(1, 2)), ("3u", Fraction(3, 10**6)),
    ],
)  # fmt: skip
def test_a_quantity_is_read(said: int | str, want: Fraction) -> None:
    assert quantity(said) == want


@pytest.mark.parametrize("said", ["", "k", "8 W", "8w", "80kk", "nan"])
def test_what_is_no_quantity_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r"quantity|literal|convert"):
        quantity(said)


@given(st.integers(min_value=0, max_value=10**12), st.sampled_from(["h200", "b200"]))
def test_a_quota_changes_nothing_beside_itself(to: int, flavor: str) -> None:
    body = {
        "apiVersion": "v", "kind": "k", "metadata": {"name": "q1"},
        "spec": {"resourceGroups": GROUPS},
    }  # fmt: skip
    from control_plane.core.cluster import Object

    before = queue_in(msgspec.json.decode(msgspec.json.encode(body), type=Object))
    sent = quota_body(before, flavor, WATTS, to, **WHO)
    after = queue_in(msgspec.json.decode(msgspec.json.encode(sent), type=Object))
    for place, quota in before.quotas.items():
        want = Fraction(to) if place == (flavor, WATTS) else quota.nominal
        assert after.quotas[place].nominal == want
    assert after.groups[1] == before.groups[1]
    assert after.groups[0]["coveredResources"] == before.groups[0]["coveredResources"]


def test_a_quota_is_lowered_read_back_and_the_rest_stays() -> None:
    async def case(h: Hall) -> None:
        await have(h)
        used = [{"name": "h200", "resources": [{"name": WATTS, "total": "64k"}]}]
        body = {
            "apiVersion": CLUSTER_QUEUE.api_version,
            "kind": "ClusterQueue",
            "metadata": {"name": "q1"},
        }
        told = {**body, "status": {"flavorsUsage": used, "admittedWorkloads": 3}}
        await h.client.apply(CLUSTER_QUEUE, told, manager="kueue", subresource="status")
        done = await queues(h).lower("q1", "h200", WATTS, to=40_000, **WHO)
        assert (done.before, done.after) == (Fraction(80_000), Fraction(40_000))
        assert done.used == 64_000, "what runs runs on: only its status says so"
        words = h.server.get(CLUSTER_QUEUE, "q1").metadata.annotations
        assert (words[QUOTA_BY], words[QUOTA_WHY]) == ("pivot-1", "less sun")
        groups = spec(h)["resourceGroups"]
        assert groups[0]["flavors"][1] == GROUPS[0]["flavors"][1]
        assert groups[1] == GROUPS[1]
        assert spec(h)["cohortName"] == "all"
        written = h.client.calls["apply", "ClusterQueue"]
        await queues(h).lower("q1", "h200", WATTS, to=40_000, **WHO)
        assert h.client.calls["apply", "ClusterQueue"] == written

    hall(case)


def test_neither_word_does_the_work_of_the_other() -> None:
    async def case(h: Hall) -> None:
        await have(h)
        with pytest.raises(QueueRefused, match="other side"):
            await queues(h).lower("q1", "h200", WATTS, to=80_001, **WHO)
        with pytest.raises(QueueRefused, match="other side"):
            await queues(h).raise_quota("q1", "h200", WATTS, to=79_999, **WHO)
        done = await queues(h).raise_quota("q1", "h200", WATTS, to=90_000, **WHO)
        assert done.after == 90_000

    hall(case)


def test_what_is_not_there_is_named() -> None:
    async def case(h: Hall) -> None:
        with pytest.raises(QueueRefused, match="no ClusterQueue q1"):
            await queues(h).lower("q1", "h200", WATTS, to=0, **WHO)
        await have(h)
        with pytest.raises(QueueRefused, match="no quota of cpu in h200"):
            await queues(h).lower("q1", "h200", "cpu", to=0, **WHO)
        with pytest.raises(QueueRefused, match="at least 0"):
            await queues(h).lower("q1", "h200", WATTS, to=-1, **WHO)

    hall(case)


def test_a_raise_that_somebody_overtook_is_decided_anew() -> None:
    async def case(h: Hall) -> None:
        await have(h)

        def lower(body: Any) -> None:
            body["spec"]["resourceGroups"][0]["flavors"][0]["resources"][1]["nominalQuota"] = "10k"

        def between(call: Call) -> None:
            if call.verb == "apply":
                h.client.faults.before = None
                edit(h.server, CLUSTER_QUEUE, "q1", lower, manager="ann")

        # Seen as 80k, and at 10k when it is written: the answer is of what it is now.
        h.client.faults.before = between
        done = await queues(h).raise_quota("q1", "h200", WATTS, to=90_000, **WHO)
        assert done.before == 10_000
        h.client.faults.before = between
        with pytest.raises(QueueRefused, match="other side"):
            await queues(h).lower("q1", "h200", WATTS, to=20_000, **WHO)

    hall(case)


def test_a_queue_is_stopped_and_runs_again() -> None:
    async def case(h: Hall) -> None:
        await have(h)
        await queues(h).stop("q1", StopPolicy.HOLD, by="curtail-1", why="grid call")
        assert spec(h)["stopPolicy"] == "Hold"
        await queues(h).stop("q1", StopPolicy.HOLD_AND_DRAIN, by="curtail-1", why="grid call")
        assert spec(h)["stopPolicy"] == "HoldAndDrain"
        written = h.client.calls["apply", "ClusterQueue"]
        # The stricter stays, and nothing is written for it.
        now = await queues(h).stop("q1", StopPolicy.HOLD, by="curtail-1", why="grid call")
        assert now.stop is StopPolicy.HOLD_AND_DRAIN
        assert h.client.calls["apply", "ClusterQueue"] == written
        for who in (
            queues(h).stop("q1", StopPolicy.HOLD, by="repair", why="x"),
            queues(h).resume("q1", by="repair"),
        ):
            with pytest.raises(QueueRefused, match="stopped by curtail-1"):
                await who
        for _ in range(2):
            now = await queues(h).resume("q1", by="curtail-1")
            assert (now.stop, now.stopped_by) == (StopPolicy.NONE, "")
        assert "stopPolicy" not in spec(h)
        with pytest.raises(QueueRefused, match="resume"):
            await queues(h).stop("q1", StopPolicy.NONE, by="curtail-1", why="x")

    hall(case)


@pytest.mark.parametrize(
    ("theirs", "during"), [("Hold", "HoldAndDrain"), ("HoldAndDrain", "HoldAndDrain")]
)
def test_a_stop_of_a_person_outlasts_ours(theirs: str, during: str) -> None:
    async def case(h: Hall) -> None:
        await have(h, stopPolicy=theirs)
        await queues(h).stop("q1", StopPolicy.HOLD_AND_DRAIN, by="curtail-1", why="grid call")
        assert spec(h)["stopPolicy"] == during
        now = await queues(h).resume("q1", by="curtail-1")
        assert spec(h)["stopPolicy"] == theirs
        assert now.stopped_by == ""

    hall(case)


def test_a_weaker_stop_never_weakens_a_persons() -> None:
    async def case(h: Hall) -> None:
        await have(h, stopPolicy="HoldAndDrain")
        await queues(h).stop("q1", StopPolicy.HOLD, by="curtail-1", why="grid call")
        assert spec(h)["stopPolicy"] == "HoldAndDrain"

    hall(case)


def test_a_queue_that_a_person_resumed_is_told_and_not_stopped_again() -> None:
    async def case(h: Hall) -> None:
        await have(h)
        await queues(h).stop("q1", StopPolicy.HOLD, by="curtail-1", why="grid call")

        def change(body: Any) -> None:
            body["spec"]["stopPolicy"] = "None"

        edit(h.server, CLUSTER_QUEUE, "q1", change, manager="ann")
        with pytest.raises(QueueRefused, match="somebody resumed it"):
            await queues(h).stop("q1", StopPolicy.HOLD, by="curtail-1", why="grid call")
        assert spec(h)["stopPolicy"] == "None"
        await queues(h).resume("q1", by="curtail-1")
        assert queue(h).stopped_by == ""

    hall(case)


def test_a_quota_and_a_stop_do_not_lose_each_other() -> None:
    async def case(h: Hall) -> None:
        await have(h)
        await queues(h).lower("q1", "h200", WATTS, to=1, **WHO)
        await queues(h).stop("q1", StopPolicy.HOLD, by="curtail-1", why="grid call")
        await queues(h).lower("q1", "h200", WATTS, to=0, **WHO)
        assert spec(h)["stopPolicy"] == "Hold"
        await queues(h).resume("q1", by="curtail-1")
        assert queue(h).quotas["h200", WATTS].nominal == 0

    hall(case)


def test_empty_is_what_kueue_has_counted_since_the_stop() -> None:
    async def case(h: Hall) -> None:
        await have(h)

        async def counted(admitted: int, *, seen: int) -> None:
            active = {
                "type": "Active", "status": "False", "reason": "Stopped", "message": "",
                "observedGeneration": seen, "lastTransitionTime": "2026-11-01T10:00:00Z",
            }  # fmt: skip
            body = {
                "apiVersion": CLUSTER_QUEUE.api_version, "kind": "ClusterQueue",
                "metadata": {"name": "q1"},
                "status": {
                    "admittedWorkloads": admitted, "reservingWorkloads": 0, "conditions": [active],
                },
            }  # fmt: skip
            await h.client.apply(CLUSTER_QUEUE, body, manager="kueue", subresource="status")

        before = queue(h).generation
        await counted(0, seen=before)
        assert not queue(h).is_empty, "it is not stopped"
        await queues(h).stop("q1", StopPolicy.HOLD_AND_DRAIN, by="curtail-1", why="grid call")
        assert not queue(h).is_empty, "that was counted before the stop"
        await counted(1, seen=queue(h).generation)
        assert not queue(h).is_empty
        await counted(0, seen=queue(h).generation)
        assert queue(h).is_empty

    hall(case)


def test_without_the_fence_nothing_is_written() -> None:
    async def case(h: Hall) -> None:
        await have(h)
        h.leads = False
        for ask in (
            queues(h).lower("q1", "h200", WATTS, to=0, **WHO),
            queues(h).stop("q1", StopPolicy.HOLD, by="x", why="y"),
        ):
            with pytest.raises(FenceLost):
                await ask
        assert spec(h)["resourceGroups"] == GROUPS

    hall(case)


def test_who_writes_all_the_time_is_named() -> None:
    async def case(h: Hall) -> None:
        await have(h)

        def change(body: Any) -> None:
            labels = body["metadata"].setdefault("labels", {})
            labels["n"] = str(int(labels.get("n", "0")) + 1)

        def between(call: Call) -> None:
            if call.verb == "apply":
                edit(h.server, CLUSTER_QUEUE, "q1", change, manager="ann")

        h.client.faults.before = between
        with pytest.raises(Conflict, match="others keep writing"):
            await queues(h).lower("q1", "h200", WATTS, to=0, **WHO)

    hall(case)
