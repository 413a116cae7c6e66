"""The API server, as one who follows one object needs it: HTTP/1.1 over asyncio streams, and h11.

A connection for each request: they are few. The token is read from its file for each of them, since the
kubelet puts another one there before the old one ends; so is the authority that the server's certificate is
held against.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import h11
import msgspec

from control_plane.api.v1alpha1 import API_VERSION
from control_plane.core.cluster import ClusterAway, ClusterError, Event, Object
from control_plane.core.refusals import refusal

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MANAGER: Final = "gridplane-node-agent"
"""Field manager of what the agent writes."""
DEADLINE_S: Final = 30.0
"""Wire seconds for a request; a watch may be silent for as long as it was asked to last, and this."""
WATCH_S: Final = 300.0
_MAX_BYTES: Final = 4 * 1024 * 1024
_PATCHED: Final = "application/apply-patch+yaml"


class _Listed(msgspec.Struct, frozen=True, rename="camel"):
    items: tuple[Object, ...] = ()
    metadata: dict[str, Any] = {}


class _Told(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API server is, and who asks it."""

    url: str
    token: Path
    authority: Path | None = None
    """PEM; `None` only without TLS, which is taken of this very host alone."""
    namespace: str


def in_cluster(namespace: str) -> Server:
    """As a pod finds it.

    Raises:
        ClusterError: this is no pod.
    """
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if not host:
        raise ClusterError("no KUBERNETES_SERVICE_HOST: this is no pod; name --server and --token")
    name = f"[{host}]" if ":" in host else host
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return Server(
        url=f"https://{name}:{port}", token=ACCOUNT / "token", authority=ACCOUNT / "ca.crt",
        namespace=namespace,
    )  # fmt: skip


