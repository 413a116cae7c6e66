"""The controller's own HTTP, over real sockets: health, readiness, metrics and a copy of the Store."""

from __future__ import annotations

import asyncio
import gzip
import re
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from control_plane.core import metrics
from control_plane.core.metrics import Sample
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.kube.facts import Facts
from control_plane.kube.serving import NotServed, copied, serving


class Fake:
    """What a controller tells of itself, as a test sets it."""

    site = "lab"

    def __init__(self, store: Path | None = None) -> None:
        self.elector = SimpleNamespace(is_live=lambda: True, holder="other-1")
        self.reason = ""
        self.path = store

    def trouble(self) -> str:
        return self.reason

    def text(self) -> bytes:
        return metrics.exposition([Sample(metrics.LEADER, 1)], {"site": self.site})

    def store(self) -> Path | None:
        return self.path


def serve(facts: Any, ask: Callable[[Callable[[str], Awaitable[Any]]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with (
            serving(facts, "127.0.0.1", 0) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        ):

            async def get(path: str) -> tuple[int, bytes, Any]:
                async with session.get(path) as answer:
                    return answer.status, await answer.read(), answer.headers

            await ask(get)

    asyncio.run(main())


def test_readiness_says_in_words_what_is_missing() -> None:
    facts = Fake()

    async def ask(get: Any) -> None:
        assert (await get("/readyz"))[:2] == (200, b"ok\n")
        facts.reason = "miners: nothing heard for 150 s"
        assert (await get("/readyz"))[:2] == (503, b"miners: nothing heard for 150 s\n")
        # It is not restarted for that: it goes on guarding with what it has.
        assert (await get("/healthz"))[:2] == (200, b"ok\n")

    serve(facts, ask)


def test_metrics_are_prometheus_text() -> None:
    async def ask(get: Any) -> None:
        code, body, headers = await get("/metrics")
        assert code == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b'gridplane_leader{site="lab"} 1\n' in body

    serve(Fake(), ask)


def test_nothing_can_be_changed_over_it() -> None:
    async def main() -> None:
        async with (
            serving(Fake(), "127.0.0.1", 0) as port,  # type: ignore[arg-type]
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        ):
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                for path in ("/healthz", "/readyz", "/metrics", "/store"):
                    async with session.request(method, path) as answer:
                        assert answer.status == 405

    asyncio.run(main())


def filled(folder: Path, events: int = 200) -> Path:
    path = folder / "state.sqlite"
    store = Store(path)
    store.put_events(Event(at_s=n, kind="page", text=f"page {n}" * 20) for n in range(events))
    return path


def test_the_store_arrives_as_a_store(tmp_path: Path) -> None:
    path = filled(tmp_path)

    async def ask(get: Any) -> None:
        code, body, headers = await get("/store")
        assert code == 200
        assert (headers["Gridplane-Site"], headers["Gridplane-Leads"]) == ("lab", "true")
        copy = tmp_path / "copy"
        copy.mkdir()
        (copy / "state.sqlite").write_bytes(gzip.decompress(body))
        assert Store(copy / "state.sqlite").events(limit=500) == Store(path).events(limit=500)

    serve(Fake(path), ask)
    assert not list(tmp_path.glob(".copy-*"))


def test_a_copy_is_of_one_moment_while_somebody_writes(tmp_path: Path) -> None:
    path = filled(tmp_path)
    stop = threading.Event()

    def write() -> None:
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE pair (a INTEGER, b INTEGER)")
        db.execute("INSERT INTO pair VALUES (0, 0)")
        db.commit()
        number = 0
        while not stop.is_set():
            number += 1
            db.execute("UPDATE pair SET a = ?", (number,))
            db.execute("UPDATE pair SET b = ?", (number,))
            db.commit()
        db.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        for _ in range(20):
            whole = tmp_path / "whole.sqlite"
            whole.write_bytes(gzip.decompress(copied(path)))
            db = sqlite3.connect(whole)
            if db.execute("SELECT name FROM sqlite_master WHERE name = 'pair'").fetchone():
                seen |= set(db.execute("SELECT a, b FROM pair").fetchall())
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            db.close()
    finally:
        stop.set()
        writer.join()
    assert all(a == b for a, b in seen)
    assert len(seen) > 1, "nobody wrote meanwhile: nothing was shown"


def test_the_loop_turns_while_a_copy_is_made(tmp_path: Path) -> None:
    path = filled(tmp_path, events=100_000)
    longest_s = 0.0

    async def ask(get: Any) -> None:
        nonlocal longest_s
        loop = asyncio.get_running_loop()
        copying = asyncio.ensure_future(get("/store"))
        while not copying.done():
            before_s = loop.time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, loop.time() - before_s)
        assert (await copying)[0] == 200

    serve(Fake(path), ask)
    # Seconds of copying and compressing are beside it; what is left is the pieces' way to the socket.
    assert longest_s < 0.25


def test_who_has_accepted_nothing_says_who_leads() -> None:
    async def ask(get: Any) -> None:
        code, body, _ = await get("/store")
        assert code == 503
        assert body == b"this process has accepted no revision of lab: other-1 leads\n"

    serve(Fake(), ask)


def test_a_store_that_cannot_be_read_is_an_answer_too(tmp_path: Path) -> None:
    async def ask(get: Any) -> None:
        code, body, _ = await get("/store")
        assert code == 500
        assert b"cannot be copied" in body

    serve(Fake(tmp_path / "nothing" / "state.sqlite"), ask)


def test_a_taken_address_is_named() -> None:
    async def main() -> None:
        facts: Any = Fake()
        async with serving(facts, "127.0.0.1", 0) as port:
            with pytest.raises(NotServed, match=re.escape(f"127.0.0.1:{port}")):
                async with serving(facts, "127.0.0.1", port):
                    pass

    asyncio.run(main())


def test_facts_name_each_kind_that_is_not_fresh() -> None:
    def reflector(plural: str, *, is_fresh: bool, synced: bool, trouble: str) -> Any:
        return SimpleNamespace(
            cache=SimpleNamespace(kind=SimpleNamespace(plural=plural)),
            synced=SimpleNamespace(is_set=lambda: synced),
            trouble=trouble,
            is_fresh=lambda: is_fresh,
            silent_s=lambda: 150.4,
        )

    facts = Facts.__new__(Facts)
    facts._reflectors = [
        reflector("sites", is_fresh=True, synced=True, trouble=""),
        reflector("racks", is_fresh=False, synced=True, trouble="503 : no"),
        reflector("miners", is_fresh=False, synced=False, trouble=""),
    ]
    assert facts.trouble() == ("racks: nothing heard for 150 s: 503 : no; miners: not listed yet")
