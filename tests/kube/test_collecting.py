"""Revisions that nothing refers to go; in doubt one stays."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import msgspec
import pytest

from control_plane.core import limits
from control_plane.core.cluster import Metadata, Object
from control_plane.kube.collecting import superfluous
from control_plane.kube.kinds import FLEET_REVISION
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
