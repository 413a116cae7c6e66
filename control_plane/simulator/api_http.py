"""The API server in memory behind HTTP, for who follows objects of one kind: list, watch, status.

For clients that bring their own transport (the node agent); the controller's twin is `api_client.py`. A
token has to be one that is taken; what else is wrong with the line is set from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import h11
import msgspec

from control_plane.core.cluster import (
    ClusterError,
    Conflict,
    Gone,
    Invalid,
    Kind,
    NotFound,
    Object,
)
from control_plane.simulator.api_server import ApiServer, Watch

_CODES: Final[dict[type[ClusterError], int]] = {
    Conflict: 409,
    Gone: 410,
    Invalid: 422,
    NotFound: 404,
}
_BOOKMARK_S: Final = 5.0


class ApiHttp:
    """One listener over one server. `requests` counts by verb."""

    def __init__(self, server: ApiServer, kind: Kind) -> None:
        self.server, self.kind = server, kind
        self.tokens: set[str] = {"token"}
        """Those that are taken."""
        self.refuse: int | None = None
        """The status that every request gets."""
        self.requests: Counter[str] = Counter()
        self.seen_tokens: list[str] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._watches: set[Watch] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def serving(self, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Serve on loopback; the port."""
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            self.cut()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await listener.wait_closed()

    def cut(self) -> None:
        """Break every connection that is open."""
        for writer in self._writers:
            writer.transport.abort()
        for watch in self._watches:
            self.server.close(watch)
            watch.news.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            line = h11.Connection(h11.SERVER)
            request, body = await _request(line, reader)
            if request is not None:
                await self._answer(line, writer, request, body)
                await writer.drain()
        except (OSError, h11.RemoteProtocolError):
            pass  # whoever asked has gone, or speaks something else
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self, line: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
    ) -> None:
        parts = urlsplit(request.target.decode())
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        token = dict(request.headers).get(b"authorization", b"").decode().removeprefix("Bearer ")
        self.seen_tokens.append(token)
        verb = "patch" if request.method == b"PATCH" else "watch" if "watch" in query else "list"
        self.requests[verb] += 1
        try:
            answer: object
            if self.refuse is not None:
                code, answer = self.refuse, _status(self.refuse, "as it was told")
            elif token not in self.tokens:
                code, answer = 401, _status(401, "Unauthorized")
            elif verb == "watch":
                await self._watch(line, writer, query)
                return
            elif verb == "list":
                code, answer = 200, self._list(query)
            else:
                code, answer = 200, self._patch(parts.path, query, body)
        except ClusterError as error:
            code = _CODES.get(type(error), 500)
            answer = _status(code, str(error))
        _send(line, writer, code, answer)

    def _list(self, query: dict[str, str]) -> object:
        page = self.server.list_page(
            self.kind, _matches(query), limit=int(query.get("limit", "500")), page="",
            says_remaining=False,
        )  # fmt: skip
        return {
            "kind": f"{self.kind.kind}List",
            "apiVersion": self.kind.api_version,
            "metadata": {"resourceVersion": page.resource_version},
            "items": page.items,
        }

    def _patch(self, path: str, query: dict[str, str], body: bytes) -> Object:
        return self.server.apply(
            self.kind, msgspec.json.decode(body), manager=query["fieldManager"], force=True,
            subresource="status" if path.endswith("/status") else "",
        )  # fmt: skip

    async def _watch(
        self, line: h11.Connection, writer: asyncio.StreamWriter, query: dict[str, str]
    ) -> None:
        try:
            watch = self.server.watch(
                self.kind, _matches(query), resource_version=query["resourceVersion"]
            )
        except Gone as error:
            # As a real one tells it: the watch begins well, and its first event is the error.
            gone = {"type": "ERROR", "object": _status(410, str(error))}
            _send(line, writer, 200, gone, end=b"\n")
            return
        self._watches.add(watch)
        try:
            writer.write(line.send(h11.Response(status_code=200, headers=_JSON)) or b"")
            while watch in self.server.watches and not writer.is_closing():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_BOOKMARK_S):
                        await watch.news.wait()
                watch.news.clear()
                told: list[dict[str, Any]] = [
                    {"type": e.type, "object": e.object} for e in watch.events
                ]
                watch.events.clear()
                if not told:
                    now = {"metadata": {"resourceVersion": str(self.server.version)}}
                    told = [{"type": "BOOKMARK", "object": now}]
                for event in told:
                    data = msgspec.json.encode(event) + b"\n"
                    writer.write(line.send(h11.Data(data=data)) or b"")
                await writer.drain()
        finally:
            self._watches.discard(watch)
            self.server.close(watch)
        writer.write(line.send(h11.EndOfMessage()) or b"")


_JSON: Final = [
    ("content-type", "application/json"), ("transfer-encoding", "chunked"), ("connection", "close"),
]  # fmt: skip


async def _request(
    line: h11.Connection, reader: asyncio.StreamReader
) -> tuple[h11.Request | None, bytes]:
    request, body = None, b""
    while True:
        event = line.next_event()
        if event is h11.NEED_DATA:
            line.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            return request, body


def _send(
    line: h11.Connection, writer: asyncio.StreamWriter, code: int, answer: Any, *, end: bytes = b""
) -> None:
    data = msgspec.json.encode(answer) + end
    for event in (
        h11.Response(status_code=code, headers=_JSON), h11.Data(data=data), h11.EndOfMessage(),
    ):  # fmt: skip
        writer.write(line.send(event) or b"")


def _status(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}


def _matches(query: dict[str, str]) -> Callable[[Object], bool]:
    """One term on one field of the spec is all that is asked."""
    field, _, wanted = query.get("fieldSelector", "").partition("=")
    if not field:
        return lambda _: True
    if not field.startswith("spec."):
        raise Invalid(f"field label not supported: {field}")
    name = field.removeprefix("spec.")

    def matches(thing: Object) -> bool:
        spec = msgspec.json.decode(thing.spec)
        return isinstance(spec, dict) and str(spec.get(name, "")) == wanted

    return matches
