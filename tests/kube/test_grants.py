"""The journal of a runner on a grant that others write to as well."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from control_plane.core.cluster import ClusterAway, Conflict, NotFound
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.core.memory import Pin
from control_plane.engine.flash import Withdrawn
from control_plane.kube.grants import (
    OperationJournal,
    grant_body,
    grant_in,
    job_in,
    operation_of,
    read_grant,
)
from control_plane.kube.kinds import DEVICE_OPERATION
from tests.kube.running import PLACE, Around, around

NAME = operation_of("fw-s21-w0-1a2b", 0)
GRANT = Grant(
    operation=NAME, rollout="f0001", wave=2, round=1, digest="a" * 64, fence=3, at_once=2,
    deadline_s=2_000_000_000.0,
    entries={asset: FlashEntry(asset=asset) for asset in ("a1", "a2")},
    pins={"a1": Pin(mac="02:00:00:00:00:01", serial=None, source="trust")},
    addresses={"a2": "10.0.0.2"},
)  # fmt: skip
BEGUN = FlashEntry(
    asset="a1", step=FlashStep.COMMITTING, attempt=1, before="1", image="b" * 64,
    hash_before_ths=200.126, power_before_w=3500.0, committed_at_s=1_000_000_000.7,
)  # fmt: skip


async def granted(case: Around, grant: Grant = GRANT, version: str = "") -> OperationJournal:
    """The grant as the engine makes it, and the journal of a pod that has read it."""
    body = grant_body(grant, site="lab", namespace=PLACE, version=version)
    await case.client.apply(DEVICE_OPERATION, body, manager="engine")
    read = await read_grant(case.client, NAME, namespace=PLACE)
    assert read is not None
    return OperationJournal(case.client, read, namespace=PLACE)


def there(case: Around) -> Grant:
    found = grant_in(case.server.get(DEVICE_OPERATION, f"{PLACE}/{NAME}"))
    assert found is not None
    return found


def test_what_is_granted_is_read_as_it_was_said() -> None:
    async def case(case: Around) -> None:
        await granted(case)
        assert there(case) == GRANT
        assert job_in(NAME) == "fw-s21-w0-1a2b"

    around(case)


def test_a_step_is_kept_with_its_evidence_in_whole_seconds() -> None:
    async def case(case: Around) -> None:
        journal = await granted(case)
        await journal.keep(BEGUN)
        kept = there(case).entries
        assert kept["a2"] == GRANT.entries["a2"]
        assert kept["a1"] == msgspec.structs.replace(
            BEGUN, hash_before_ths=200.13, committed_at_s=1_000_000_000.0
        )

    around(case)


def test_those_who_keep_while_another_writes_share_the_next_write() -> None:
    async def case(case: Around) -> None:
        assets = [f"a{n}" for n in range(20)]
        many = {asset: FlashEntry(asset=asset) for asset in assets}
        journal = await granted(case, msgspec.structs.replace(GRANT, entries=many))
        case.client.faults.latency_s = (0.01, 0.01)
        begun = [msgspec.structs.replace(BEGUN, asset=asset) for asset in assets]
        await asyncio.gather(*map(journal.keep, begun))
        assert {e.step for e in there(case).entries.values()} == {FlashStep.COMMITTING}
        assert journal.writes == 2

    around(case)


def test_a_device_that_was_taken_out_meanwhile_is_not_begun_and_the_others_are() -> None:
    async def case(case: Around) -> None:
        journal = await granted(case)
        left = msgspec.structs.replace(GRANT, entries={"a2": GRANT.entries["a2"]}, pins={})
        await case.client.apply(
            DEVICE_OPERATION, grant_body(left, site="lab", namespace=PLACE), manager="engine"
        )
        with pytest.raises(Withdrawn, match="taken out of its grant"):
            await journal.keep(BEGUN)
        await journal.keep(msgspec.structs.replace(BEGUN, asset="a2"))
        assert {a: e.step for a, e in there(case).entries.items()} == {"a2": FlashStep.COMMITTING}

    around(case)


def test_a_grant_that_was_closed_meanwhile_begins_nothing() -> None:
    async def case(case: Around) -> None:
        journal = await granted(case)
        closed = msgspec.structs.replace(GRANT, deadline_s=999_999_999.0)
        await case.client.apply(
            DEVICE_OPERATION, grant_body(closed, site="lab", namespace=PLACE), manager="engine"
        )
        with pytest.raises(Withdrawn):
            await journal.keep(BEGUN)
        assert there(case).entries["a1"].step is FlashStep.PENDING

    around(case)


def test_of_two_pods_of_an_index_one_begins_a_device() -> None:
    async def case(case: Around) -> None:
        first, second = await granted(case), await granted(case)
        await first.keep(BEGUN)
        with pytest.raises(Withdrawn, match="somebody else has a1 at committing"):
            await second.keep(msgspec.structs.replace(BEGUN, committed_at_s=1_000_000_009.0))
        await first.keep(msgspec.structs.replace(BEGUN, step=FlashStep.REBOOTING))
        # The other may work on what nobody was at.
        await second.keep(msgspec.structs.replace(BEGUN, asset="a2"))
        assert {a: e.step for a, e in there(case).entries.items()} == {
            "a1": FlashStep.REBOOTING,
            "a2": FlashStep.COMMITTING,
        }

    around(case)


def test_a_step_that_somebody_else_has_concluded_is_not_overwritten() -> None:
    async def case(case: Around) -> None:
        first, second = await granted(case), await granted(case)
        await first.keep(BEGUN)
        concluded = msgspec.structs.replace(
            BEGUN, step=FlashStep.QUARANTINED, detail="nobody came back"
        )
        other = await granted(case)
        await other.keep(concluded)
        with pytest.raises(Conflict, match="quarantined"):
            await first.keep(msgspec.structs.replace(BEGUN, step=FlashStep.REBOOTING))
        assert second.writes == 0

    around(case)


def test_a_lost_answer_is_no_word_that_it_was_kept_and_may_have_been() -> None:
    async def case(case: Around) -> None:
        journal = await granted(case)

        def lose(_call: object) -> None:
            raise ClusterAway("the answer is lost")

        case.client.faults.after = lose
        with pytest.raises(ClusterAway):
            await journal.keep(BEGUN)
        case.client.faults.after = None
        # Whoever runs next finds the worst that may have happened, and sends no image again.
        assert there(case).entries["a1"].attempt == 1
        await journal.keep(msgspec.structs.replace(BEGUN, asset="a2"))
        assert there(case).entries["a1"].step is FlashStep.COMMITTING

    around(case)


def test_an_operation_that_was_deleted_keeps_nothing_any_more() -> None:
    async def case(case: Around) -> None:
        journal = await granted(case)
        await case.client.delete(DEVICE_OPERATION, NAME, namespace=PLACE)
        with pytest.raises(NotFound):
            await journal.keep(BEGUN)
        assert await read_grant(case.client, NAME, namespace=PLACE) is None

    around(case)
