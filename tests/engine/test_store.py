"""Durable state: atomic, fenced, refusing to act on damage or a full disk."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from control_plane.core.change import ChangeKind, StopMining
from control_plane.core.errors import FenceLost, StoreError
from control_plane.core.flashing import FlashEntry, Grant
from control_plane.core.memory import Memory
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.remedy_case import Action, Attempt
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.core.rollout import Rollout
from control_plane.core.rotation import RotationEntry, Subject
from control_plane.core.verify import Operation, Stage
from control_plane.engine.database import SCHEMA_VERSION
from control_plane.engine.fence import try_fence
from control_plane.engine.records import Event, RevisionRecord, ShownPlan
from control_plane.engine.store import Store
from tests.core.builders import CAPABILITIES, NOW_S, PIN, settings


def record(digest: str, seq: int) -> RevisionRecord:
    return RevisionRecord(
        digest=digest, seq=seq, commit=None, accepted_at_s=NOW_S, accepted_by="ann", plan_digest="p"
    )


def operation(number: int, stage: Stage = Stage.SENT) -> Operation:
    return Operation(
        id=f"000001-{number:09d}",
        asset=f"d{number}",
        change=StopMining(),
        before=settings(),
        after=settings(mining=False),
        sent_at_s=NOW_S,
        cost=next(iter(CAPABILITIES.writes.values())),
        stage=stage,
    )


def hold(overlay_id: str = "h0001") -> Overlay:
    return Overlay(
        id=overlay_id,
        kind=OverlayKind.SAFETY_HOLD,
        node="r1",
        owner="ann",
        reason="x",
        since_s=NOW_S,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state.sqlite")


def test_everything_survives_a_new_process(tmp_path: Path, store: Store) -> None:
    files = {"fleet.yaml": b"name: x\n", "sites/t/site.yaml": b"\xc3\xa9"}
    store.put_revision(record("aa", 1), files)
    store.put_memories([Memory(asset="d1", pin=PIN, attempts={ChangeKind.REBOOT: 2})])
    store.put_operations([operation(1), operation(2, Stage.CONFIRMED)])
    store.put_overlay(hold())
    store.put_shown_plan(
        ShownPlan(digest="pp", revision="aa", at_s=NOW_S, expected={"d1": settings()})
    )
    store.close()
    again = Store(tmp_path / "state.sqlite")
    assert again.accepted() == record("aa", 1)
    assert again.revision_files("aa") == files
    assert again.memories() == {"d1": Memory(asset="d1", pin=PIN, attempts={ChangeKind.REBOOT: 2})}
    assert [o.id for o in again.open_operations()] == [operation(1).id]
    assert again.overlays() == (hold(),)
    assert again.shown_plans("p")[0].expected == {"d1": settings()}


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    def half_way() -> None:
        with store.transaction():
            store.put_memories([Memory(asset="d1")])
            store.put_overlay(hold())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_way()
    assert store.memories() == {}
    assert store.overlays() == ()


def test_the_revision_accepted_last_is_in_force_even_if_its_content_is_older(store: Store) -> None:
    store.put_revision(record("aa", 1), {})
    store.put_revision(record("bb", 2), {})
    store.put_revision(record("aa", 3), {})
    accepted = store.accepted()
    assert accepted is not None
    assert (accepted.digest, accepted.seq) == ("aa", 3)


def test_a_revision_never_takes_another_s_place(store: Store) -> None:
    store.put_revision(record("aa", 1), {"f": b"1"})
    with pytest.raises(StoreError):
        store.put_revision(record("bb", 1), {"f": b"2"})
    assert store.revisions() == [record("aa", 1)]
    assert store.revision_files("aa") == {"f": b"1"}


def test_numbers_are_never_given_twice(tmp_path: Path, store: Store) -> None:
    assert [store.next_number("overlay") for _ in range(3)] == [1, 2, 3]
    other = Store(tmp_path / "state.sqlite")
    assert other.next_number("overlay") == 4
    assert other.next_number("other") == 1


def test_another_process_s_word_is_noticed_and_the_own_is_not(tmp_path: Path, store: Store) -> None:
    other = Store(tmp_path / "state.sqlite")
    before = store.changed()
    store.put_overlay(hold("h1"))
    assert store.changed() == before
    other.put_overlay(hold("h2"))
    assert store.changed() != before
    assert [o.id for o in store.overlays()] == ["h1", "h2"]


def test_events_are_bounded_and_newest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.engine.store._EVENTS_KEPT", 10)
    for n in range(25):
        store.put_events([Event(at_s=NOW_S + n, kind="k", text=str(n), asset=f"d{n % 2}")])
    assert [e.text for _, e in store.events(limit=100)] == [str(n) for n in range(24, 14, -1)]
    assert [e.text for _, e in store.events("d0", limit=2)] == ["24", "22"]


# --- what is forgotten ---------------------------------------------------------------------------


def rollout(number: int, origin: str | None, **changes: object) -> Rollout:
    base = Rollout(id=f"{number:06d}", to=f"rev{number:02}", origin=origin, waves=(1,))
    return msgspec.structs.replace(base, **changes)


def test_closed_operations_beyond_a_bound_are_forgotten_and_open_ones_never(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.engine.store._OPERATIONS_KEPT", 3)
    store.put_operations([operation(1)])
    store.put_operations(operation(n, Stage.CONFIRMED) for n in range(2, 10))
    store.prune(since_s=math.inf)
    assert [o.asset for o in store.operations()] == ["d9", "d8", "d7", "d1"]


def test_what_the_open_wave_wrote_is_kept_whatever_the_bound(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.engine.store._OPERATIONS_KEPT", 2)
    store.put_operations(
        msgspec.structs.replace(operation(n, Stage.CONFIRMED), sent_at_s=NOW_S + n)
        for n in range(1, 10)
    )
    store.prune(since_s=NOW_S + 5)
    assert [o.asset for o in store.operations_since(NOW_S)] == ["d5", "d6", "d7", "d8", "d9"]


def test_revisions_stay_while_a_kept_rollout_refers_to_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.engine.store._ROLLOUTS_KEPT", 3)
    monkeypatch.setattr("control_plane.core.limits.REVISIONS_KEPT", 4)
    for n in range(1, 21):
        store.put_revision(record(f"rev{n:02}", n), {})
        behind = {"d1": "rev02", "d2": None} if n == 19 else {}
        store.put_rollout(rollout(n, f"rev{n - 1:02}", behind=behind))
    store.prune(since_s=math.inf)
    assert [r.id for r in store.rollouts()] == ["000018", "000019", "000020"]
    assert [r.digest for r in store.revisions()] == ["rev02", "rev17", "rev18", "rev19", "rev20"]
    store.put_rollout(rollout(21, "rev20"))
    assert store.rollouts()[-1].id == "000021"


# --- fence ---------------------------------------------------------------------------------------


def test_only_one_process_holds_the_fence_and_the_epoch_grows(tmp_path: Path, store: Store) -> None:
    lock = tmp_path / "fence.lock"
    first = try_fence(lock, store)
    assert first is not None
    assert try_fence(lock, store) is None
    first.release()
    first.release()
    second = try_fence(lock, store)
    assert second is not None
    assert second.epoch == first.epoch + 1
    with pytest.raises(FenceLost, match="taken over"):
        store.check_fence(first.epoch)
    store.check_fence(second.epoch)


# --- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["garbage", "truncated", "flipped"])
def test_a_damaged_store_is_refused_with_the_way_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.sqlite"
    store = Store(path)
    store.put_memories(Memory(asset=f"d{n}", pin=PIN) for n in range(2_000))
    store.close()
    data = path.read_bytes()
    broken = {
        "garbage": b"not a database at all" * 500,
        "truncated": data[: len(data) // 2],
        "flipped": data[:8_192] + bytes(4_096) + data[12_288:],
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(StoreError, match=r"damaged.*restore"):
        try_fence(tmp_path / "fence.lock", Store(path))
    assert path.read_bytes() == broken, "a damaged file is left for whoever repairs it"


def test_a_newer_state_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="newer"):
        Store(path)


_SINCE: Mapping[int, tuple[str, ...]] = {
    2: ("firmware", "flash"),
    3: ("rotation", "login", "address"),
    4: ("remedy", "remedy_site"),
}
"""State version → the tables that it brought."""


def made_by(version: int, path: Path) -> Path:
    """A file as the release of a state version left it, with one memory."""
    with closing(Store(path)) as made:
        made.put_memories([Memory(asset="d1", pin=PIN)])
    with closing(sqlite3.connect(path)) as db:
        for since, tables in _SINCE.items():
            for table in tables if since > version else ():
                db.execute(f"DROP TABLE {table}")
        db.execute(f"PRAGMA user_version = {version}")
    return path


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_file_of_an_older_release_is_brought_forward(tmp_path: Path, version: int) -> None:
    grant = Grant(
        operation="o", rollout="f0001", digest="b", fence=1, at_once=1, deadline_s=1.0,
        entries={"d1": FlashEntry(asset="d1")},
    )  # fmt: skip
    entry = RotationEntry(asset="d1", rotation="c0001", wanted="env:NEW")
    tried = NodeKept(asset="n1", attempts=(Attempt(action=Action.REBOOT, at_s=NOW_S),))
    with closing(Store(made_by(version, tmp_path / "state.sqlite"))) as store:
        assert store.memories() == {"d1": Memory(asset="d1", pin=PIN)}
        assert (store.rotations(), store.remedies(), store.remedy_site()) == ([], {}, SiteKept())
        store.put_grant(grant)
        store.put_rotating([entry])
        store.put_remedies([tried])
    with closing(Store(tmp_path / "state.sqlite")) as again:
        assert again.grants(open_only=True) == [grant]
        assert again.rotating(Subject.PASSWORD) == [entry]
        assert again.remedies() == {"n1": tried}


def test_what_older_releases_lacked_is_all_that_their_migrations_make(tmp_path: Path) -> None:
    def schema(path: Path) -> set[tuple[str, str]]:
        with closing(Store(path)), closing(sqlite3.connect(path)) as db:
            return set(db.execute("SELECT name, sql FROM sqlite_master"))

    assert schema(made_by(1, tmp_path / "old.sqlite")) == schema(tmp_path / "new.sqlite")


def test_a_full_disk_is_an_error_and_leaves_the_old_state(store: Store) -> None:
    store.put_overlay(hold())
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        store.put_memories(Memory(asset=f"d{n}", pin=PIN) for n in range(2_000))
    assert store.memories() == {}
    assert store.overlays() == (hold(),)


def _spoil(path: Path, sql: str) -> None:
    db = sqlite3.connect(path)
    assert db.execute(sql).rowcount == 1
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("table", "key", "read"),
    [
        ("memory", "d1", Store.memories),
        ("overlay", "h0001", Store.overlays),
        ("revision", "aa", Store.accepted),
        ("operation", operation(1).id, Store.open_operations),
        ("operation", operation(1).id, lambda store: store.operations_since(0.0)),
        ("event", "1", Store.events),
    ],
    ids=["memory", "overlay", "revision", "operation", "operations since", "event"],
)
@pytest.mark.parametrize("doc", ["x'7b22'", "'{}'", "'[]'"], ids=["cut", "empty", "other"])
def test_a_damaged_record_in_a_good_file_is_named_with_the_way_out(
    tmp_path: Path, store: Store, table: str, key: str, read: Callable[[Store], object], doc: str
) -> None:
    store.put_memories([Memory(asset="d1")])
    store.put_overlay(hold())
    store.put_revision(record("aa", 1), {})
    store.put_operations([operation(1)])
    store.put_events([Event(at_s=NOW_S, kind="k", text="t")])
    _spoil(tmp_path / "state.sqlite", f"UPDATE {table} SET doc = {doc}")  # noqa: S608 - of these tests
    with pytest.raises(StoreError, match=rf"damaged.*{table} {key}.*restore a backup"):
        read(store)


def test_damaged_files_of_a_revision_and_damaged_numbers_are_damage_too(
    tmp_path: Path, store: Store
) -> None:
    store.put_revision(record("aa", 1), {"f": b"x"})
    store.take_over()
    _spoil(tmp_path / "state.sqlite", "UPDATE revision SET files = x'00'")
    _spoil(tmp_path / "state.sqlite", "UPDATE meta SET value = 'x' WHERE key = 'epoch'")
    with pytest.raises(StoreError, match=r"damaged.*revision aa"):
        store.revision_files("aa")
    with pytest.raises(StoreError, match=r"damaged.*meta epoch"):
        store.epoch()
