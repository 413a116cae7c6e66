"""Revisions that nothing refers to go; in doubt one stays."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.cluster import Kind, Metadata, Object
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.engine.bundles import Bundles
from control_plane.engine.log import silent
from control_plane.engine.records import RevisionRecord
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.kube.cache import Cache
from control_plane.kube.collecting import Collector, superfluous
from control_plane.kube.kinds import FLEET_REVISION, SITE
from control_plane.kube.takeover import lost_id
from control_plane.simulator.api_client import ApiClient, ApiFaults
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual
from tests.kube.running import beside, no_bug
from tests.kube.test_controller import FILES, NAMESPACE, Playing, play

NOW_S = 1_790_000_000.0
OLD = 2 * limits.REVISION_AGE_S


def revision(number: int, *, age_s: float = OLD, site: str = "lab", made: str = "") -> Object:
    # The higher the number, the younger.
    at = dt.datetime.fromtimestamp(NOW_S - age_s + number, dt.UTC)
    spec = {"site": site, "format": "msgpack+zlib", "data": "eNo="}
    return Object(
        metadata=Metadata(name=f"r{number:02d}", creation_timestamp=made or at.isoformat()),
        spec=msgspec.Raw(msgspec.json.encode(spec)),
    )


def names(*revisions: Object, referred: frozenset[str] = frozenset()) -> list[str]:
    found = superfluous(revisions, site="lab", referred=referred, now_s=NOW_S)
    return [each.metadata.name for each in found]


MANY = [revision(n) for n in range(limits.REVISIONS_KEPT + 3)]


def test_the_oldest_beyond_the_kept_number_go() -> None:
    assert names(*reversed(MANY)) == ["r00", "r01", "r02"]
    assert names(*MANY[:-3]) == []
    assert names() == []


def test_what_something_refers_to_stays_however_old() -> None:
    assert names(*MANY, referred=frozenset({"r01"})) == ["r00", "r02"]


def test_what_was_just_made_stays() -> None:
    young = [revision(n, age_s=limits.REVISION_AGE_S - 100) for n in range(20)]
    assert names(*young) == []


@pytest.mark.parametrize(
    "stranger",
    [revision(0, site="other"), revision(0, made="nonsense"), Object(spec=msgspec.Raw(b"{}"))],
    ids=["of another site", "made nobody knows when", "not understood"],
)
def test_what_is_not_known_to_be_ours_and_old_stays(stranger: Object) -> None:
    assert stranger.metadata.name not in names(stranger, *MANY[1:])


def test_a_leader_collects_and_keeps_what_devices_stand_on(tmp_path: Path) -> None:
    async def act(playing: Playing) -> None:
        one, _ = playing.controller("one")
        serving = asyncio.ensure_future(one.run())
        made = []
        for number in range(limits.REVISIONS_KEPT + 8):
            # Other bytes with the same meaning: no rollout, and each a revision of its own.
            files = {**FILES, "fleet.yaml": FILES["fleet.yaml"] + b"# %d\n" % number}
            made.append(await playing.declare(files))
            await asyncio.sleep(5)

        async def there() -> set[str]:
            page = await playing.kubectl.list_page(FLEET_REVISION, namespace=NAMESPACE)
            return {each.metadata.name for each in page.items}

        assert await there() == set(made)
        await asyncio.sleep(limits.REVISION_AGE_S / SCALE + limits.COLLECT_S + 60)
        left = await there()
        assert one.tenure is not None
        record = one.tenure.store.accepted()
        assert record is not None
        assert record.source not in made[-limits.REVISIONS_KEPT :]
        assert left == {record.source, *made[-limits.REVISIONS_KEPT :]}
        serving.cancel()

    play(tmp_path, act, scale=SCALE)


SCALE = 100.0


def digest(number: int) -> str:
    return f"{number:064x}"


def named(each: Object, name: str) -> Object:
    return msgspec.structs.replace(each, metadata=msgspec.structs.replace(each.metadata, name=name))


NEWEST = digest(len(MANY) - 1)


async def point(person: ApiClient, revision: str) -> Object:
    meta = {"name": "lab", "namespace": NAMESPACE}
    body = {"apiVersion": SITE.api_version, "kind": SITE.kind, "metadata": meta}
    return await person.apply(SITE, {**body, "spec": {"revision": revision}}, manager="git")


def deleted_while(doubt: str) -> list[str]:
    """What goes of thirteen revisions, the cache being as it was before `doubt` came up."""

    async def main(loop: VirtualLoop) -> list[str]:
        clock = VirtualClock(loop)
        client = ApiClient(ApiServer(clock), clock)
        # Virtual time begins at zero: all of them are from long before.
        before_s = clock.wall_s() - NOW_S
        cache, gone, store = Cache(FLEET_REVISION, bug=no_bug), list[str](), Store(None)
        cache.replace(
            [named(revision(n, age_s=OLD - before_s), digest(n)) for n in range(len(MANY))], 1
        )
        store.put_revision(
            RevisionRecord(
                digest="d", seq=1, commit=None, accepted_at_s=0.0, accepted_by="", plan_digest="",
                source=NEWEST,
            ),
            {},
        )  # fmt: skip
        known: Object | None = await point(client, NEWEST)
        match doubt:
            case "the pointer has moved":
                await point(client, digest(1))
            case "nobody knows the pointer":
                client.faults = ApiFaults(away="refused")
            case "there is no Site":
                known = None
            case "the state was lost":
                store.put_overlay(
                    Overlay(
                        id=lost_id("lab"), kind=OverlayKind.MAINTENANCE_HOLD, node="lab", owner="gridplane",
                        reason="gone", since_s=0.0,
                    )
                )  # fmt: skip
            case "nothing was accepted":
                store = Store(None)
            case _:
                pass

        async def delete(_kind: Kind, name: str, **_more: object) -> None:
            gone.append(name)

        client.delete = delete  # type: ignore[method-assign,assignment]
        collector = Collector(
            client, cache, site="lab", clock=clock, say=silent, about=lambda: known,
            may_delete=lambda: doubt != "the cache is not fresh",
        )  # fmt: skip
        async with beside(collector.serve(store, Bundles(store, Revisions(store, "lab")))):
            await clock.wire_sleep(limits.COLLECT_S + 1)
        return gone

    return run_virtual(main, horizon_s=10_000)


def test_without_a_doubt_the_oldest_go() -> None:
    assert deleted_while("") == [digest(0), digest(1), digest(2)]


def test_a_pointer_that_the_watch_has_not_told_of_is_heeded() -> None:
    assert deleted_while("the pointer has moved") == [digest(0), digest(2)]


@pytest.mark.parametrize(
    "doubt",
    [
        "nobody knows the pointer", "there is no Site", "the state was lost", "nothing was accepted",
        "the cache is not fresh",
    ],
)  # fmt: skip
def test_in_doubt_all_of_them_stay(doubt: str) -> None:
    assert deleted_while(doubt) == []
