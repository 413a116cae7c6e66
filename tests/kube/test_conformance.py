"""What a controller relies on of an API server: the same cases on the twin and on a real one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from control_plane.core.cluster import (
    Cluster,
    ClusterAway,
    Conflict,
    Event,
    Exists,
    Gone,
    Invalid,
    Kind,
    NotFound,
    Object,
    Rejected,
)
from tests.kube.sides import CLUSTER_ROLE, CONFIG_MAP, LEASE, OURS, body, both

MINER, SITE, REVISION, OPERATION = (
    OURS[name] for name in ("Miner", "Site", "FleetRevision", "DeviceOperation")
)
MINER_SPEC = {"site": "t", "rack": "r1", "slot": 1}
SITE_SPEC = {"revision": "a" * 64, "mode": "observe"}
OPERATION_SPEC = {
    "site": "t", "kind": "install_firmware", "digest": "a" * 64, "fence": 3, "budget": 10,
    "deadline": "2026-11-01T10:00:00Z", "entries": [{"asset": "m1"}, {"asset": "m2"}],
}  # fmt: skip
FINALIZER = "gridplane.dev/open"


def of(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)


def version(thing: Object) -> int:
    return int(thing.metadata.resource_version)


def miner(namespace: str, name: str = "m1", **more: Any) -> dict[str, Any]:
    return body(MINER, name, namespace, spec={**MINER_SPEC, **more.pop("spec", {})}, **more)


def site(namespace: str, name: str = "s1", **more: Any) -> dict[str, Any]:
    return body(SITE, name, namespace, spec=more.pop("spec", SITE_SPEC), **more)


def config(namespace: str, name: str = "c1", **data: str) -> dict[str, Any]:
    return body(CONFIG_MAP, name, namespace, data=data)


def condition(kind: str, status: str = "True") -> dict[str, Any]:
    return {
        "type": kind, "status": status, "reason": "Test", "observedGeneration": 1,
        "lastTransitionTime": "2026-11-01T10:00:00Z",
    }  # fmt: skip


def at(thing: Object, sent: dict[str, Any], **meta: Any) -> dict[str, Any]:
    """What was sent, with the resource version that it has now."""
    now = {"resourceVersion": thing.metadata.resource_version, **meta}
    return {**sent, "metadata": {**sent["metadata"], **now}}


async def names(cluster: Cluster, kind: Kind, **where: Any) -> list[str]:
    return [thing.metadata.name for thing in (await cluster.list_page(kind, **where)).items]


@contextlib.asynccontextmanager
async def watching(
    cluster: Cluster, kind: Kind, since: str, **where: Any
) -> AsyncIterator[AsyncIterator[Event]]:
    """Its events, bookmarks left out."""
    async with (
        asyncio.timeout(20),
        contextlib.aclosing(
            cluster.watch(kind, resource_version=since, timeout_s=30, **where)
        ) as stream,
        contextlib.aclosing(event async for event in stream if event.type != "BOOKMARK") as events,
    ):
        yield events


async def take(events: AsyncIterator[Event], count: int) -> list[tuple[str, str]]:
    return [
        (event.type, event.object.metadata.name)
        for event in [await anext(events) for _ in range(count)]
    ]


# --- what there is -------------------------------------------------------------------------------


@both
async def test_a_new_object_gets_what_the_server_alone_gives(cluster: Cluster, ns: str) -> None:
    made = await cluster.create(
        MINER, miner(ns, meta={"labels": {"a": "1"}}, status={"state": "x"})
    )
    meta = made.metadata
    assert (made.kind, made.api_version, made.key) == (
        "Miner",
        "gridplane.dev/v1alpha1",
        f"{ns}/m1",
    )
    assert meta.uid
    assert meta.creation_timestamp.endswith("Z")
    assert meta.generation == 1
    assert meta.labels == {"a": "1"}
    assert of(made.spec)["rack"] == "r1"
    assert of(made.status) is None, "status is written by itself"
    assert await cluster.get(MINER, "m1", namespace=ns) == made


@both
async def test_what_is_not_there_is_not_found(cluster: Cluster, ns: str) -> None:
    unknown = Kind(group="gridplane.dev", version="v1alpha1", kind="Nothing", plural="nothings")
    for wanted in (
        cluster.get(MINER, "m1", namespace=ns),
        cluster.delete(MINER, "m1", namespace=ns),
        cluster.get(unknown, "m1", namespace=ns),
        cluster.replace(MINER, miner(ns, meta={"resourceVersion": "5"})),
        cluster.apply(MINER, miner(ns, status={}), manager="a", subresource="status"),
    ):
        with pytest.raises(NotFound):
            await wanted


@both
async def test_a_name_is_taken_once(cluster: Cluster, ns: str) -> None:
    await cluster.create(CONFIG_MAP, config(ns, a="1"))
    with pytest.raises(Exists):
        await cluster.create(CONFIG_MAP, config(ns, a="2"))


@both
async def test_what_is_sent_says_what_and_where_it_is(cluster: Cluster, ns: str) -> None:
    bare = {key: value for key, value in site(ns).items() if key != "kind"}
    with pytest.raises(Rejected):
        await cluster.create(SITE, bare)
    with pytest.raises(NotFound):
        await cluster.create(SITE, body(SITE, "s1", "", spec=SITE_SPEC))
    with pytest.raises(NotFound):
        await cluster.create(CLUSTER_ROLE, body(CLUSTER_ROLE, "r1", ns, rules=[]))
    with pytest.raises(ClusterAway):
        await cluster.create(SITE, site(ns, meta={"resourceVersion": "5"}))


@both
async def test_a_list_comes_in_pages_of_one_moment(cluster: Cluster, ns: str) -> None:
    for number in range(7):
        await cluster.create(MINER, miner(ns, f"m{number}"))
    page = await cluster.list_page(MINER, namespace=ns, limit=3)
    moment, found = page.resource_version, [page.items]
    assert page.remaining == 4
    await cluster.delete(MINER, "m5", namespace=ns)
    await cluster.create(MINER, miner(ns, "m9"))
    while page.next:
        page = await cluster.list_page(MINER, namespace=ns, limit=3, page=page.next)
        assert page.resource_version == moment
        found.append(page.items)
    assert [len(items) for items in found] == [3, 3, 1]
    assert [one.metadata.name for one in itertools.chain(*found)] == [f"m{n}" for n in range(7)]
    async with watching(cluster, MINER, moment, namespace=ns) as events:
        assert await take(events, 2) == [("DELETED", "m5"), ("ADDED", "m9")]


@both
async def test_a_list_is_of_one_namespace_or_of_all(cluster: Cluster, ns: str) -> None:
    await cluster.create(MINER, miner(ns))
    assert await names(cluster, MINER, namespace=ns) == ["m1"]
    assert await names(cluster, MINER, namespace="nobody") == []
    everywhere = await cluster.list_page(MINER)
    assert f"{ns}/m1" in [one.key for one in everywhere.items]


@both
async def test_kinds_without_namespaces_have_none(cluster: Cluster, ns: str) -> None:
    name = f"conformance-{ns}"
    made = await cluster.create(CLUSTER_ROLE, body(CLUSTER_ROLE, name, "", rules=[]))
    assert made.key == name
    assert (await cluster.get(CLUSTER_ROLE, name)).metadata.uid == made.metadata.uid
    await cluster.delete(CLUSTER_ROLE, name)
    assert name not in await names(cluster, CLUSTER_ROLE)


@both
async def test_labels_select(cluster: Cluster, ns: str) -> None:
    for name, labels in {
        "m1": {"rack": "r1", "held": "yes"}, "m2": {"rack": "r2"}, "m3": {"rack": "r3"}, "m4": {},
    }.items():  # fmt: skip
        await cluster.create(MINER, miner(ns, name, meta={"labels": labels}))
    for selector, wanted in {
        "rack=r1": ["m1"],
        "rack==r1,held=yes": ["m1"],
        "rack!=r1": ["m2", "m3", "m4"],
        "rack in (r1, r2)": ["m1", "m2"],
        "rack notin (r1,r2)": ["m3", "m4"],
        "rack": ["m1", "m2", "m3"],
        "!rack": ["m4"],
        "rack,!held": ["m2", "m3"],
        "rack in (r1,r2),held": ["m1"],
    }.items():
        assert await names(cluster, MINER, namespace=ns, selector=selector) == wanted, selector
    page = await cluster.list_page(MINER, namespace=ns, selector="rack", limit=2)
    assert (page.remaining, bool(page.next)) == (None, True)
    with pytest.raises(Rejected):
        await cluster.list_page(MINER, namespace=ns, selector="a b")


# --- what happens --------------------------------------------------------------------------------


@both
async def test_a_watch_goes_on_from_where_one_left_off(cluster: Cluster, ns: str) -> None:
    start = (await cluster.list_page(MINER, namespace=ns)).resource_version
    async with watching(cluster, MINER, start, namespace=ns) as events:
        made = await cluster.create(MINER, miner(ns))
        first = await anext(events)
    assert (first.type, first.object) == ("ADDED", made)
    changed = await cluster.replace(MINER, at(made, miner(ns, spec={"slot": 2})))
    await cluster.delete(MINER, "m1", namespace=ns)
    again = await cluster.create(MINER, miner(ns))
    async with watching(cluster, MINER, made.metadata.resource_version, namespace=ns) as events:
        seen = [await anext(events) for _ in range(3)]
    assert [event.type for event in seen] == ["MODIFIED", "DELETED", "ADDED"]
    assert [event.object for event in seen[::2]] == [changed, again]
    assert version(changed) < version(seen[1].object) < version(again)
    assert again.metadata.uid != made.metadata.uid


@both
async def test_an_ancient_resource_version_is_gone(cluster: Cluster, ns: str) -> None:
    with pytest.raises(Gone):
        async with watching(cluster, MINER, "1", namespace=ns) as events:
            await anext(events)


@both
async def test_a_watch_ends_when_its_time_is_over(cluster: Cluster, ns: str) -> None:
    made = await cluster.create(MINER, miner(ns))
    start = made.metadata.resource_version
    stream = cluster.watch(MINER, resource_version=start, namespace=ns, timeout_s=2)
    seen = [event async for event in stream]
    assert {event.type for event in seen} <= {"BOOKMARK"}
    assert all(version(event.object) >= int(start) for event in seen)


@both
async def test_a_watch_from_a_version_to_come_tells_nothing(cluster: Cluster, ns: str) -> None:
    now = (await cluster.list_page(MINER, namespace=ns)).resource_version
    ahead = str(int(now) + 100_000)
    stream = cluster.watch(MINER, resource_version=ahead, namespace=ns, timeout_s=3)
    seen = asyncio.ensure_future(_all(stream))
    await asyncio.sleep(0.5)
    await cluster.create(MINER, miner(ns))
    assert await seen == [], "no bookmark either"


async def _all(stream: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in stream]


@both
async def test_a_watch_with_labels_tells_who_comes_and_who_goes(cluster: Cluster, ns: str) -> None:
    start = (await cluster.list_page(MINER, namespace=ns)).resource_version
    async with watching(cluster, MINER, start, namespace=ns, selector="rack=r1") as events:
        await cluster.create(MINER, miner(ns, "m2", meta={"labels": {"rack": "r2"}}))
        made = await cluster.create(MINER, miner(ns))
        sent = miner(ns, meta={"labels": {"rack": "r1"}})
        came = await cluster.replace(MINER, at(made, sent))
        left = await cluster.replace(MINER, at(came, miner(ns)))
        seen = [await anext(events) for _ in range(2)]
    assert [event.type for event in seen] == ["ADDED", "DELETED"]
    assert seen[0].object == came
    assert version(seen[1].object) == version(left)


# --- replacing -----------------------------------------------------------------------------------


@both
async def test_the_second_of_two_writers_is_told(cluster: Cluster, ns: str) -> None:
    made = await cluster.create(MINER, miner(ns))
    one = await cluster.replace(MINER, at(made, miner(ns, spec={"slot": 2})))
    with pytest.raises(Conflict) as refused:
        await cluster.replace(MINER, at(made, miner(ns, spec={"slot": 3})))
    assert not isinstance(refused.value, Exists)
    assert await cluster.get(MINER, "m1", namespace=ns) == one
    with pytest.raises(Rejected):
        await cluster.replace(MINER, miner(ns, spec={"slot": 3}))


@both
async def test_a_replacement_that_changes_nothing_keeps_the_version(
    cluster: Cluster, ns: str
) -> None:
    made = await cluster.create(SITE, site(ns))
    assert await cluster.replace(SITE, at(made, site(ns))) == made


@both
async def test_generation_counts_changes_of_the_spec(cluster: Cluster, ns: str) -> None:
    made = await cluster.create(SITE, site(ns))
    labelled = await cluster.replace(SITE, at(made, site(ns, meta={"labels": {"a": "1"}})))
    assert labelled.metadata.generation == 1
    changed = await cluster.replace(SITE, at(labelled, site(ns, spec={"revision": "b" * 64})))
    assert changed.metadata.generation == 2
    told = await cluster.replace(
        SITE, at(changed, site(ns, status={"holds": 1})), subresource="status"
    )
    assert told.metadata.generation == 2
    assert version(made) < version(labelled) < version(changed) < version(told)


@both
async def test_status_and_spec_are_written_apart(cluster: Cluster, ns: str) -> None:
    made = await cluster.create(SITE, site(ns))
    told = await cluster.replace(
        SITE,
        at(made, site(ns, spec={"revision": "b" * 64}, status={"holds": 1})),
        subresource="status",
    )
    assert (of(told.spec), of(told.status)["holds"]) == (SITE_SPEC, 1)
    changed = await cluster.replace(
        SITE, at(told, site(ns, spec={"revision": "b" * 64}, status={"holds": 2}))
    )
    assert (of(changed.spec)["revision"], of(changed.status)["holds"]) == ("b" * 64, 1)


@both
async def test_a_lease_is_replaced_by_one_of_two(cluster: Cluster, ns: str) -> None:
    def lease(holder: str, transitions: int) -> dict[str, Any]:
        spec = {
            "holderIdentity": holder, "leaseTransitions": transitions, "leaseDurationSeconds": 15,
            "renewTime": "2026-11-01T10:00:00.000000Z",
        }  # fmt: skip
        return body(LEASE, "leader", ns, spec=spec)

    made = await cluster.create(LEASE, lease("a", 0))
    assert made.metadata.generation == 0
    answers = await asyncio.gather(
        cluster.replace(LEASE, at(made, lease("b", 1))),
        cluster.replace(LEASE, at(made, lease("c", 1))),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [Conflict]
    [won] = [answer for answer in answers if isinstance(answer, Object)]
    assert of((await cluster.get(LEASE, "leader", namespace=ns)).spec) == of(won.spec)
    await cluster.delete(LEASE, "leader", namespace=ns)
    with pytest.raises(Conflict):
        await cluster.replace(LEASE, at(won, lease("a", 2), uid=won.metadata.uid))
    fresh = await cluster.replace(LEASE, at(won, lease("a", 2)))
    assert fresh.metadata.uid != won.metadata.uid, "without its uid a lease is made anew"


# --- server-side apply ---------------------------------------------------------------------------


@both
async def test_apply_makes_an_object_and_changes_nothing_the_second_time(
    cluster: Cluster, ns: str
) -> None:
    made = await cluster.apply(MINER, miner(ns), manager="a")
    assert made.metadata.generation == 1
    assert await cluster.apply(MINER, miner(ns), manager="a") == made
    changed = await cluster.apply(MINER, miner(ns, spec={"slot": 2}), manager="a")
    assert (of(changed.spec)["slot"], changed.metadata.generation) == (2, 2)


@both
async def test_what_its_manager_gave_up_goes(cluster: Cluster, ns: str) -> None:
    await cluster.apply(CONFIG_MAP, config(ns, a="1", b="2"), manager="a")
    await cluster.apply(CONFIG_MAP, config(ns, c="3"), manager="b")
    left = await cluster.apply(CONFIG_MAP, config(ns, a="1"), manager="a")
    assert of(left.data) == {"a": "1", "c": "3"}
    none = await cluster.apply(CONFIG_MAP, config(ns), manager="b")
    assert of(none.data) == {"a": "1"}
    bare = await cluster.apply(CONFIG_MAP, body(CONFIG_MAP, "c1", ns), manager="a")
    assert not of(bare.data)


@both
async def test_what_two_managers_own_stays_until_both_gave_it_up(cluster: Cluster, ns: str) -> None:
    await cluster.apply(CONFIG_MAP, config(ns, a="1"), manager="a")
    shared = await cluster.apply(CONFIG_MAP, config(ns, a="1"), manager="b", force=False)
    assert of((await cluster.apply(CONFIG_MAP, config(ns), manager="a")).data) == {"a": "1"}
    assert not of((await cluster.apply(CONFIG_MAP, config(ns), manager="b")).data)
    assert of(shared.data) == {"a": "1"}


@both
async def test_another_managers_value_is_changed_by_force_alone(cluster: Cluster, ns: str) -> None:
    first = await cluster.apply(CONFIG_MAP, config(ns, a="1", b="2"), manager="a")
    with pytest.raises(Conflict):
        await cluster.apply(CONFIG_MAP, config(ns, a="9"), manager="b", force=False)
    assert await cluster.get(CONFIG_MAP, "c1", namespace=ns) == first
    await cluster.apply(CONFIG_MAP, config(ns, a="9"), manager="b")
    with pytest.raises(Conflict):
        await cluster.apply(CONFIG_MAP, config(ns, a="1", b="2"), manager="a", force=False)
    kept = await cluster.apply(CONFIG_MAP, config(ns, b="2"), manager="a", force=False)
    assert of(kept.data) == {"a": "9", "b": "2"}


@both
async def test_who_created_or_replaced_owns_too(cluster: Cluster, ns: str) -> None:
    made = await cluster.create(CONFIG_MAP, config(ns, a="1"))
    with pytest.raises(Conflict):
        await cluster.apply(CONFIG_MAP, config(ns, a="2"), manager="a", force=False)
    await cluster.apply(CONFIG_MAP, config(ns, b="1"), manager="a", force=False)
    now = await cluster.get(CONFIG_MAP, "c1", namespace=ns)
    await cluster.replace(CONFIG_MAP, at(now, config(ns, a="1", b="2")))
    with pytest.raises(Conflict):
        await cluster.apply(CONFIG_MAP, config(ns, b="1"), manager="a", force=False)
    stays = await cluster.apply(CONFIG_MAP, config(ns), manager="a", force=False)
    assert of(stays.data) == {"a": "1", "b": "2"}
    assert version(made) < version(stays)


@both
async def test_labels_and_annotations_are_owned_one_by_one(cluster: Cluster, ns: str) -> None:
    await cluster.apply(MINER, miner(ns, meta={"labels": {"a": "1"}}), manager="a")
    hold = body(MINER, "m1", ns, meta={"annotations": {"gridplane.dev/hold": "ann"}})
    await cluster.apply(MINER, hold, manager="ann")
    both_there = await cluster.apply(MINER, miner(ns), manager="a")
    assert both_there.metadata.labels == {}
    assert both_there.metadata.annotations == {"gridplane.dev/hold": "ann"}


@both
async def test_items_of_a_list_by_key_are_owned_one_by_one(cluster: Cluster, ns: str) -> None:
    await cluster.create(SITE, site(ns))

    async def tell(manager: str, *conditions: dict[str, Any]) -> list[str]:
        sent = body(SITE, "s1", ns, status={"conditions": list(conditions)})
        told = await cluster.apply(SITE, sent, manager=manager, subresource="status")
        return [f"{one['type']}={one['status']}" for one in of(told.status)["conditions"]]

    await tell("a", condition("Ready"), condition("Stalled"))
    assert await tell("b", condition("Checked")) == ["Ready=True", "Stalled=True", "Checked=True"]
    assert await tell("a", condition("Ready", "False")) == ["Ready=False", "Checked=True"]
    sent = body(SITE, "s1", ns, status={"conditions": [condition("Ready", "True")]})
    with pytest.raises(Conflict):
        await cluster.apply(SITE, sent, manager="b", force=False, subresource="status")


@both
async def test_any_other_list_is_one_value(cluster: Cluster, ns: str) -> None:
    def rollout(waves: list[int]) -> dict[str, Any]:
        return body(OURS["Rollout"], "r1", ns, spec={"site": "t", "to": "a" * 64, "waves": waves})

    await cluster.apply(OURS["Rollout"], rollout([1, 2]), manager="a")
    same = await cluster.apply(OURS["Rollout"], rollout([1, 2]), manager="b", force=False)
    assert of(same.spec)["waves"] == [1, 2]


@both
async def test_applying_status_leaves_the_spec_and_the_other_way_round(
    cluster: Cluster, ns: str
) -> None:
    made = await cluster.apply(SITE, site(ns), manager="a")
    told = await cluster.apply(
        SITE, body(SITE, "s1", ns, status={"holds": 1}), manager="a", subresource="status"
    )
    assert (of(told.spec), of(told.status), told.metadata.generation) == (
        SITE_SPEC,
        {"holds": 1},
        1,
    )
    again = await cluster.apply(SITE, site(ns), manager="a")
    assert again == told
    none = await cluster.apply(SITE, body(SITE, "s1", ns), manager="a", subresource="status")
    assert not of(none.status)
    assert version(made) < version(told) < version(none)


@both
async def test_apply_can_mean_one_certain_object(cluster: Cluster, ns: str) -> None:
    absent = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(Conflict):
        await cluster.apply(SITE, site(ns, meta={"uid": absent}), manager="a")
    made = await cluster.apply(SITE, site(ns), manager="a")
    with pytest.raises(Rejected):
        await cluster.apply(SITE, site(ns, meta={"uid": absent}), manager="a")
    assert await cluster.apply(SITE, site(ns, meta={"uid": made.metadata.uid}), manager="a") == made
    with pytest.raises(Conflict):
        await cluster.replace(SITE, at(made, site(ns), uid=absent))
    fresh = at(made, site(ns, spec={"revision": "b" * 64}))
    await cluster.apply(SITE, fresh, manager="a")
    with pytest.raises(Conflict):
        await cluster.apply(SITE, fresh | {"spec": SITE_SPEC}, manager="a")


@both
async def test_applying_status_asks_for_a_version_but_not_for_a_uid(
    cluster: Cluster, ns: str
) -> None:
    made = await cluster.create(SITE, site(ns))
    sent = body(SITE, "s1", ns, status={"holds": 1})
    other = {**sent, "metadata": {**sent["metadata"], "uid": "of-another"}}
    await cluster.apply(SITE, other, manager="a", subresource="status")
    stale = at(made, body(SITE, "s1", ns, status={"holds": 2}))
    with pytest.raises(Conflict):
        await cluster.apply(SITE, stale, manager="a", subresource="status")


@both
async def test_a_field_that_its_schema_does_not_have_is_not_applied(
    cluster: Cluster, ns: str
) -> None:
    made = await cluster.create(MINER, miner(ns))
    with pytest.raises(Invalid, match=r"\.spec\.nosuch: field not declared in schema"):
        await cluster.apply(MINER, miner(ns, spec={"nosuch": 1}), manager="a")
    sent = miner(ns, status={"nosuch": 1})
    with pytest.raises(Invalid, match=r"\.status\.nosuch: field not declared in schema"):
        await cluster.apply(MINER, sent, manager="a", subresource="status")
    assert await cluster.get(MINER, "m1", namespace=ns) == made


@both
async def test_entries_of_an_operation_are_owned_one_by_one(cluster: Cluster, ns: str) -> None:
    made = await cluster.create(OPERATION, body(OPERATION, "o1", ns, spec=OPERATION_SPEC))
    for manager, asset in (("runner", "m2"), ("other", "m1")):
        step = {"entries": [{"asset": asset, "step": "committing"}]}
        sent = body(OPERATION, "o1", ns, status=step)
        await cluster.apply(OPERATION, sent, manager=manager, subresource="status")
    told = await cluster.get(OPERATION, "o1", namespace=ns)
    steps = {entry["asset"]: entry["step"] for entry in of(told.status)["entries"]}
    assert steps == {"m1": "committing", "m2": "committing"}
    assert (of(told.spec), told.metadata.generation) == (of(made.spec), made.metadata.generation)


# --- deleting ------------------------------------------------------------------------------------


@both
async def test_deletion_waits_for_finalizers(cluster: Cluster, ns: str) -> None:
    made = await cluster.create(
        OPERATION, body(OPERATION, "o1", ns, spec=OPERATION_SPEC, meta={"finalizers": [FINALIZER]})
    )
    async with watching(cluster, OPERATION, made.metadata.resource_version, namespace=ns) as events:
        await cluster.delete(OPERATION, "o1", namespace=ns)
        going = await cluster.get(OPERATION, "o1", namespace=ns)
        assert going.metadata.deletion_timestamp
        assert going.metadata.generation == made.metadata.generation + 1
        await cluster.delete(OPERATION, "o1", namespace=ns)
        assert await cluster.get(OPERATION, "o1", namespace=ns) == going
        sent = body(OPERATION, "o1", ns, spec=OPERATION_SPEC)
        with pytest.raises(Rejected):
            await cluster.replace(
                OPERATION, at(going, sent, finalizers=[FINALIZER, "gridplane.dev/more"])
            )
        await cluster.replace(OPERATION, at(going, sent))
        with pytest.raises(NotFound):
            await cluster.get(OPERATION, "o1", namespace=ns)
        assert await take(events, 2) == [("MODIFIED", "o1"), ("DELETED", "o1")]


@both
async def test_a_finalizer_is_given_up_like_any_field(cluster: Cluster, ns: str) -> None:
    sent = site(ns, meta={"finalizers": [FINALIZER]})
    await cluster.apply(SITE, sent, manager="a")
    await cluster.apply(
        SITE, body(SITE, "s1", ns, meta={"finalizers": ["gridplane.dev/b"]}), manager="b"
    )
    left = await cluster.apply(SITE, site(ns), manager="a")
    assert left.metadata.finalizers == ["gridplane.dev/b"]
    await cluster.delete(SITE, "s1", namespace=ns)
    await cluster.apply(SITE, body(SITE, "s1", ns), manager="b")
    assert await names(cluster, SITE, namespace=ns) == []


@both
async def test_only_the_very_same_object_is_deleted(cluster: Cluster, ns: str) -> None:
    old = await cluster.create(
        REVISION,
        body(REVISION, "r1", ns, spec={"site": "t", "format": "msgpack+zlib", "data": "eNo="}),
    )
    await cluster.delete(REVISION, "r1", namespace=ns, uid=old.metadata.uid)
    new = await cluster.create(SITE, site(ns, "r1"))
    with pytest.raises(Conflict):
        await cluster.delete(SITE, "r1", namespace=ns, uid=old.metadata.uid)
    assert await cluster.get(SITE, "r1", namespace=ns) == new


@both
async def test_owners_are_kept_as_they_were_told(cluster: Cluster, ns: str) -> None:
    owner = await cluster.create(SITE, site(ns))
    reference = {
        "apiVersion": SITE.api_version, "kind": "Site", "name": "s1", "uid": owner.metadata.uid,
        "controller": True,
    }  # fmt: skip
    made = await cluster.apply(MINER, miner(ns, meta={"ownerReferences": [reference]}), manager="a")
    [kept] = made.metadata.owner_references
    assert (kept.kind, kept.name, kept.uid, kept.controller) == (
        "Site",
        "s1",
        owner.metadata.uid,
        True,
    )
    assert not kept.block_owner_deletion


@both
async def test_what_no_owner_holds_any_more_is_collected(cluster: Cluster, ns: str) -> None:
    def owned(name: str, *owners: Object) -> dict[str, Any]:
        references = [
            {
                "apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name,
                "uid": owner.metadata.uid,
            }
            for owner in owners
        ]  # fmt: skip
        return body(CONFIG_MAP, name, ns, meta={"ownerReferences": references})

    gone = await cluster.create(CONFIG_MAP, config(ns, "gone"))
    await cluster.delete(CONFIG_MAP, "gone", namespace=ns)
    one, two = [await cluster.create(CONFIG_MAP, config(ns, name)) for name in ("one", "two")]
    async with watching(cluster, CONFIG_MAP, two.metadata.resource_version, namespace=ns) as events:
        await cluster.create(CONFIG_MAP, owned("of-one", one))
        await cluster.create(CONFIG_MAP, owned("of-both", one, two))
        await cluster.create(CONFIG_MAP, owned("of-gone", gone))
        await cluster.delete(CONFIG_MAP, "one", namespace=ns)
        left = {"one", "of-one", "of-gone"}
        while left:
            event = await anext(events)
            left -= {event.object.metadata.name} if event.type == "DELETED" else set()
    assert {"two", "of-both"} <= set(await names(cluster, CONFIG_MAP, namespace=ns))