class Api:
    """The `GpuNode`s of one namespace: list, watch, and write a status."""

    def __init__(self, server: Server) -> None:
        """Nothing is opened yet.

        Raises:
            ClusterError: the address is none, or it would be spoken to in the clear over a network.
        """
        parts = urlsplit(server.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ClusterError(f"{server.url!r} is no address of an API server")
        if parts.scheme == "http" and not _is_here(parts.hostname):
            raise ClusterError(f"{server.url}: a token is not sent without TLS; use https://")
        if parts.scheme == "https" and server.authority is None:
            raise ClusterError(f"{server.url}: name the authority of its certificate")
        self._server, self._host = server, parts.hostname
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._path = f"/apis/{API_VERSION}/namespaces/{server.namespace}/gpunodes"

    async def of_node(self, node: str) -> tuple[tuple[Object, ...], str]:
        """The objects whose `spec.nodeName` it is (there should be one), and the version of that list.

        Raises:
            ClusterError: as the port `Cluster` has them.
        """
        query = urlencode({"fieldSelector": f"spec.nodeName={node}", "limit": "2"})
        listed = _decoded(await self._ask("GET", f"{self._path}?{query}"), _Listed)
        return listed.items, str(listed.metadata.get("resourceVersion", ""))

    async def watch(self, node: str, version: str) -> AsyncGenerator[Event, None]:
        """What happens to them from a version on, bookmarks included; it ends when the server ends it.

        Raises:
            Gone: the version is too old.
            ClusterError: as the port `Cluster` has them.
        """
        query = urlencode(
            {
                "fieldSelector": f"spec.nodeName={node}", "watch": "1", "resourceVersion": version,
                "allowWatchBookmarks": "true", "timeoutSeconds": str(int(WATCH_S)),
            }
        )  # fmt: skip
        async with self._sent("GET", f"{self._path}?{query}", b"", {}) as reply:
            status, pieces = reply
            if status >= HTTPStatus.MULTIPLE_CHOICES:
                raise _refused(status, b"".join([piece async for piece in pieces]))
            async for line in _lines(pieces):
                told = _decoded(line, _Told)
                if told.type == "ERROR":
                    raise refusal(0, bytes(told.object), {})
                if told.type in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}:
                    yield Event(type=told.type, object=_decoded(bytes(told.object), Object))

    async def write_status(self, name: str, uid: str, status: dict[str, Any]) -> None:
        """Have this status, of our fields, on the object that has this uid.

        Raises:
            Conflict: another object has that name now.
            ClusterError: as the port `Cluster` has them.
        """
        body = msgspec.json.encode(
            {
                "apiVersion": API_VERSION,
                "kind": "GpuNode",
                "metadata": {"name": name, "namespace": self._server.namespace, "uid": uid},
                "status": status,
            }
        )
        query = urlencode({"fieldManager": MANAGER, "force": "true"})
        headers = {"content-type": _PATCHED}
        await self._ask("PATCH", f"{self._path}/{name}/status?{query}", body, headers)

    # -- HTTP ---------------------------------------------------------------------------------------

    async def _ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                self._sent(method, target, body, headers or {}) as (status, pieces),
            ):
                said = bytearray()
                async for piece in pieces:
                    said += piece
                    if len(said) > _MAX_BYTES:
                        raise ClusterAway(f"{method}: the answer has no end")
        except TimeoutError:
            raise ClusterAway(f"{method}: no answer in {DEADLINE_S:.0f} s") from None
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _refused(status, bytes(said))
        return bytes(said)

    @contextlib.asynccontextmanager
    async def _sent(
        self, method: str, target: str, body: bytes, headers: dict[str, str]
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """A request that was sent: the status of its answer, and the rest of that in pieces."""
        try:
            token = self._server.token.read_text(encoding="ascii").strip()
            context = (
                ssl.create_default_context(cafile=self._server.authority) if self._tls else None
            )
        except (OSError, ValueError) as error:
            raise ClusterAway(f"token or authority: {error}") from error
        try:
            async with asyncio.timeout(DEADLINE_S):
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=context, limit=_MAX_BYTES
                )
        except (OSError, TimeoutError) as error:
            raise ClusterAway(f"{self._server.url}: {_named(error)}") from error
        try:
            line = h11.Connection(h11.CLIENT)
            writer.write(
                line.send(
                    h11.Request(
                        method=method,
                        target=target,
                        headers=[
                            ("host", f"{self._host}:{self._port}"),
                            ("authorization", f"Bearer {token}"),
                            ("accept", "application/json"),
                            ("user-agent", MANAGER),
                            ("connection", "close"),
                            ("content-length", str(len(body))),
                            *headers.items(),
                        ],
                    )
                )
                or b""
            )
            if body:
                writer.write(line.send(h11.Data(data=body)) or b"")
            writer.write(line.send(h11.EndOfMessage()) or b"")
            pieces = _pieces(line, reader)
            head = await anext(pieces, None)
            if not isinstance(head, int):
                raise ClusterAway(f"{method}: no answer")
            yield head, _bytes_of(pieces)
        except (OSError, h11.RemoteProtocolError) as error:
            raise ClusterAway(f"{method}: {_named(error)}") from error
        finally:
            writer.close()


async def _pieces(
    line: h11.Connection, reader: asyncio.StreamReader
) -> AsyncGenerator[int | bytes, None]:
    """The status, then the body as it comes.

    Raises:
        TimeoutError: the server fell silent.
    """
    while True:
        event = line.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(WATCH_S + DEADLINE_S):
                line.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Response):
            yield event.status_code
        elif isinstance(event, h11.Data):
            yield bytes(event.data)
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return


async def _bytes_of(pieces: AsyncGenerator[int | bytes, None]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if isinstance(piece, bytes):
            yield piece


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _MAX_BYTES:
            raise ClusterAway("watch: an event has no end")
        for line in lines:
            if line.strip():
                yield line


def _decoded(data: bytes, kind: type[msgspec.Struct]) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise ClusterAway(f"the answer is not an API server's: {error}") from error


def _refused(status: int, said: bytes) -> ClusterError:
    error = refusal(status, said, {})
    # A redirect is no word of an API server: something stands in between.
    return error if status >= HTTPStatus.BAD_REQUEST else ClusterAway(str(error))


def _named(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
