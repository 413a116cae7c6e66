"""The controller's own HTTP: whether it is well, what it measures, and a copy of its Store for reading.

    /healthz   200 while its loop turns: who answers is the loop
    /readyz    200 while it knows what the API server has; 503 with the reason in words
    /metrics   for Prometheus
    /store     the Store as one SQLite file, gzipped: what `gridplane get --server` reads

It has no verb that changes anything, and no secret: the Store keeps references to secrets only.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import zlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from control_plane.core.errors import ControlPlaneError
from control_plane.core.metrics import CONTENT_TYPE
from control_plane.kube.facts import Facts

SITE_HEADER = "Gridplane-Site"
LEADS_HEADER = "Gridplane-Leads"
"""`true` or `false`: whether who answered leads the site."""
_SEND_S = 120.0
"""Who does not take a copy within that goes without: it holds memory."""
_COPIES = 4
"""At the same time, the one that is being made included."""
_PIECE = 256 * 1024


class NotServed(ControlPlaneError):
    """The address cannot be listened on. The operator names another one with --listen."""


@contextlib.asynccontextmanager
async def serving(facts: Facts, host: str | None, port: int) -> AsyncIterator[int]:
    """Answer for as long as the block runs; gives the port, which 0 leaves to the system.

    Args:
        facts: of the controller.
        host: an address, or `None` for all of this host.
        port: of TCP.

    Raises:
        NotServed: somebody else listens there, or the address is not this host's.
    """
    runner = web.AppRunner(application(facts), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise NotServed(f"cannot listen on {host or '*'}:{port}: {error}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def application(facts: Facts) -> web.Application:
    """What is served, without a socket."""
    pages = _Pages(facts)
    app = web.Application()
    app.router.add_get("/healthz", pages.health)
    app.router.add_get("/readyz", pages.readiness)
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/store", pages.store)
    return app


class _Pages:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._copying = asyncio.Lock()
        self._copies = 0

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readiness(self, _request: web.Request) -> web.Response:
        trouble = self._facts.trouble()
        if trouble:
            return web.Response(text=f"{trouble}\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        return web.Response(text="ok\n")

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._facts.text(), headers={"Content-Type": CONTENT_TYPE})

    async def store(self, request: web.Request) -> web.StreamResponse:
        path = self._facts.store()
        headers = {
            SITE_HEADER: self._facts.site,
            LEADS_HEADER: "true" if self._facts.elector.is_live() else "false",
        }
        if path is None:
            holder = self._facts.elector.holder or "nobody"
            return web.Response(
                text=f"this process has accepted no revision of {self._facts.site}: {holder} leads\n",
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                headers=headers,
            )
        if self._copies >= _COPIES:
            return web.Response(
                text=f"{_COPIES} others are being served: ask again in a few seconds\n",
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                headers={**headers, "Retry-After": "5"},
            )
        self._copies += 1
        try:
            try:
                async with self._copying:
                    copy = await asyncio.to_thread(copied, path)
            except (sqlite3.Error, OSError) as error:
                return web.Response(
                    text=f"the Store cannot be copied: {error}\n",
                    status=HTTPStatus.INTERNAL_SERVER_ERROR,
                    headers=headers,
                )
            answer = web.StreamResponse(headers={**headers, "Content-Type": "application/gzip"})
            answer.content_length = len(copy)
            async with asyncio.timeout(_SEND_S):
                await answer.prepare(request)
                for start in range(0, len(copy), _PIECE):
                    await answer.write(copy[start : start + _PIECE])
                await answer.write_eof()
        finally:
            self._copies -= 1
        return answer


def copied(path: Path) -> bytes:
    """A Store as it is at one moment, gzipped; who writes it meanwhile is not held up. For a thread.

    Raises:
        sqlite3.Error: it cannot be read.
        OSError: there is no room for the copy, beside the Store.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".copy-") as folder:
        whole = Path(folder) / "state.sqlite"
        with (
            contextlib.closing(
                sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            ) as source,
            contextlib.closing(sqlite3.connect(whole)) as target,
        ):
            target.execute("PRAGMA synchronous = OFF")
            # In one step: a copy in several begins anew whenever somebody writes.
            source.backup(target)
        squeeze = zlib.compressobj(level=1, wbits=31)
        with whole.open("rb") as file:
            pieces = [squeeze.compress(piece) for piece in iter(lambda: file.read(_PIECE), b"")]
    return b"".join([*pieces, squeeze.flush()])
