"""Work of many steps as the Store keeps it: what was tried on GPU nodes, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from control_plane.core.breaker import Breaker
from control_plane.core.correlate import Incident
from control_plane.core.errors import StoreError
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.remedy_case import Action, Attempt, Outcome, RepairTicket, Why
from control_plane.core.remedy_kept import NodeKept, SiteKept
from control_plane.engine.backup import Backup, into_store, packed_backup, read_backup, rows_of
from control_plane.engine.kept import ROWS_VERSION, KeptStore, Row, brought_forward
from control_plane.engine.store import Store
from control_plane.engine.store_work import REMEDY_SITE
from tests.core.builders import NOW_S

ALERT = Alert(kind=AlertKind.XID, rung=Rung.REBOOT, since_s=NOW_S, gpu="0000:0a:00.0", xid=79)
CYCLED = Attempt(action=Action.POWER_CYCLE, at_s=NOW_S, ended_s=NOW_S + 9, outcome=Outcome.DONE)
TRIED = NodeKept(
    asset="n1",
    attempts=(CYCLED, Attempt(action=Action.REBOOT, at_s=NOW_S + 600.0)),
    ticket=RepairTicket(
        id="n1-7",
        node="n1",
        slot="r1/7",
        serial="S1",
        parts=(),
        why=Why.CAP_SPENT,
        alerts=(ALERT,),
        attempts=(CYCLED,),
        evidence=(),
        opened_s=NOW_S,
    ),
    calm_since_s=NOW_S,
)
TOGETHER = SiteKept(
    breakers={"site:s": Breaker(domain="site:s", begun={"n1": NOW_S}, tripped_at_s=NOW_S)},
    incidents=(
        Incident(id="i0001", node="r1", cause="lost", since_s=NOW_S, assets=8, detail="r1 is dark"),
    ),
)


def test_a_process_that_comes_after_finds_what_was_tried(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "state.sqlite")) as one:
        assert one.remedies() == {}
        assert one.remedy_site() == SiteKept()
        one.put_remedies([TRIED, NodeKept(asset="n2")])
        one.put_remedies([NodeKept(asset="n2", calm_since_s=NOW_S)])
        one.put_remedy_site(SiteKept())
        one.put_remedy_site(TOGETHER)
    with closing(Store(tmp_path / "state.sqlite")) as two:
        assert two.remedies() == {"n1": TRIED, "n2": NodeKept(asset="n2", calm_since_s=NOW_S)}
        assert two.remedy("n1") == TRIED
        assert two.remedy("n3") is None
        assert two.remedy_site() == TOGETHER
        two.drop_remedies(["n2", "n3"])
        assert two.remedies() == {"n1": TRIED}


def test_a_row_that_is_what_it_was_is_not_decoded_again_and_another_one_is(tmp_path: Path) -> None:
    path, calm = tmp_path / "state.sqlite", NodeKept(asset="n2", calm_since_s=NOW_S)
    with closing(Store(path)) as one, closing(Store(path)) as two:
        one.put_remedies([TRIED, NodeKept(asset="n2")])
        before = two.remedies()
        one.put_remedies([calm])
        after = two.remedies()
        assert after == {"n1": TRIED, "n2": calm}
        assert after["n1"] is before["n1"]
        one.drop_remedies(["n1"])
        assert two.remedies() == {"n2": calm}


def test_what_was_tried_is_kept_elsewhere_and_what_is_forgotten_goes_there_too() -> None:
    store, other = KeptStore(None), KeptStore(None)
    store.put_remedies([TRIED])
    store.put_remedy_site(TOGETHER)
    told = store.take_changed()
    assert told.keys() == {Row("remedy", "n1"), Row("remedy_site", REMEDY_SITE)}
    rows: dict[str, dict[str, bytes]] = {}
    for (table, key), record in told.items():
        rows.setdefault(table, {})[key] = record or b""
    other.fill(rows, {})
    assert other.remedies() == {"n1": TRIED}
    assert other.remedy_site() == TOGETHER
    assert other.take_changed() == {}, "what stands in both places has not changed"
    store.drop_remedies(["n1"])
    assert store.take_changed() == {Row("remedy", "n1"): None}


def test_a_backup_holds_what_was_tried() -> None:
    store, restored = Store(None), Store(None)
    assert rows_of(store)[0]["remedy_site"] == {}, "where there is nothing, nothing is kept"
    store.put_remedies([TRIED])
    store.put_remedy_site(TOGETHER)
    rows, revisions = rows_of(store)
    made = Backup(site="s", made_at_s=NOW_S, release="1", rows=rows, revisions=revisions)
    into_store(read_backup(packed_backup(made)), restored)
    assert restored.remedies() == {"n1": TRIED}
    assert restored.remedy_site() == TOGETHER


def test_rows_of_before_there_were_remedies_are_read_and_those_of_a_newer_release_refused() -> None:
    rows = {"memory": {"m1": b"{}"}}
    assert brought_forward(3, rows) == rows
    made = Backup(
        site="s", made_at_s=NOW_S, release="9", version=ROWS_VERSION + 1, rows=rows, revisions={}
    )
    with pytest.raises(StoreError, match=f"version {ROWS_VERSION + 1}.*or a newer one"):
        read_backup(packed_backup(made))


@pytest.mark.parametrize(
    ("table", "read"), [("remedy", Store.remedies), ("remedy_site", Store.remedy_site)]
)
@pytest.mark.parametrize("doc", [b'{"', b"[]", b'{"attempts": [{}], "incidents": [{}]}'])
def test_a_damaged_record_is_never_read_as_nothing_was_tried(
    table: str, read: Callable[[Store], object], doc: bytes
) -> None:
    store = Store(None)
    with store.transaction() as db:
        db.execute(f"INSERT INTO {table} VALUES (?, ?)", (REMEDY_SITE, doc))  # noqa: S608 - ours
    with pytest.raises(StoreError, match=f"damaged.*{table} "):
        read(store)
    with pytest.raises(StoreError, match="damaged"):
        KeptStore(None).fill({table: {REMEDY_SITE: doc}}, {})
